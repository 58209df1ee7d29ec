// The Monitoring page: which writers collide, whether they had to, and how fast the store is.

import { Alerts } from "./alerts.js";
import { Cached } from "./cached.js";
import { hottest, recent } from "./conflicts.js";
import { Latest, expect, load } from "./documents.js";
import { alertBox, button, h, onRest, plural, show } from "./dom.js";
import { Figures, overall } from "./figures.js";
import { freshness } from "./freshness.js";
import { Heat } from "./heat.js";
import { look, mark } from "./looks.js";
import { hoursByType, losingByWinning } from "./matrices.js";
import { span } from "./moments.js";
import { Page, onlyOne } from "./page.js";
import { BYTES, COUNT, MILLISECONDS, SECONDS } from "./scale.js";
import { Series } from "./series.js";
import { current, entitle, go } from "./view.js";

const RANGES = { "15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h" };
const POLLS = { "15m": 2000, "1h": 2000, "6h": 10_000, "24h": 30_000 };
const USUAL = "1h";
const SECOND = 1000;
// An answer that takes as long as three questions is late.
const LATE = 3;
const MOST_TYPES = 8;
const QUANTILES = ["p50", "p95", "p99"];

export const { prepare, mount } = onlyOne(() => new Monitoring(), "timeline.css", "monitoring.css");

class Monitoring extends Page {
  #asked = new Latest();
  #handlers = new Map();

  constructor() {
    super("Monitoring");
    this.fresh = h("p", { class: "fresh-line" });
    this.problem = h("div", { class: "problem" });
    this.alerts = new Alerts();
    this.figures = new Figures();
    this.conflicts = new Series({ title: "Conflicts over time", unit: "conflicts", scale: COUNT, bars: true, tall: true, nothing: "No conflicts in this range" });
    this.hours = new Heat({ title: "Conflicts by hour", down: "aggregate types", across: "hours", kind: "by-hour", nothing: "No conflicts in this range" });
    this.pairs = new Heat({ title: "Who loses to whom", down: "losing commands", across: "winning ones", kind: "by-pair", nothing: "No command lost to another in this range" });
    this.hottest = hottest();
    this.recent = recent();
    this.save = latency("Save");
    this.replay = latency("Replay");
    this.latency = h("div", { class: "panels small" }, this.save.element, this.replay.element);
    this.cached = new Cached();
    this.events = new Series({ title: "Events by type", unit: "events", scale: COUNT, bars: true, nothing: "No events in this range" });
    this.lag = new Series({ title: "Feed lag", unit: "events behind", scale: COUNT });
    this.age = new Series({ title: "Watermark age", unit: "seconds", scale: SECONDS });
    this.size = new Series({ title: "Store size", unit: "bytes", scale: BYTES });
    this.overview = panels(this.conflicts, this.hours);
    this.unmeasured = howToFill();
    this.content = this.#arranged();
    this.alerts.element.hidden = this.unmeasured.hidden = this.content.hidden = true;
    show(this.main, h("div", { class: "state" }, this.fresh, this.problem), this.alerts.element, this.unmeasured, this.content);
    document.addEventListener("visibilitychange", () => this.#live && this.isShown() && !document.hidden && this.#ask());
    setInterval(() => this.isShown() && !document.hidden && this.#tick(), SECOND);
    this.start();
  }

  #arranged() {
    return h(
      "div",
      { class: "monitored" },
      this.figures.element,
      this.overview,
      panels(this.pairs, this.hottest),
      this.recent.element,
      this.latency,
      this.cached.element,
      panels(this.events, this.lag, this.age, this.size),
    );
  }

  tools() {
    const ranges = Object.entries(RANGES).map(([range, name]) =>
      onRest(
        button(name, { pressed: range === this.range ? "true" : "false", title: `Show the last ${name}`, onclick: () => go({ ...current(), range }) }),
        () => range !== this.range && expect("monitoring", { range }),
      ),
    );
    const live = button("Live", { pressed: this.#live ? "true" : "false", title: "Show what happens as it happens", onclick: () => go({ ...current(), live: this.#live ? 0 : undefined }) });
    return [h("div", { class: "segments", role: "group", "aria-label": "Range" }, ranges), live];
  }

  // Resolves when what the view shows has been drawn.
  async update(view) {
    entitle("Monitoring");
    this.range = view.range ?? USUAL;
    this.view = view;
    this.drawBar();
    await this.#ask();
  }

  redraw() {
    if (!this.found) return;
    this.hottest.redraw();
    this.recent.redraw();
    this.#draw();
  }

  get #live() {
    return this.view?.live !== "0";
  }

  async #ask() {
    clearTimeout(this.timer);
    if (!Object.hasOwn(RANGES, this.range)) {
      this.#asked.cancel();
      this.#refuse(alertBox(`range: '${this.range.slice(0, 40)}' is none of ${Object.keys(RANGES).join(", ")}; correct the address`));
      return;
    }
    this.main.classList.toggle("changing", this.found?.range !== this.range);
    try {
      const found = await this.#asked.run((signal) => load("monitoring", { range: this.range }, signal));
      // Another question has been asked meanwhile, and goes on from there.
      if (!found) return;
      this.#take(found);
    } catch (error) {
      if (error.kind === "NothingToWatch") {
        this.#refuse(h("p", {}, error.message));
        return;
      }
      this.#complain(error);
    }
    if (this.#live) this.timer = setTimeout(() => this.isShown() && !document.hidden && this.#ask(), POLLS[this.range]);
  }

  #take(found) {
    this.found = found;
    this.received = performance.now();
    this.failed = false;
    // The conflict log is quicker than the first sample.
    const unmeasured = found.source.kind === "samples" && !found.newest && !found.logged.detected;
    show(this.problem);
    this.alerts.element.hidden = false;
    this.alerts.update(found.alerts);
    this.unmeasured.hidden = !unmeasured;
    this.content.hidden = unmeasured;
    this.#draw();
  }

  // The last picture stays, and says how old it is.
  #complain(error) {
    this.failed = true;
    if (this.problem.textContent !== error.message) show(this.problem, alertBox(error.message));
    this.#tick();
  }

  // There is no picture to show, only why.
  #refuse(why) {
    this.found = null;
    this.alerts.element.hidden = this.unmeasured.hidden = this.content.hidden = true;
    show(this.problem, why);
    show(this.fresh);
  }

  #draw() {
    const { found } = this;
    const { start, step, steps, now } = found;
    const time = { start, step, steps, now };
    const drawn = (series, rows, unit) => series.update({ ...time, rows }, unit);
    const each = span(step);
    const level = (series, name) => drawn(series, [{ name: series.title, kind: "level", values: found.levels[name] }]);
    this.figures.update(overall(found));
    drawn(this.conflicts, ["escaped", "absorbed"].map((kind) => ({ name: capital(kind), kind, values: found.conflicts[kind] })), `conflicts in each ${each}`);
    const hours = hoursByType(found);
    this.overview.classList.toggle("wide", hours.many);
    this.hours.update(hours);
    this.pairs.update(losingByWinning(found));
    this.hottest.update(found.hottest, now);
    this.recent.update(found.recent, now);
    drawn(this.save, quantiles(found.latency.save));
    drawn(this.replay, quantiles(found.latency.replay));
    this.#keepHandlers(found.latency.handlers);
    for (const [name, series] of this.#handlers) drawn(series, quantiles(found.latency.handlers[name]));
    this.cached.update(found.cache, time);
    drawn(this.events, byType(found), `events in each ${each}`);
    level(this.lag, "feed_lag");
    level(this.age, "watermark_age");
    level(this.size, "size");
    this.#tick();
  }

  // A chart for each handler that ran within the range.
  #keepHandlers(handlers) {
    for (const [name, series] of this.#handlers) {
      if (Object.hasOwn(handlers, name)) continue;
      series.close();
      series.element.remove();
      this.#handlers.delete(name);
    }
    for (const name of Object.keys(handlers).sort()) {
      if (this.#handlers.has(name)) continue;
      this.#handlers.set(name, latency(name));
      this.latency.append(this.#handlers.get(name).element);
    }
  }

  // By the server's clock, which need not be the browser's.
  #tick() {
    const { found } = this;
    if (!found) return;
    const now = found.now + Math.round((performance.now() - this.received) * 1000);
    const overdue = this.#live && now - found.now > LATE * POLLS[this.range] * 1000;
    const { text, stale } = freshness(found, { now, live: this.#live, late: this.failed || overdue });
    if (this.fresh.textContent !== text) show(this.fresh, text);
    this.fresh.classList.toggle("old", stale);
    this.hottest.tick(now);
  }
}

const panels = (...parts) => h("div", { class: "panels" }, parts.map(({ element }) => element));
const latency = (title) => new Series({ title, unit: "ms", scale: MILLISECONDS });
const capital = (name) => name[0].toUpperCase() + name.slice(1);

const quantiles = (latencies) => QUANTILES.map((name) => ({ name, kind: name, values: latencies[name].map((value) => (value === null ? null : value * 1000)) }));

// The types with most events; the others are one.
function byType({ events, steps }) {
  const total = (values) => values.reduce((sum, value) => sum + value, 0);
  const types = Object.entries(events).sort((one, other) => total(other[1]) - total(one[1]));
  const rows = types.slice(0, MOST_TYPES).map(([name, values]) => ({ name, kind: look(name), mark: mark(name), values }));
  const others = types.slice(MOST_TYPES);
  if (!others.length) return rows;
  const values = Array.from({ length: steps }, (_, at) => total(others.map(([, counts]) => counts[at])));
  return [...rows, { name: plural(others.length, "other type"), kind: "look-none", values }];
}

function howToFill() {
  return h(
    "div",
    { class: "blank" },
    h("h2", {}, "Nothing has been measured yet"),
    h("p", {}, "Metrics appear when a process that holds the store does something: they are written every 10 s."),
    h("p", {}, "This page then shows them by itself: version conflicts, who lost to whom and whether it had to be, and how fast the store is."),
  );
}
