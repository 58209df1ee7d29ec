// A history's steps and the states between them, in windows of about a thousand that come from the
// server as one state and what changed it. A state shares with its neighbours all that is the same,
// so going from one to the next costs what changed.

import { load } from "./documents.js";
import { parseExact } from "./exact.js";
import { followed, settled } from "./patches.js";

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
    const found = this.#windows.find((window) => this.#holds(window, version));
    if (!found) return undefined;
    this.#windows.splice(this.#windows.indexOf(found), 1);
    this.#windows.push(found);
    if (version === found.from) return { state: found.states[0] };
    const index = version - found.from;
    return { ...found.steps[index - 1], before: found.states[index - 1], state: found.states[index] };
  }

  // The state before a window's first step is that of a version whose step it does not have.
  #holds({ from, to }, version) {
    return version <= to && (version > from || (version === from && version < this.first));
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
      step.changes = settled(changes);
      states.push(state);
    }
    this.gap = found.gap ?? this.gap;
    if (!steps.length) return; // Behind a gap there is nothing to tell.
    const from = steps[0].version - 1;
    this.#windows.push({ from, to: from + steps.length, steps, states });
    if (this.#windows.length > KEPT_WINDOWS) this.#windows.shift();
  }
}
