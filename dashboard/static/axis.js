// A time axis: from microseconds to pixels and back, and where it is marked.

import { iso, parts } from "./moments.js";

const SECOND = 1e6;
const DAY = 86_400 * SECOND;
const MONTH = 30 * DAY;
const STEPS = [
  ...[0, 1, 2, 3, 4, 5].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power)),
  ...[1, 2, 5, 10, 15, 30].map((count) => count * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((count) => count * 60 * SECOND),
  ...[1, 2, 3, 6, 12].map((count) => count * 3600 * SECOND),
  ...[1, 2, 4, 7, 14].map((count) => count * DAY),
];
const MONTHS = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 12_000];
const NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const ROOM = 78;
const MOST_TICKS = 200;

export class Axis {
  // `knots` are pairs of a moment and its share of the width, 0 to 1.
  constructor(knots, left, width) {
    this.knots = knots;
    this.left = left;
    this.width = width;
  }

  x(share) {
    return this.left + share * this.width;
  }

  at(us) {
    return this.x(interpolated(this.knots, us, 0, 1));
  }

  moment(x) {
    const share = Math.min(Math.max((x - this.left) / this.width, 0), 1);
    return Math.round(interpolated(this.knots, share, 1, 0));
  }

  // Marks at round moments, far enough apart to be read; none within idle parts.
  ticks(idle = []) {
    const found = [];
    let free = -Infinity;
    let day = null;
    for (let index = 0; index + 1 < this.knots.length; index += 1) {
      const [start, from] = this.knots[index];
      const [end, to] = this.knots[index + 1];
      if (idle.some(([since]) => since === start)) continue;
      for (const tick of round(start, end, ((end - start) / ((to - from) * this.width)) * ROOM)) {
        const x = this.at(tick.us);
        if (x < free || x > this.left + this.width + 1) continue;
        free = x + ROOM;
        found.push({ x, lines: tick.lines(day) });
        day = tick.day;
      }
    }
    return found;
  }
}

function interpolated(knots, value, from, to) {
  if (value <= knots[0][from]) return knots[0][to];
  for (let index = 1; index < knots.length; index += 1) {
    if (value <= knots[index][from]) {
      const [low, high] = [knots[index - 1], knots[index]];
      const length = high[from] - low[from] || 1;
      return low[to] + ((value - low[from]) / length) * (high[to] - low[to]);
    }
  }
  return knots[knots.length - 1][to];
}

const two = (value) => String(value).padStart(2, "0");
const dateText = (part) => `${part.day} ${NAMES[part.month]} ${part.year}`;

const offset = (us) => parts(iso(Math.floor(us))).offset * 60 * SECOND;
const finest = (us) => 2 ** Math.max(0, Math.ceil(Math.log2(Math.abs(us) + 1)) - 52);

function* round(start, end, smallest) {
  // Far from 1970 a number tells microseconds no more: a step must be one that it can take.
  const step = STEPS.find((size) => size >= Math.max(smallest, finest(end)));
  if (step === undefined) {
    yield* months(start, end, smallest);
    return;
  }
  // Round in the zone that is shown: midnight is where the viewer's day begins.
  const shift = offset(start);
  const first = Math.ceil((start + shift) / step) * step;
  for (let count = 0; count < MOST_TICKS; count += 1) {
    const local = first + count * step;
    // Where clocks are changed on the way, the day begins at another distance from UTC.
    const us = local - offset(local - shift);
    if (us > end) return;
    if (us < start) continue;
    const part = parts(iso(us));
    const date = dateText(part);
    yield {
      us,
      day: date,
      lines: (last) => (step >= DAY ? [date] : date === last ? [clock(part, step)] : [clock(part, step), date]),
    };
  }
}

function clock(part, step) {
  const minutes = `${two(part.hour)}:${two(part.minute)}`;
  if (step >= 60 * SECOND) return minutes;
  const seconds = `${minutes}:${two(part.second)}`;
  if (step >= SECOND) return seconds;
  return `${seconds}.${part.fraction.slice(0, step >= 1000 ? 3 : 6)}`;
}

function* months(start, end, smallest) {
  const step = MONTHS.find((count) => count * MONTH >= smallest) ?? MONTHS[MONTHS.length - 1];
  const first = parts(iso(Math.floor(start)));
  for (let month = Math.floor((first.year * 12 + first.month) / step) * step; ; month += step) {
    const year = Math.floor(month / 12);
    if (year > 9999) return;
    const shift = first.offset * 60 * SECOND;
    const date = new Date(0);
    date.setUTCFullYear(Math.max(year, 1), month % 12, 1);
    const us = date.getTime() * 1000 - shift;
    if (us > end) return;
    if (us < start) continue;
    const plain = step % 12 === 0 || month % 12 === 0;
    const label = plain ? String(year) : `${NAMES[month % 12]} ${year}`;
    yield { us, day: null, lines: () => [label] };
  }
}
