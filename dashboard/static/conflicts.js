// Conflicts in tables: the aggregates that have most of them, and the newest.

import { h, number, show } from "./dom.js";
import { ago, iso, stamp, zoned } from "./moments.js";
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

class Rows {
  constructor({ title, note, kind, columns, nothing }) {
    this.columns = columns;
    this.body = h("tbody", {});
    this.nothing = h("p", { class: "bare" }, nothing);
    const heads = columns.map(({ name, kind: column }) => h("th", { scope: "col", class: column }, name));
    this.table = h("table", { class: "list", "aria-label": title }, h("thead", {}, h("tr", {}, heads)), this.body);
    this.frame = h("div", { class: "frame list-frame", tabindex: "0", role: "group", "aria-label": `${title}, scrollable` }, this.table, this.nothing);
    this.element = h("section", { class: `panel ${kind}` }, h("header", {}, h("h2", {}, title), h("span", { class: "faint" }, note)), this.frame);
  }

  update(rows, now) {
    const drawn = JSON.stringify(rows);
    if (drawn !== this.drawn) {
      this.drawn = drawn;
      this.rows = rows;
      this.redraw();
    }
    this.tick(now);
  }

  redraw() {
    const { rows = [] } = this;
    this.nothing.hidden = rows.length > 0;
    this.table.hidden = !rows.length;
    show(this.body, rows.map((row) => h("tr", {}, this.columns.map(({ cell, kind }) => h("td", { class: kind }, cell(row))))));
  }

  // Time goes on without news: only the words for it change.
  tick(now) {
    for (const when of this.body.querySelectorAll("[data-at]")) {
      const text = ago(Math.max(now - Number(when.dataset.at), 0));
      if (when.textContent !== text) when.textContent = text;
    }
  }
}

// Whole in the page, for who searches or copies; the style sheet shows as much as fits.
const clipped = (text) => h("bdi", { title: text }, text);

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
