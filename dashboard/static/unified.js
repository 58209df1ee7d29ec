// Both documents as text, and the lines that differ; long stretches that do not are folded.

import { h, number, plural } from "./dom.js";
import { nothingDiffers } from "./difftree.js";
import { lineDiff, pretty } from "./lines.js";

const AROUND = 3;
const MOST_LINES = 2000;
const KINDS = { "+": "add", "−": "remove", " ": "same" };

export function unified(one, other) {
  const lines = lineDiff(pretty(one).split("\n"), pretty(other).split("\n"));
  if (lines.every(([mark]) => mark === " ")) return nothingDiffers();
  const element = h("div", { class: "unified", tabindex: "0", role: "region", "aria-label": "Unified text" });
  const parts = folded(lines);
  let drawn = 0;
  const add = () => {
    let room = MOST_LINES;
    const more = [];
    for (; drawn < parts.length && room > 0; drawn += 1) {
      more.push(...part(parts[drawn]));
      room -= parts[drawn].hidden ? 1 : parts[drawn].lines.length;
    }
    element.append(...more);
    const left = parts.slice(drawn).reduce((sum, each) => sum + each.lines.length, 0);
    if (!left) return;
    const button = h("button", { type: "button", class: "inline", onclick: () => { button.remove(); add(); } }, `${number(left)} more lines`);
    element.append(button);
  };
  add();
  return element;
}

// Parts of lines, of which those far from any difference are hidden at first.
function folded(lines) {
  const near = new Array(lines.length).fill(false);
  lines.forEach(([mark], index) => {
    if (mark !== " ") near.fill(true, Math.max(index - AROUND, 0), index + AROUND + 1);
  });
  const parts = [];
  lines.forEach((line, index) => {
    const hidden = !near[index];
    const last = parts.at(-1);
    if (last && last.hidden === hidden && last.lines.length < MOST_LINES) last.lines.push(line);
    else parts.push({ hidden, lines: [line] });
  });
  return parts;
}

function part({ hidden, lines }) {
  if (!hidden || lines.length === 1) return lines.map(drawLine);
  const fold = h("div", { class: "line fold" }, h("span", { class: "sign", "aria-hidden": "true" }, "⋯"), h("button", { type: "button", class: "inline", title: "Show them", onclick: () => fold.replaceWith(...lines.map(drawLine)) }, plural(lines.length, "unchanged line")));
  return [fold];
}

const drawLine = ([mark, text]) => h("div", { class: `line ${KINDS[mark]}` }, h("span", { class: "sign" }, mark), h("bdi", {}, text));
