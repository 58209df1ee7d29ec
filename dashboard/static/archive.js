// The archive on the Operations page: how much of what time, what it takes, and who was taken back.

import { alertBox, h, number, plural, show } from "./dom.js";
import { Figures, NONE } from "./figures.js";
import { ago, iso, span, stamp, zoned } from "./moments.js";
import { Rows, clipped } from "./rows.js";
import { bytes } from "./scale.js";
import { query } from "./view.js";

const DAY = 86_400e6;

export class Archive {
  constructor() {
    this.warnings = h("div", { class: "warnings" });
    this.figures = new Figures();
    this.quiet = h("p", { class: "faint quiet" });
    this.held = new Rows({ title: "Restored", note: "", kind: "restored", columns: HELD, nothing: "" });
    this.said = h("span", { class: "faint" });
    this.element = h("section", { class: "panel archived", "aria-label": "Archive" }, h("header", {}, h("h2", {}, "Archive"), this.said), this.quiet, this.figures.element, this.held.element);
  }

  update(found, now) {
    const { archive } = found;
    const [drawn, warned] = [JSON.stringify(archive), warnings(archive, now)];
    if (warned.join() !== this.warned) {
      this.warned = warned.join();
      show(this.warnings, warned.map((text) => alertBox(text)));
    }
    if (drawn !== this.drawn) {
      this.drawn = drawn;
      this.archive = archive;
      this.#draw(found.shown);
    }
    this.held.update(archive.held, now);
    this.tick(now);
  }

  redraw() {
    this.held.redraw();
    if (this.archive) this.#draw();
  }

  tick(now) {
    this.now = now;
    this.held.tick(now);
    for (const when of this.figures.element.querySelectorAll("[data-at]")) {
      const text = ago(Math.max(now - Number(when.dataset.at), 0));
      if (when.textContent !== text) when.textContent = text;
    }
  }

  #draw(most = this.most) {
    const { archive } = this;
    this.most = most;
    const empty = !archive.events && !archive.held.length;
    this.quiet.hidden = !empty;
    this.figures.element.hidden = empty;
    this.held.element.hidden = !archive.held.length;
    show(this.quiet, `Nothing is archived. ${archive.is_enabled ? `Workers archive what is ${policy(archive)}.` : OFF}`);
    show(this.said, empty ? null : archive.is_enabled ? `what is ${policy(archive)}` : OFF);
    if (!empty) this.figures.update(figures(archive, most));
    this.held.note(archive.held.length < most ? HOLDING : `${HOLDING}: the first ${number(most)}; hindsight archive status --json lists all`);
  }
}

const OFF = "Archiving is switched off: EVENT_STORE_ARCHIVE=off.";
const HOLDING = "nothing of them is archived until they are given back";

const HELD = [
  { name: "Aggregate", kind: "c-id", cell: ({ aggregate_id: id }) => h("a", { href: `timeline?${query({ aggregate: id })}`, title: id }, h("bdi", {}, id)) },
  { name: "Since", kind: "c-ago", cell: ({ restored_at: at }) => h("span", { title: zoned(iso(at)), "data-at": at }) },
  { name: "By", kind: "c-why", cell: ({ restored_by: by }) => clipped(by) },
];

function figures({ events, bytes: packed, size, active, active_size: beside, earliest, latest, oldest_active: oldest, ran_at: ran, held }, most) {
  const day = (at) => stamp(iso(at), 0).slice(0, 10);
  return [
    ["Archived", number(events), events ? `${day(earliest)} to ${day(latest)}` : "all is restored"],
    ["Takes", bytes(size ?? packed), beside === null ? "packed" : `beside ${bytes(beside)} of active events`],
    ["For each event", events ? bytes((size ?? packed) / events) : NONE, each(active, beside)],
    ["Active", `~${number(active)}`, oldest === null ? "none" : ["the oldest ", since(oldest)]],
    ["Last run", ran === null ? NONE : since(ran), ran === null ? "not to the end yet" : stamp(iso(ran), 0)],
    ["Restored", `${number(held.length)}${held.length < most ? "" : "+"}`, held.length ? "held" : "none is held"],
  ];
}

const since = (at) => h("span", { title: zoned(iso(at)), "data-at": at });
const each = (active, size) => (size === null || !active ? "packed" : `active ~${bytes(size / active)}`);

// Of whole days a span is told in days, as it was set.
const age = (us) => (us % DAY ? span(us) : `${number(us / DAY)} d`);
const policy = ({ older_than: old, keep_active: newest }) => `older than ${age(old)}, or beyond the newest ${number(newest)}`;

function warnings({ missing, default: packs, is_behind: behind, oldest_active: oldest, ran_at: ran }, now) {
  const last = ran === null ? "Nobody has archived yet" : `Nobody has archived since ${stamp(iso(ran), 0).slice(0, 10)}`;
  return [
    missing.length ? `The archive has no partition for ${missing.join(", ")}: hindsight archive run makes what is missing.` : null,
    packs ? `${plural(packs, "pack")} of the archive in the default partition, where reading is slower: restore their aggregates, and give them back.` : null,
    behind ? `${last}, though the oldest active event was recorded ${ago(now - oldest)}: does a hindsight work run whose role may?` : null,
  ].filter((text) => text);
}
