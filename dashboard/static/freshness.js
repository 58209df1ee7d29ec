// How old what the page shows is, said as it is.

import { iso, span, stamp, zoneName } from "./moments.js";

const STALE = 30e6;
const SECOND = 1e6;

// The line, and whether it tells of something old. `now` is the server's clock; `late` is whether no
// answer came when one was due.
export function freshness(found, { now, live, late }) {
  const old = now - found.now;
  if (late) return { text: `This picture is ${age(old)} old.`, stale: true };
  if (!live) return { text: `Not live: as of ${stamp(iso(found.now), 0)} ${zoneName()}, ${age(old)} ago.`, stale: old > STALE };
  if (found.source.kind === "prometheus") return { text: `From Prometheus at ${found.source.name}.`, stale: false };
  return sampled(found, now);
}

// Old is what was old when it was asked for: until the next answer nobody knows of newer samples.
function sampled({ newest, now: asked }, now) {
  if (!newest) return { text: "No samples yet: metrics appear when a process that holds the store does something.", stale: true };
  const stale = asked - newest.at > STALE;
  return { text: `Last sample ${age(now - newest.at)} ago from ${newest.process}${stale ? ": nothing has changed since, or nobody writes." : "."}`, stale };
}

const age = (elapsed) => span(Math.max(Math.floor(elapsed / SECOND), 0) * SECOND);
