// The Operations page: what waits to be published, what could not be, what to do about it; the archive.

import { Archive } from "./archive.js";
import { Confirmation } from "./confirmation.js";
import { Latest, load } from "./documents.js";
import { alertBox, button, h, number, show } from "./dom.js";
import { Figures, NONE } from "./figures.js";
import { iso, span, stamp, zoned } from "./moments.js";
import { Page, onlyOne } from "./page.js";
import { Rows, clipped } from "./rows.js";
import { current, entitle, go, query } from "./view.js";

const POLL = 2000;
const SECOND = 1000;

export const { prepare, mount } = onlyOne(() => new Operations(), "timeline.css", "monitoring.css", "operations.css");

class Operations extends Page {
  #asked = new Latest();
  #unfolded = new Set();

  constructor() {
    super("Operations");
    this.fresh = h("p", { class: "fresh-line" });
    this.problem = h("div", { class: "problem" });
    this.done = h("p", { class: "done", role: "status" });
    this.figures = new Figures();
    this.dead = new Rows({ title: "Dead letters", note: "what could not be published", kind: "dead", columns: this.#deadColumns(), nothing: "Nothing has been given up" });
    this.heads = new Rows({ title: "Head of the line", note: "the record that each aggregate’s later ones wait for", kind: "heads", columns: this.#headColumns(), nothing: "Everything has been published" });
    this.log = new Rows({ title: "Who did what", note: "newest first", kind: "acts", columns: ACTS, nothing: "Nothing has been redriven or skipped" });
    this.archive = new Archive();
    this.confirmation = new Confirmation({ done: (text) => this.#told(text) });
    this.content = h("div", { class: "monitored" }, this.archive.warnings, this.figures.element, this.dead.element, this.heads.element, this.log.element, this.archive.element);
    this.content.hidden = true;
    show(this.main, h("div", { class: "state" }, this.fresh, this.done, this.problem), this.content, this.confirmation.element);
    document.addEventListener("visibilitychange", () => this.#live && this.isShown() && !document.hidden && this.#ask());
    setInterval(() => this.isShown() && !document.hidden && this.#tick(), SECOND);
    this.start();
  }

  tools() {
    return [button("Live", { pressed: this.#live ? "true" : "false", title: "Show what happens as it happens", onclick: () => go({ ...current(), live: this.#live ? 0 : undefined }) })];
  }

  async update(view) {
    entitle("Operations");
    this.view = view;
    this.drawBar();
    await this.#ask();
  }

  redraw() {
    for (const part of [this.dead, this.heads, this.log, this.archive]) part.redraw();
    this.#tick();
  }

  get #live() {
    return this.view?.live !== "0";
  }

  async #ask() {
    clearTimeout(this.timer);
    try {
      const found = await this.#asked.run((signal) => load("operations", {}, signal));
      if (!found) return;
      this.#take(found);
    } catch (error) {
      this.#complain(error);
      if (error.kind === "NothingToOperate") return;
    }
    if (this.#live) this.timer = setTimeout(() => this.isShown() && !document.hidden && this.#ask(), POLL);
  }

  #take(found) {
    this.found = found;
    this.received = performance.now();
    this.failed = false;
    show(this.problem);
    this.content.hidden = false;
    this.element.classList.toggle("operated", found.can_operate);
    this.figures.update(figures(found));
    const now = this.#now();
    this.dead.update(found.dead, now);
    this.heads.update(found.heads, now);
    this.log.update(found.acts, now);
    this.archive.update(found, now);
    this.dead.note(first(found, found.dead, "what could not be published", "; hindsight outbox failed lists more"));
    this.heads.note(first(found, found.heads, "the record that each aggregate’s later ones wait for"));
    this.#tick();
  }

  // The last picture stays, and says how old it is.
  #complain(error) {
    this.failed = true;
    if (this.problem.textContent !== error.message) show(this.problem, alertBox(error.message));
    this.#tick();
  }

  #told(text) {
    show(this.done, text);
    this.#ask();
  }

  // By the server's clock, which need not be the browser's.
  #now() {
    return this.found.now + Math.round((performance.now() - this.received) * 1000);
  }

  #tick() {
    const { found } = this;
    if (!found) return;
    const now = this.#now();
    const text = this.failed ? `This picture is ${span(Math.max(now - found.now, 0))} old.` : freshness(found, this.#live);
    if (this.fresh.textContent !== text) show(this.fresh, text);
    this.fresh.classList.toggle("old", this.failed || !this.#live);
    for (const part of [this.dead, this.heads, this.log, this.archive]) part.tick(now);
    for (const when of this.heads.body.querySelectorAll("[data-until]")) {
      const left = Math.max(Number(when.dataset.until) - now, 0);
      const words = left ? `${when.dataset.words} ${span(Math.ceil(left / 1e6) * 1e6)}` : when.dataset.over;
      if (when.textContent !== words) when.textContent = words;
    }
  }

  #deadColumns() {
    return [
      { name: "Aggregate", kind: "c-id", cell: aggregate },
      { name: "Version", kind: "number c-version", cell: ({ version }) => number(version) },
      { name: "Event", kind: "c-kind", cell: ({ event_type: type }) => clipped(type) },
      { name: "Why", kind: "c-why", cell: (row) => this.#why(row) },
      { name: "Attempts", kind: "number c-few", cell: ({ attempts }) => number(attempts) },
      { name: "Waiting", kind: "number c-few", cell: ({ waiting }) => number(waiting) },
      { name: "Given up", kind: "c-ago", cell: ({ failed_at: at }) => since(at) },
      { name: "", kind: "c-acts", cell: (row) => this.#acts(row) },
    ];
  }

  #headColumns() {
    return [
      { name: "Aggregate", kind: "c-id", cell: aggregate },
      { name: "Version", kind: "number c-version", cell: ({ version }) => number(version) },
      { name: "State", kind: "c-state", cell: standing },
      { name: "Attempts", kind: "number c-few", cell: ({ attempts }) => number(attempts) },
      { name: "Waiting behind", kind: "number c-behind", cell: ({ waiting }) => number(waiting) },
      { name: "Since", kind: "c-ago", cell: ({ created_at: at }) => since(at) },
    ];
  }

  #why(row) {
    const key = `${row.aggregate_id} ${row.version}`;
    const details = h("details", { open: this.#unfolded.has(key), ontoggle: () => (details.open ? this.#unfolded.add(key) : this.#unfolded.delete(key)) }, h("summary", { title: "The whole error" }, h("bdi", {}, row.why)), h("pre", { tabindex: "0" }, row.error));
    return details;
  }

  #acts(row) {
    if (!this.found?.can_operate) return null;
    const act = (name, action) => button(name, { kind: "small", title: `${name} this record`, onclick: () => this.confirmation.ask(action, row) });
    return [act("Redrive", "redrive"), act("Skip", "skip")];
  }
}

const ACTS = [
  { name: "Time", kind: "c-time", cell: ({ occurred_at: at }) => h("span", { title: zoned(iso(at)) }, stamp(iso(at), 0)) },
  { name: "Who", kind: "c-who", cell: ({ actor }) => clipped(actor) },
  { name: "What", kind: "c-few", cell: ({ action }) => action },
  { name: "Aggregate", kind: "c-id", cell: aggregate },
  { name: "Version", kind: "number c-version", cell: ({ version }) => number(version) },
  { name: "Reason", kind: "c-why", cell: ({ reason }) => clipped(reason) },
];

function aggregate({ aggregate_id: id, version }) {
  return h("a", { href: `timeline?${query({ aggregate: id, version })}`, title: id }, h("bdi", {}, id));
}

const since = (at) => h("span", { title: zoned(iso(at)), "data-at": at });

// What is left of a lease or a pause is told second by second.
function standing({ state, leased_by: relay, leased_until: leased, next_attempt_at: next, why }) {
  const until = (moment, words, over) => h("span", { "data-until": moment, "data-words": words, "data-over": over });
  if (state === "failed") return h("span", { class: "warned", title: why ?? "" }, "dead letter: held");
  if (state === "leased") return [h("bdi", {}, relay), " ", until(leased, "has it for", "has lost it")];
  if (state === "later") return h("span", { title: why ?? "" }, until(next, "tried again in", "due"));
  return "due";
}

function figures({ status }) {
  const { pending, due, in_flight, oldest, held, failed, skipped, published } = status;
  const count = (value, more = value === status.counted) => `${number(value)}${more ? "+" : ""}`;
  const open = (value) => count(value, status.is_bounded);
  return [
    ["Pending", open(pending), pending ? `${open(due)} due now` : "all published"],
    ["In flight", open(in_flight), "with a relay"],
    ["Oldest", oldest === null ? NONE : span(Math.round(oldest) * 1e6), "waits to be published"],
    ["Dead letters", count(failed), held === null ? "none holds others" : `holds up ${held}`, failed ? "warned" : null],
    ["Skipped", count(skipped), "by somebody"],
    ["Published", count(published), "still kept"],
  ];
}

// What a table shows; and that it is not all, and where the `rest` is.
const first = ({ shown }, rows, what, rest = "") => (rows.length < shown ? what : `${what}: the first ${number(shown)} by aggregate${rest}`);

function freshness({ name, can_operate: can }, live) {
  const what = live ? `Outbox and archive of ${name}, as they are now.` : `Outbox and archive of ${name}, not live.`;
  return can ? what : `${what} To redrive or skip, open the dashboard with --operate, or use hindsight outbox.`;
}
