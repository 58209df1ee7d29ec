// One look per event type: the number the server gave it says which colour and which shape.

import { h, s } from "./dom.js";

const COLOURS = 8;
let numbers = {};

export const setLooks = (looks) => {
  numbers = looks;
};

const numberOf = (type) => (type !== null && Object.hasOwn(numbers, type) ? numbers[type] : undefined);

export const look = (type) => {
  const given = numberOf(type);
  return given === undefined ? "look-none" : `look-${given % COLOURS}`;
};

const SHAPES = [
  (x, y, r) => s("circle", { cx: x, cy: y, r }),
  (x, y, r) => s("rect", { x: x - r * 0.9, y: y - r * 0.9, width: r * 1.8, height: r * 1.8 }),
  (x, y, r) => s("polygon", { points: `${x},${y - r * 1.3} ${x + r * 1.3},${y} ${x},${y + r * 1.3} ${x - r * 1.3},${y}` }),
  (x, y, r) => s("polygon", { points: `${x},${y - r * 1.2} ${x + r * 1.2},${y + r} ${x - r * 1.2},${y + r}` }),
];

export function shape(type, x, y, r) {
  const given = numberOf(type) ?? 0;
  const element = SHAPES[Math.floor(given / COLOURS) % SHAPES.length](x, y, r);
  element.setAttribute("class", look(type));
  return element;
}

// The mark before a type's name, drawn by the style sheet, for a page of a list has many.
export const mark = (type) => `${look(type)} shape-${Math.floor((numberOf(type) ?? 0) / COLOURS) % SHAPES.length}`;

// A type's name behind its mark, as lists and headings show it.
export const typeName = (type) =>
  h("span", { class: "type" }, h("i", { class: `swatch ${mark(type)}`, "aria-hidden": "true" }), h("bdi", {}, type));
