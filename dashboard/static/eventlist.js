// Events as rows of a table; a click anywhere in a row, or its link, chooses it.

import { alertBox, h, link, number, show } from "./dom.js";
import { typeName } from "./looks.js";
import { relative, span, stamp, zoneName } from "./moments.js";
import { address, go } from "./view.js";

const REST = 40;
const COLUMNS = {
  version: { name: "Version", kind: "number" },
  occurred: { name: "Occurred" },
  gap: { name: "After", kind: "number", title: "Time since the event before it" },
  aggregate: { name: "Aggregate" },
  type: { name: "Event" },
  actor: { name: "By" },
  data: { name: "Data", kind: "wide" },
};

export class EventList {
  // `href(row)` is the view a row leads to; `expect(row)` hears of a row that is pointed at.
  constructor({ label, href, expect = () => {}, columns = ["version", "occurred", "gap", "type", "actor", "data"] }) {
    this.href = href;
    this.expect = expect;
    this.columns = columns;
    this.rows = null;
    this.head = h("thead", {});
    this.body = h("tbody", { onclick: (event) => this.#press(event), onpointerover: (event) => this.#point(event) });
    this.note = h("div", { class: "list-note" });
    this.table = h("table", { class: "list", "aria-label": label }, this.head, this.body);
    this.element = h("div", { class: "list-frame" }, this.table, this.note);
  }

  update(rows, { empty = "No event." } = {}) {
    this.rows = rows;
    this.empty = empty;
    this.redraw();
  }

  redraw() {
    if (!this.rows) return;
    show(this.head, h("tr", {}, this.columns.map((name) => this.#header(name))));
    show(this.body, this.rows.map((row) => this.#row(row)));
    this.table.classList.toggle("precise", this.rows.some((row) => row.occurred_at.includes(".")));
    show(this.note, this.rows.length ? null : h("p", { class: "faint" }, this.empty));
    this.#mark();
  }

  fail(error) {
    this.rows = null;
    show(this.body);
    show(this.note, alertBox(error.message));
  }

  has(version) {
    return Boolean(this.rows?.some((row) => row.version === version));
  }

  choose(version) {
    this.chosen = version;
    this.#mark();
  }

  #header(name) {
    const { name: shown, kind, title } = COLUMNS[name];
    const text = name === "occurred" ? `${shown} (${zoneName()})` : shown;
    return h("th", { scope: "col", class: `c-${name} ${kind ?? ""}`, title }, text);
  }

  #row(row) {
    const view = this.href(row);
    const cells = {
      version: () => h("td", { class: "number" }, this.#link(view, number(row.version))),
      occurred: () => h("td", { class: "when", title: relative(row.occurred_at) }, stamp(row.occurred_at, 3)),
      gap: () => h("td", { class: "number faint" }, row.gap === null ? "" : span(row.gap)),
      aggregate: () => h("td", { class: "clip", title: row.aggregate_id }, this.#link(view, h("bdi", {}, row.aggregate_id))),
      type: () => h("td", { class: "clip", title: row.event_type }, typeName(row.event_type)),
      actor: () => h("td", { class: "clip", title: row.actor }, h("bdi", {}, row.actor ?? "")),
      data: () => h("td", { class: "wide" }, h("bdi", {}, row.summary)),
    };
    const made = h("tr", {}, this.columns.map((name) => this.#cell(name, cells[name]())));
    made.dataset.version = row.version;
    made.dataset.position = row.position;
    return made;
  }

  #cell(name, made) {
    made.classList.add(`c-${name}`);
    return made;
  }

  #link(view, content) {
    return link(address(view), () => go(view), {}, content);
  }

  #rowOf(event) {
    const place = [...this.body.children].indexOf(event.target.closest("tr"));
    return this.rows?.[place];
  }

  #press(event) {
    // The link in the row has its own way, a new tab perhaps; text just selected is to be copied.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || String(getSelection())) return;
    const row = this.#rowOf(event);
    if (row) go(this.href(row));
  }

  // Who rests on a row is about to press it.
  #point(event) {
    const row = this.#rowOf(event);
    if (row === this.pointed) return;
    this.pointed = row;
    clearTimeout(this.resting);
    if (row) this.resting = setTimeout(() => this.pointed === row && this.expect(row), REST);
  }

  #mark() {
    for (const row of this.body.children) {
      if (this.chosen !== undefined && Number(row.dataset.version) === this.chosen) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
  }
}
