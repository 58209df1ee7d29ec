// Two documents as one tree: what differs with both values, what does not folded to a number.

import { h, number, plural } from "./dom.js";
import { isContainer, written } from "./exact.js";
import { tree } from "./jsontree.js";
import { partsOf } from "./patches.js";

const MOST_ROWS = 300;
const LONGEST = 400;
const SMALL = 20;

export const SIGNS = { add: ["+", "added"], remove: ["−", "removed"], replace: ["~", "changed"], move: [">", "moved"] };

// The sign of an operation, which is told to who does not see it.
export function sign(op) {
  const [drawn, told] = SIGNS[op] ?? [" ", null];
  return h("span", { class: "sign", role: told ? "img" : null, "aria-label": told, "aria-hidden": told ? null : "true" }, drawn);
}

export function diffTree(one, other, changes, label) {
  const root = node(null, one);
  for (const change of changes) follow(root, change);
  const content = root.op === "replace" ? h("ul", {}, replaced(root, other)) : inside(root, other);
  return h("div", { class: "tree diff-tree", role: "group", "aria-label": label }, content);
}

// Only what changed, where the documents are too large to be sent; values as JSON, cut.
export const changeList = (changes, label) => h("ul", { class: "tree change-list", "aria-label": label }, changes.map(listed));

function listed(change) {
  const { op, path, from, before, after } = change;
  const head = [sign(op), h("span", { class: "key" }, h("bdi", {}, path || "the whole")), " "];
  if (op === "move") return row(op, head, h("span", { class: "faint" }, `from ${from}`));
  if (op === "replace") return row(op, head, inParts(change) ?? [old(before), " → ", text(after)]);
  return row(op, head, text(after ?? before));
}

// A place in both documents. What stands in it is looked at only where something changed in there.
const node = (key, before, op = null) => ({ key, before, op, items: null, isTouched: false });

function itemsOf(place) {
  place.items ??= isContainer(place.before) ? Object.entries(place.before).map(([key, value]) => node(key, value)) : [];
  return place.items;
}

const isList = (place) => Array.isArray(place.before);
const isLive = (item) => item.op !== "remove";

// An item by its part of a path: in a list by its place among those that are there by now.
function itemAt(place, part) {
  const items = itemsOf(place);
  if (!isList(place)) return items.find((item) => item.key === part && isLive(item));
  return items.filter(isLive)[Number(part)];
}

function containerOf(root, parts) {
  let place = root;
  for (const part of parts.slice(0, -1)) {
    place.isTouched = true;
    place = itemAt(place, part);
  }
  place.isTouched = true;
  return place;
}

function follow(root, change) {
  const parts = partsOf(change.path);
  if (!parts.length) {
    Object.assign(root, { op: "replace", change });
    return;
  }
  const place = containerOf(root, parts);
  if (change.op === "add") insert(place, parts.at(-1), node(parts.at(-1), undefined, "add"));
  else if (change.op === "move") insert(place, parts.at(-1), taken(root, change.from));
  else Object.assign(itemAt(place, parts.at(-1)), { op: change.op, change });
}

function insert(place, part, item) {
  const items = itemsOf(place);
  const next = isList(place) ? itemAt(place, part) : undefined;
  items.splice(next ? items.indexOf(next) : items.length, 0, item);
}

function taken(root, from) {
  const parts = partsOf(from);
  const place = containerOf(root, parts);
  const item = itemAt(place, parts.at(-1));
  place.items.splice(place.items.indexOf(item), 1);
  return Object.assign(item, { op: "move", from });
}

// The items of a place with what each is in the other document, in the order they have there.
function paired(place, after) {
  const items = itemsOf(place);
  if (isList(place)) {
    let at = -1;
    return items.map((item) => (isLive(item) ? { item, key: (at += 1), after: after[at] } : { item, key: item.key }));
  }
  const order = new Map(Object.keys(after).map((key, index) => [key, index]));
  let at = -1;
  const placed = items.map((item) => ({ item, key: item.key, after: Object.hasOwn(after, item.key) ? after[item.key] : undefined, at: (at = order.get(item.key) ?? at) }));
  return placed.sort((left, right) => left.at - right.at);
}

function inside(place, after) {
  return rowsOf(runs(paired(place, after)), (run) => (run.folded ? fold(place, run.pairs) : drawn(place, run.pairs[0])));
}

// What is the same and stands together is one row.
function runs(pairs) {
  const found = [];
  for (const pair of pairs) {
    const isSame = !pair.item.op && !pair.item.isTouched;
    if (isSame && found.at(-1)?.folded) found.at(-1).pairs.push(pair);
    else found.push({ folded: isSame, pairs: [pair] });
  }
  return found;
}

function fold(place, pairs) {
  if (pairs.length === 1) return drawn(place, pairs[0]);
  const row = h("li", { class: "unchanged" });
  const unfold = h("button", { type: "button", class: "inline", title: "Show them" }, `${number(pairs.length)} unchanged`);
  unfold.addEventListener("click", () => {
    const rows = rowsOf(pairs, (pair) => drawn(place, pair));
    rows.classList.add("unfolded");
    row.replaceChildren(rows);
  });
  row.append(sign(), unfold);
  return row;
}

// A long list is drawn bit by bit.
function rowsOf(parts, draw) {
  const list = h("ul", {});
  const add = (from) => {
    list.append(...parts.slice(from, from + MOST_ROWS).map(draw));
    const left = parts.length - from - MOST_ROWS;
    if (left <= 0) return;
    const row = h("li", {}, sign(), h("button", { type: "button", class: "inline", onclick: () => { row.remove(); add(from + MOST_ROWS); } }, `${number(left)} more`));
    list.append(row);
  };
  add(0);
  return list;
}

function drawn(place, { item, key, after }) {
  const name = h("span", { class: isList(place) ? "index" : "key" }, h("bdi", {}, String(key)));
  const head = [sign(item.op), name];
  if (item.op === "replace") return replaced(item, after, name);
  if (item.op === "move") head.push(h("span", { class: "faint" }, ` from ${item.from}`));
  if (item.isTouched) return row(item.op ?? "touched", nested(head, after, () => inside(item, after), true));
  return valued(item.op, head, item.op === "remove" ? item.before : after);
}

function replaced(item, after, name = h("span", { class: "key" }, "the whole")) {
  const both = inParts(item.change) ?? [old(shown(item.before)), " → ", text(shown(after))];
  return row("replace", sign("replace"), name, ": ", both);
}

function valued(op, head, value) {
  if (!isContainer(value) || !Object.keys(value).length) return row(op, head, ": ", text(shown(value)));
  return row(op, nested(head, value, () => tree(written(value), { open: 2 }), Boolean(op) && Object.keys(value).length <= SMALL));
}

function nested(head, value, content, open) {
  const [first, last] = Array.isArray(value) ? "[]" : "{}";
  const details = h("details", { open }, h("summary", {}, head, " ", h("span", { class: "size" }, `${first}${number(Object.keys(value).length)}${last}`)));
  const unfold = () => {
    if (details.open && details.childElementCount === 1) details.append(content());
  };
  details.addEventListener("toggle", unfold);
  unfold();
  return details;
}

const row = (op, ...content) => h("li", { class: op ?? "same" }, content);

const shown = (value) => {
  const all = written(value);
  return all.length > LONGEST ? `${all.slice(0, LONGEST)}… ${plural(all.length, "character")}` : all;
};

const text = (json) => h("bdi", { class: json?.startsWith('"') ? "string" : "other" }, json ?? "");
const old = (json) => h("del", { class: "before" }, h("bdi", {}, json));

// Long texts that are alike: by their words in one line, or by their lines.
function inParts({ segments, lines }) {
  if (segments) return h("span", { class: "words" }, segments.map(([kind, part]) => ({ same: () => middle(part), removed: () => h("del", {}, part), added: () => h("ins", {}, part) })[kind]()));
  if (lines) return h("div", { class: "text-lines" }, lines.map((line) => h("div", { class: { "+": "add", "-": "remove", "@": "hunk" }[line[0]] ?? "same" }, line.replace(/^-/, "−"))));
  return null;
}

// Of a long stretch that is in both, its ends.
function middle(part) {
  if (part.length <= LONGEST) return part;
  const more = h("button", { type: "button", class: "inline", title: "Show it", onclick: () => more.replaceWith(part.slice(LONGEST / 2, -LONGEST / 2)) }, `… ${number(part.length - LONGEST)} the same …`);
  return [part.slice(0, LONGEST / 2), more, part.slice(-LONGEST / 2)];
}

export const nothingDiffers = () => h("p", { class: "nothing" }, "Nothing differs.");
