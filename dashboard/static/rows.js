// A table in a frame of its own, redrawn where its rows have changed.

import { h, show } from "./dom.js";
import { ago } from "./moments.js";

export class Rows {
  constructor({ title, note, kind, columns, nothing }) {
    this.columns = columns;
    this.body = h("tbody", {});
    this.said = h("span", { class: "faint" }, note);
    this.nothing = h("p", { class: "bare" }, nothing);
    const heads = columns.map(({ name, kind: column }) => h("th", { scope: "col", class: column }, name));
    this.table = h("table", { class: "list", "aria-label": title }, h("thead", {}, h("tr", {}, heads)), this.body);
    this.frame = h("div", { class: "frame list-frame", tabindex: "0", role: "group", "aria-label": `${title}, scrollable` }, this.table, this.nothing);
    this.element = h("section", { class: `panel ${kind}` }, h("header", {}, h("h2", {}, title), this.said), this.frame);
  }

  // What is said of the table, beside its title.
  note(text) {
    if (this.said.textContent !== text) this.said.textContent = text;
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
export const clipped = (text) => h("bdi", { title: text }, text);
