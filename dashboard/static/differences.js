// What differs between two documents, place by place; items of lists are compared by their index.

import { isContainer, written } from "./exact.js";
import { escaped } from "./patches.js";

export function* differences(one, other, path = "") {
  if (one === other) return;
  if (!isContainer(one) || !isContainer(other) || Array.isArray(one) !== Array.isArray(other)) {
    if (one === undefined || other === undefined || written(one) !== written(other)) yield { path, before: one, after: other };
    return;
  }
  for (const key of new Set([...Object.keys(one), ...Object.keys(other)])) {
    yield* differences(own(one, key), own(other, key), `${path}/${escaped(key)}`);
  }
}

const own = (container, key) => (Object.hasOwn(container, key) ? container[key] : undefined);
