// The whole store: when how much happened, which events there are, and what arrives just now.

import { expectAggregate } from "./aggregate.js";
import { Latest, documentAddress, expect, load } from "./documents.js";
import { alertBox, button, h, icon, number, onRest, plural, scrollToTop, show } from "./dom.js";
import { finding } from "./finder.js";
import { EventList } from "./eventlist.js";
import { Histogram } from "./histogram.js";
import { typeName } from "./looks.js";
import { iso, relative, stamp } from "./moments.js";
import { entitle, go } from "./view.js";

const POLL = 1000;
// The first and last moments that times can be given as.
const FIRST = Date.parse("0001-01-01T00:00:00Z") * 1000;
const LAST = Date.parse("9999-12-31T23:59:59Z") * 1000;
const FEW_TYPES = 12;
const MOST_NEW = 1000;
const PRESS = 150;
const BELOW_HEADER = 60;
const PAGE = 30;
// What the bars know of; payloads are no column, so their filters narrow the list only.
const COLUMNS = ["type", "kind", "since", "until", "correlation", "actor"];
const FILTERS = [...COLUMNS, "contains", "path", "equals"];
const TEXTS = [
  ["actor", "By", "Who, exactly as recorded"],
  ["correlation", "Correlation id", "Exactly as recorded"],
  ["contains", "Payload contains", "In any key or value"],
  ["path", "Payload field", "/address/city"],
  ["equals", "equals", "\"Berlin\" or 42"],
];

export class StoreView {
  #activity = new Latest();
  #search = new Latest();
  #tail = new Latest();

  constructor(store) {
    this.store = store;
    this.figures = h("div", { class: "figures" });
    this.histogram = new Histogram({ narrow: (since, until) => this.#go({ since: iso(Math.max(since, FIRST)), until: iso(Math.min(until, LAST)) }) });
    this.types = h("div", { class: "chips", role: "group", "aria-label": "Event types" });
    this.form = h("form", { class: "filters", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() });
    this.tools = h("div", { class: "tools heads" });
    this.list = new EventList({
      label: "Events of the store",
      columns: ["occurred", "aggregate", "type", "version", "actor", "data"],
      href: (row) => ({ ...finding(this.view), aggregate: row.aggregate_id, version: row.version }),
      expect: ({ aggregate_id: aggregate, version }) => expectAggregate(aggregate, version),
    });
    this.progress = h("div", { class: "tools", role: "status" });
    this.empty = h("div", {});
    this.content = h("div", { class: "store" }, this.figures, this.histogram.element, this.types, this.form, this.tools, this.list.element, this.progress);
    this.element = h("div", {}, this.empty, this.content);
    this.content.hidden = true;
    if (store) this.learn(store);
    this.timer = setInterval(() => this.#listen(), POLL);
  }

  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.histogram.close();
    for (const asked of [this.#activity, this.#search, this.#tail]) asked.cancel();
  }

  async update(view) {
    entitle("");
    const before = this.view;
    this.view = view;
    const same = (names) => before && names.every((name) => JSON.stringify(before[name]) === JSON.stringify(view[name]));
    this.#drawFilters();
    this.#drawTypes();
    this.#drawTools();
    const work = [];
    if (!same(COLUMNS)) work.push(this.#loadActivity());
    else if (this.activity && !same(FILTERS)) this.#drawActivity();
    if (!same(FILTERS)) this.newest = undefined;
    if (!same([...FILTERS, "before", "after"])) work.push(this.#loadPage());
    await Promise.all(work);
  }

  // The store has been counted a little further, or has grown.
  learn(store) {
    const grown = this.store?.events !== store.events;
    const filled = this.store?.empty && !store.empty;
    this.store = store;
    show(this.empty, store.empty ? howToFill() : null);
    this.content.hidden = store.empty;
    this.#drawFigures();
    if (!this.view) return;
    if (grown) {
      this.#drawTypes();
      this.#drawFilters();
    }
    if (this.activity && !this.activity.complete) this.#loadActivity();
    else if (grown && (filled || this.view.live)) this.#loadActivity();
    if (filled) this.#loadPage();
  }

  redraw() {
    this.drawnTypes = null;
    this.list.redraw();
    if (this.activity) this.#drawActivity();
    this.#drawFigures();
    this.#drawTypes();
    this.#drawTools();
  }

  key(name) {
    const rows = [...this.list.body.children];
    const at = rows.findIndex((row) => row.hasAttribute("aria-current"));
    if (name === "ArrowDown" || name === "ArrowUp") {
      const to = rows[Math.min(Math.max(at + (name === "ArrowDown" ? 1 : -1), 0), rows.length - 1)];
      rows[at]?.removeAttribute("aria-current");
      to?.setAttribute("aria-current", "true");
      to?.scrollIntoView({ block: "nearest" });
    } else if (name === "Enter" && at >= 0) rows[at].querySelector("a").click();
    else if (name === "ArrowRight") this.#older();
    else if (name === "ArrowLeft") this.#newer();
    else if (name === "Home") this.#go({});
    else if (name === "End") this.#go({ after: 0 });
    else return false;
    return true;
  }

  #go(change, options) {
    go({ ...this.view, before: undefined, after: undefined, ...change }, options);
  }

  #asked(names, view = this.view) {
    return Object.fromEntries(names.map((name) => [name, view[name]]));
  }

  // Somebody is about to ask for this change of the view.
  #expect(change) {
    const view = { ...this.view, before: undefined, after: undefined, ...change };
    const { before, after } = view;
    expect("search", { ...this.#asked(FILTERS, view), before, after });
    if (before === undefined && after === undefined) expect("activity", this.#asked(COLUMNS, view));
  }

  get #wanted() {
    return this.#asked(FILTERS);
  }

  get #filtered() {
    return FILTERS.some((name) => this.view[name] !== undefined);
  }

  async #loadActivity() {
    try {
      const found = await this.#activity.run((signal) => load("activity", this.#asked(COLUMNS), signal));
      if (!found) return;
      this.activity = found;
      this.#drawActivity();
      this.#drawTypes();
    } catch (error) {
      this.histogram.update({ start: 0, width: 1, bars: [], types: [], note: error.message });
    }
  }

  #drawActivity() {
    const found = this.activity;
    const notes = [];
    if (!found.complete) notes.push(`Counted ${Math.floor(found.progress * 100)}% of the events so far …`);
    if (found.counted_from) notes.push(`Counted from ${stamp(found.counted_from)} on so far.`);
    if (this.view.contains || this.view.path) notes.push("The bars leave the payload filter aside.");
    const bars = Array.from({ length: found.bars }, (_, bar) => found.counts.map((counts) => counts[bar]));
    this.histogram.update({ start: found.start, width: found.width, bars, types: found.event_types, note: notes.join(" ") });
  }

  async #loadPage() {
    const { before, after } = this.view;
    try {
      const found = await this.#search.run((signal) => load("search", { ...this.#wanted, before, after }, signal));
      if (!found) return;
      this.page = found;
      if (before === undefined && after === undefined) this.newest = found.rows[0]?.position;
      this.#drawPage();
    } catch (error) {
      this.page = null;
      this.list.fail(error);
      show(this.progress);
    }
  }

  async #further() {
    show(this.progress, h("span", { class: "faint" }, "Searching …"));
    const newer = this.view.after !== undefined;
    const from = newer ? { after: this.page.reached } : { before: this.page.reached };
    try {
      const found = await this.#search.run((signal) => load("search", { ...this.#wanted, ...from }, signal));
      if (!found) return;
      const { rows, scanned } = this.page;
      this.page = { ...found, rows: newer ? [...found.rows, ...rows] : [...rows, ...found.rows], scanned: scanned + found.scanned };
      this.#drawPage();
    } catch (error) {
      show(this.progress, alertBox(error.message));
    }
  }

  #drawPage() {
    const { rows, finished } = this.page;
    this.list.update(rows, { empty: finished ? "No event is like this." : "None found so far." });
    this.#drawTools();
    this.#drawProgress();
  }

  #drawProgress() {
    const { rows, finished, reached, scanned, full } = this.page;
    if (finished || full) {
      show(this.progress);
      return;
    }
    const { before, after } = this.view;
    const where =
      after !== undefined
        ? `in the ${number(scanned)} after #${number(after)}, up to #${number(reached)}`
        : `in the ${number(scanned)} ${before === undefined ? "newest" : `before #${number(before)}`}, back to #${number(reached)}`;
    show(
      this.progress,
      h("span", {}, `${plural(rows.length, "event")} found ${where}.`),
      button("Search further", { icon: "search", onclick: () => this.#further() }),
    );
  }

  #drawFigures() {
    const { store } = this;
    if (!store) return;
    const figure = (name, value) => h("div", {}, h("span", { class: "faint" }, name), h("strong", {}, value));
    const count = (value) => (value === null ? "…" : number(value));
    show(
      this.figures,
      figure("Events", count(store.events)),
      figure("Event types", number(Object.keys(store.looks).length)),
      figure("Last event", store.last ? relative(store.last) : "never"),
    );
  }

  // The histogram's legend, and the filter by type.
  #drawTypes() {
    const counted = Object.entries(this.store?.types ?? {}).sort((one, other) => other[1] - one[1]);
    const chosen = this.view?.type ?? [];
    const shown = this.allTypes ? counted : counted.slice(0, FEW_TYPES);
    const rest = counted.length - shown.length;
    const drawn = JSON.stringify([shown, rest, missingOf(chosen, shown)]);
    if (drawn === this.drawnTypes) {
      for (const chip of this.types.querySelectorAll(".chip")) chip.setAttribute("aria-pressed", chosen.includes(chip.dataset.type) ? "true" : "false");
      return;
    }
    this.drawnTypes = drawn;
    const missing = missingOf(chosen, shown).map((type) => [type, null]);
    show(
      this.types,
      [...shown, ...missing].map(([type, count]) => this.#typeChip(type, count, chosen)),
      rest > 0
        ? button(`${plural(rest, "more type")}`, {
            kind: "small",
            onclick: () => {
              this.allTypes = true;
              this.#drawTypes();
            },
          })
        : null,
    );
  }

  #typeChip(type, count, chosen) {
    const on = chosen.includes(type);
    // As the view is when it is pressed: the chips may have been drawn for the one before.
    const change = () => {
      const types = this.view.type ?? [];
      const next = types.includes(type) ? types.filter((other) => other !== type) : [...types, type];
      return { type: next.length ? next : undefined };
    };
    const press = () => {
      this.#go(change());
      // Who has pressed it still points at it, and often takes it back.
      setTimeout(() => !this.closed && this.#expect(change()), PRESS);
    };
    const made = h(
      "button",
      { type: "button", class: "button small chip", "aria-pressed": on ? "true" : "false", onclick: press },
      typeName(type),
      count === null ? null : h("span", { class: "faint" }, number(count)),
    );
    made.dataset.type = type;
    return onRest(made, () => this.#expect(change()));
  }

  // Fields are made once, so that what is being typed is never overwritten.
  #drawFilters() {
    if (!this.fields) {
      this.fields = Object.fromEntries(TEXTS.map(([name, , hint]) => [name, this.#field(name, hint)]));
      this.kinds = h("select", { "aria-label": "Aggregate type", onchange: () => this.#go({ kind: this.kinds.value || undefined }) });
      this.clear = button("Clear", { icon: "close", onclick: () => go(finding(this.view)) });
      show(this.form, this.kinds, TEXTS.map(([name, label]) => h("label", {}, h("span", {}, label), this.fields[name])), this.clear);
    }
    const names = Object.keys(this.store?.aggregate_types ?? {}).sort();
    const { kind } = this.view;
    if (kind && !names.includes(kind)) names.push(kind);
    this.kinds.hidden = names.length < 2;
    show(this.kinds, ["", ...names].map((name) => h("option", { value: name, selected: name === (kind ?? "") }, name || "All aggregate types")));
    for (const [name, field] of Object.entries(this.fields)) {
      if (field.getRootNode().activeElement !== field) field.value = this.view[name] ?? "";
    }
    this.clear.disabled = !this.#filtered;
  }

  // Without names: a field called "contains" would stand in for the form's method of that name.
  #field(name, hint) {
    return h("input", {
      type: "text",
      placeholder: hint,
      autocomplete: "off",
      spellcheck: "false",
      // A press that ends the typing has its turn first: what it is on is drawn anew by the change.
      onchange: ({ target }) => setTimeout(() => this.#filter(name, target.value), PRESS),
      onkeydown: (event) => {
        if (event.key === "Enter") this.#filter(name, event.target.value);
      },
    });
  }

  #filter(name, value) {
    if (!this.closed && value !== (this.view[name] ?? "")) this.#go({ [name]: value || undefined });
  }

  #drawTools() {
    const { page, view } = this;
    const paged = view.before !== undefined || view.after !== undefined;
    const { since, until } = view;
    show(
      this.tools,
      h("h3", {}, "Events"),
      button("Newer", { icon: "back", disabled: !paged, onclick: () => this.#newer() }),
      onRest(button("Older", { icon: "on", disabled: !this.#hasOlder(), onclick: () => this.#older() }), () => {
        if (this.#hasOlder()) this.#expect(this.#olderThanThis);
      }),
      since || until
        ? button(`${since ? stamp(since, 3) : "…"} to ${until ? stamp(until, 3) : "…"}`, { icon: "close", title: "All times", onclick: () => this.#go({ since: undefined, until: undefined }) })
        : null,
      this.news ? button(this.news, { kind: "primary", onclick: () => this.#catchUp() }) : null,
      h(
        "span",
        { class: "right tools" },
        button("Live", { pressed: view.live ? "true" : "false", title: "Show events as they arrive", onclick: () => this.#go({ live: view.live ? undefined : 1 }) }),
        h("a", { class: "button", href: documentAddress("export", this.#wanted), download: "events.ndjson", title: "All events that match, as lines of an event file" }, icon("save"), "Export"),
        view.correlation !== undefined ? button("On one axis", { title: "The aggregates of this correlation id side by side", onclick: () => this.#go({ as: "lanes" }) }) : null,
      ),
    );
    if (page && !page.rows.length && page.finished) this.list.note.hidden = false;
  }

  #hasOlder() {
    const { page, view } = this;
    if (!page?.rows.length) return false;
    return view.after !== undefined ? Number(view.after) > 0 : page.full && !page.finished;
  }

  #older() {
    if (this.#hasOlder()) this.#go(this.#olderThanThis);
  }

  get #olderThanThis() {
    return { before: this.page.rows.at(-1).position };
  }

  #newer() {
    const { page, view } = this;
    if (view.before === undefined && view.after === undefined) return;
    // Nothing newer is left, or nothing is there to go on from: the newest page.
    if (!page?.rows.length || (view.after !== undefined && page.finished)) this.#go({});
    else this.#go({ after: page.rows[0].position });
  }

  // New events join the list while its beginning is in sight; else they are only counted.
  async #listen() {
    if (this.listening) return;
    this.listening = true;
    await this.#hear();
    this.listening = false;
  }

  async #hear() {
    const { view, page } = this;
    if (!view?.live || !page || document.hidden || !this.element.isConnected) {
      if (!view?.live && this.news) this.#tell(null);
      return;
    }
    const paged = view.before !== undefined || view.after !== undefined;
    try {
      // A list that was opened further back has not seen the newest event yet.
      this.newest ??= (await load("search", { limit: 1 })).rows[0]?.position ?? 0;
      const atTop = this.list.element.getBoundingClientRect().top > BELOW_HEADER;
      if (atTop && !paged) {
        const found = await this.#tail.run((signal) => load("search", this.#wanted, signal));
        if (found && this.view === view && this.page === page) this.#join(found);
        return;
      }
      const { count } = (await this.#tail.run((signal) => load("later", { ...this.#wanted, after: this.newest }, signal))) ?? {};
      if (count !== undefined) this.#tell(count ? `${count >= MOST_NEW ? `${number(MOST_NEW)}+` : number(count)} new` : null);
    } catch {
      // The page says that the server is gone; when it is back, this goes on.
    }
  }

  // Even a late event, whose position is lower than what is shown, has its place here; what a
  // further search found stays.
  #join(found) {
    const { page } = this;
    this.newest = found.rows[0]?.position ?? this.newest;
    this.#tell(null);
    const known = new Map(page.rows.map((row) => [row.position, row]));
    const fresh = found.rows.filter((row) => !known.has(row.position));
    if (!fresh.length) return;
    const all = [...fresh, ...page.rows].sort((one, other) => other.position - one.position);
    const rows = all.slice(0, Math.max(PAGE, page.rows.length));
    this.page = { ...page, rows, full: page.full || rows.length >= PAGE, finished: page.finished && rows.length === all.length };
    const marked = this.list.body.querySelector("tr[aria-current]")?.dataset.position;
    this.#drawPage();
    for (const row of this.list.body.children) {
      row.classList.toggle("fresh", !known.has(Number(row.dataset.position)));
      if (row.dataset.position === marked) row.setAttribute("aria-current", "true");
    }
  }

  #tell(news) {
    if (this.news === news) return;
    this.news = news;
    this.#drawTools();
  }

  #catchUp() {
    this.news = null;
    scrollToTop(this.element);
    this.#go({});
    this.#loadPage();
  }
}

const missingOf = (chosen, shown) => chosen.filter((type) => !shown.some(([name]) => name === type));

function howToFill() {
  const command = (text) => h("pre", { class: "code" }, text);
  return h(
    "div",
    { class: "blank" },
    h("h2", {}, "This store has no events yet"),
    h("p", {}, "Append some from a service, or bring an event log in:"),
    command("hindsight import events.ndjson.gz"),
    h("p", {}, "They appear here by themselves. A file can also be looked at where it is:"),
    command("hindsight open events.ndjson.gz"),
  );
}

