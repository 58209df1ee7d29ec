// Find an aggregate by the beginning of its id, or an event by its id.

import { Latest, load } from "./documents.js";
import { alertBox, button, h, link, number, show } from "./dom.js";
import { relative } from "./moments.js";
import { address, current, go } from "./view.js";

const ORDERS = [
  ["recent", "Recent"],
  ["longest", "Longest"],
  ["id", "Id"],
];
const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
const ALL = "";

export class Finder {
  #asked = new Latest();
  #searched = new Latest();

  constructor() {
    this.offered = ORDERS;
    this.field = h("input", {
      type: "search",
      "aria-label": "Find an aggregate or event",
      placeholder: "Id begins with…",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.#type(),
      onkeydown: (event) => this.#key(event),
    });
    this.orders = h("div", { class: "segments", role: "group", "aria-label": "Order" });
    this.kinds = h("select", { "aria-label": "Aggregate type", hidden: true, onchange: () => this.#change({ of: this.kinds.value || undefined }) });
    this.found = h("p", { class: "faint" });
    this.event = h("div", { class: "event-found", role: "status" });
    this.results = h("ul", { class: "results", "aria-label": "Aggregates found" });
    this.more = h("div", {});
    this.element = h(
      "nav",
      { class: "finder", "aria-label": "Find" },
      h("div", { class: "search" }, this.field, h("kbd", { "aria-hidden": "true" }, "/")),
      h("div", { class: "finder-body" }, this.orders, this.kinds, this.event, this.found, this.results, this.more),
    );
  }

  update(view) {
    // Who goes elsewhere looks for that event no more.
    const place = JSON.stringify([view.q, view.aggregate, view.version, view.lane]);
    if (this.place !== place) this.#stop();
    this.place = place;
    const asked = JSON.stringify([view.q, view.order, view.of]);
    if (this.asked !== asked) {
      this.asked = asked;
      if (!this.#typing() && this.field.value !== (view.q ?? "")) this.field.value = view.q ?? "";
      this.#drawOrders(view);
      this.#load(view);
    }
    this.#mark(view.aggregate);
  }

  // The orders the source can list in, once they are known.
  sorts(orders) {
    const known = String(orders);
    if (this.known === known) return;
    this.known = known;
    this.offered = ORDERS.filter(([name]) => orders.includes(name));
    this.#drawOrders(current());
  }

  // The types to choose between, once they are known.
  types(kinds) {
    const names = Object.keys(kinds).sort();
    this.several = names.length > 1;
    this.kinds.hidden = !this.several;
    const chosen = current().of ?? ALL;
    show(this.kinds, [ALL, ...names].map((name) => h("option", { value: name, selected: name === chosen }, name || "All types")));
  }

  redraw() {
    if (this.page) this.#draw(this.page.items);
  }

  reload() {
    this.#load(current());
  }

  focus() {
    this.field.focus();
    this.field.select();
  }

  #typing() {
    return this.field.getRootNode().activeElement === this.field;
  }

  #type() {
    this.#change({ q: this.field.value.trimStart() || undefined });
  }

  // Typing is no step that "back" should undo letter by letter.
  #change(change) {
    go({ ...current(), ...change }, { replace: true });
  }

  #key(event) {
    if (event.key === "ArrowDown") {
      event.preventDefault();
      this.results.querySelector("a")?.focus();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (UUID.test(this.field.value.trim())) this.#findEvent(this.field.value.trim());
      else this.#enter();
    } else if (event.key === "Escape") {
      this.field.blur();
    }
  }

  // The first match, which may still be on its way.
  async #enter() {
    await this.loading;
    this.results.querySelector("a")?.click();
  }

  #drawOrders(view) {
    const chosen = view.order ?? "recent";
    show(
      this.orders,
      this.offered.map(([name, shown]) =>
        button(shown, { pressed: name === chosen ? "true" : "false", onclick: () => this.#change({ order: name === "recent" ? undefined : name }) }),
      ),
    );
  }

  #load(view) {
    show(this.event);
    const asked = { prefix: view.q, order: view.order, type: view.of };
    this.loading = this.#fetch(asked);
    if (view.q && UUID.test(view.q.trim())) {
      const id = view.q.trim();
      show(this.event, button("Find the event with this id", { icon: "search", onclick: () => this.#findEvent(id) }));
    }
  }

  async #fetch(asked) {
    try {
      const page = await this.#asked.run((signal) => load("aggregates", asked, signal));
      if (!page) return;
      this.page = page;
      this.query = asked;
      this.#draw(page.items);
    } catch (error) {
      show(this.results);
      show(this.found, alertBox(error.message));
    }
  }

  async #further() {
    try {
      const page = await this.#asked.run((signal) => load("aggregates", { ...this.query, after: this.page.next }, signal));
      if (!page) return;
      this.page = { items: [...this.page.items, ...page.items], next: page.next };
      this.#draw(this.page.items);
    } catch (error) {
      show(this.found, alertBox(error.message));
    }
  }

  #draw(items) {
    const { next } = this.page;
    show(this.found, items.length ? (next ? `First ${number(items.length)} found` : `${number(items.length)} found`) : noneFound(this.query));
    show(this.results, items.map((item) => this.#result(item)));
    show(this.more, next ? button("More", { onclick: () => this.#further() }) : null);
    this.#mark(current().aggregate);
  }

  #result(item) {
    const view = () => leadingTo(current(), item.aggregate_id);
    const made = h(
      "li",
      {},
      link(
        address(view()),
        () => go(view()),
        { onkeydown: (event) => this.#move(event), title: item.aggregate_id },
        h("bdi", { class: "name" }, item.aggregate_id),
        h("span", { class: "number" }, number(item.events)),
        h("span", { class: "faint" }, relative(item.last_occurred_at)),
        this.several && !current().of ? h("span", { class: "faint kind" }, item.aggregate_type) : null,
      ),
    );
    made.dataset.id = item.aggregate_id;
    return made;
  }

  #move(event) {
    const row = event.currentTarget.parentElement;
    const to = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (to) to.querySelector("a").focus();
    else if (event.key === "ArrowUp") this.field.focus();
  }

  #mark(aggregate) {
    for (const row of this.results.children) {
      const chosen = row.dataset.id === aggregate;
      if (chosen) row.firstChild.setAttribute("aria-current", "page");
      else row.firstChild.removeAttribute("aria-current");
    }
  }

  // No index leads from an event's id to the event: the store is searched from its newest event on.
  async #findEvent(id) {
    let before;
    try {
      await this.#searched.run(async (signal) => {
        for (;;) {
          const found = await load("search", { event: id, before, limit: 1 }, signal);
          if (signal.aborted) return;
          if (found.rows.length) {
            show(this.event);
            go({ ...finding(current()), q: undefined, aggregate: found.rows[0].aggregate_id, version: found.rows[0].version });
            return;
          }
          if (found.finished) {
            show(this.event, h("p", {}, "No event has this id."));
            return;
          }
          before = found.reached;
          show(
            this.event,
            h("p", {}, `Searched back to #${number(found.reached)} … `),
            button("Stop", { onclick: () => this.#stop() }),
          );
        }
      });
    } catch (error) {
      show(this.event, alertBox(error.message));
    }
  }

  #stop() {
    this.#searched.cancel();
    show(this.event);
  }
}

const noneFound = ({ prefix }) =>
  prefix ? "No aggregate id begins with this text. Ids are compared letter by letter, capitals count." : "No aggregates yet.";

// Beside swimlanes a match becomes one more lane.
function leadingTo(view, id) {
  if (!view.lane && view.as !== "lanes") return { ...finding(view), aggregate: id };
  const lanes = view.lane ?? [];
  return { ...finding(view), lane: lanes.includes(id) ? lanes : [...lanes, id] };
}

// What the finder itself is asked for, whatever view is shown beside it.
export const finding = ({ q, order, of }) => ({ q, order, of });
