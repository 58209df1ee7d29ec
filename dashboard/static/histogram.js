// How much happened when: bars stacked by event type; a drag narrows the time.

import { Axis } from "./axis.js";
import { h, number, s, show } from "./dom.js";
import { look } from "./looks.js";
import { iso, span, stamp } from "./moments.js";

const HEIGHT = 128;
const HEAD = 8;
const FOOT = 34;
const LEFT = 48;
const DRAG = 5;

export class Histogram {
  constructor({ narrow }) {
    this.narrow = narrow;
    this.svg = s("svg", { role: "img", class: "chart bars" });
    this.tip = h("div", { class: "tip", hidden: true });
    this.note = h("p", { class: "faint counting" });
    this.element = h("div", { class: "plot", style: `min-height:${HEIGHT}px` }, this.svg, this.tip, this.note);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
    this.#listen();
  }

  // `start` and `width` of a bar in µs, `types`, and for each bar its counts by type.
  update(content) {
    this.content = content;
    this.width = 0;
    this.draw();
  }

  close() {
    this.observer.disconnect();
  }

  draw() {
    const width = this.element.clientWidth;
    if (!this.content || !width || width === this.width) return;
    this.width = width;
    const { start, width: bar, bars, types, note } = this.content;
    show(this.note, note);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", HEIGHT);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("aria-label", described(this.content));
    this.brush = s("rect", { class: "brush", visibility: "hidden", y: HEAD, height: HEIGHT - FOOT - HEAD });
    if (!bars.length) {
      show(this.svg, this.brush);
      return;
    }
    const end = start + bar * bars.length;
    this.axis = new Axis([[start, 0], [end, 1]], LEFT, width - LEFT - 8);
    const most = Math.max(1, ...bars.map(total));
    show(this.svg, this.#grid(most), this.#bars(bars, types, most), this.brush);
  }

  #grid(most) {
    const foot = HEIGHT - FOOT;
    return s(
      "g",
      { class: "grid" },
      [0, most].map((value, row) => {
        const y = row ? HEAD : foot;
        return [
          s("line", { x1: LEFT, x2: this.width - 8, y1: y, y2: y }),
          s("text", { x: LEFT - 6, y, dy: row ? "0.8em" : "0", "text-anchor": "end" }, number(value)),
        ];
      }),
      this.axis.ticks().map(({ x, lines }) => [
        s("line", { x1: x, x2: x, y1: foot, y2: foot + 4 }),
        lines.map((text, row) => s("text", { x, y: foot + 16 + row * 13, "text-anchor": "middle" }, text)),
      ]),
    );
  }

  #bars(bars, types, most) {
    const [foot, room] = [HEIGHT - FOOT, HEIGHT - FOOT - HEAD];
    const { start, width: length } = this.content;
    return s(
      "g",
      {},
      bars.map((counts, index) => {
        const x1 = this.axis.at(start + index * length);
        const x2 = this.axis.at(start + (index + 1) * length);
        let y = foot;
        return stacked(counts, room / most).map((height, kind) => {
          if (!height) return null;
          y -= height;
          return s("rect", { class: look(types[kind]), x: x1 + 0.5, y, width: Math.max(x2 - x1 - 1, 1), height });
        });
      }),
    );
  }

  #listen() {
    let start = null;
    const xOf = (event) => event.clientX - this.svg.getBoundingClientRect().left;
    const drop = () => {
      start = null;
      this.brush?.setAttribute("visibility", "hidden");
    };
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.button === 0 && this.axis) {
        start = xOf(event);
        this.svg.setPointerCapture(event.pointerId);
      }
    });
    this.svg.addEventListener("pointermove", (event) => {
      if (start === null) return this.#hover(xOf(event));
      const [from, to] = [Math.max(Math.min(start, xOf(event)), LEFT), Math.max(start, xOf(event))];
      this.tip.hidden = true;
      this.brush.setAttribute("x", from);
      this.brush.setAttribute("width", Math.max(to - from, 0));
      this.brush.setAttribute("visibility", "visible");
    });
    this.svg.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.svg.addEventListener("pointercancel", drop);
    this.svg.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const [from, to] = [Math.min(start, xOf(event)), Math.max(start, xOf(event))];
      drop();
      if (to - from > DRAG) this.narrow(this.axis.moment(from), this.axis.moment(to));
      else this.#narrowToBar(from);
    });
  }

  // A click on a bar is the drag over it.
  #narrowToBar(x) {
    const index = this.#barAt(x);
    if (index === null) return;
    const { start, width } = this.content;
    this.narrow(start + index * width, start + (index + 1) * width);
  }

  #barAt(x) {
    const { start, width, bars } = this.content;
    const index = Math.floor((this.axis.moment(x) - start) / width);
    return x >= LEFT && index >= 0 && index < bars.length && total(bars[index]) ? index : null;
  }

  #hover(x) {
    const index = this.axis ? this.#barAt(x) : null;
    this.tip.hidden = index === null;
    this.svg.classList.toggle("pointing", index !== null);
    if (index === null) return;
    const { start, width, bars, types } = this.content;
    const from = start + index * width;
    const rows = bars[index].map((count, kind) => [count, types[kind]]).filter(([count]) => count);
    rows.sort((one, other) => other[0] - one[0]);
    show(
      this.tip,
      h("strong", {}, `${number(total(bars[index]))} within ${span(width)}`),
      h("div", {}, `from ${stamp(iso(from))}`),
      rows.slice(0, 6).map(([count, type]) => h("div", {}, `${number(count)} `, h("bdi", {}, type))),
    );
    const right = x > this.width - 260;
    this.tip.style.left = right ? "" : `${x + 12}px`;
    this.tip.style.right = right ? `${this.width - x + 12}px` : "";
    this.tip.style.top = "24px";
  }
}

// The heights of a bar's parts. What is there can be seen, however little it is beside the rest; what
// that takes, the largest part gives, so that the bar is as high as its sum.
export function stacked(counts, scale) {
  const heights = counts.map((count) => count && Math.max(count * scale, 1));
  const largest = heights.indexOf(Math.max(...heights));
  heights[largest] = Math.max(heights[largest] - (total(heights) - total(counts) * scale), Math.min(heights[largest], 1));
  return heights;
}

const total = (counts) => counts.reduce((sum, count) => sum + count, 0);

function described({ start, width, bars, types }) {
  if (!bars.length) return "No events";
  const all = types.map((type, kind) => [bars.reduce((sum, counts) => sum + counts[kind], 0), type]);
  return `Events by time and type, ${stamp(iso(start))} to ${stamp(iso(start + width * bars.length))}: ${all.map(([count, type]) => `${count} ${type}`).join(", ")}`;
}
