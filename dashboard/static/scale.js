// A scale of values: round marks from zero on, and values as people read them.

import { number } from "./dom.js";
import { span } from "./moments.js";

const MOST_STEPS = 3;
const DIGITS = [1, 2, 5, 10];
const SIZES = ["B", "kB", "MB", "GB", "TB", "PB"];

// Two to four round values, the last not below `most`.
export function marks(most, { whole }) {
  const highest = most > 0 ? most : 1;
  const power = 10 ** Math.floor(Math.log10(highest / MOST_STEPS));
  const fine = DIGITS.map((digit) => digit * power).find((step) => highest / step <= MOST_STEPS + 1e-9);
  const step = whole ? Math.max(fine, 1) : fine;
  const count = Math.max(1, Math.ceil(highest / step - 1e-9));
  return Array.from({ length: count + 1 }, (_, index) => index * step);
}

const significant = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

// Three digits are enough for what is measured; what is counted is told whole.
export const rounded = (value) => (Math.abs(value) < 1000 ? significant.format(value) : number(Math.round(value)));
const counted = (value) => (Number.isInteger(value) ? number(value) : rounded(value));

export function bytes(value) {
  const power = Math.min(Math.max(Math.floor(Math.log10(Math.max(value, 1)) / 3), 0), SIZES.length - 1);
  return `${rounded(value / 1000 ** power)} ${SIZES[power]}`;
}

export const seconds = (value) => (value && value < 1 ? `${rounded(value * 1000)} ms` : value < 100 ? `${rounded(value)} s` : span(Math.round(value) * 1e6));

export const COUNT = { whole: true, text: counted };
export const MILLISECONDS = { whole: false, text: (value) => `${rounded(value)} ms` };
export const SECONDS = { whole: false, text: seconds };
// A part of a whole, drawn upon the whole.
export const PERCENT = { whole: false, text: (value) => `${rounded(value)}%`, most: 100 };
export const BYTES = { whole: true, text: bytes };
