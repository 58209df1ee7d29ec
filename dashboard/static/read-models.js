// The Read models page: how projections stand, their rows, and a row beside the replay.

import { Beside } from "./beside.js";
import { Latest, load } from "./documents.js";
import { alertBox, button, h, show, shortened } from "./dom.js";
import { Filters } from "./filters.js";
import { ModelTable } from "./modeltable.js";
import { span } from "./moments.js";
import { Page, onlyOne } from "./page.js";
import { Standing } from "./standing.js";
import { current, entitle, go } from "./view.js";

const POLL = 2000;
const SECOND = 1000;
// Rows are asked for again at most so much of the time.
const SHARE = 10;
const TABLELESS = new Set(["ProjectionNotBuilt", "ProjectionOutdated"]);
const ASKED = ["projection", "where", "sort", "order", "after", "before"];

export const { prepare, mount } = onlyOne(() => new ReadModels(), "timeline.css", "monitoring.css", "read-models.css");

class ReadModels extends Page {
  #standings = new Latest();
  #rows = new Latest();
  #row = new Latest();

  constructor() {
    super("Read models");
    this.fresh = h("p", { class: "fresh-line" });
    this.problem = h("div", { class: "problem" });
    this.picker = h("select", { "aria-label": "Projection", onchange: () => go({ projection: this.picker.value, live: this.view.live }) });
    this.standing = new Standing();
    const change = (changed) => go({ ...current(), after: undefined, before: undefined, ...changed });
    this.filters = new Filters({ change });
    this.table = new ModelTable({ change, open: (row) => go({ ...current(), row }) });
    this.beside = new Beside({ close: () => this.#close() });
    this.columns = h("div", { class: "columns" }, this.table.element, this.beside.element);
    this.panel = h("section", { "aria-label": "Rows", class: "panel" }, this.filters.element, this.columns);
    this.content = h("div", { class: "monitored" }, this.standing.element, this.panel);
    this.content.hidden = true;
    show(this.main, h("div", { class: "state" }, this.fresh, this.problem), this.content);
    this.main.addEventListener("keydown", (event) => event.key === "Escape" && this.view.row && !event.defaultPrevented && this.#close());
    document.addEventListener("visibilitychange", () => this.#live && this.isShown() && !document.hidden && this.#ask());
    setInterval(() => this.isShown() && !document.hidden && this.#tick(), SECOND);
    this.start();
  }

  tools() {
    const several = (this.found?.projections.length ?? 0) > 1;
    return [several ? this.picker : null, button("Live", { pressed: this.#live ? "true" : "false", title: "Show what happens as it happens", onclick: () => go({ ...current(), live: this.#live ? 0 : undefined }) })];
  }

  async update(view) {
    entitle("Read models");
    const wasLive = this.#live;
    this.view = view;
    this.drawBar();
    this.filters.update(view);
    if (!this.found || (this.#live && !wasLive)) await this.#ask();
    else this.#draw();
    await this.#load();
  }

  redraw() {
    this.standing.redraw();
    this.table.redraw();
    this.beside.redraw();
    this.#tick();
  }

  get #live() {
    return this.view?.live !== "0";
  }

  // The projection that the address names, or the first; undefined where there is no such one.
  get #chosen() {
    const { projections } = this.found;
    const { projection } = this.view;
    return projection ? projections.find(({ name }) => name === projection) : projections[0];
  }

  async #ask() {
    clearTimeout(this.timer);
    try {
      const found = await this.#standings.run((signal) => load("projections", {}, signal));
      if (!found) return;
      this.found = found;
      this.received = performance.now();
      this.failed = false;
      this.#draw();
    } catch (error) {
      this.#complain(error);
      if (error.kind === "NoReadModels") return;
    }
    if (this.#live) this.timer = setTimeout(() => this.isShown() && !document.hidden && this.#follow(), POLL);
  }

  async #follow() {
    await this.#ask();
    if (performance.now() > (this.rested ?? 0)) await this.#load();
  }

  #draw() {
    const chosen = this.#chosen;
    const names = this.found.projections.map(({ name }) => name);
    this.#pick(names, chosen?.name);
    const problem = chosen ? "" : `no projection '${shortened(this.view.projection, 80)}'; there are ${names.join(", ")}`;
    if (this.problem.textContent !== problem) show(this.problem, problem ? alertBox(problem) : null);
    this.content.hidden = !chosen;
    if (chosen) this.standing.update(chosen, this.found, this.#now());
    this.#tick();
  }

  #pick(names, chosen) {
    if (this.picked !== names.join("\n")) {
      this.picked = names.join("\n");
      show(this.picker, names.map((name) => h("option", { value: name }, name)));
      this.drawBar();
    }
    this.picker.value = chosen ?? "";
  }

  // Rows and the row, where they may be others than those that are shown.
  async #load() {
    const chosen = this.found && this.#chosen;
    if (!chosen) return;
    const started = performance.now();
    const at = `${chosen.position} ${chosen.moved_at}`;
    await Promise.all([this.#loadRows(chosen, at), this.#loadRow(chosen, at)]);
    this.rested = performance.now() + (performance.now() - started) * SHARE;
  }

  async #loadRows(chosen, at) {
    const { where, sort, order, after, before } = this.view;
    const params = { projection: chosen.name, where, sort, order, after, before };
    const asked = JSON.stringify(ASKED.map((name) => params[name]));
    if (this.rowsOf === `${asked} ${at}`) return;
    this.rowsOf = `${asked} ${at}`;
    this.main.classList.toggle("changing", this.askedRows !== asked);
    this.askedRows = asked;
    try {
      const found = await this.#rows.run((signal) => load("rows", params, signal));
      if (!found) return;
      this.panel.hidden = false;
      this.filters.learn(found.columns);
      this.table.update(found, this.view);
    } catch (error) {
      this.rowsOf = undefined;
      // How it stands says so, and what to do.
      this.panel.hidden = TABLELESS.has(error.kind);
      this.table.fail(told(error), this.view);
    }
    this.main.classList.remove("changing");
  }

  async #loadRow(chosen, at) {
    const { row } = this.view;
    this.table.choose(row);
    this.columns.classList.toggle("alone", row === undefined);
    if (row === undefined) {
      this.#row.cancel();
      this.rowOf = undefined;
      this.beside.update(null);
      return;
    }
    const asked = JSON.stringify([chosen.name, row, at]);
    if (this.rowOf === asked) return;
    this.rowOf = asked;
    try {
      const found = await this.#row.run((signal) => load("row", { projection: chosen.name, row }, signal));
      if (found) this.beside.update(found, chosen);
    } catch (error) {
      this.rowOf = undefined;
      this.beside.fail(row, told(error));
    }
  }

  #close() {
    const { row } = this.view;
    go({ ...current(), row: undefined });
    this.table.focus(row);
  }

  // The last picture stays, and says how old it is.
  #complain(error) {
    this.failed = true;
    if (this.problem.textContent !== error.message) show(this.problem, alertBox(error.message));
    this.#tick();
  }

  // By the server's clock, which need not be the browser's.
  #now() {
    return this.found.now + Math.round((performance.now() - this.received) * 1000);
  }

  #tick() {
    const { found } = this;
    if (!found) return;
    const now = this.#now();
    const chosen = this.#chosen;
    const age = span(Math.max(Math.floor((now - found.now) / 1e6), 0) * 1e6);
    const what = chosen ? `${chosen.name} keeps the table ${chosen.table}` : found.name;
    const text = this.failed ? `This picture is ${age} old.` : `${what}, ${this.#live ? "as it is now" : `not live: ${age} old`}.`;
    if (this.fresh.textContent !== text) show(this.fresh, text);
    this.fresh.classList.toggle("old", this.failed || !this.#live);
    if (chosen) this.standing.tick(now);
  }
}

const told = ({ kind, message }) => (kind === "StatementTimeout" ? `${message}: ask by a column that has an index, or for less.` : message);
