// The history that a trace has in it. It is read once; states between are made when they are wanted.

import { parseExact } from "./exact.js";
import { followed, partsOf } from "./patches.js";

const EVERY = 200;

export class Told {
  #states = new Map();

  constructor(lines, { header, before, steps }) {
    this.header = header;
    this.first = header.first;
    this.last = header.first + steps.length - 1;
    this.events = lines.map(parseExact);
    this.steps = steps;
    let state = before;
    this.changes = steps.map(({ patch }, index) => {
      if (index % EVERY === 0) this.#states.set(this.first - 1 + index, state);
      const made = followed(state, patch);
      state = made.state;
      return made.changes.map((change) => ({ ...change, place: partsOf(change.path) }));
    });
    if (steps.length % EVERY === 0) this.#states.set(this.last, state);
  }

  // The step at a version as a state's tree shows it; before the first event there is a state alone.
  at(version) {
    if (version < this.first) return { state: this.state(version) };
    const index = version - this.first;
    return { ...this.steps[index], event: this.events[index], changes: this.changes[index], state: this.state(version) };
  }

  state(version) {
    let at = version - ((version - this.first + 1) % EVERY);
    let state = this.#states.get(at);
    for (; at < version; at += 1) ({ state } = followed(state, this.steps[at + 1 - this.first].patch));
    return state;
  }
}
