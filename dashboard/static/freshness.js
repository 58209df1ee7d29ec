// How old what the page shows is, said as it is.

import { iso, span, stamp, zoneName } from "./moments.js";

const STALE = 30e6;
const SECOND = 1e6;

// The line, and whether it tells of something old. `now` is the server's clock; `late` is whether no
// answer came when one was due.
export function freshness(found, { now, live, late }) {
  if (late) return { text: `This picture is ${age(now - found.now)} old.`, stale: true };
  const seen = live ? now : found.now;
  const { text, stale } = sampled(found, seen);
  const from = found.source.kind === "prometheus" ? `From Prometheus at ${found.source.name}. ` : "";
  const held = live ? "" : ` Not live: as of ${stamp(iso(found.now), 0)} ${zoneName()}.`;
  return { text: `${from}${text}${held}`, stale };
}

function sampled({ newest }, now) {
  if (!newest) return { text: "No samples yet: metrics appear when a process that holds the store does something.", stale: true };
  const old = now - newest.at;
  const text = `Last sample ${age(old)} ago from ${newest.process}`;
  return old > STALE ? { text: `${text}: nothing has changed since, or nobody writes`, stale: true } : { text, stale: false };
}

const age = (elapsed) => span(Math.max(Math.floor(elapsed / SECOND), 0) * SECOND);
