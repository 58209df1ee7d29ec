// How a projection stands: figures, and what is to be known or done about it.

import { load } from "./documents.js";
import { alertBox, h, number, plural, show } from "./dom.js";
import { Figures, NONE } from "./figures.js";
import { ago, iso, span, zoned } from "./moments.js";
import { query } from "./view.js";

const SECOND = 1e6;
// A projection with events to take that has not moved for so long is nobody's.
const ABANDONED = 30 * SECOND;

export class Standing {
  #unfolded = new Set();

  constructor() {
    this.figures = new Figures();
    this.notices = h("ul", { class: "notices", "aria-label": "What is to be known" });
    this.element = h("section", { class: "standing", "aria-label": "How it stands" }, this.figures.element, this.notices);
  }

  update(standing, found, now) {
    if (this.standing?.name !== standing.name) this.#unfolded.clear();
    Object.assign(this, { standing, watermark: found.watermark });
    this.tick(now);
  }

  redraw() {
    this.told = this.drawn = undefined;
  }

  // Drawn where it says something else than before: who reads or has unfolded something goes on.
  tick(now) {
    this.now = now;
    const rows = figures(this.standing, this.watermark, now);
    if (this.told !== JSON.stringify(rows)) {
      this.told = JSON.stringify(rows);
      this.figures.update(rows);
    }
    const notices = this.#notices();
    const drawn = JSON.stringify(notices.map(([told]) => told));
    if (this.drawn === drawn) return;
    this.drawn = drawn;
    show(this.notices, notices.map(([, make]) => h("li", {}, make())));
  }

  // What each says, and how it is drawn.
  #notices() {
    const { standing, watermark, now } = this;
    const { name, failure, building, comparing, skipped, drift, state } = standing;
    const notices = [];
    const add = (told, make) => notices.push([told, make]);
    if (failure) add(failure, () => this.#waits(failure));
    if (state === "not built") add(state, () => alertBox("It has no table yet: run ", command("hindsight projections run")));
    if (state === "outdated") add([state, standing.built, standing.version], () => outdated(standing));
    if (standing.code_changed) add("changed", () => alertBox("Its code has changed without a new version: rows may be of either. ", command(`hindsight projections check ${name}`), " tells which differ."));
    if (drift) add(["drift", drift], () => alertBox(`${plural(drift, "row")} differed from the events when it was checked last: run `, command(`hindsight projections rebuild ${name}`)));
    if (isAbandoned(standing, watermark, now)) add("abandoned", () => alertBox("It does not move, and nobody holds it: is a worker running? ", command("hindsight work")));
    if (building) add(["rebuild", building, ago(now - building.moved_at)], () => underWay("Being rebuilt", building, now));
    if (comparing) add(["check", comparing, ago(now - comparing.moved_at)], () => underWay("Being checked", comparing, now));
    if (skipped) add(["skipped", skipped], () => this.#skipped(skipped));
    return notices;
  }

  #waits(failure) {
    const where = [`It waits at ${failure.event_type} of `, event(failure), ` (position ${number(failure.position)}), `];
    return alertBox(where, failure.handler === null ? "which cannot be read" : ["which ", h("bdi", {}, failure.handler), " cannot take"], `, since ${zoned(iso(failure.failed_at))}.`, this.#error(failure));
  }

  #error(failure) {
    return this.#foldable(`error ${failure.position}`, [h("bdi", {}, failure.why)], () => h("pre", { class: "code", tabindex: "0", "aria-label": "The whole error" }, failure.error));
  }

  #skipped(count) {
    const list = h("ul", { class: "left-out" });
    const fill = async () => {
      try {
        const { events, more } = await load("skipped", { projection: this.standing.name });
        show(list, events.map((each) => h("li", {}, h("span", {}, `${each.event_type} of `, event(each)), this.#error(each))), more ? h("li", { class: "faint" }, `The first ${number(events.length)}.`) : null);
      } catch (error) {
        show(list, h("li", {}, alertBox(error.message)));
      }
    };
    const one = count === 1;
    return h("div", { class: "held notice" }, this.#foldable("skipped", [`${plural(count, "event")} ${one ? "was" : "were"} left out, as ${one ? "it" : "they"} could not be taken; rows may lack what ${one ? "it" : "they"} did`], () => list, fill));
  }

  // Stays as it was when it is drawn anew.
  #foldable(key, summary, make, opened = () => {}) {
    const open = this.#unfolded.has(key);
    const details = h("details", { open, ontoggle: () => (details.open ? this.#unfolded.add(key) && opened() : this.#unfolded.delete(key)) }, h("summary", {}, summary), make());
    return details;
  }
}

const command = (text) => h("code", {}, text);

const event = ({ aggregate_id: aggregate, version }) => h("a", { href: `timeline?${query({ aggregate, version })}` }, h("bdi", {}, aggregate), ` version ${number(version)}`);

const isAbandoned = ({ state, lag, moved_at: moved }, { is_held: held }, now) => state === "behind" && !held && lag.seconds * SECOND > ABANDONED && now - moved > ABANDONED;

function outdated({ name, built, version }) {
  if (built > version) return alertBox(`Its table is of version ${number(built)}, and this code has version ${number(version)}: where the newer code runs it is kept.`);
  return alertBox(`Its table is of version ${number(built)}, and this code has version ${number(version)}: it stands still until you run `, command(`hindsight projections rebuild ${name}`));
}

function underWay(what, { position, goal, moved_at: moved, moved_by: by }, now) {
  const share = goal ? Math.min(position / goal, 1) : 0;
  const text = goal === null ? `${what}: position ${number(position)}` : `${what}: position ${number(position)} of ${number(goal)}, ${Math.floor(share * 100)}%`;
  return h("div", { class: "held notice" }, h("div", { class: "under-way" }, h("progress", { value: goal === null ? null : String(share), max: "1", "aria-label": what }), h("span", {}, text), h("span", { class: "faint" }, h("bdi", {}, by), ", ", ago(Math.max(now - moved, 0)))));
}

function figures(standing, watermark, now) {
  const { state, version, built, position, moved_at: moved, lag, skipped, checked_at: checked, drift } = standing;
  const wrong = state !== "up to date" && state !== "behind";
  return [
    ["State", state, moved === null ? "never moved" : `moved ${ago(Math.max(now - moved, 0))}`, wrong ? "warned" : null],
    ["Version", built === null ? NONE : number(built), built === version ? "as this code has" : `this code has ${number(version)}`, built === null || built === version ? null : "warned"],
    ["Position", position === null ? NONE : number(position), `followers may read to ${number(watermark.position)}`],
    ["Lag", `${plural(lag.events, "event")}${lag.is_bounded ? "+" : ""}`, lag.events ? `the oldest is ${span(Math.round(lag.seconds * 1000) * 1000)} old` : "nothing to be taken"],
    held(watermark, now),
    ["Left out", number(skipped), skipped ? "could not be taken" : "no event", skipped ? "warned" : null],
    ["Last check", checked === null ? "never" : ago(Math.max(now - checked, 0)), checkedAs(checked, drift), drift ? "warned" : null],
  ];
}

function checkedAs(checked, drift) {
  if (checked === null) return "not compared with the events";
  return drift ? `${plural(drift, "row")} differed` : "no row differed";
}

// Whoever has appended and not committed yet holds followers in front of what may still appear.
function held({ is_held, pid, since }, now) {
  if (!is_held) return ["Watermark", "not held", "no open append is waited for"];
  const who = pid === null ? "by a prepared transaction" : `by the transaction of process ${pid}`;
  return ["Watermark", since === null ? "held" : `held ${span(Math.max(Math.floor((now - since) / SECOND), 0) * SECOND)}`, who, "warned", `Events may still appear in front of others that are committed: followers are held ${who}`];
}
