// The scrubber: a slider over all versions, and under it what happened at which.

import { h, number, s, show } from "./dom.js";
import { look } from "./looks.js";

const THUMB = 16;
const LANE = 12;

export class Scrubber {
  #lanes = new Map();

  constructor({ seek, label = "Version" }) {
    this.slider = h("input", { type: "range", class: "slider", step: "1", "aria-label": label, oninput: () => seek(Number(this.slider.value)) });
    this.canvas = h("canvas", { class: "ticks", "aria-hidden": "true" });
    this.marks = h("div", { class: "lanes" });
    this.element = h("div", { class: "scrubber" }, this.canvas, this.slider, this.marks);
    this.sizes = new ResizeObserver(() => this.redraw());
    this.sizes.observe(this.element);
    this.marks.addEventListener("click", (event) => {
      const lane = event.target.closest(".lane-track");
      if (lane) seek(this.versionAt(event.clientX - lane.getBoundingClientRect().left));
    });
  }

  close() {
    this.sizes.disconnect();
  }

  // The versions there are, and of what type each event is, if all can be told apart.
  update({ first, last, kinds, types }) {
    Object.assign(this, { first, last, kinds, types });
    this.slider.min = first - 1;
    this.slider.max = last;
    this.redraw();
  }

  moveTo(version, told) {
    this.slider.value = version;
    this.slider.setAttribute("aria-valuetext", told);
    this.element.style.setProperty("--at", this.#share(version));
  }

  // A lane of stretches, [from, to, kind, words] each, under a name; none takes the lane away.
  mark(name, stretches, label = name) {
    if (stretches?.length) this.#lanes.set(name, { stretches, label });
    else this.#lanes.delete(name);
    this.#drawLanes();
  }

  redraw() {
    if (this.last === undefined) return;
    this.#drawTicks();
    this.#drawLanes();
  }

  versionAt(x) {
    const width = this.marks.clientWidth || this.element.clientWidth;
    const share = (x - THUMB / 2) / (width - THUMB);
    const version = Math.round(this.first - 1 + share * (this.last - this.first + 1));
    return Math.min(Math.max(version, this.first - 1), this.last);
  }

  #share(version) {
    return (version - this.first + 1) / Math.max(this.last - this.first + 1, 1);
  }

  #drawTicks() {
    const width = this.element.clientWidth;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = width * ratio;
    this.canvas.height = LANE * ratio;
    this.canvas.hidden = !this.kinds?.length;
    if (this.canvas.hidden || !width) return;
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const colours = this.types.map((type) => this.#colour(type));
    const room = (width - THUMB) / this.kinds.length;
    const count = (kind) => this.kinds.reduce((sum, each) => sum + (each === kind), 0);
    // The rarer a type, the later it is drawn: where there is no room for all, it is seen.
    const order = colours.map((_, kind) => [count(kind), kind]).sort(([one], [other]) => other - one);
    const drawn = order.flatMap(([, kind]) => this.kinds.flatMap((each, index) => (each === kind ? [index] : [])));
    drawn.forEach((index) => {
      const kind = this.kinds[index];
      context.fillStyle = colours[kind];
      context.fillRect(THUMB / 2 + (index + 1) * room - Math.min(room / 2, 1), 2, Math.max(Math.min(room - 1, 3), 0.6), LANE - 4);
    });
  }

  #colour(type) {
    const name = `--${look(type)}`;
    return getComputedStyle(this.element).getPropertyValue(name).trim() || "gray";
  }

  #drawLanes() {
    show(this.marks, [...this.#lanes.values()].map((lane) => this.#lane(lane)));
  }

  #lane({ stretches, label }) {
    const width = this.element.clientWidth || 1;
    const x = (version) => THUMB / 2 + this.#share(version) * (width - THUMB);
    const bars = stretches.map(([from, to, kind, words]) => {
      const start = from === to ? x(from) - 1 : x(from);
      const bar = s("rect", { x: start.toFixed(1), y: 2, width: Math.max(x(to) - start, 2).toFixed(1), height: LANE - 4, class: `bar-${kind}` });
      if (words) bar.append(s("title", {}, words));
      return bar;
    });
    return h(
      "div",
      { class: "lane" },
      h("span", { class: "lane-name faint" }, label),
      s("svg", { class: "lane-track", width, height: LANE, role: "img", "aria-label": `${label}: ${number(stretches.length)} ${stretches.length === 1 ? "stretch" : "stretches"}` }, bars),
    );
  }
}

