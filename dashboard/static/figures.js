// Figures: a name, a value, and what makes the value mean something.

import { h, number, show } from "./dom.js";
import { bytes, rounded, seconds } from "./scale.js";

export const NONE = "–";

export class Figures {
  constructor() {
    this.element = h("dl", { class: "figures" });
  }

  // Rows of a name, a value and what it means; and a class, and what is said of it when pointed at.
  update(rows) {
    show(this.element, rows.map(([name, value, more, kind, title]) => h("div", { title }, h("dt", { class: "faint" }, name), h("dd", {}, h("strong", { class: kind }, value), h("small", { class: "faint" }, more)))));
  }
}

// Those over the charts.
export function overall({ conflicts, saves, events, start, now, quantiles, level, levels, logged }) {
  const [absorbed, escaped, appends] = [conflicts.absorbed, conflicts.escaped, saves].map(sum);
  const detected = absorbed + escaped;
  const happened = sum(Object.values(events).map(sum));
  const { p50, p95 } = quantiles.save;
  return [
    ["Conflicts", rounded(detected), appends ? `${rounded((detected / appends) * 100)} per 100 saves` : "no saves"],
    ["Escaped", rounded(escaped), detected ? `${share(escaped, detected)} seen by callers` : "none seen by callers"],
    ["Absorbed", rounded(absorbed), detected ? `${share(absorbed, detected)} by retries` : "none by retries"],
    ["Needless", number(logged.needless), `of ${number(logged.detected)} logged`],
    ["Events per second", rounded((happened / Math.max(now - start, 1)) * 1e6), `${rounded(happened)} in this range`],
    ["Save p95", told(p95, seconds), told(p50, (value) => `p50 ${seconds(value)}`, "not measured")],
    ["Store size", told(level?.size, bytes), told(level?.size, (size) => growth(size, levels.size), "not measured")],
    ["Feed lag", told(level?.feed_lag, number), told(level?.watermark_age, (age) => `watermark ${seconds(age)} old`, "watermark not measured")],
  ];
}

const told = (value, text, otherwise = NONE) => (value === null || value === undefined ? otherwise : text(value));

function growth(size, sizes) {
  const before = sizes.find((one) => one !== null) ?? size;
  if (size === before) return "as before";
  return `${size > before ? "+" : "−"}${bytes(Math.abs(size - before))} in this range`;
}

export const share = (part, whole) => `${rounded((part / whole) * 100)}%`;
const sum = (values) => values.reduce((all, value) => all + value, 0);
