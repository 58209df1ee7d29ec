// Times as people read them. Moments are ISO text in UTC, or microseconds since 1970 as numbers.

import { number } from "./dom.js";
import { keep, kept } from "./kept.js";

const UNITS = [
  ["y", 31_557_600e6],
  ["d", 86_400e6],
  ["h", 3_600e6],
  ["min", 60e6],
  ["s", 1e6],
  ["ms", 1e3],
  ["µs", 1],
];

export const isLocal = () => kept("zone") === "local";
export const setLocal = (local) => keep("zone", local ? "local" : "utc");
export const localZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;
export const zoneName = () => (isLocal() ? localZone() : "UTC");

const two = (value) => String(value).padStart(2, "0");

// The parts of a moment in the zone that is shown, and its fraction of a second, six digits.
export function parts(iso) {
  const date = new Date(iso);
  const fraction = (/\.(\d+)/.exec(iso)?.[1] ?? "").padEnd(6, "0");
  const local = isLocal();
  const get = (name) => (local ? date[`get${name}`]() : date[`getUTC${name}`]());
  return {
    year: get("FullYear"),
    month: get("Month"),
    day: get("Date"),
    hour: get("Hours"),
    minute: get("Minutes"),
    second: get("Seconds"),
    fraction,
    offset: local ? -date.getTimezoneOffset() : 0,
  };
}

const dateOf = (part) => `${String(part.year).padStart(4, "0")}-${two(part.month + 1)}-${two(part.day)}`;
const timeOf = (part) => `${two(part.hour)}:${two(part.minute)}:${two(part.second)}`;

// `2026-01-31 12:00:00.250`, with as many decimals as are needed: none, three or six.
export function stamp(iso, decimals = 6) {
  const part = parts(iso);
  const fraction = part.fraction.slice(0, decimals);
  const needed = /^0*$/.test(fraction) ? "" : /^\d{3}0*$/.test(fraction) ? fraction.slice(0, 3) : fraction;
  return `${dateOf(part)} ${timeOf(part)}${needed ? `.${needed}` : ""}`;
}

// `stamp` and which zone it speaks of.
export function zoned(iso) {
  if (!isLocal()) return `${stamp(iso)} UTC`;
  const { offset } = parts(iso);
  const size = Math.abs(offset);
  return `${stamp(iso)} ${offset < 0 ? "−" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

export const microseconds = (iso) => {
  const whole = Math.floor(Date.parse(iso) / 1000) * 1e6;
  return whole + Number((/\.(\d+)/.exec(iso)?.[1] ?? "").padEnd(6, "0"));
};

export function iso(us) {
  const second = Math.floor(us / 1e6);
  const text = new Date(second * 1000).toISOString().slice(0, -5);
  const fraction = us - second * 1e6;
  return fraction ? `${text}.${String(fraction).padStart(6, "0")}Z` : `${text}Z`;
}

const TYPED = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?(Z|[+-]\d\d:?\d\d)?$/;

// A time as somebody types it, in UTC where it names no zone; null for what is none.
export function typed(text) {
  if (!TYPED.test(text) || Number.isNaN(Date.parse(text))) return null;
  return iso(microseconds(/(Z|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text}Z`));
}

// The two largest units of a duration in microseconds: `3 d 4 h`, `250 ms`, `0 s`.
export function span(us) {
  if (!us) return "0 s";
  const size = Math.abs(us);
  const first = UNITS.findIndex(([, unit]) => size >= unit);
  const [name, unit] = UNITS[first];
  const text = `${us < 0 ? "−" : ""}${number(Math.floor(size / unit))} ${name}`;
  if (first >= 4) return text;
  const [smallerName, smallerUnit] = UNITS[first + 1];
  const smaller = Math.floor((size % unit) / smallerUnit);
  return smaller ? `${text} ${smaller} ${smallerName}` : text;
}

// `3 d ago`, `in 2 h`, `just now`: one unit, for a glance.
export function ago(elapsed) {
  if (Math.abs(elapsed) < 1e6) return "just now";
  const text = span(Math.abs(elapsed)).split(" ").slice(0, 2).join(" ");
  return elapsed > 0 ? `${text} ago` : `in ${text}`;
}

export const relative = (moment) => ago((Date.now() - Date.parse(moment)) * 1000);
