// Who set a field, told from the patches alone: from a version back, along where the field stood.

import { partsOf } from "./patches.js";

// The changes of a field up to a version, the last one first. `changes` gives each version's, of which
// those `inList` are of a list's items.
export function* blamed(changes, version, first, path) {
  let parts = partsOf(path);
  for (let at = version; at >= first; at -= 1) {
    const made = changes(at);
    for (let index = made.length - 1; index >= 0; index -= 1) {
      const { told, before } = undone(parts, made[index]);
      if (told) yield { version: at, change: made[index] };
      if (!before) return;
      parts = before;
    }
  }
}

// Whether a change is one of the field, and where the field stood before it, if it was there.
function undone(parts, { op, place, from, inList }) {
  if (op === "move") return moved(parts, place, partsOf(from));
  if (startsWith(place, parts)) return { told: true, before: op === "add" && inList && place.length === parts.length ? null : parts };
  if (inList && op !== "replace" && startsWith(parts, place.slice(0, -1))) return shifted(parts, place, op);
  return { told: startsWith(parts, place), before: parts };
}

function moved(parts, place, source) {
  const depth = place.length - 1;
  if (!startsWith(parts, place.slice(0, -1)) || parts.length <= depth) return { told: startsWith(place, parts), before: parts };
  const [to, gone, at] = [place[depth], source[depth], parts[depth]].map(Number);
  const without = at > to ? at - 1 : at;
  return { told: false, before: parts.with(depth, String(at === to ? gone : without >= gone ? without + 1 : without)) };
}

// An item in front came or went.
function shifted(parts, place, op) {
  const depth = place.length - 1;
  const [index, at] = [Number(place[depth]), Number(parts[depth])];
  if (op === "add" && at === index) return { told: true, before: null };
  const before = op === "add" ? (at > index ? at - 1 : at) : at >= index ? at + 1 : at;
  return { told: false, before: parts.with(depth, String(before)) };
}

const startsWith = (parts, beginning) => beginning.length <= parts.length && beginning.every((part, index) => part === parts[index]);
