// The cache: how often each level had what was looked up, and who answered.

import { Figures, NONE, share } from "./figures.js";
import { PERCENT, bytes, rounded } from "./scale.js";
import { Series } from "./series.js";

const LOOKED_UP = "States and histories that the processes asked the cache for.";
const DROPPED = "What was kept, but the database did not bear out: it was restored or changed behind the cache, or Redis had garbage. It was read anew, and no answer was wrong.";
const ERRORS = "How often Redis did not answer in time, or was left alone as it had not. The database answered in its place.";

export class Cached {
  constructor() {
    this.chart = new Series({ title: "Cache", unit: "hit ratio", scale: PERCENT, nothing: "Nothing was looked up in this range: no loads, or the cache is off" });
    this.figures = new Figures();
    this.element = this.chart.element;
    this.element.classList.add("cached");
    this.element.append(this.figures.element);
  }

  // `cache` as the document has it, and the `time` it is drawn over.
  update(cache, time) {
    const rows = ["l1", "l2"]
      .filter((level) => level === "l1" || cache.ratios[level])
      .map((level) => ({ name: level.toUpperCase(), kind: level, values: (cache.ratios[level] ?? []).map((ratio) => ratio && ratio * 100) }));
    this.chart.update({ ...time, rows });
    this.figures.update(figures(cache));
  }
}

function figures({ lookups, answered, dropped, errors, redis_bytes: { read, written } }) {
  const from = (name, where) => [lookups ? share(answered[name], lookups) : NONE, `${rounded(answered[name])} ${where}`];
  const unwanted = (count) => (count > 0 ? "warned" : null);
  return [
    ["Looked up", rounded(lookups), "in this range", null, LOOKED_UP],
    ["From L1", ...from("l1", "in the process")],
    ["From L2", ...from("l2", "in Redis")],
    ["From the database", ...from("database", "read anew")],
    ["Dropped", rounded(dropped), "not borne out", unwanted(dropped), DROPPED],
    ["Errors", rounded(errors), "Redis did not answer", unwanted(errors), ERRORS],
    ...(read || written ? [["Read from Redis", bytes(read), "in this range"], ["Written to Redis", bytes(written), "in this range"]] : []),
  ];
}
