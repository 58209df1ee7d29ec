// The event of a step: what it carried, what it changed, how it was stored.

import { Latest, load } from "./documents.js";
import { alertBox, button, h, number, plural, shortened, show } from "./dom.js";
import { parseExact, written } from "./exact.js";
import { tree } from "./jsontree.js";
import { typeName } from "./looks.js";
import { span, zoned } from "./moments.js";

const RESTED = 150;
const MOST_CHANGES = 40;
// The bytes of data that is null.
const NULL = 4;

export class StepCard {
  #asked = new Latest();

  constructor({ aggregate, choose, timeline }) {
    Object.assign(this, { aggregate, choose, timeline });
    this.head = h("div", { class: "event-head" });
    this.facts = h("p", { class: "faint step-facts" });
    this.changes = h("div", { class: "step-changes" });
    this.data = h("div", { class: "step-data" });
    this.forms = h("div", { class: "step-forms" });
    this.element = h("section", { class: "step", "aria-label": "Event of this version" }, this.head, this.facts, this.changes, this.data, this.forms);
  }

  close() {
    clearTimeout(this.rested);
    this.#asked.cancel();
  }

  show(step, version) {
    this.step = step;
    clearTimeout(this.rested);
    this.#asked.cancel();
    this.#draw(step, version);
  }

  redraw() {
    if (this.step) this.#draw(this.step, this.step.version);
  }

  #draw(step, version) {
    if (!step.type) {
      show(this.head, h("h3", {}, "Before the first event"));
      show(this.facts, "The state that every history begins with.");
      for (const part of [this.changes, this.data, this.forms]) show(part);
      return;
    }
    show(this.head, h("h3", {}, h("span", { class: "version" }, number(version)), " ", typeName(step.type)), h("a", { class: "button small", href: this.timeline(version) }, "Timeline"));
    show(this.facts, [zoned(step.occurred), step.gap === null ? null : gap(step.gap), step.actor === null ? null : `by ${step.actor}`, `folded in ${span(Math.max(Math.round(step.took), 1))}`].filter(Boolean).join(" · "));
    show(this.changes, step.error ? alertBox(step.error) : this.#changed(step));
    // Building a tree takes longer than all the rest, and who holds a key down reads none.
    this.data.classList.add("stale");
    this.forms.classList.add("stale");
    this.rested = setTimeout(() => this.#drawData(step, version), RESTED);
  }

  #changed({ changes }) {
    if (!changes.length) return h("p", { class: "faint" }, "It changed nothing.");
    const left = changes.length - MOST_CHANGES;
    return [h("ul", { class: "changes-list", "aria-label": "What it changed" }, changes.slice(0, MOST_CHANGES).map((change) => this.#change(change))), left > 0 ? h("p", { class: "faint" }, `and ${number(left)} more`) : null];
  }

  #change({ op, path, from, value, before, inList }) {
    // What left a list has no place any more that could be asked about.
    const field = op === "remove" && inList ? h("span", { class: "value" }, path) : h("button", { type: "button", class: "inline", title: "Who set it?", onclick: () => this.choose(path) }, path || "the whole state");
    const told = (one) => h("bdi", { class: "value" }, shortened(written(one), 160));
    if (op === "move") return h("li", {}, field, h("span", { class: "faint" }, ` moved from ${from}`));
    if (op === "remove") return h("li", { class: "gone" }, field, " ", h("span", { class: "before" }, told(before)), " → ", h("span", { class: "faint" }, "absent"));
    return h("li", {}, field, " ", h("span", { class: "before" }, before === undefined ? "absent" : told(before)), " → ", told(value));
  }

  async #drawData(step, version) {
    const stays = () => this.step === step;
    let { data } = step;
    try {
      if (data === null && step.bytes > NULL) data = parseExact((await this.#asked.run((signal) => load("event", { aggregate: this.aggregate, version }, signal)))?.data ?? "null");
    } catch (error) {
      if (stays()) show(this.data, alertBox(error.message));
      return;
    }
    if (!stays()) return;
    const renewed = step.written !== step.read || step.type !== step.readAs;
    show(this.data, h("h4", {}, renewed ? `Data, as it is read today: ${step.readAs} ${number(step.read)}` : "Data"), data === null && step.bytes > NULL ? h("p", { class: "faint" }, `${plural(step.bytes, "byte")} are too many for a tree.`) : tree(written(data)));
    this.#drawForms(step, version, renewed);
    this.data.classList.remove("stale");
    this.forms.classList.remove("stale");
  }

  #drawForms(step, version, renewed) {
    if (!renewed) {
      show(this.forms, h("p", { class: "faint" }, `Stored as it is read, in schema version ${number(step.written)}.`));
      return;
    }
    show(this.forms, button(`As it was stored, in schema version ${number(step.written)}`, { kind: "small", onclick: () => this.#loadForms(step, version) }));
  }

  async #loadForms(step, version) {
    try {
      const found = await this.#asked.run((signal) => load("forms", { aggregate: this.aggregate, version }, signal, parseExact));
      if (found && this.step === step) show(this.forms, found.forms.map(form));
    } catch (error) {
      show(this.forms, alertBox(error.message));
    }
  }
}

const gap = (us) => (us < 0 ? `${span(-us)} before the event in front of it` : `${span(us)} after the one before`);

function form({ event_type: type, schema_version: version, data, patch, failure }, index) {
  const changed = patch.map(({ op, path, value }) => h("li", {}, h("code", {}, `${{ add: "+", remove: "−", replace: "~", move: ">" }[op]} ${path}`), " ", value === undefined ? null : h("bdi", { class: "value" }, shortened(written(value), 160))));
  return [h("h4", {}, `${index ? "Upcasted to" : "Stored as"} ${type} ${number(version)}`), changed.length ? h("ul", { class: "changes-list" }, changed) : null, failure ? alertBox(failure) : index ? null : tree(data)];
}
