// JSON whose numbers keep all their digits: what JavaScript's numbers would round, or write another
// way, stays as it was written.

export class Exact {
  constructor(source) {
    this.source = source;
  }
}

// A digit too many, an exponent, or a nought too many; most documents have none, and are quick.
const UNUSUAL = /[:[,](?:-0[,}\]]|-?[\d.]{16}|-?\d+\.\d*0(?!\d)|-?[\d.]+[eE])/;

export function parseExact(text) {
  if (!UNUSUAL.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && context?.source !== undefined && String(value) !== context.source ? new Exact(context.source) : value,
  );
}

// A value as JSON, on one line.
export const written = (value) => {
  if (value instanceof Exact) return value.source;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(written).join(",")}]`;
  return `{${Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}:${written(item)}`).join(",")}}`;
};

export const isContainer = (value) => value !== null && typeof value === "object" && !(value instanceof Exact);
