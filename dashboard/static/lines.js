// Two texts line by line: the shortest way from the one to the other (Myers), as long as there are few
// differences; where there are more, what is between the same beginning and the same end is replaced.

import { isContainer, written } from "./exact.js";

const MOST_DIFFERENCES = 1000;
const GONE = "−";

// A document as people write it: one field or item a line.
export function pretty(value, indent = "") {
  if (!isContainer(value)) return written(value);
  const isList = Array.isArray(value);
  const [open, close] = isList ? "[]" : "{}";
  const inner = `${indent}  `;
  const items = Object.entries(value).map(([key, item]) => `${inner}${isList ? "" : `${JSON.stringify(key)}: `}${pretty(item, inner)}`);
  return items.length ? `${open}\n${items.join(",\n")}\n${indent}${close}` : open + close;
}

// Lines as [sign, text]: in both, in the one only, in the other only.
export function lineDiff(one, other) {
  let front = 0;
  while (front < one.length && front < other.length && one[front] === other[front]) front += 1;
  let back = 0;
  while (back < one.length - front && back < other.length - front && one.at(-1 - back) === other.at(-1 - back)) back += 1;
  const middle = between(one.slice(front, one.length - back), other.slice(front, other.length - back));
  const same = (lines) => lines.map((line) => [" ", line]);
  return [...same(one.slice(0, front)), ...middle, ...same(one.slice(one.length - back))];
}

function between(one, other) {
  const ways = furthest(one, other);
  if (!ways) return [...one.map((line) => [GONE, line]), ...other.map((line) => ["+", line])];
  const found = [];
  let [x, y] = [one.length, other.length];
  for (let steps = ways.length - 1; steps >= 0; steps -= 1) {
    const down = isDown(ways[steps], x - y, steps);
    const diagonal = x - y + (down ? 1 : -1);
    const from = ways[steps].get(diagonal);
    while (x > from && y > from - diagonal) {
      x -= 1;
      y -= 1;
      found.push([" ", one[x]]);
    }
    if (steps) found.push(down ? ["+", other[from - diagonal]] : [GONE, one[from]]);
    [x, y] = [from, from - diagonal];
  }
  return grouped(found.reverse());
}

// For each number of differences, how far one gets with one less on each diagonal.
function furthest(one, other) {
  const ways = [];
  let at = new Map([[1, 0]]);
  for (let steps = 0; steps <= MOST_DIFFERENCES; steps += 1) {
    ways.push(at);
    const next = new Map();
    for (let diagonal = -steps; diagonal <= steps; diagonal += 2) {
      let x = isDown(at, diagonal, steps) ? at.get(diagonal + 1) : at.get(diagonal - 1) + 1;
      while (x < one.length && x - diagonal < other.length && one[x] === other[x - diagonal]) x += 1;
      next.set(diagonal, x);
      if (x >= one.length && x - diagonal >= other.length) return ways;
    }
    at = next;
  }
  return null;
}

// Whether a diagonal is reached by a line that comes, and not by one that goes.
const isDown = (at, diagonal, steps) => diagonal === -steps || (diagonal !== steps && at.get(diagonal - 1) < at.get(diagonal + 1));

// What goes stands in front of what comes, where they take turns.
function grouped(lines) {
  const found = [];
  let coming = [];
  for (const line of lines) {
    if (line[0] === "+") coming.push(line);
    else if (line[0] === GONE) found.push(line);
    else {
      found.push(...coming, line);
      coming = [];
    }
  }
  return [...found, ...coming];
}
