// The Replay page: one history, to be stepped through back and forth.

import { alertBox, h, number, scrollToTop, show } from "./dom.js";
import { Latest, load } from "./documents.js";
import { FieldPanel } from "./field.js";
import { FinderPage } from "./finderpage.js";
import { onlyOne } from "./page.js";
import { Pins } from "./pins.js";
import { Player } from "./player.js";
import { Question } from "./question.js";
import { Scrubber } from "./scrubber.js";
import { Search } from "./statesearch.js";
import { StateTree } from "./statetree.js";
import { StepCard } from "./stepcard.js";
import { Steps } from "./steps.js";
import { compared, current, entitle, go } from "./view.js";

export const { prepare, mount } = onlyOne(() => new Replay(), "timeline.css", "replay.css");

const RESTED = 300;
const POLL = 3000;

class Replay extends FinderPage {
  constructor() {
    super("Replay");
    this.start();
  }

  async update(view) {
    const wrong = objection(view);
    this.finder.update(view);
    if (wrong || !view.aggregate) {
      this.#leave();
      show(this.main, wrong ? alertBox(wrong) : nothingChosen());
      entitle("Replay");
      return;
    }
    if (this.history?.aggregate !== view.aggregate) {
      this.#leave();
      this.history = new HistoryView(view.aggregate);
      show(this.main, this.history.element);
      scrollToTop(this.element);
    }
    await this.history.update(view);
  }

  #leave() {
    this.history?.close();
    this.history = null;
  }

  redraw() {
    this.history?.redraw();
  }

  key(name) {
    return this.history?.key?.(name);
  }
}

// Everything about one aggregate. Where it stands is told by the address, once it rests there.
class HistoryView {
  #head = new Latest();
  #painting = false;

  constructor(aggregate) {
    this.aggregate = aggregate;
    const seek = (version) => this.seek(version);
    this.title = h("div", { class: "title replay-title" });
    this.scrubber = new Scrubber({ seek });
    this.player = new Player({ seek, at: () => this.version, following: () => this.steps.at(this.version + 1), last: () => this.steps?.last, first: () => this.first, next: (from, forward) => this.pins.nextChange(from, forward), failures: () => this.#failures(), aggregate });
    this.pins = new Pins({ seek, drop: (path) => this.#pin(path) });
    const choose = (path) => this.#go({ field: path });
    this.tree = new StateTree({ choose });
    this.search = new Search({ aggregate, seek, tree: this.tree, search: (text) => this.#go({ find: text || undefined }, { replace: true }) });
    this.card = new StepCard({ aggregate, choose, timeline: (version) => this.#onTimeline(version) });
    this.field = new FieldPanel({ seek, pin: (path) => this.#pin(path), timeline: (version) => this.#onTimeline(version), close: () => this.#go({ field: undefined }) });
    this.question = new Question({ aggregate, seek, mark: (stretches, text) => this.scrubber.mark("question", stretches, text), ask: (text) => this.#go({ where: text || undefined }) });
    this.problem = h("div", { role: "status" });
    this.content = h(
      "div",
      { class: "replayed" },
      this.title,
      h("div", { class: "deck" }, this.player.element, this.scrubber.element, this.pins.element),
      h("div", { class: "replay-columns" }, h("section", { class: "state-pane", "aria-label": "State" }, this.search.element, this.tree.element), h("div", { class: "column" }, this.field.element, this.card.element, this.question.element)),
    );
    this.element = h("div", {}, this.problem, this.content);
    this.timer = setInterval(() => this.#lookForNews(), POLL);
  }

  close() {
    this.closed = true;
    clearInterval(this.timer);
    clearTimeout(this.rested);
    this.#head.cancel();
    for (const part of [this.scrubber, this.player, this.pins, this.tree, this.search, this.card, this.field, this.question]) part.close();
  }

  async update(view) {
    this.view = view;
    entitle(`${this.aggregate}, replay`);
    if (!this.steps) await this.#load();
    if (!this.steps) return;
    const version = view.version === undefined ? this.steps.last : Number(view.version);
    this.pins.update(this.aggregate, view.pin ?? [], this.steps);
    this.search.update(view.find ?? "");
    this.question.update(view.where ?? "");
    if (version !== this.version) await this.seek(version, { rest: false });
    else this.#showField();
  }

  async #load() {
    try {
      const head = await this.#head.run((signal) => load("replay", { aggregate: this.aggregate }, signal));
      if (!head) return;
      this.content.hidden = false;
      show(this.problem);
      this.#know(head);
    } catch (error) {
      this.content.hidden = true;
      show(this.problem, alertBox(error.message));
    }
  }

  #know(head) {
    this.head = head;
    this.first = head.first_version;
    this.steps = new Steps(this.aggregate, head);
    this.scrubber.update({ first: this.first, last: this.steps.last, kinds: head.kinds, types: head.types });
  }

  // Goes to a version, painting once a frame however fast it is asked.
  async seek(version, { rest = true } = {}) {
    if (this.closed) return;
    const wanted = Math.min(Math.max(version, this.first - 1), this.steps.last);
    if (version > this.steps.last || version < this.first - 1) this.#outside(version);
    else if (this.warned) this.#outside(null);
    this.version = wanted;
    if (rest) {
      clearTimeout(this.rested);
      this.rested = setTimeout(() => this.#rest(), RESTED);
    }
    if (this.steps.at(wanted)) {
      this.#paintOnce();
      if (!rest) this.#showField();
      return;
    }
    this.scrubber.moveTo(wanted, `version ${number(wanted)}`);
    this.content.setAttribute("aria-busy", "true");
    try {
      await this.steps.need(wanted);
      this.#paint();
    } catch (error) {
      if (this.version === wanted) this.#complain(error.message);
    } finally {
      this.content.removeAttribute("aria-busy");
    }
    if (!rest) this.#showField();
  }

  #paintOnce() {
    if (this.#painting) return;
    this.#painting = true;
    requestAnimationFrame(() => {
      this.#painting = false;
      this.#paint();
    });
  }

  #paint() {
    const step = this.steps.at(this.version);
    if (!step) {
      this.#brokenOff();
      return;
    }
    if (this.complained) this.#complain(null);
    const { version } = this;
    this.player.moved();
    this.scrubber.moveTo(version, step.type ? `version ${number(version)}, ${step.type}` : "before the first event");
    this.pins.moveTo(version);
    this.tree.show(step);
    this.search.moveTo(version);
    this.card.show(step, version);
    this.question.suggest(step.state);
    this.#drawTitle(version);
    this.steps.expect(version);
  }

  // A version is missing: nothing behind it can be told.
  #brokenOff() {
    if (this.steps.gap) this.#complain(this.steps.gap);
  }

  // Stands until there is something to show again.
  #complain(text) {
    this.complained = text !== null;
    show(this.problem, text === null ? null : alertBox(text));
  }

  // Stands until somebody goes elsewhere.
  #outside(version) {
    this.warned = version !== null;
    show(this.problem, version === null ? null : alertBox(`There is no version ${number(version)}; ${this.aggregate} is at ${number(this.steps.last)}.`));
  }

  #drawTitle(version) {
    this.position ??= h("span", { class: "position" });
    this.beside ??= h("a", { class: "diff-with", title: "What it made of the state before it, or any other" }, "Diff with…");
    this.position.textContent = `${number(version)} of ${number(this.steps.last)}`;
    this.beside.href = compared(this.aggregate, version, this.first);
    if (this.titled) return;
    this.titled = true;
    show(
      this.title,
      h("p", { class: "crumbs" }, h("bdi", {}, this.head.head.aggregate_type), this.head.generic ? " · the events’ data merged: there is no domain code for this type" : null),
      h("h2", {}, h("bdi", {}, this.aggregate), " ", this.position, " ", this.beside),
    );
  }

  // The address is this page's only while it is shown.
  #rest() {
    if (this.closed || !this.element.isConnected) return;
    this.#go({ version: this.version === this.steps.last ? undefined : this.version }, { step: true });
  }

  #go(change, options) {
    const at = this.version === this.steps?.last ? undefined : this.version;
    go({ ...current(), version: at, ...change }, options);
  }

  #pin(path) {
    const pins = this.view.pin ?? [];
    this.#go({ pin: pins.includes(path) ? pins.filter((other) => other !== path) : [...pins, path] });
  }

  #showField() {
    const { field, pin } = this.view;
    if (field !== this.tree.chosen) this.tree.chooseField(field);
    this.field.update(this.aggregate, this.version, field, (pin ?? []).includes(field));
  }

  #onTimeline(version) {
    return new URL(`timeline?${new URLSearchParams({ aggregate: this.aggregate, version })}`, document.baseURI).href;
  }

  async #failures() {
    this.failed ??= load("failures", { aggregate: this.aggregate });
    this.failed.catch(() => (this.failed = undefined)); // Who asks again asks anew.
    const found = await this.failed;
    this.scrubber.mark("failures", found.versions.map((version) => [version, version, "error", `version ${version} cannot be applied`]), "Cannot be applied");
    return found;
  }

  redraw() {
    this.scrubber.redraw();
    this.pins.redraw();
    this.card.redraw();
    this.field.shown = undefined;
    if (this.steps) this.#showField();
  }

  key(name) {
    if (!this.steps) return false;
    if (name === "Escape" && this.view.field !== undefined) this.#go({ field: undefined });
    else return this.player.key(name);
    return true;
  }

  async #lookForNews() {
    if (this.looking || document.hidden || !this.element.isConnected || !this.steps) return;
    this.looking = true;
    try {
      const { version } = await load("head", { aggregate: this.aggregate });
      if (!version || version <= this.steps.last) return;
      const head = await load("replay", { aggregate: this.aggregate });
      if (!this.closed) this.#learn(head);
    } catch {
      return; // The bar says that the server does not answer.
    } finally {
      this.looking = false;
    }
  }

  // Who stood at the end stands at the new one.
  #learn(head) {
    const followed = this.version === this.steps.last;
    this.failed = undefined;
    this.#know(head);
    this.pins.update(this.aggregate, this.view.pin ?? [], this.steps);
    this.search.refresh();
    this.question.refresh();
    this.seek(followed ? this.steps.last : this.version);
  }
}

const nothingChosen = () =>
  h("div", { class: "blank" }, h("h2", {}, "Replay"), h("p", {}, "Choose an aggregate to step through its history: every event, and the state before and after it."));

function objection(view) {
  if (view.version !== undefined && !/^(-1|\d{1,18})$/.test(view.version)) return `version: '${view.version.slice(0, 40)}' is not a number; correct the address`;
  if (view.version && !view.aggregate) return "version: which aggregate's? Add aggregate=ID to the address";
  for (const path of [view.field, ...(view.pin ?? [])]) {
    if (path && !path.startsWith("/")) return `'${path.slice(0, 40)}' is no JSON pointer such as /email; correct the address`;
  }
  return null;
}
