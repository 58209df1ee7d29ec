// A state as a tree, of which only the rows in sight are drawn: what changes from one version to the
// next is written into rows that are there already.

import { h, number, plural } from "./dom.js";
import { isContainer, written } from "./exact.js";
import { escaped, partsOf } from "./patches.js";

const ROW = 24;
const MANY = 60;
const DEPTH = 3;
const SPARE = 4;
const LONGEST = 400;

export class StateTree {
  #open = new Map();
  #rows = [];
  #drawn = [];
  #active = "";

  // `choose` is told of the field that is asked about.
  constructor({ choose }) {
    this.choose = choose;
    this.sheet = h("div", { class: "state-sheet" });
    this.element = h("div", { class: "state-tree", role: "tree", "aria-label": "State", tabindex: "0", onkeydown: (event) => this.#key(event), onscroll: () => this.#scroll() }, this.sheet);
    // Where it stands is asked for when it changed: to ask at every step would lay out the page twice.
    this.scrolled = this.high = 0;
    this.element.addEventListener("click", (event) => this.#click(event));
    this.sizes = new ResizeObserver(([{ contentRect }]) => {
      this.high = contentRect.height;
      this.#draw();
    });
    this.sizes.observe(this.element);
  }

  close() {
    this.sizes.disconnect();
  }

  // Shows a state, and what the step to it changed.
  show(step) {
    this.step = step;
    this.changes = changesOf(step);
    this.#lay();
  }

  // Marks the rows whose key or value holds a text.
  search(text) {
    this.text = text.toLowerCase();
    this.#lay();
  }

  // Brings a field into sight as the chosen one, with what it lies in unfolded; none takes it away.
  chooseField(path) {
    this.chosen = path;
    if (path !== undefined && this.step) this.reveal(path);
    else this.#draw();
  }

  reveal(path) {
    const parts = partsOf(path);
    parts.forEach((_, index) => this.#open.set(pathOf(parts.slice(0, index)), true));
    this.#active = path;
    this.#lay();
    const index = this.#rows.findIndex((row) => row.path === path);
    if (index >= 0) this.#bring(index);
  }

  // How many fields hold the text that is searched for, folded ones too.
  get matches() {
    return this.text && isContainer(this.step.state) ? this.#matchesIn(this.step.state) : 0;
  }

  #matchesIn(container) {
    const isList = Array.isArray(container);
    return Object.entries(container).reduce((sum, [key, value]) => {
      const found = this.#matches({ key: isList ? null : key, value });
      return sum + (found ? 1 : 0) + (isContainer(value) ? this.#matchesIn(value) : 0);
    }, 0);
  }

  #lay() {
    this.#rows = [];
    const { state } = this.step;
    if (!isContainer(state) || (!Object.keys(state).length && !this.changes.gone.size)) this.#rows.push({ path: "", key: null, value: state, depth: 0 });
    else this.#under("", state, 0);
    if (this.laid !== this.#rows.length) {
      this.laid = this.#rows.length;
      this.sheet.style.height = `${this.laid * ROW}px`;
      this.scrolled = Math.min(this.scrolled, Math.max(this.laid * ROW - this.high, 0));
    }
    this.#draw();
  }

  #under(path, container, depth) {
    const isList = Array.isArray(container);
    for (const key of isList ? container.keys() : Object.keys(container)) {
      const value = container[key];
      const place = `${path}/${escaped(key)}`;
      const inside = isContainer(value) && Object.keys(value).length;
      const open = inside && this.#isOpen(place, inside, depth);
      this.#rows.push({ path: place, key, value, depth, isList, inside, open });
      if (open) this.#under(place, value, depth + 1);
    }
    for (const [key, value] of this.changes.gone.get(path) ?? []) {
      // Where an item stood another one may stand now.
      const place = `${path}/${escaped(key)}${isList ? " before" : ""}`;
      this.#rows.push({ path: place, key, value, depth, isList, gone: true });
    }
  }

  #isOpen(path, inside, depth) {
    return this.#open.get(path) ?? (depth < DEPTH && inside <= MANY);
  }

  #matches(row) {
    if (!row.isList && String(row.key ?? "").toLowerCase().includes(this.text)) return true;
    return !isContainer(row.value) && written(row.value).toLowerCase().includes(this.text);
  }

  #scroll() {
    this.scrolled = this.element.scrollTop;
    this.#draw();
  }

  #draw() {
    if (!this.step) return;
    const first = Math.max(Math.floor(this.scrolled / ROW) - SPARE, 0);
    const last = Math.min(Math.ceil((this.scrolled + this.high) / ROW) + SPARE, this.#rows.length);
    for (let at = first; at < last; at += 1) this.#fill((this.#drawn[at - first] ??= this.#make()), this.#rows[at], at);
    for (const spare of this.#drawn.slice(Math.max(last - first, 0))) hide(spare);
    const active = this.#drawn.find((drawn) => drawn.row?.path === this.#active && !drawn.element.hidden);
    if (active) this.element.setAttribute("aria-activedescendant", active.element.id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  #make() {
    const toggle = h("span", { class: "toggle", "aria-hidden": "true" });
    const key = h("bdi", {});
    const before = h("span", { class: "before" });
    const value = h("bdi", { class: "value" });
    const element = h("div", { class: "state-row", role: "treeitem", id: `state-row-${this.#drawn.length}` }, toggle, key, h("span", { class: "colon" }, ": "), before, value);
    this.sheet.append(element);
    return { element, toggle, key, before, value, told: "" };
  }

  // Only what is another than before is written.
  #fill(drawn, row, index) {
    const change = this.changes.at.get(row.path);
    const within = !row.open && row.inside && this.changes.within.has(row.path);
    const kind = row.gone ? "gone" : change ? change.op : within ? "within" : "";
    const found = this.text && this.#matches(row);
    const told = `${index}\n${row.path}\n${row.depth}\n${row.inside}\n${row.open}\n${kind}\n${found}\n${row.path === this.chosen}\n${row.path === this.#active}`;
    drawn.element.hidden = false;
    const same = drawn.told === told && drawn.row?.value === row.value && drawn.change === change;
    drawn.row = row;
    if (same) return;
    Object.assign(drawn, { told, change });
    const { element } = drawn;
    element.style.transform = `translateY(${index * ROW}px)`;
    element.style.paddingLeft = `${row.depth * 16 + 4}px`;
    element.className = ["state-row", kind, found && "found", row.path === this.chosen && "chosen", row.path === this.#active && "active"].filter(Boolean).join(" ");
    element.setAttribute("aria-level", row.depth + 1);
    element.setAttribute("aria-selected", row.path === this.chosen);
    if (row.inside) element.setAttribute("aria-expanded", Boolean(row.open));
    else element.removeAttribute("aria-expanded");
    drawn.toggle.textContent = row.inside ? (row.open ? "▾" : "▸") : "";
    drawn.key.className = row.isList ? "index" : "key";
    drawn.key.textContent = row.key ?? "state";
    drawn.before.textContent = change?.op === "replace" ? `${shownValue(change.before)} ` : "";
    drawn.value.textContent = shownValue(row.value);
    drawn.value.className = `value ${isContainer(row.value) ? "size" : typeof row.value === "string" ? "string" : "other"}`;
    element.title = `${row.path || "the whole state"}${TOLD[kind] ?? ""}`;
  }

  #click(event) {
    const element = event.target.closest(".state-row");
    const row = this.#drawn.find((drawn) => drawn.element === element)?.row;
    if (!row) return;
    this.#active = row.path;
    if (event.target.closest(".toggle") && row.inside) this.#toggle(row);
    else this.#choose(row);
  }

  #choose(row) {
    if (row.gone && row.isList) return;
    this.choose(row.path);
  }

  #toggle(row, open = !row.open) {
    this.#open.set(row.path, open);
    this.#lay();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.#rows.findIndex((row) => row.path === this.#active);
    const row = this.#rows[at];
    if (event.key === "ArrowDown" || event.key === "ArrowUp") this.#move(at + (event.key === "ArrowDown" ? 1 : -1));
    else if (event.key === "Enter" && row) this.#choose(row);
    // As trees have it; on a field without anything inside the key is the page's.
    else if (event.key === "ArrowRight" && row?.inside && !row.open) this.#toggle(row, true);
    else if (event.key === "ArrowLeft" && row?.inside && row.open) this.#toggle(row, false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #move(to) {
    const at = Math.min(Math.max(to, 0), this.#rows.length - 1);
    if (at < 0) return;
    this.#active = this.#rows[at].path;
    this.#bring(at);
    this.#draw();
  }

  #bring(index) {
    const { scrollTop, clientHeight } = this.element;
    if (index * ROW < scrollTop) this.element.scrollTop = index * ROW;
    else if ((index + 1) * ROW > scrollTop + clientHeight) this.element.scrollTop = (index + 1) * ROW - clientHeight;
    this.scrolled = this.element.scrollTop;
  }
}

const TOLD = { add: ", added by this event", replace: ", changed by this event", move: ", moved by this event", gone: ", removed by this event", within: ", holds what this event changed" };

const pathOf = (parts) => parts.map((part) => `/${escaped(part)}`).join("");

function hide(drawn) {
  drawn.element.hidden = true;
  drawn.told = "";
}

function shownValue(value) {
  if (isContainer(value)) {
    const size = Object.keys(value).length;
    const [open, closed] = Array.isArray(value) ? "[]" : "{}";
    return size ? `${open}${number(size)}${closed}` : `${open}${closed}`;
  }
  const text = written(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}… ${plural(text.length, "character")}` : text;
}

// Where the step's changes are: at a place, somewhere within one, or gone from one.
function changesOf({ changes = [] }) {
  const at = new Map();
  const within = new Set();
  const gone = new Map();
  for (const change of changes) {
    const parts = partsOf(change.path);
    for (let depth = 0; depth < parts.length; depth += 1) within.add(pathOf(parts.slice(0, depth)));
    if (change.op !== "remove") {
      at.set(change.path, change);
      continue;
    }
    const parent = pathOf(parts.slice(0, -1));
    if (!gone.has(parent)) gone.set(parent, []);
    gone.get(parent).push([parts.at(-1) ?? "", change.before]);
  }
  return { at, within, gone };
}
