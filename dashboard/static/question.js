// A question to the state at every version: where it holds, and what made it so.

import { Latest, load } from "./documents.js";
import { alertBox, button, h, number, plural, shortened, show } from "./dom.js";
import { Exact, isContainer } from "./exact.js";
import { typeName } from "./looks.js";

const TOLD = { true: "holds", false: "does not hold", undefined: "undefined", error: "error" };
const MOST_ROWS = 100;
const MOST_EXAMPLES = 4;
// What CEL has a meaning of its own for, and the whole state's name.
const TAKEN = new Set("bool bytes double dyn duration google int list map null_type string timestamp type uint true false null in as break const continue else for function if import let loop package namespace return var void while state has size".split(" "));
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

export class Question {
  #asked = new Latest();

  constructor({ aggregate, seek, mark, ask }) {
    Object.assign(this, { aggregate, seek, mark, ask });
    this.text = "";
    this.field = h("input", { class: "question-field", "aria-label": "Where does this hold?", placeholder: "A question in CEL, such as size(orders) > 3", autocomplete: "off", spellcheck: "false", onkeydown: (event) => this.#key(event) });
    this.examples = h("div", { class: "examples" });
    this.answer = h("div", { class: "answers" });
    this.element = h(
      "section",
      { class: "question", "aria-label": "Bisect" },
      h("div", { class: "question-head" }, h("h4", {}, "Since when?"), this.field, button("Ask", { kind: "small", title: "Ask every version (Enter)", onclick: () => this.#enter() })),
      this.examples,
      this.answer,
    );
  }

  close() {
    this.#asked.cancel();
  }

  // There are new versions to be asked.
  refresh() {
    if (this.text) this.#load();
  }

  update(text) {
    if (text === this.text) return;
    this.text = text;
    if (this.field.getRootNode().activeElement !== this.field) this.field.value = text;
    this.#load();
  }

  // Questions that could be asked about this state, until somebody has asked one.
  suggest(state) {
    if (this.suggested || this.text || !isContainer(state)) return;
    const found = Object.entries(state).flatMap(([name, value]) => question(name, value)).slice(0, MOST_EXAMPLES);
    if (!found.length) return;
    this.suggested = true;
    show(this.examples, h("span", { class: "faint" }, "For example "), found.map((text) => h("button", { type: "button", class: "inline", onclick: () => this.#take(text) }, text)));
  }

  #take(text) {
    this.field.value = text;
    this.ask(text);
  }

  #key(event) {
    if (event.key === "Escape") this.field.blur();
    if (event.key !== "Enter") return;
    event.preventDefault();
    this.#enter();
  }

  #enter() {
    this.ask(this.field.value.trim());
  }

  async #load() {
    if (!this.text) {
      this.#asked.cancel();
      this.mark([]);
      show(this.answer);
      return;
    }
    try {
      const found = await this.#asked.run((signal) => load("answers", { aggregate: this.aggregate, where: this.text }, signal));
      if (found) this.#draw(found);
    } catch (error) {
      this.mark([]);
      show(this.answer, alertBox(error.message));
    }
  }

  #draw({ stretches, more, gap }) {
    // An answer stands until the event that made it another one.
    const ends = stretches.map((each, index) => stretches[index + 1]?.first ?? each.last);
    this.mark(stretches.map((each, index) => [each.first, ends[index], each.kind, `${TOLD[each.kind] ?? each.answer}, versions ${number(each.first)} to ${number(each.last)}`]), this.text);
    const held = stretches.filter(({ kind }) => kind === "true");
    const versions = held.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    const values = stretches.some(({ kind }) => kind === "value");
    const told = values ? `${plural(stretches.length, "value")} one after the other` : held.length ? `It holds at ${plural(versions, "version")}, in ${plural(held.length, "stretch").replace("stretchs", "stretches")}` : "It never holds";
    const rows = stretches.slice(0, MOST_ROWS).map((each) =>
      h(
        "tr",
        {},
        h("td", { class: "number" }, this.#step(each.first)),
        h("td", { class: "number" }, this.#step(each.last)),
        h("td", {}, h("i", { class: `answer answer-${each.kind}`, "aria-hidden": "true" }), h("bdi", {}, TOLD[each.kind] ?? shortened(each.answer ?? "", 60)), each.kind === "error" ? h("span", { class: "faint" }, ` ${each.answer}`) : null),
        h("td", {}, typeName(each.event_type)),
        h("td", { class: "faint" }, each.actor === null ? null : h("bdi", {}, each.actor)),
      ),
    );
    const left = stretches.length - rows.length;
    show(
      this.answer,
      h("p", { role: "status" }, `${told}${more ? ", as far as was looked" : ""}`),
      gap ? alertBox(gap) : null,
      h("div", { class: "scroll answers-scroll", tabindex: "0" }, h("table", { class: "diff", "aria-label": "Answers" }, h("thead", {}, h("tr", {}, ["From", "To", "Answer", "Since", "By"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)), left > 0 ? h("p", { class: "faint" }, `and ${number(left)} more`) : null),
    );
  }

  #step(version) {
    return h("button", { type: "button", class: "inline", title: "Go to this version", onclick: () => this.seek(version) }, number(version));
  }
}

// One question a field may be asked, if any.
function question(name, value) {
  const field = NAME.test(name) && !TAKEN.has(name) ? name : `state[${JSON.stringify(name)}]`;
  if (typeof value === "boolean") return [value ? field : `!${field}`];
  if (typeof value === "number" || value instanceof Exact) return [`${field} > 0`];
  if (typeof value === "string" && value.length < 40) return [`${field} == ${JSON.stringify(value)}`];
  if (Array.isArray(value)) return [`size(${field}) > 0`];
  return [];
}
