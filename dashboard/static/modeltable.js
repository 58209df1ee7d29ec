// The rows of a read model, a page at a time, in the order of a column.

import { alertBox, button, h, link, number, plural, show } from "./dom.js";
import { stamp, zoned } from "./moments.js";
import { address, current, go } from "./view.js";

const LEAST = { text: 180, number: 84, boolean: 84, time: 184, id: 290, other: 150 };
const WIDEST_NAME = 240;
const CHARACTER = 7.2;
const ROOM = 38;
const MOMENT = /^\d{4,}-.*T.*(Z|[+-]\d\d:\d\d(:\d\d)?)$/;
const ORDERS = { undefined: { order: undefined, told: "none" }, asc: { told: "ascending", mark: "▲" }, desc: { told: "descending", mark: "▼" } };

export class ModelTable {
  // `change` is told what the address is to have, `open` which row is wanted.
  constructor({ change, open }) {
    Object.assign(this, { change, open });
    this.head = h("thead", {});
    this.body = h("tbody", { onclick: (event) => this.#press(event), onkeydown: (event) => this.#key(event) });
    this.note = h("div", { class: "list-note" });
    this.table = h("table", { class: "list", "aria-label": "Rows" }, this.head, this.body);
    this.frame = h("div", { class: "frame list-frame", tabindex: "0", role: "group", "aria-label": "Rows, scrollable" }, this.table, this.note);
    this.pager = h("div", { class: "tools pager" });
    this.element = h("div", { class: "model-rows" }, this.frame, this.pager);
  }

  update(found, view) {
    const asked = JSON.stringify([view.projection, view.where, view.sort, view.order, view.after, view.before]);
    const drawn = asked + JSON.stringify(found);
    if (this.drawn === drawn) return;
    if (this.asked !== asked) this.frame.scrollTop = 0;
    Object.assign(this, { drawn, asked, found, view });
    this.redraw();
  }

  fail(message, view) {
    Object.assign(this, { drawn: undefined, found: null, view });
    show(this.head);
    show(this.body);
    this.table.hidden = true;
    if (this.note.textContent !== message) show(this.note, alertBox(message));
    this.#drawPager();
  }

  redraw() {
    const { found, view } = this;
    if (!found) return;
    const { columns, rows } = found;
    this.table.hidden = false;
    const widths = columns.map(width);
    this.table.style.minWidth = `${widths.reduce((sum, one) => sum + one, 0)}px`;
    show(this.head, h("tr", {}, columns.map((column, at) => this.#header(column, widths[at]))));
    show(this.body, rows.map((row) => this.#row(row, columns)));
    const filtered = view.where || view.after || view.before;
    show(this.note, rows.length ? null : h("p", { class: "bare" }, filtered ? "No row is like that." : "No row yet."));
    this.choose(this.chosen);
    this.#drawPager();
  }

  // Marks a row, or none.
  choose(key) {
    this.chosen = key;
    for (const row of this.body.children) {
      if (key !== undefined && row.dataset.key === key) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
  }

  // Where a row is looked at no longer, the keyboard goes on from it.
  focus(key) {
    this.#rowOf(key)?.querySelector("a").focus();
  }

  #header({ name, kind }, wide) {
    const order = this.view.sort === name ? (this.view.order ?? "asc") : undefined;
    const { told, mark } = ORDERS[order];
    const label = [h("bdi", {}, name), h("span", { class: "order", "aria-hidden": "true" }, mark ?? "")];
    const turn = () => this.change(order === undefined ? { sort: name, order: undefined } : order === "asc" ? { sort: name, order: "desc" } : { sort: undefined, order: undefined });
    const content = kind === "other" ? h("span", {}, label) : h("button", { type: "button", class: "sorter", title: `Sort by ${name}`, onclick: turn }, label);
    const made = h("th", { scope: "col", "aria-sort": told, class: kind === "number" ? "number" : null }, content);
    made.style.width = `${wide}px`;
    return made;
  }

  #row({ key, cells }, columns) {
    const made = h("tr", {}, cells.map((cell, at) => {
      const shown = value(cell, columns[at].kind);
      const content = at ? shown : link(address({ ...current(), row: key }), () => this.open(key), {}, shown);
      return h("td", { class: columns[at].kind === "number" ? "number" : null, title: pointed(cell, columns[at].kind) }, content);
    }));
    made.dataset.key = key;
    return made;
  }

  #rowOf(key) {
    return [...this.body.children].find((row) => row.dataset.key === key);
  }

  #press(event) {
    // The link in the row has its own way, a new tab perhaps; text just selected is to be copied.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || String(getSelection())) return;
    const row = event.target.closest("tr");
    if (row) this.open(row.dataset.key);
  }

  #key(event) {
    const by = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const row = event.target.closest("tr")?.[by];
    row?.querySelector("a").focus({ preventScroll: true });
    row?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  #drawPager() {
    const { found, view } = this;
    const paged = Boolean(view.after || view.before);
    this.pager.hidden = !found && !paged;
    const turn = (place, label, icon, rest) => button(label, { icon, disabled: !place, onclick: () => this.change(rest) });
    const more = found?.next;
    const first = !paged && more ? `The first ${number(found.shown)} rows` : plural(found?.rows.length ?? 0, "row");
    const told = paged && found?.rows.length ? `${first} of this page` : first;
    show(
      this.pager,
      h("span", { class: "faint", role: "status" }, found ? told : ""),
      h("div", { class: "right", role: "group", "aria-label": "Pages" }, [
        turn(paged, "First", "first", {}),
        turn(found?.previous, "Back", "back", { before: found?.previous }),
        turn(more, "Next", "on", { after: more }),
      ]),
    );
  }
}

// As wide as the name and the values of its kind want it, so that pages look alike.
function width({ name, kind }) {
  return Math.max(LEAST[kind], Math.min(Math.ceil(name.length * CHARACTER) + ROOM, WIDEST_NAME));
}

const NULL = () => h("span", { class: "null" }, "NULL");

// A value as people read it.
export function value(cell, kind) {
  if (cell === null) return NULL();
  if (cell.text !== undefined) return h("bdi", {}, `${cell.text}…`);
  if (kind === "boolean") return cell === "true" ? "yes" : "no";
  if (kind === "time" && MOMENT.test(cell)) return stamp(cell, 3);
  return h("bdi", {}, cell);
}

// What is said of a value when it is pointed at: all of it, as far as it is here.
export function pointed(cell, kind) {
  if (cell === null) return "NULL";
  if (cell.text !== undefined) return `${cell.text}… ${plural(cell.length, "character")} in all`;
  return kind === "time" && MOMENT.test(cell) ? zoned(cell) : cell;
}
