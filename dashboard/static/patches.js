// JSON pointers and JSON Patch: documents that share with their neighbours all that is the same.

// The parts of a JSON pointer.
export const partsOf = (path) => path.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));

export const escaped = (part) => String(part).replaceAll("~", "~0").replaceAll("/", "~1");

// A document after a JSON Patch, and its operations with what stood there before each of them and
// whether that is `inList`. What does not change is shared with the document before.
export function followed(document, patch) {
  let state = document;
  const changes = patch.map((change) => {
    const before = change.op === "add" ? undefined : find(state, change.from ?? change.path);
    const inList = Array.isArray(find(state, change.path.slice(0, Math.max(change.path.lastIndexOf("/"), 0)))) && change.path !== "";
    state = apply(state, change);
    return { ...change, before, inList };
  });
  return { state, changes };
}

// The changes of a patch with each moved item where it stands in the end: what comes later in the
// patch may have pushed it on.
export const settled = (changes) =>
  changes.map((change, at) => (change.op === "move" ? { ...change, path: changes.slice(at + 1).reduce(pushed, change.path) } : change));

function pushed(path, { op, path: place, from, inList }) {
  const [list, index] = splitPath(path);
  const [otherList, to] = splitPath(place);
  if (!inList || list !== otherList || op === "replace") return path;
  let now = index;
  const left = op === "remove" ? to : op === "move" ? splitPath(from)[1] : Infinity;
  if (left < now) now -= 1;
  if (op !== "remove" && to <= now) now += 1;
  return `${list}/${now}`;
}

function splitPath(path) {
  const at = path.lastIndexOf("/");
  return [path.slice(0, at), Number(path.slice(at + 1))];
}

function apply(document, { op, path, value, from }) {
  if (op === "move") {
    const moved = find(document, from);
    return apply(apply(document, { op: "remove", path: from }), { op: "add", path, value: moved });
  }
  return path === "" ? value : edited(document, partsOf(path), op, value);
}

function edited(container, [part, ...rest], op, value) {
  const copy = Array.isArray(container) ? container.slice() : { ...container };
  if (rest.length) define(copy, part, edited(container[part], rest, op, value));
  else if (op === "remove" && Array.isArray(copy)) copy.splice(Number(part), 1);
  else if (op === "remove") delete copy[part];
  else if (op === "add" && Array.isArray(copy)) copy.splice(Number(part), 0, value);
  else define(copy, part, value);
  return copy;
}

// A field may be called as what every object has.
function define(object, name, value) {
  Object.defineProperty(object, name, { value, enumerable: true, writable: true, configurable: true });
}

export function find(document, path) {
  let value = document;
  for (const part of partsOf(path)) {
    if (value === null || typeof value !== "object" || !Object.hasOwn(value, part)) return undefined;
    value = value[part];
  }
  return value;
}
