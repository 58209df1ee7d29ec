// One aggregate: its events on a time axis, a page of their list, and one of them in full.

import { Chart, told } from "./chart.js";
import { Latest, expect, load } from "./documents.js";
import { alertBox, button, h, link, number, plural, show } from "./dom.js";
import { EventPanel } from "./event.js";
import { EventList } from "./eventlist.js";
import { iso, microseconds, relative, span, zoned } from "./moments.js";
import { address, entitle, go, query } from "./view.js";

const ZOOM = 4;
const SHORTEST = 1000;
const POLL = 3000;

// Asks beforehand for what the view of an aggregate begins with.
export function expectAggregate(aggregate, version) {
  expect("history", { aggregate });
  expect("page", { aggregate, at: version });
  expect("event", { aggregate, version });
  expect("effect", { aggregate, version });
}

export class AggregateView {
  #history = new Latest();
  #page = new Latest();

  constructor() {
    this.title = h("div", { class: "title" });
    this.chart = new Chart({
      choose: (mark) => this.#go({ version: mark.version }),
      closer: (since, until) => this.#zoomTo(since, Math.max(until, since + SHORTEST)),
    });
    this.tools = h("div", { class: "tools" });
    this.list = new EventList({
      label: "Events of the aggregate",
      href: (row) => ({ ...this.view, version: row.version, at: undefined }),
      expect: (row) => this.panel.expect(this.view.aggregate, row.version),
    });
    this.pager = h("div", { class: "tools" });
    this.panel = new EventPanel();
    this.news = h("div", { class: "news", role: "status" });
    this.replay = h("a", { class: "button" }, "Replay");
    this.content = h(
      "div",
      { class: "aggregate" },
      this.title,
      this.chart.element,
      this.tools,
      h("div", { class: "columns" }, h("div", { class: "column" }, this.pager, this.list.element), this.panel.element),
    );
    this.problem = h("div", {});
    this.element = h("div", {}, this.problem, this.content);
    this.timer = setInterval(() => this.#lookForNews(), POLL);
  }

  close() {
    clearInterval(this.timer);
    this.chart.close();
    this.#history.cancel();
    this.#page.cancel();
  }

  async update(view) {
    const before = this.view ?? {};
    this.view = view;
    this.#pointToReplay();
    const same = (...names) => names.every((name) => before[name] === view[name]);
    const span = same("aggregate", "since", "until", "idle", "reload");
    entitle(view.aggregate);
    this.list.choose(Number(view.version));
    const [history, page] = [
      span && this.history ? this.history : this.#loadHistory(),
      span && same("list", "at") && this.list.has(Number(view.version)) ? null : this.#loadPage(),
    ];
    const event = this.#loadEvent(page);
    await Promise.all([history, page, event]);
  }

  redraw() {
    this.list.redraw();
    if (this.history) this.#draw();
    // What has been asked for meanwhile, not what is still shown.
    if (this.panel.shown) this.#loadEvent();
  }

  key(name) {
    const step = { ArrowLeft: "previous", ArrowRight: "following", Home: "first", End: "last" }[name];
    if (step) this.panel.step(step);
    else if (name === "Enter") this.panel.element.focus();
    else return false;
    return true;
  }

  #go(change, options) {
    go({ ...this.view, at: undefined, ...change }, options);
  }

  async #loadHistory() {
    const { aggregate, since, until, idle } = this.view;
    try {
      const found = await this.#history.run((signal) => load("history", { aggregate, since, until, idle }, signal));
      if (!found) return;
      this.history = found;
      show(this.problem);
      this.content.hidden = false;
      this.#draw();
    } catch (error) {
      this.history = null;
      this.content.hidden = true;
      show(this.problem, this.#notFound(error));
    }
  }

  async #loadPage() {
    const { aggregate, since, until, list, at, version } = this.view;
    try {
      const found = await this.#page.run((signal) => load("page", { aggregate, since, until, list, at: at ?? version }, signal));
      if (!found) return;
      this.list.update(found.rows, { empty: "No event of this aggregate lies in this stretch of time." });
      this.list.choose(Number(version ?? this.panel.shown?.version));
      this.#drawPager(found.page);
      return found;
    } catch (error) {
      this.list.fail(error);
    }
  }

  async #loadEvent(page) {
    const { aggregate, since, until } = this.view;
    let { version } = this.view;
    if (version === undefined && (since !== undefined || until !== undefined)) {
      const rows = (await page)?.rows ?? this.list.rows;
      if (!rows?.length) return;
      version = Math.max(...rows.map((row) => row.version));
    }
    if (this.view.aggregate !== aggregate || (this.view.version ?? version) !== version) return;
    const found = await this.panel.update(aggregate, version);
    if (!found || found.aggregate_id !== this.view.aggregate) return;
    this.list.choose(found.version);
    this.#point();
  }

  #point() {
    const event = this.panel.shown;
    if (!this.history || !event || event.aggregate_id !== this.history.head.aggregate_id) return;
    const lane = this.history.lanes.lanes.findIndex(({ event_types: types }) => types.includes(event.event_type));
    this.chart.point(lane < 0 ? null : { lane, us: microseconds(event.occurred_at) });
  }

  #draw() {
    const { history } = this;
    this.#drawTitle();
    const { lanes, marks } = history.lanes;
    const nameOf = (lane) => (lane.event_types.length === 1 ? lane.event_types[0] : `${lane.event_types.length} other types`);
    this.chart.update({
      axis: history.axis,
      label: `Events by type from ${zoned(iso(history.axis.start))} to ${zoned(iso(history.axis.end))}: ${lanes.map((lane) => `${lane.events} ${nameOf(lane)}`).join(", ")}`,
      lanes: lanes.map((lane) => ({
        name: nameOf(lane),
        title: lane.event_types.join(", "),
        type: lane.event_types.length === 1 ? lane.event_types[0] : null,
        events: lane.events,
      })),
      marks: marks.map(([lane, place, events, first, version, since, until]) => ({
        lane,
        place,
        events,
        version,
        type: lanes[lane].event_types.length === 1 ? lanes[lane].event_types[0] : null,
        told: () => told(nameOf(lanes[lane]), events, first, version, since, until),
      })),
      chosen: null,
    });
    this.#point();
    this.#drawTools();
  }

  // The same version, stepped through on another page.
  #pointToReplay() {
    const { aggregate, version } = this.view;
    this.replay.href = new URL(`replay?${query({ aggregate, version })}`, document.baseURI).href;
  }

  #drawTitle() {
    const { head, events, left_out: leftOut } = this.history;
    const lasting = span(microseconds(head.last_occurred_at) - microseconds(head.first_occurred_at));
    const extent =
      events === 1
        ? `1 event at ${zoned(head.last_occurred_at)}`
        : `${number(events + leftOut)} events in ${lasting}, ${zoned(head.first_occurred_at)} to ${zoned(head.last_occurred_at)}`;
    this.#pointToReplay();
    show(
      this.title,
      h("div", { class: "crumbs" }, link(address({}), () => go({}), {}, "All events"), " / ", h("bdi", {}, head.aggregate_type)),
      h("div", { class: "heading" }, h("h2", {}, h("bdi", {}, head.aggregate_id)), this.news, this.replay, link(address({ lane: head.aggregate_id }), () => go({ lane: [head.aggregate_id] }), { class: "button" }, "Beside others")),
      h("p", { class: "faint" }, `${extent} · last active ${relative(head.last_occurred_at)}`),
      leftOut ? h("p", { class: "faint" }, `Only the newest ${number(events)} events are on this page.`) : null,
    );
  }

  #drawTools() {
    const { axis, whole, events, shown } = this.history;
    const [start, end] = [axis.start, axis.end];
    const zoomed = this.view.since !== undefined || this.view.until !== undefined;
    const to = (length, [low, high]) => {
      const event = this.panel.shown;
      const middle = event ? microseconds(event.occurred_at) : start + (end - start) / 2;
      const since = Math.min(Math.max(middle - length / 2, low), high - length);
      this.#zoomTo(Math.floor(since), Math.floor(since + length));
    };
    const wider = (end - start) * ZOOM;
    const further = () => (wider >= whole[1] - whole[0] ? this.#whole() : to(wider, whole));
    const collapsed = this.view.idle !== "shown";
    const hasIdle = axis.idle.length > 0 || !collapsed;
    show(
      this.tools,
      button("Closer", { icon: "closer", disabled: end - start < SHORTEST * ZOOM, onclick: () => to((end - start) / ZOOM, [start, end]) }),
      button("Further", { icon: "further", disabled: !zoomed, onclick: further }),
      button("Whole history", { disabled: !zoomed, onclick: () => this.#whole() }),
      hasIdle
        ? button("Collapse idle time", { pressed: collapsed ? "true" : "false", onclick: () => this.#go({ idle: collapsed ? "shown" : undefined }) })
        : null,
      h("span", { class: "faint right" }, zoomed ? `${number(shown)} of ${plural(events, "event")}` : "Click a mark to see it, drag to look closer"),
    );
  }

  #zoomTo(since, until) {
    this.#go({ since: iso(since), until: iso(until), at: undefined });
  }

  #whole() {
    this.#go({ since: undefined, until: undefined });
  }

  #drawPager(page) {
    const oldest = this.view.list === "oldest";
    const [back, on] = oldest ? ["Older", "Newer"] : ["Newer", "Older"];
    const turn = (name, at, drawn) =>
      button(name, { icon: drawn, disabled: at === null || at === undefined, onclick: () => this.#go({ at }) });
    show(
      this.pager,
      turn(back, page?.previous, "back"),
      turn(on, page?.following, "on"),
      button(oldest ? "Oldest first" : "Newest first", {
        icon: "turn",
        title: "Turn the list round",
        onclick: () => this.#go({ list: oldest ? undefined : "oldest" }),
      }),
      h("span", { class: "faint right" }, page ? `${number(page.first_row)} to ${number(page.last_row)} of ${number(page.rows)}` : ""),
    );
  }

  #notFound(error) {
    const prefix = this.view.aggregate.slice(0, Math.max(1, Math.ceil(this.view.aggregate.length / 2)));
    return h(
      "div",
      { class: "blank" },
      alertBox(
        error.kind === "AggregateNotFound" ? h("span", {}, "There is no aggregate ", h("code", {}, this.view.aggregate), " here.") : error.message,
      ),
      h(
        "p",
        {},
        error.kind === "AggregateNotFound" ? "Ids are compared letter by letter, capitals count. " : "",
        link(address({}), () => go({}), {}, "All events"),
        error.kind === "AggregateNotFound" ? [" · ", link(address({ q: prefix }), () => go({ q: prefix }), {}, `ids that begin with ${prefix}`)] : null,
      ),
    );
  }

  async #lookForNews() {
    if (document.hidden || !this.history || !this.element.isConnected) return;
    const { aggregate_id: aggregate, version } = this.history.head;
    let head;
    try {
      head = await load("head", { aggregate });
    } catch {
      return; // The next poll asks again; what is shown stays true.
    }
    if (this.history?.head.aggregate_id !== aggregate || head.version <= version) return;
    show(
      this.news,
      button(`${plural(head.version - version, "new event")}: show`, {
        kind: "primary",
        onclick: () => {
          show(this.news);
          this.#loadHistory();
          this.#go({ version: head.version, since: undefined, until: undefined });
        },
      }),
    );
  }
}
