// Conflicts in tables: the aggregates that have most of them, and the newest.

import { h, number } from "./dom.js";
import { iso, stamp, zoned } from "./moments.js";
import { Rows, clipped } from "./rows.js";
import { query } from "./view.js";

// Whether a conflict had to be, by what retrying the losing command came to.
const VERDICTS = {
  same: "No: the same decision",
  commutes: "No: the same in either order",
  other: "Yes: another decision",
  rejected: "Yes: rejected now",
  nothing: "Yes: nothing left to do",
  order: "Yes: the order matters",
  unknown: "Not known",
};

function aggregate({ aggregate_id: id }, version) {
  if (id === null) return h("span", { class: "faint" }, "not known");
  return h("a", { href: `timeline?${query({ aggregate: id, version: version || undefined })}`, title: id }, h("bdi", {}, id));
}

const count = (name) => ({ name: name[0].toUpperCase() + name.slice(1), kind: "number", cell: (row) => number(row[name]) });

const HOTTEST = [
  { name: "Aggregate", kind: "c-id", cell: (row) => aggregate(row, row.last_version) },
  { name: "Type", kind: "c-kind", cell: (row) => clipped(row.aggregate_type) },
  ...["detected", "absorbed", "escaped", "needless"].map(count),
  { name: "Last", kind: "c-ago", cell: ({ last_at: at }) => h("span", { title: zoned(iso(at)), "data-at": at }) },
];

const RECENT = [
  { name: "Time", kind: "c-time", cell: ({ occurred_at: at }) => h("span", { title: zoned(iso(at)) }, stamp(iso(at), 3)) },
  { name: "Outcome", kind: "c-outcome", cell: ({ outcome }) => [h("i", { class: `swatch ${outcome}`, "aria-hidden": "true" }), outcome] },
  { name: "Aggregate", kind: "c-id", cell: (row) => aggregate(row, row.actual) },
  { name: "Expected → found", kind: "c-versions", cell: ({ expected, actual }) => `${expected ?? "–"} → ${actual ?? "–"}` },
  { name: "Losing", kind: "c-command", cell: ({ losing, actor }) => h("bdi", { title: actor === null ? losing : `${losing}, by ${actor}` }, losing) },
  { name: "Winning", kind: "c-command", cell: ({ winning }) => (winning === null ? h("span", { class: "faint" }, "not known") : clipped(winning)) },
  { name: "Had it to be?", kind: "c-verdict", cell: ({ verdict, weight }) => `${VERDICTS[verdict] ?? VERDICTS.unknown}${weight > 1 ? ` ×${number(weight)} alike` : ""}` },
];

export const hottest = () => new Rows({ title: "Hottest aggregates", note: "most conflicts first", kind: "hottest", columns: HOTTEST, nothing: "No aggregate was written by two at once in this range" });
export const recent = () => new Rows({ title: "Recent conflicts", note: "newest first", kind: "recent", columns: RECENT, nothing: "No conflict was logged in this range" });
