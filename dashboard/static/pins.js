// Pinned fields: the values of each over all versions, on the scrubber's own scale.

import { Latest, load } from "./documents.js";
import { alertBox, button, h, number, s, shortened, show } from "./dom.js";

const HEIGHT = 40;
const THUMB = 16;
const NAMED = 46;

export class Pins {
  #pins = new Map();

  constructor({ seek, drop }) {
    Object.assign(this, { seek, drop });
    this.element = h("div", { class: "pins" });
    this.sizes = new ResizeObserver(() => this.redraw());
    this.sizes.observe(this.element);
  }

  close() {
    this.sizes.disconnect();
    for (const pin of this.#pins.values()) pin.asked.cancel();
  }

  // The fields to show, over the versions from the one before the first.
  async update(aggregate, paths, { first, last }) {
    const same = this.aggregate === aggregate && this.last === last;
    Object.assign(this, { aggregate, first, last });
    for (const path of [...this.#pins.keys()]) if (!same || !paths.includes(path)) this.#pins.delete(path);
    for (const path of paths) if (!this.#pins.has(path)) this.#load(path);
    this.redraw();
  }

  async #load(path) {
    const pin = { asked: new Latest() };
    this.#pins.set(path, pin);
    try {
      pin.series = await pin.asked.run((signal) => load("series", { aggregate: this.aggregate, path }, signal));
    } catch (error) {
      pin.error = error.message;
    }
    this.redraw();
  }

  moveTo(version) {
    this.version = version;
    for (const [path, pin] of this.#pins) if (pin.value) pin.value.textContent = this.#told(path);
  }

  // The next version, or the one before, at which a pinned field became another value.
  nextChange(from, forward) {
    const versions = [...this.#pins.values()].flatMap((pin) => pin.series?.values.slice(1).map(([version]) => version) ?? []);
    const wanted = versions.filter((version) => (forward ? version > from : version < from));
    return wanted.length ? (forward ? Math.min(...wanted) : Math.max(...wanted)) : undefined;
  }

  redraw() {
    if (this.last === undefined) return;
    show(this.element, [...this.#pins].map(([path, pin]) => this.#row(path, pin)));
  }

  #row(path, pin) {
    pin.value = h("bdi", { class: "value" }, this.#told(path));
    const head = h("div", { class: "pin-head" }, h("bdi", { class: "key" }, path || "the whole state"), ": ", pin.value, button("Unpin", { kind: "small", title: `Take ${path} away`, onclick: () => this.drop(path) }));
    if (pin.error) return h("div", { class: "pin" }, head, alertBox(pin.error));
    const width = this.element.clientWidth;
    return h("div", { class: "pin" }, head, pin.series && width ? this.#chart(path, pin.series, width) : h("div", { class: "pin-room" }));
  }

  #told(path) {
    const { values, more } = this.#pins.get(path)?.series ?? { values: [] };
    if (more && this.version > values.at(-1)[0]) return `not known after ${number(values.length - 1)} changes`;
    const at = values.findLast(([version]) => version <= (this.version ?? 0));
    if (!at) return "";
    return at[1] === null ? "absent" : shortened(at[1], 80);
  }

  #chart(path, { values, more }, width) {
    const share = (version) => (version - this.first + 1) / Math.max(this.last - this.first + 1, 1);
    const x = (version) => THUMB / 2 + share(version) * (width - THUMB);
    const ends = values.map((_, index) => (index + 1 < values.length ? values[index + 1][0] : more ? values[index][0] : this.last));
    const numbers = values.map(([, text]) => (text === null ? null : Number(text)));
    const numeric = values.some(([, text]) => text !== null && text !== "null") && values.every(([, text], index) => text === null || text === "null" || /^-?\d/.test(text) && Number.isFinite(numbers[index]));
    const drawn = numeric ? line(values, ends, x) : bars(values, ends, x);
    const chart = s("svg", { class: "pin-chart", width, height: HEIGHT, role: "img", "aria-label": `${path}: ${number(values.length - 1)} changes${more ? ", and more" : ""}` }, drawn);
    chart.addEventListener("click", (event) => {
      const at = (event.clientX - chart.getBoundingClientRect().left - THUMB / 2) / (width - THUMB);
      this.seek(Math.min(Math.max(Math.round(this.first - 1 + at * (this.last - this.first + 1)), this.first - 1), this.last));
    });
    return chart;
  }
}

const text = (value) => (value === null ? "absent" : value);

function line(values, ends, x) {
  const known = values.map(([, value]) => value).filter((value) => value !== null && value !== "null").map(Number);
  const low = Math.min(...known);
  const high = Math.max(...known);
  const y = (value) => (high === low ? HEIGHT / 2 : HEIGHT - 5 - ((value - low) / (high - low)) * (HEIGHT - 10));
  let path = "";
  let open = false;
  values.forEach(([version, value], index) => {
    if (value === null || value === "null") {
      open = false;
      return;
    }
    path += `${open ? "L" : "M"}${x(version).toFixed(1)} ${y(Number(value)).toFixed(1)}H${x(ends[index]).toFixed(1)}`;
    open = true;
  });
  const label = (value, at) => s("text", { x: 2, y: at, class: "scale" }, shortened(String(value), 12));
  return [s("path", { d: path, class: "pin-line" }), high === low ? null : [label(high, 11), label(low, HEIGHT - 2)]];
}

// One stretch a value; who is wide enough is named.
function bars(values, ends, x) {
  return values.map(([version, value], index) => {
    const start = x(version);
    const width = Math.max(x(ends[index]) - start, 1);
    const bar = s("rect", { x: start.toFixed(1), y: 8, width: width.toFixed(1), height: HEIGHT - 16, class: value === null ? "pin-absent" : `pin-bar ${index % 2 ? "odd" : ""}` });
    bar.append(s("title", {}, `${text(value)} from version ${version}`));
    const name = width > NAMED ? s("text", { x: (start + 4).toFixed(1), y: HEIGHT / 2 + 4 }, shortened(text(value), Math.max(Math.floor(width / 7.5), 3))) : null;
    return [bar, name];
  }).flat();
}
