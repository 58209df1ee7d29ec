// Values over time, as stacked bars or as lines; a cursor tells those of one step.

import { Axis } from "./axis.js";
import { h, s, show } from "./dom.js";
import { stacked } from "./histogram.js";
import { iso, parts, stamp, zoneName } from "./moments.js";
import { marks } from "./scale.js";

const HEIGHT = 168;
const TALL = 212;
const HEAD = 8;
const FOOT = 36;
const LEFT = 58;
const RIGHT = 10;
const GAP_FROM = 4;
const KEYS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

export class Series {
  // `scale` says how values are marked and told, `nothing` what is said where there are none.
  constructor({ title, unit, scale, bars = false, tall = false, nothing = "Nothing was measured in this range" }) {
    Object.assign(this, { title, scale, bars, nothing, height: tall ? TALL : HEIGHT });
    const { height } = this;
    this.moment = null;
    this.unit = h("span", { class: "faint" }, unit);
    this.time = h("span", { class: "faint right" });
    this.legend = h("ul", { class: "legend" });
    this.spoken = h("p", { class: "unseen", "aria-live": "polite" });
    this.band = s("rect", { class: "band", visibility: "hidden", y: HEAD, height: height - HEAD - FOOT });
    this.picture = s("g", {});
    this.svg = s("svg", { role: "img", tabindex: "0", class: "chart", height }, this.band, this.picture);
    this.frame = h("div", { class: "series-frame", style: `height:${height}px` }, this.svg);
    this.element = h("section", { class: "panel" }, h("header", {}, h("h2", { title }, title), this.unit, this.time), this.frame, this.legend, this.spoken);
    this.observer = new ResizeObserver(() => this.frame.clientWidth !== this.width && this.draw());
    this.observer.observe(this.frame);
    this.#listen();
  }

  // `start` and `step` in µs, the number of `steps`, and `rows` of a name, a class, values and, where
  // it is not the class, the mark of their legend.
  update(content, unit) {
    this.content = content;
    if (unit) show(this.unit, unit);
    this.draw();
  }

  close() {
    this.observer.disconnect();
  }

  draw() {
    const width = this.frame.clientWidth;
    if (!this.content || !width) return;
    this.width = width;
    const { start, step, steps, rows } = this.content;
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.svg.setAttribute("aria-label", this.#described());
    this.axis = new Axis([[start, 0], [start + step * steps, 1]], LEFT, width - LEFT - RIGHT);
    const most = this.bars ? highest(summed(rows, steps)) : highest(rows.flatMap((row) => row.values));
    const scale = marks(this.scale.most ?? most ?? 0, this.scale);
    const there = this.bars ? most > 0 : most !== null;
    show(
      this.picture,
      this.#grid(scale),
      !there ? this.#nothing() : this.bars ? this.#stacks(scale) : rows.map((row) => this.#line(row, scale)),
    );
    this.#point();
  }

  get #foot() {
    return this.height - FOOT;
  }

  #y(value, scale) {
    return this.#foot - (value / scale.at(-1)) * (this.#foot - HEAD);
  }

  #grid(scale) {
    const foot = this.#foot;
    return s(
      "g",
      { class: "grid" },
      scale.map((value) => {
        const y = this.#y(value, scale);
        return [
          s("line", { x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y }),
          s("text", { x: LEFT - 6, y, dy: y > HEAD + 4 ? "0.3em" : "0.7em", "text-anchor": "end" }, this.scale.text(Number(value.toPrecision(6)))),
        ];
      }),
      this.axis.ticks().map(({ x, lines }) => [
        s("line", { x1: x, x2: x, y1: foot, y2: foot + 4 }),
        lines.map((text, row) => s("text", { x, y: foot + 16 + row * 14, "text-anchor": x > this.width - 34 ? "end" : "middle" }, text)),
      ]),
    );
  }

  #nothing() {
    const middle = (HEAD + this.#foot) / 2;
    return s("text", { class: "nothing", x: (LEFT + this.width - RIGHT) / 2, y: middle, dy: "0.3em", "text-anchor": "middle" }, this.nothing);
  }

  // One path a row: its parts of all bars, each upon the rows before it.
  #stacks(scale) {
    const { start, step, steps, rows } = this.content;
    const perUnit = (this.#foot - HEAD) / scale.at(-1);
    const paths = rows.map(() => "");
    for (let at = 0; at < steps; at += 1) {
      const [left, right] = [this.axis.at(start + at * step), this.axis.at(start + (at + 1) * step)];
      const gap = right - left > GAP_FROM ? 0.5 : 0;
      let y = this.#foot;
      stacked(rows.map((row) => row.values[at] ?? 0), perUnit).forEach((height, row) => {
        if (!height) return;
        paths[row] += `M${fixed(left + gap)} ${fixed(y)}H${fixed(right - gap)}v${fixed(-height)}H${fixed(left + gap)}z`;
        y -= height;
      });
    }
    return paths.map((path, row) => s("path", { class: `area ${rows[row].kind}`, d: path }));
  }

  // Where nothing was measured the line is interrupted; a value alone is a short stroke.
  #line({ kind, values }, scale) {
    const { start, step } = this.content;
    let path = "";
    values.forEach((value, at) => {
      if (value === null) return;
      const x = fixed(this.axis.at(start + (at + 0.5) * step));
      path += `${(values[at - 1] ?? null) === null ? "M" : "L"}${x} ${fixed(this.#y(value, scale))}`;
      if ((values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null) path += "m-2.5 0h5";
    });
    return s("path", { class: `line ${kind}`, d: path });
  }

  #listen() {
    const pointed = (event) => {
      if (!this.axis) return;
      const x = event.clientX - this.svg.getBoundingClientRect().left;
      this.#choose(x < LEFT ? null : Math.floor((this.axis.moment(x) - this.content.start) / this.content.step));
    };
    this.svg.addEventListener("pointermove", pointed);
    this.svg.addEventListener("pointerdown", pointed);
    this.svg.addEventListener("pointerleave", () => this.#choose(null));
    this.svg.addEventListener("blur", () => this.#choose(null));
    this.svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#choose(null);
      if (!(event.key in KEYS) || !this.content) return;
      event.preventDefault();
      const at = this.#index ?? (KEYS[event.key] < 0 ? this.content.steps : this.content.steps - 2);
      this.#choose(at + KEYS[event.key]);
      show(this.spoken, `${this.time.textContent}: ${this.#values().map(([{ name }, text]) => `${name} ${text}`).join(", ")}`);
    });
  }

  // The cursor stays at its moment while time goes on.
  #choose(index) {
    const { start, step, steps } = this.content;
    this.moment = index === null ? null : start + step * Math.min(Math.max(index, 0), steps - 1);
    this.#point();
  }

  get #index() {
    if (this.moment === null) return null;
    const { start, step, steps } = this.content;
    return Math.min(Math.max(Math.round((this.moment - start) / step), 0), steps - 1);
  }

  #point() {
    const index = this.#index;
    const { start, step } = this.content;
    this.band.setAttribute("visibility", index === null ? "hidden" : "visible");
    if (index !== null) {
      const [left, right] = [this.axis.at(start + index * step), this.axis.at(start + (index + 1) * step)];
      this.band.setAttribute("x", left);
      this.band.setAttribute("width", Math.max(right - left, 1));
    }
    show(this.time, index === null ? (this.bars ? "in this range" : "latest") : this.#when(index));
    show(
      this.legend,
      this.#values().map(([{ name, kind, mark = kind }, text]) =>
        h("li", { title: `${name}: ${text}` }, h("i", { class: `swatch ${mark}`, "aria-hidden": "true" }), h("bdi", {}, name), h("strong", {}, text)),
      ),
    );
  }

  #when(index) {
    const { start, step, now } = this.content;
    const [from, to] = [start + index * step, start + (index + 1) * step];
    return `${stamp(iso(from))} to ${clock(to)} ${zoneName()}${to > now ? ", so far" : ""}`;
  }

  // Of each row what it is at the cursor; without one in all, or at last.
  #values() {
    const index = this.#index;
    return this.content.rows.map((row) => {
      const value = index !== null ? (row.values[index] ?? null) : this.bars ? sum(row.values) : (row.values.findLast((one) => one !== null) ?? null);
      return [row, value === null ? "–" : this.scale.text(value)];
    });
  }

  #described() {
    const { start, step, steps, rows } = this.content;
    const told = rows.map(({ name, values }) => {
      if (this.bars) return `${name} ${this.scale.text(sum(values))}`;
      const most = highest(values);
      return most === null ? null : `${name} at most ${this.scale.text(most)}`;
    });
    const found = told.filter(Boolean).join(", ") || this.nothing;
    return `${this.title}, ${this.unit.textContent}, ${stamp(iso(start))} to ${stamp(iso(start + step * steps))} ${zoneName()}: ${found}`;
  }
}

const fixed = (value) => Number(value.toFixed(2));
const sum = (values) => values.reduce((all, value) => all + (value ?? 0), 0);
const summed = (rows, steps) => Array.from({ length: steps }, (_, at) => sum(rows.map((row) => row.values[at])));

function highest(values) {
  let most = null;
  for (const value of values) if (value !== null && value !== undefined && (most === null || value > most)) most = value;
  return most;
}

const two = (value) => String(value).padStart(2, "0");

function clock(us) {
  const { hour, minute, second } = parts(iso(us));
  return `${two(hour)}:${two(minute)}${second ? `:${two(second)}` : ""}`;
}
