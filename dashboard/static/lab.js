// The upcasters: an event as it was stored and as each step made it, and what is stored altogether.

import { Latest, load } from "./documents.js";
import { alertBox, button, h, number, plural, show } from "./dom.js";
import { diffTree } from "./difftree.js";
import { parseExact, written } from "./exact.js";
import { tree } from "./jsontree.js";
import { typeName } from "./looks.js";
import { followed } from "./patches.js";

export class Lab {
  #asked = new Latest();

  // `go` is told which event is wanted.
  constructor({ go }) {
    this.go = go;
    this.field = h("input", { class: "jump-version", inputmode: "numeric", "aria-label": "Event", title: "Version of the event (Enter)", autocomplete: "off", onkeydown: (event) => event.key === "Enter" && this.#enter() });
    this.back = button("Previous", { icon: "back", kind: "small", onclick: () => this.#step(-1) });
    this.on = button("Next", { icon: "on", kind: "small", onclick: () => this.#step(1) });
    this.choice = h("div", { class: "player" }, h("label", { class: "player-group" }, h("span", {}, "Event"), this.field), this.back, this.on);
    this.forms = h("div", { class: "forms" });
    this.coverage = h("div", {});
    this.event = h("section", { class: "lab-event", "aria-label": "Forms of an event" }, this.choice, this.forms);
    this.element = h("div", { class: "lab" }, this.event, h("section", { "aria-label": "Stored versions" }, h("h3", {}, "What is stored, and what it is read as"), this.coverage));
  }

  close() {
    this.#asked.cancel();
  }

  // `range` says which versions there are; none where there is no aggregate.
  async update(aggregate, version, range) {
    this.event.hidden = !aggregate;
    this.#count();
    if (!aggregate) return;
    Object.assign(this, { aggregate, version, range });
    this.field.value = version;
    this.back.disabled = version <= range.first;
    this.on.disabled = version >= range.last;
    const key = JSON.stringify([aggregate, version]);
    if (this.shown === key) return;
    try {
      const found = await this.#asked.run((signal) => load("forms", { aggregate, version }, signal));
      if (!found) return;
      Object.assign(this, { shown: key, found });
      this.#drawForms();
    } catch (error) {
      this.shown = null;
      show(this.forms, alertBox(error.message));
    }
  }

  redraw() {
    if (this.shown) this.#drawForms();
    if (this.stored) this.#drawStored();
  }

  #drawForms() {
    const { forms } = this.found;
    const isAsStored = forms.length === 1 && !forms[0].failure;
    const told = this.range.generic ? "There is no domain code for this type: it is read as it was stored." : "It is read as it was stored: no upcaster has anything to do.";
    show(this.forms, forms.map((form, index) => drawForm(form, forms[index - 1], index === forms.length - 1)), isAsStored ? h("p", { class: "faint" }, told) : null);
  }

  #drawStored() {
    const { domain, versions, events } = this.stored;
    show(
      this.coverage,
      domain ? null : h("p", { class: "faint" }, "No domain code: name it with EVENT_STORE_DOMAIN, and this says what becomes of each version."),
      versions ? matrix(versions) : button(`Count the versions of ${plural(events, "event")}`, { onclick: () => this.#count("1") }),
    );
  }

  #enter() {
    const text = this.field.value.trim().replaceAll(",", "");
    this.field.blur();
    this.go(text || undefined);
  }

  #step(by) {
    this.go(this.version + by, { step: true });
  }

  async #count(all) {
    if (this.counted && !all) return;
    this.counted = true;
    try {
      this.stored = await load("coverage", { all });
      this.#drawStored();
    } catch (error) {
      this.counted = false;
      show(this.coverage, alertBox(error.message));
    }
  }
}

function drawForm(form, before, isLast) {
  const data = parseExact(form.data);
  const told = before ? (isLast ? "as the code reads it" : "upcasted") : "as it was stored";
  const title = h("h4", {}, typeName(form.event_type), ` ${number(form.schema_version)}`);
  const content = before ? changed(parseExact(before.data), data, form) : tree(written(data));
  return h("article", { class: "form", tabindex: "0", "aria-label": `${form.event_type} ${form.schema_version}, ${told}` }, title, h("p", { class: "faint" }, told), form.failure ? alertBox(`cannot go on: ${form.failure}`) : null, before && form.failure ? null : content);
}

function changed(before, data, { patch, schema_version: version }) {
  const { changes } = followed(before, patch);
  if (!changes.length) return h("p", { class: "faint" }, "This step changed nothing.");
  return diffTree(before, data, changes, `What the step to ${number(version)} changed`);
}

function matrix(versions) {
  if (!versions.length) return h("p", { class: "faint" }, "There are no events yet.");
  const head = ["Aggregate", "Event", "Version", "Events", "Read as", "Version", "Chain"];
  const numbers = [2, 3, 5];
  const row = (each) => [h("bdi", {}, each.aggregate_type), typeName(each.event_type), number(each.event_version), number(each.events), each.read_as ? h("bdi", {}, each.read_as[0]) : "–", each.read_as ? number(each.read_as[1]) : "–", chain(each.chain)];
  return h(
    "div",
    { class: "list-frame", tabindex: "0", role: "region", "aria-label": "Stored versions, a table" },
    h("table", { class: "list matrix", "aria-label": "Stored versions" }, h("thead", {}, h("tr", {}, head.map((name, index) => h("th", { scope: "col", class: numbers.includes(index) ? "number" : null }, name)))), h("tbody", {}, versions.map((each) => h("tr", {}, row(each).map((cell, index) => h("td", { class: numbers.includes(index) ? "number" : null }, cell)))))),
  );
}

// What no code of today reads is told by more than its colour.
function chain(told) {
  const fine = told === "complete" || told === "no domain code";
  return h("span", { class: fine ? "" : "failed" }, fine ? "" : "! ", told);
}
