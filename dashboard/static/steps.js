// A history's steps and the states between them, in windows of about a thousand that come from the
// server as one state and what changed it. A state shares with its neighbours all that is the same,
// so going from one to the next costs what changed.

import { load } from "./documents.js";
import { parseExact } from "./exact.js";

const KEPT_WINDOWS = 6;
const NEAR = 250;

const NAMES = ["version", "type", "occurred", "actor", "correlation", "gap", "took", "error", "patch", "data", "bytes", "written", "read", "readAs"];

export class Steps {
  #windows = [];
  #asked = new Map();

  constructor(aggregate, head) {
    this.aggregate = aggregate;
    this.first = head.first_version;
    this.last = head.head.version;
  }

  // The step at a version, with the state before and after it, if it is here. Before the first event
  // there is a state, and no step.
  at(version) {
    const found = this.#windows.find((window) => window.from <= version && version <= window.to);
    if (!found) return undefined;
    this.#windows.splice(this.#windows.indexOf(found), 1);
    this.#windows.push(found);
    if (version === found.from) return { state: found.states[0] };
    const index = version - found.from;
    return { ...found.steps[index - 1], before: found.states[index - 1], state: found.states[index] };
  }

  // Resolves when `at` knows the version.
  async need(version) {
    if (this.at(version)) return;
    const known = this.#asked.get(version);
    if (known) return known;
    const asking = this.#fetch(version);
    this.#asked.set(version, asking);
    try {
      await asking;
    } finally {
      this.#asked.delete(version);
    }
  }

  // Fetches what lies ahead, so that it is here by the time somebody gets to it.
  expect(version) {
    for (const at of [version + NEAR, version - NEAR]) {
      const wanted = Math.min(Math.max(at, this.first), this.last);
      if (!this.#windows.some((window) => window.from < wanted && wanted <= window.to) && !this.#asked.size) this.need(wanted).catch(() => {}); // Who goes there asks again.
    }
  }

  async #fetch(version) {
    const asked = { aggregate: this.aggregate, version: Math.max(version, this.first) };
    const found = await load("window", asked, undefined, parseExact);
    const steps = found.steps.map((row) => Object.fromEntries(row.map((value, index) => [NAMES[index], value])));
    const states = [found.before];
    for (const step of steps) {
      const { state, changes } = followed(states.at(-1), step.patch);
      step.changes = changes;
      states.push(state);
    }
    const from = steps.length ? steps[0].version - 1 : version;
    this.gap = found.gap ?? this.gap;
    this.#windows.push({ from, to: from + steps.length, steps, states });
    if (this.#windows.length > KEPT_WINDOWS) this.#windows.shift();
  }
}

// The parts of a JSON pointer.
export const partsOf = (path) => path.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));

export const escaped = (part) => String(part).replaceAll("~", "~0").replaceAll("/", "~1");

// A document after a JSON Patch, and its operations with what stood there before each of them. What
// does not change is shared with the document before.
export function followed(document, patch) {
  let state = document;
  const changes = patch.map((change) => {
    const before = change.op === "add" ? undefined : find(state, change.from ?? change.path);
    state = apply(state, change);
    return { ...change, before };
  });
  return { state, changes };
}

function apply(document, { op, path, value, from }) {
  if (op === "move") {
    const moved = find(document, from);
    return apply(apply(document, { op: "remove", path: from }), { op: "add", path, value: moved });
  }
  return path === "" ? value : edited(document, partsOf(path), op, value);
}

function edited(container, [part, ...rest], op, value) {
  const copy = Array.isArray(container) ? container.slice() : { ...container };
  if (rest.length) define(copy, part, edited(container[part], rest, op, value));
  else if (op === "remove" && Array.isArray(copy)) copy.splice(Number(part), 1);
  else if (op === "remove") delete copy[part];
  else if (op === "add" && Array.isArray(copy)) copy.splice(Number(part), 0, value);
  else define(copy, part, value);
  return copy;
}

// A field may be called as what every object has.
function define(object, name, value) {
  Object.defineProperty(object, name, { value, enumerable: true, writable: true, configurable: true });
}

export function find(document, path) {
  let value = document;
  for (const part of partsOf(path)) {
    if (value === null || typeof value !== "object" || !Object.hasOwn(value, part)) return undefined;
    value = value[part];
  }
  return value;
}
