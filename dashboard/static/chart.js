// Lanes of marks on a time axis: hover tells, a click chooses, a drag looks closer.

import { Axis } from "./axis.js";
import { h, number, s, shortened, show } from "./dom.js";
import { look, shape } from "./looks.js";
import { iso, span, stamp, zoned } from "./moments.js";

const LANE = 28;
const NARROW_LANE = 22;
const MANY_LANES = 9;
const FOOT = 34;
const HEAD = 6;
const RIGHT = 54;
const NARROW = 640;
const PADDING = 10;
const NEAR = 14;
const DRAG = 5;
const DOT = 4;
const MANY_MARKS = 400;
const RING = 9;

export class Chart {
  // `choose(mark)` and `closer(since, until)`, in µs, are what a click and a drag ask for.
  constructor({ choose, closer }) {
    this.choose = choose;
    this.closer = closer;
    this.svg = s("svg", { role: "img", class: "chart" });
    this.tip = h("div", { class: "tip", hidden: true });
    this.element = h("div", { class: "plot" }, this.svg, this.tip);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
    this.#listen();
  }

  // `lanes`: {name, title, types, events}; `marks`: {lane, place, events, type, told(): {title, lines}, …};
  // `arrows`: pairs of {lane, place}; `chosen`: {lane, us} or null.
  update(content) {
    this.content = content;
    const rows = Math.max(content.lanes.length, 2);
    this.lane = rows >= MANY_LANES ? NARROW_LANE : LANE;
    this.height = HEAD + rows * this.lane + FOOT;
    this.element.style.height = `${this.height}px`;
    this.width = 0;
    this.draw();
  }

  point(chosen) {
    this.content.chosen = chosen;
    this.#drawChosen();
  }

  draw() {
    const width = this.element.clientWidth;
    if (!this.content || !width || width === this.width) return;
    this.width = width;
    const { knots } = this.content.axis;
    const left = width < NARROW ? 118 : 184;
    this.axis = new Axis(knots, left + PADDING, width - left - RIGHT - 2 * PADDING);
    this.left = left;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", this.height);
    this.svg.setAttribute("aria-label", this.content.label);
    this.pointer = s("g", { class: "chosen" });
    this.brush = s("rect", { class: "brush", visibility: "hidden", y: HEAD });
    show(this.svg, this.#idle(), this.#grid(), this.#names(), this.#arrows(), this.#marks(), this.pointer, this.brush);
    this.#drawChosen();
  }

  close() {
    this.observer.disconnect();
  }

  #y = (lane) => HEAD + (lane + 0.5) * this.lane;

  #grid() {
    const foot = this.height - FOOT;
    const ticks = this.axis.ticks(this.content.axis.idle);
    return s(
      "g",
      { class: "grid" },
      ticks.map(({ x }) => s("line", { x1: x, x2: x, y1: HEAD, y2: foot })),
      this.content.lanes.map((_, lane) =>
        s("line", { x1: this.left, x2: this.width - RIGHT, y1: this.#y(lane), y2: this.#y(lane) }),
      ),
      ticks.map(({ x, lines }) =>
        lines.map((text, row) =>
          s("text", { x, y: foot + 14 + row * 13, "text-anchor": "middle" }, text),
        ),
      ),
    );
  }

  #idle() {
    const foot = this.height - FOOT;
    return s(
      "g",
      { class: "idle" },
      this.content.axis.idle.map(([since, until]) => {
        const [x1, x2] = [this.axis.at(since) + 2, this.axis.at(until) - 2];
        const width = Math.max(x2 - x1, 2);
        return s(
          "g",
          {},
          s("rect", { x: x1, y: HEAD, width, height: foot - HEAD }),
          s(
            "text",
            { x: x1 + width / 2, y: foot - 4, "text-anchor": "start", transform: `rotate(-90 ${x1 + width / 2} ${foot - 4})`, dy: "0.35em" },
            foot - HEAD > 70 ? `${span(until - since)} idle` : "",
          ),
        );
      }),
    );
  }

  #names() {
    const room = Math.floor((this.left - 22) / 6.4);
    return s(
      "g",
      { class: "names" },
      this.content.lanes.map((lane, index) => {
        const y = this.#y(index);
        const title = s("title", {}, lane.title ?? lane.name);
        const swatch = lane.type === undefined ? null : shape(lane.type, 8, y, DOT);
        return s(
          "g",
          {},
          title,
          swatch,
          s("text", { x: swatch ? 18 : 4, y, dy: "0.35em" }, shortened(lane.name, room)),
          s("text", { x: this.width - 4, y, dy: "0.35em", "text-anchor": "end", class: "count" }, number(lane.events)),
        );
      }),
    );
  }

  #marks() {
    const most = Math.max(12, ...this.content.marks.map((mark) => mark.events));
    if (this.content.marks.length > MANY_MARKS) return this.#manyMarks(most);
    return s(
      "g",
      { class: "marks" },
      this.content.marks.map((mark) => {
        const x = this.axis.x(mark.place);
        const y = this.#y(mark.lane);
        if (mark.events === 1) return shape(mark.type, x, y, DOT);
        // Roots keep a dense stretch from hiding what is beside it.
        const half = (this.lane / 2 - 3) * (0.45 + 0.55 * Math.sqrt(mark.events / most));
        return s("rect", { class: look(mark.type), x: x - 1.5, y: y - half, width: 3, height: 2 * half, rx: 1 });
      }),
    );
  }

  // As one path for each look: a browser draws a thousand strokes of one sooner than a thousand.
  #manyMarks(most) {
    const paths = new Map();
    for (const mark of this.content.marks) {
      const [x, y] = [this.axis.x(mark.place), this.#y(mark.lane)];
      const half = (this.lane / 2 - 3) * (0.45 + 0.55 * Math.sqrt(mark.events / most));
      const drawn =
        mark.events === 1
          ? `M${(x - DOT).toFixed(1)},${y}a${DOT},${DOT} 0 1,0 ${2 * DOT},0a${DOT},${DOT} 0 1,0 ${-2 * DOT},0z`
          : `M${(x - 1.5).toFixed(1)},${(y - half).toFixed(1)}h3v${(2 * half).toFixed(1)}h-3z`;
      const kind = look(mark.type);
      paths.set(kind, (paths.get(kind) ?? "") + drawn);
    }
    return s("g", { class: "marks" }, [...paths].map(([kind, d]) => s("path", { class: kind, d })));
  }

  #arrows() {
    return s(
      "g",
      { class: "arrows" },
      (this.content.arrows ?? []).map(([from, to]) => {
        const [x1, y1, x2, y2] = [this.axis.x(from.place), this.#y(from.lane), this.axis.x(to.place), this.#y(to.lane)];
        const angle = Math.atan2(y2 - y1, x2 - x1);
        const [ex, ey] = [x2 - Math.cos(angle) * 6, y2 - Math.sin(angle) * 6];
        const wing = (turn) => `${ex - 7 * Math.cos(angle + turn)},${ey - 7 * Math.sin(angle + turn)}`;
        return s(
          "g",
          {},
          s("line", { x1, y1, x2: ex, y2: ey }),
          s("polygon", { points: `${ex},${ey} ${wing(0.45)} ${wing(-0.45)}` }),
        );
      }),
    );
  }

  #drawChosen() {
    const { chosen } = this.content;
    if (!this.pointer) return;
    if (!chosen || chosen.us < this.axis.knots[0][0] || chosen.us > this.axis.knots.at(-1)[0]) {
      show(this.pointer);
      return;
    }
    const x = this.axis.at(chosen.us);
    show(
      this.pointer,
      s("line", { x1: x, x2: x, y1: HEAD, y2: this.height - FOOT }),
      s("circle", { cx: x, cy: this.#y(chosen.lane), r: RING }),
    );
  }

  #nearest(event) {
    const box = this.svg.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const lane = Math.floor((y - HEAD) / this.lane);
    let best = null;
    for (const mark of this.content.marks) {
      if (mark.lane !== lane) continue;
      const distance = Math.abs(this.axis.x(mark.place) - x);
      if (distance <= NEAR && (!best || distance < best.distance)) best = { mark, distance };
    }
    return best?.mark ?? null;
  }

  #listen() {
    let start = null;
    const xOf = (event) => event.clientX - this.svg.getBoundingClientRect().left;
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.button === 0 && xOf(event) > this.left) start = xOf(event);
    });
    this.svg.addEventListener("pointermove", (event) => {
      if (!event.buttons) start = null; // Released where nobody told us.
      if (start !== null && Math.abs(xOf(event) - start) > DRAG) {
        // From here on it is a drag, wherever the pointer goes.
        this.svg.setPointerCapture(event.pointerId);
        this.#band(start, xOf(event));
        this.tip.hidden = true;
        return;
      }
      this.#hover(event);
    });
    this.svg.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.svg.addEventListener("pointercancel", () => {
      start = null;
      this.brush.setAttribute("visibility", "hidden");
    });
    this.svg.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const [from, to] = [Math.min(start, xOf(event)), Math.max(start, xOf(event))];
      start = null;
      this.brush.setAttribute("visibility", "hidden");
      if (to - from > DRAG) {
        this.closer(this.axis.moment(from), this.axis.moment(to));
      } else {
        const mark = this.#nearest(event);
        if (mark) this.choose(mark);
      }
    });
  }

  #band(from, to) {
    const [x1, x2] = [Math.max(Math.min(from, to), this.left), Math.min(Math.max(from, to), this.width - RIGHT)];
    this.brush.setAttribute("x", x1);
    this.brush.setAttribute("width", Math.max(x2 - x1, 0));
    this.brush.setAttribute("height", this.height - FOOT - HEAD);
    this.brush.setAttribute("visibility", "visible");
  }

  #hover(event) {
    const mark = this.#nearest(event);
    this.svg.classList.toggle("pointing", Boolean(mark));
    this.tip.hidden = !mark;
    if (!mark) return;
    const { title, lines } = mark.told();
    show(this.tip, h("strong", {}, h("bdi", {}, title)), lines.map((line) => h("div", {}, line)));
    const box = this.element.getBoundingClientRect();
    const x = this.axis.x(mark.place);
    const right = x > box.width - 260;
    this.tip.style.left = right ? "" : `${x + 12}px`;
    this.tip.style.right = right ? `${box.width - x + 12}px` : "";
    this.tip.style.top = `${this.#y(mark.lane) + 10}px`;
  }
}

// What a mark says when it is pointed at.
export function told(name, events, first, last, since, until) {
  if (events === 1) return { title: name, lines: [`version ${number(last)}`, zoned(iso(since))] };
  return {
    title: `${number(events)} × ${name}`,
    lines: [`versions ${number(first)} to ${number(last)}`, `${stamp(iso(since))}, within ${span(until - since)}`],
  };
}
