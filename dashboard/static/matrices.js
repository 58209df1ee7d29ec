// Conflicts by hour and by pair of commands, brought into rows and columns that fit a table.

import { number, plural } from "./dom.js";
import { iso, parts, stamp } from "./moments.js";

const HOUR = 3600e6;
const MOST_TYPES = 6;
const MOST_COMMANDS = 10;
const FEW_HOURS = 9;

// Each hour of the range, also those without conflicts; the aggregate types with most conflicts.
export function hoursByType({ start, now, hours }) {
  const first = Math.floor(start / HOUR) * HOUR;
  const columns = Array.from({ length: Math.floor(now / HOUR - first / HOUR) + 1 }, (_, index) => first + index * HOUR);
  const types = most(hours, (one) => one.aggregate_type);
  const shown = types.slice(0, MOST_TYPES);
  const row = (type) => columns.map((hour) => merged(hours.filter((one) => one.hour === hour && type(one.aggregate_type))));
  const rows = shown.map((name) => ({ name }));
  const cells = shown.map((name) => row((type) => type === name));
  if (types.length > shown.length) {
    rows.push({ name: `${plural(types.length - shown.length, "more type")}` });
    cells.push(row((type) => !shown.includes(type)));
  }
  const many = columns.length > FEW_HOURS;
  return { rows, columns: columns.map((hour) => hourName(hour, many)), cells, many };
}

function hourName(hour, many) {
  const part = parts(iso(hour));
  const [hours, minutes] = [part.hour, part.minute].map((value) => String(value).padStart(2, "0"));
  return { name: many ? hours : `${hours}:${minutes}`, title: `the hour from ${stamp(iso(hour))}` };
}

// The losing and the winning commands with most conflicts; how many lie outside is told.
export function losingByWinning({ pairs }) {
  const losing = most(pairs, (pair) => pair.losing).slice(0, MOST_COMMANDS);
  const winning = unknownLast(most(pairs, (pair) => pair.winning).slice(0, MOST_COMMANDS));
  const cells = losing.map((loser) => winning.map((winner) => merged(pairs.filter((pair) => pair.losing === loser && pair.winning === winner))));
  const outside = pairs.filter((pair) => !losing.includes(pair.losing) || !winning.includes(pair.winning));
  const note = outside.length ? `${plural(outside.length, "more pair")} with ${number(merged(outside).detected)} conflicts.` : null;
  return {
    rows: losing.map((name) => ({ name })),
    columns: winning.map((name) => ({ name: name ?? "not known" })),
    cells,
    note,
  };
}

const unknownLast = (names) => [...names.filter((name) => name !== null), ...names.filter((name) => name === null)];

function most(found, key) {
  const sums = new Map();
  for (const one of found) sums.set(key(one), (sums.get(key(one)) ?? 0) + one.detected);
  return [...sums].sort((one, other) => other[1] - one[1]).map(([name]) => name);
}

function merged(found) {
  if (!found.length) return null;
  const sum = (name) => found.reduce((all, one) => all + one[name], 0);
  return { detected: sum("detected"), escaped: sum("escaped"), needless: sum("needless") };
}
