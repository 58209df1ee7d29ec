// What rows are asked for, column by column: a form to add a filter, and those that there are.

import { button, h, show } from "./dom.js";

const OPERATORS = {
  text: [["=", "is"], ["^", "begins with"], ["!=", "is not"]],
  id: [["=", "is"], ["!=", "is not"]],
  number: [["=", "="], ["!=", "≠"], ["<", "<"], ["<=", "≤"], [">", ">"], [">=", "≥"]],
  time: [["<", "before"], [">=", "from"], ["<=", "until"], [">", "after"], ["=", "at"]],
  boolean: [["=true", "yes"], ["=false", "no"]],
};
const NULLS = [[" is null", "is NULL"], [" is not null", "is not NULL"]];
const HINTS = { number: "a number", time: "2026-11-28T09:30, in UTC", id: "a UUID", text: "" };
const WRITTEN = /(!=|<=|>=|=|<|>|\^| is (?:not )?null$)/g;

export class Filters {
  // `change` is told what the address is to have.
  constructor({ change }) {
    this.change = change;
    this.chips = h("ul", { class: "chips", "aria-label": "Filters in use" });
    this.column = h("select", { "aria-label": "Column", onchange: () => this.#drawOperators() });
    this.operator = h("select", { "aria-label": "Comparison", onchange: () => this.#drawValue() });
    this.value = h("input", { "aria-label": "Value", autocomplete: "off", spellcheck: "false" });
    this.add = h("button", { type: "submit", class: "button" }, "Filter");
    this.form = h("form", { class: "tools", "aria-label": "Filter rows", onsubmit: (event) => this.#submit(event) }, this.column, this.operator, this.value, this.add);
    this.form.hidden = true;
    this.where = [];
    this.element = h("div", { class: "model-filters" }, this.form, this.chips);
  }

  // Known once there are rows to be asked for; what was asked can be taken back before.
  learn(columns) {
    const names = JSON.stringify(columns.map(({ name, kind, nullable }) => [name, kind, nullable]));
    if (names === this.names) return;
    this.names = names;
    this.columns = columns.filter(({ kind, nullable }) => kind !== "other" || nullable);
    show(this.column, this.columns.map(({ name }) => h("option", { value: name }, name)));
    this.form.hidden = false;
    this.#drawOperators();
    this.#drawChips();
  }

  update(view) {
    const where = view.where ?? [];
    if (JSON.stringify(where) === JSON.stringify(this.where)) return;
    this.where = where;
    this.#drawChips();
  }

  #drawChips() {
    const { where } = this;
    show(this.chips, where.map((text, at) => h("li", {}, this.#chip(text, at))), where.length > 1 ? h("li", {}, button("Show all rows", { kind: "small", onclick: () => this.change({ where: undefined }) })) : null);
  }

  #chip(text, at) {
    const told = this.#told(text);
    const chip = button("", { kind: "small chip", icon: "close", title: "Remove this filter", onclick: () => this.change({ where: this.where.filter((_, other) => other !== at) }) });
    chip.setAttribute("aria-label", `Remove the filter ${told}`);
    chip.querySelector("span").append(h("bdi", {}, told));
    return chip;
  }

  // As the server reads it: the first comparison behind the name of a column.
  #told(text) {
    const ways = [...text.matchAll(WRITTEN)];
    const way = ways.find(({ index }) => this.columns?.some(({ name }) => name === text.slice(0, index)));
    if (!way) return text;
    const name = text.slice(0, way.index);
    const { kind } = this.columns.find((column) => column.name === name);
    const value = text.slice(way.index + way[0].length);
    const known = [...(OPERATORS[kind] ?? []), ...NULLS];
    const whole = known.find(([operator]) => operator === way[0] + value);
    if (whole) return `${name}: ${whole[1]}`;
    return `${name} ${known.find(([operator]) => operator === way[0])?.[1] ?? way[0]} ${value === "" ? "“”" : value}`;
  }

  get #chosen() {
    return this.columns.find(({ name }) => name === this.column.value);
  }

  #drawOperators() {
    const { kind, nullable } = this.#chosen;
    const known = [...(OPERATORS[kind] ?? []), ...(nullable ? NULLS : [])];
    show(this.operator, known.map(([operator, name]) => h("option", { value: operator }, name)));
    this.value.value = "";
    this.#drawValue();
  }

  #drawValue() {
    const { kind } = this.#chosen;
    this.value.hidden = kind === "boolean" || this.operator.value.startsWith(" is");
    this.value.placeholder = HINTS[kind] ?? "";
    this.value.required = !this.value.hidden && kind !== "text";
    this.value.inputMode = kind === "number" ? "decimal" : "text";
  }

  #submit(event) {
    event.preventDefault();
    const value = this.value.hidden ? "" : this.#chosen.kind === "text" ? this.value.value : this.value.value.trim();
    const text = `${this.column.value}${this.operator.value}${value}`;
    this.value.value = "";
    if (!this.where.includes(text)) this.change({ where: [...this.where, text] });
  }
}
