// A row beside the state that its aggregate's events lead to, when they are replayed.

import { text } from "./documents.js";
import { alertBox, button, h, number, plural, show } from "./dom.js";
import { typeName } from "./looks.js";
import { pointed, value } from "./modeltable.js";
import { stamp, zoneName } from "./moments.js";
import { query } from "./view.js";

const MOST_TOLD = 3;
const LONGEST_TOLD = 60;

export class Beside {
  constructor({ close }) {
    this.close = close;
    this.element = h("section", { class: "event beside-row", "aria-label": "Chosen row" });
    this.element.hidden = true;
  }

  // Nothing where no row is chosen.
  update(found, standing) {
    const drawn = JSON.stringify([found, standing?.code_changed, standing?.state]);
    if (this.drawn === drawn) return;
    const came = found && this.found?.key !== found.key;
    Object.assign(this, { drawn, found, standing });
    this.redraw();
    if (came) this.element.scrollIntoView({ block: "nearest" });
  }

  fail(key, message) {
    const said = `${key}\n${message}`;
    if (this.drawn === said) return;
    Object.assign(this, { drawn: said, found: null });
    this.element.hidden = false;
    show(this.element, this.#heading(key), alertBox(message));
  }

  redraw() {
    const { found } = this;
    this.element.hidden = !found;
    if (!found) return;
    show(this.element, this.#heading(found.key), this.#said(), links(found), found.fields.length ? this.#table() : null);
  }

  #heading(key) {
    const away = button("Close", { icon: "close", kind: "small", title: "Close (Esc)", onclick: () => this.close() });
    return h("div", { class: "event-head" }, h("h3", {}, h("bdi", {}, key)), away);
  }

  // What comes of comparing, and what else may be the reason.
  #said() {
    const { found, standing } = this;
    const { last, newest, failure, skipped, generic } = found;
    const later = last && newest - last.version;
    const notes = [];
    if (failure) notes.push(alertBox(failure));
    if (later) notes.push(h("p", {}, `The table has not taken ${plural(later, "later event")} yet: the row is compared with the state at version ${number(last.version)}, not at ${number(newest)}.`));
    if (skipped.length) notes.push(h("p", {}, `The projection left out ${skipped.length === 1 ? "version" : "versions"} ${skipped.map(number).join(", ")}: what differs may come from that.`));
    if (standing.code_changed || standing.state === "outdated") notes.push(h("p", {}, "The table was made by other code than this: what differs may come from that."));
    if (generic) notes.push(h("p", { class: "faint" }, "There is no domain code: the state is the events’ data, merged."));
    return h("div", { class: "said-of-row" }, this.#verdict(), notes);
  }

  #verdict() {
    const { found, standing } = this;
    const { last, position, exists, differing, failure } = found;
    const at = `at position ${number(position)}`;
    if (!standing.by_aggregate) return h("p", {}, exists ? "No single aggregate is behind this row: the projection gives its rows keys of its own." : `There is no row with this key ${at}.`);
    if (!last) return exists ? alertBox(`No event of this aggregate is there ${at}: nothing accounts for this row.`) : h("p", {}, `There is neither a row nor an event of it ${at}.`);
    if (!exists) return h("p", {}, `There is no row with this key ${at}; the aggregate is at version ${number(last.version)} there.`);
    if (failure) return null;
    if (differing) return this.#differing();
    return h("p", { class: "agrees" }, found.fields.some(({ in_row, in_state }) => in_row && in_state) ? `The row says what the replay says, both ${at}, version ${number(last.version)}.` : "No column has the name of a field: there is nothing to compare.");
  }

  #differing() {
    const { fields, differing, position, last } = this.found;
    const wrong = fields.filter(({ differs }) => differs).slice(0, MOST_TOLD);
    const lines = wrong.map((field) => h("li", {}, h("bdi", {}, field.name), ": the row says ", told(field.row, field.kind), ", the replay ", told(field.state, field.kind)));
    return alertBox(`${plural(differing, "value")} ${differing === 1 ? "differs" : "differ"} from the replay, both at position ${number(position)}, version ${number(last.version)}.`, h("ul", {}, lines, differing > MOST_TOLD ? h("li", {}, "…") : null));
  }

  #table() {
    const { last } = this.found;
    const heads = ["", "Row", ...(last ? ["Replay"] : [])];
    return h(
      "table",
      { class: "list compared-row", "aria-label": "Row and replay" },
      h("thead", {}, h("tr", {}, heads.map((name) => (name ? h("th", { scope: "col" }, name) : h("td", {}))))),
      h("tbody", {}, this.found.fields.map((field) => this.#field(field, last))),
    );
  }

  #field(field, last) {
    const { name, kind, row, state, in_row, in_state, differs } = field;
    const none = (title) => h("span", { class: "faint", title }, "–");
    const mark = differs ? h("span", { class: "unequal", title: "differs" }, "≠ ", h("span", { class: "unseen" }, "differs: ")) : null;
    const found = in_row ? this.#whole(row, kind, name) : none("no column of that name");
    const replayed = in_state ? shown(state, kind) : none("no field of that name");
    return h("tr", { class: differs ? "differs" : null }, h("th", { scope: "row" }, mark, h("bdi", {}, name)), h("td", {}, found), last ? h("td", {}, replayed) : null);
  }

  // A long value has its beginning here, and the rest when it is asked for.
  #whole(cell, kind, column) {
    if (cell?.text === undefined) return shown(cell, kind);
    const asked = { projection: this.standing.name, row: this.found.key, column };
    const place = h("div", {}, shown(cell, kind), " ");
    const unfold = async () => {
      try {
        show(place, h("pre", { class: "code", tabindex: "0", "aria-label": `${column}, whole` }, await text("cell", asked)));
      } catch (error) {
        show(place, alertBox(error.message));
      }
    };
    place.append(h("button", { type: "button", class: "inline", onclick: unfold }, `all ${plural(cell.length, "character")}`));
    return place;
  }
}

const shown = (cell, kind) => h("span", { title: kind === "time" ? pointed(cell, kind) : null }, value(cell, kind));

function told(cell, kind) {
  const short = typeof cell === "string" && kind !== "time" && cell.length > LONGEST_TOLD ? `${cell.slice(0, LONGEST_TOLD)}…` : cell;
  return h("strong", {}, value(short, kind));
}

function links({ key: aggregate, last }) {
  if (!last) return null;
  const at = query({ aggregate, version: last.version });
  return h(
    "p",
    { class: "row-links" },
    h("a", { href: `timeline?${at}` }, "Timeline"),
    h("a", { href: `replay?${at}` }, "Replay"),
    h("span", { class: "faint" }, "last event ", typeName(last.event_type), ` ${stamp(last.occurred_at, 0)} ${zoneName()}`),
  );
}
