// A JSON text as a tree to unfold, letter by letter as it was written: keys in their order, numbers
// with all their digits, which JavaScript's own values would lose.

import { h, number } from "./dom.js";

const FEW = 100;
const LONG_STRING = 600;
const TOKEN = /[{}[\],:]|"(?:[^"\\]|\\.)*"|[^\s{}[\],:"]+/gy;
const SPACE = /\s*/y;

// Nodes: {kind: "object" | "array", items: [[key, node]]} or {kind: "string" | "other", text}.
export function parse(text) {
  let at = 0;
  const next = () => {
    SPACE.lastIndex = at;
    SPACE.exec(text);
    TOKEN.lastIndex = SPACE.lastIndex;
    const found = TOKEN.exec(text);
    if (!found) throw new SyntaxError(`no JSON at character ${at}`);
    at = TOKEN.lastIndex;
    return found[0];
  };
  const value = (token) => {
    if (token === "{" || token === "[") return container(token);
    return { kind: token[0] === '"' ? "string" : "other", text: token };
  };
  const container = (opening) => {
    const isObject = opening === "{";
    const items = [];
    let token = next();
    while (token !== "}" && token !== "]") {
      if (token === ",") token = next();
      let key = items.length;
      if (isObject) {
        key = JSON.parse(token);
        next();
        token = next();
      }
      items.push([key, value(token)]);
      token = next();
    }
    return { kind: isObject ? "object" : "array", items };
  };
  return value(next());
}

// `marked` are names of fields at the top that are to be found at a glance.
export function tree(text, { open = 2, marked = new Set() } = {}) {
  let root;
  try {
    root = parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof RangeError)) throw error;
    return h("pre", { class: "code", tabindex: "0" }, text);
  }
  if (root.kind === "string" || root.kind === "other") return h("div", { class: "tree" }, scalar(root));
  if (!root.items.length) return h("div", { class: "tree" }, root.kind === "object" ? "{}" : "[]");
  return h("div", { class: "tree" }, list(root, open, marked));
}

function list(node, open, marked = new Set()) {
  const element = h("ul", {});
  const add = (from) => {
    const items = node.items.slice(from, from + FEW);
    element.append(...items.map(([key, child]) => item(node, key, child, open, marked.has(key))));
    const left = node.items.length - from - FEW;
    if (left > 0) {
      const more = h("button", { type: "button", class: "inline" }, `${number(left)} more`);
      const row = h("li", {}, more);
      more.addEventListener("click", () => {
        row.remove();
        add(from + FEW);
      });
      element.append(row);
    }
  };
  add(0);
  return element;
}

function item(parent, key, child, open, marked) {
  const name = h("span", { class: parent.kind === "object" ? "key" : "index" }, h("bdi", {}, String(key)));
  const kind = marked ? "marked" : null;
  if (!child.items) return h("li", { class: kind }, name, ": ", scalar(child));
  const brackets = child.kind === "object" ? "{}" : "[]";
  if (!child.items.length) return h("li", { class: kind }, name, ": ", h("span", { class: "other" }, brackets));
  const size = h("span", { class: "size" }, `${brackets[0]}${number(child.items.length)}${brackets[1]}`);
  const details = h("details", { open: open > 1 }, h("summary", {}, name, " ", size));
  // Made when it is first seen: a payload may hold a hundred thousand values.
  const unfold = () => {
    if (details.open && details.childElementCount === 1) details.append(list(child, open - 1));
  };
  details.addEventListener("toggle", unfold);
  unfold();
  return h("li", { class: kind }, details);
}

function scalar(node) {
  const shown = node.kind === "string" ? JSON.stringify(JSON.parse(node.text)) : node.text;
  const element = h("bdi", { class: node.kind });
  if (shown.length <= LONG_STRING) {
    element.append(shown);
    return element;
  }
  const more = h("button", { type: "button", class: "inline" }, `${number(shown.length)} characters`);
  more.addEventListener("click", () => element.replaceChildren(shown));
  element.append(`${shown.slice(0, LONG_STRING)}… `, more);
  return element;
}
