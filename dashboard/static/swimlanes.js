// Several aggregates on one axis, a lane each, and arrows from causes to effects.

import { Chart } from "./chart.js";
import { Latest, load } from "./documents.js";
import { alertBox, button, h, link, number, plural, show } from "./dom.js";
import { EventPanel } from "./event.js";
import { EventList } from "./eventlist.js";
import { finding } from "./finder.js";
import { iso, microseconds, span, stamp, zoned } from "./moments.js";
import { address, entitle, go } from "./view.js";

// What there is and is not shown.
function leftOut(found) {
  if (!found) return "";
  const lanes = found.left_out ? ` · ${plural(found.left_out, "more aggregate")} left out` : "";
  return `${lanes}${found.cut ? " · only the newest events are shown" : ""}`;
}

export class SwimlanesView {
  #loading = new Latest();

  constructor() {
    this.title = h("div", { class: "title" });
    this.chart = new Chart({
      choose: (mark) => this.#go({ aggregate: mark.aggregate, version: mark.version }),
      closer: (since, until) => this.#go({ since: iso(since), until: iso(Math.max(until, since + 1000)) }),
    });
    this.tools = h("div", { class: "tools" });
    this.list = new EventList({
      label: "Events of the lanes",
      columns: ["occurred", "aggregate", "type", "version", "data"],
      href: (row) => ({ ...this.view, aggregate: row.aggregate_id, version: row.version }),
    });
    this.panel = new EventPanel();
    this.problem = h("div", {});
    this.content = h("div", { class: "swimlanes" }, this.chart.element, this.tools, h("div", { class: "columns" }, h("div", { class: "column" }, this.list.element), this.panel.element));
    this.element = h("div", {}, this.title, this.problem, this.content);
  }

  close() {
    this.chart.close();
    this.#loading.cancel();
  }

  async update(view) {
    const before = this.view;
    this.view = view;
    entitle("Swimlanes");
    const same = before && ["lane", "correlation", "since", "until", "idle"].every((name) => JSON.stringify(before[name]) === JSON.stringify(view[name]));
    this.#drawTitle();
    await Promise.all([same ? null : this.#load(), this.#choose()]);
    this.#point();
  }

  redraw() {
    if (!this.found) return;
    this.list.redraw();
    this.#draw();
    this.#choose();
  }

  // Arrow keys go through the merged events, whichever lane they are in.
  key(name) {
    const events = this.found?.rows ?? [];
    if (!events.length) return false;
    const at = events.findIndex((row) => row.aggregate_id === this.view.aggregate && String(row.version) === this.view.version);
    const last = events.length - 1;
    const to = { ArrowLeft: at < 0 ? 0 : Math.min(at + 1, last), ArrowRight: Math.max(at - 1, 0), Home: last, End: 0 }[name];
    if (to === undefined) {
      if (name !== "Enter" || at < 0) return false;
      go({ ...finding(this.view), aggregate: events[at].aggregate_id, version: events[at].version });
      return true;
    }
    this.#go({ aggregate: events[to].aggregate_id, version: events[to].version }, { step: true });
    return true;
  }

  #go(change, options) {
    go({ ...this.view, ...change }, options);
  }

  async #load() {
    const { lane, correlation, since, until, idle } = this.view;
    if (!lane && correlation === undefined) {
      this.#loading.cancel();
      this.found = null;
      this.content.hidden = true;
      this.#drawTitle();
      show(this.problem, h("div", { class: "blank" }, h("p", {}, "Choose aggregates on the left: each gets a lane.")));
      return;
    }
    try {
      const found = await this.#loading.run((signal) => load("swimlanes", { lane, correlation, since, until, idle }, signal));
      if (!found) return;
      this.found = found;
      show(this.problem);
      this.content.hidden = false;
      this.#draw();
      this.list.update(found.rows, { empty: found.lanes.length ? "No event lies in this stretch of time." : "No event has this correlation id." });
      this.#point();
    } catch (error) {
      this.found = null;
      this.content.hidden = true;
      show(this.problem, alertBox(error.message));
    }
  }

  async #choose() {
    const { aggregate, version } = this.view;
    this.panel.element.hidden = !(aggregate && version);
    if (aggregate && version) await this.panel.update(aggregate, Number(version));
  }

  #point() {
    const event = this.panel.shown;
    if (!this.found) return;
    for (const row of this.list.body.children) row.removeAttribute("aria-current");
    const { aggregate, version } = this.view;
    const index = this.found.rows.findIndex((row) => row.aggregate_id === aggregate && String(row.version) === version);
    this.list.body.children[index]?.setAttribute("aria-current", "true");
    const lane = event ? this.found.lanes.findIndex((one) => one.aggregate_id === event.aggregate_id) : -1;
    this.chart.point(lane < 0 || !aggregate ? null : { lane, us: microseconds(event.occurred_at) });
  }

  #draw() {
    const { lanes, marks, axis, arrows } = this.found;
    this.chart.update({
      axis,
      label: `Events of ${plural(lanes.length, "aggregate")} from ${zoned(iso(axis.start))} to ${zoned(iso(axis.end))}: ${lanes.map((lane) => `${lane.events} ${lane.aggregate_id}`).join(", ")}`,
      lanes: lanes.map((lane) => ({ name: lane.aggregate_id, title: `${lane.aggregate_type} ${lane.aggregate_id}`, events: lane.events })),
      marks: marks.map((mark) => ({
        ...mark,
        type: mark.event_type,
        aggregate: lanes[mark.lane].aggregate_id,
        told: () => ({
          title: mark.events === 1 ? mark.event_type : `${number(mark.events)} events`,
          lines: [lanes[mark.lane].aggregate_id, mark.events === 1 ? `version ${number(mark.version)}` : `up to version ${number(mark.version)}`, stamp(iso(mark.last_moment))],
        }),
      })),
      arrows: arrows.map(([fromLane, fromPlace, toLane, toPlace]) => [
        { lane: fromLane, place: fromPlace },
        { lane: toLane, place: toPlace },
      ]),
      chosen: null,
    });
    this.#point();
    this.#drawTitle();
    this.#drawTools();
  }

  #drawTitle() {
    const { correlation, lane } = this.view;
    const lasting = this.found ? `${plural(this.found.events, "event")} of ${plural(this.found.lanes.length, "aggregate")} within ${span(this.found.whole[1] - 1 - this.found.whole[0])}` : "";
    show(
      this.title,
      h("div", { class: "crumbs" }, link(address({}), () => go({}), {}, "All events"), " / Swimlanes"),
      h("h2", {}, correlation === undefined ? "Side by side" : ["Correlation id ", h("bdi", {}, correlation)]),
      h("p", { class: "faint" }, lasting, leftOut(this.found)),
      lane ? h("div", { class: "chips" }, lane.map((id) => this.#laneChip(id))) : null,
    );
  }

  #laneChip(id) {
    const left = this.view.lane.filter((other) => other !== id);
    const away = button(id, { icon: "close", kind: "small chip", title: `Take ${id} away`, onclick: () => go(left.length ? { ...this.view, lane: left } : { ...finding(this.view), as: "lanes" }) });
    return away;
  }

  #drawTools() {
    const zoomed = this.view.since !== undefined || this.view.until !== undefined;
    const collapsed = this.view.idle !== "shown";
    show(
      this.tools,
      button("Whole time", { disabled: !zoomed, onclick: () => this.#go({ since: undefined, until: undefined }) }),
      this.found.axis.idle.length || !collapsed
        ? button("Collapse idle time", { pressed: collapsed ? "true" : "false", onclick: () => this.#go({ idle: collapsed ? "shown" : undefined }) })
        : null,
      h("span", { class: "faint right" }, this.found.arrows.length ? "Arrows lead from cause to effect; keys ← → step through all lanes" : "Keys ← → step through all lanes"),
    );
  }
}
