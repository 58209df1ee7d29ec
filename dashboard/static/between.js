// The events between two versions, and what each contributed.

import { Latest, load } from "./documents.js";
import { alertBox, h, number, plural, show } from "./dom.js";
import { typeName } from "./looks.js";
import { stamp, zoneName } from "./moments.js";

export class Between {
  #asked = new Latest();

  constructor() {
    this.body = h("div", {});
    this.heading = h("h3", {}, "Events between");
    this.element = h("section", { class: "between", "aria-label": "Events between" }, this.heading, this.body);
  }

  close() {
    this.#asked.cancel();
  }

  async update(found) {
    const { one, other } = found;
    this.element.hidden = one.aggregate_id !== other.aggregate_id || one.name !== "";
    const key = JSON.stringify([one.aggregate_id, one.version, other.version]);
    if (this.element.hidden || this.shown === key) return;
    this.shown = key;
    try {
      const answer = await this.#asked.run((signal) => load("between", { aggregate: one.aggregate_id, from: one.version, to: other.version }, signal));
      if (!answer) return;
      this.answer = { ...answer, aggregate: one.aggregate_id };
      this.redraw();
    } catch (error) {
      this.shown = null;
      show(this.body, alertBox(error.message));
    }
  }

  redraw() {
    if (!this.answer) return;
    const { events, more, gap, aggregate } = this.answer;
    const left = more ? h("p", { class: "faint" }, `and ${number(more)} more`) : null;
    show(this.heading, events.length ? `${plural(events.length + more, "event")} between` : "Events between");
    show(this.body, events.length ? table(events, aggregate) : h("p", { class: "faint" }, "None: both sides are of the same version."), left, gap ? alertBox(gap) : null);
  }
}

function table(events, aggregate) {
  const head = [["c-version number", "Version"], ["c-occurred", `Occurred (${zoneName()})`], ["c-kind", "Type"], ["c-actor", "Actor"], ["", "What it contributed"]];
  return h(
    "div",
    { class: "list-frame precise" },
    h("table", { class: "list", "aria-label": "Events between" }, h("thead", {}, h("tr", {}, head.map(([kind, name]) => h("th", { class: kind, scope: "col" }, name)))), h("tbody", {}, events.map((event) => row(event, aggregate)))),
  );
}

function row(event, aggregate) {
  const link = h("a", { href: replayed(aggregate, event.version), title: "Replay at this version" }, number(event.version));
  return h(
    "tr",
    { onclick: (click) => click.target.closest("a") ?? link.click() },
    h("td", { class: "number" }, link),
    h("td", {}, stamp(event.occurred_at, 3)),
    h("td", {}, typeName(event.event_type)),
    h("td", {}, h("bdi", {}, event.actor ?? "–")),
    h("td", { class: "wide", title: event.error ?? event.paths.join("\n") }, event.error ? h("span", { class: "failed" }, `cannot be folded: ${event.error}`) : contributed(event)),
  );
}

function contributed({ paths, changes }) {
  if (!changes) return "nothing";
  return [paths.map((path) => path || "the whole").join(", "), changes > paths.length ? ` and ${number(changes - paths.length)} more` : ""];
}

export const replayed = (aggregate, version) => new URL(`replay?${new URLSearchParams({ aggregate, version })}`, document.baseURI).href;
