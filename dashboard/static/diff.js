// The Diff page: two states, what differs between them, and the events that made the difference.

import { Between } from "./between.js";
import { changeList, diffTree, nothingDiffers } from "./difftree.js";
import { Latest, documentAddress, load, text } from "./documents.js";
import { alertBox, button, h, icon, link, number, plural, scrollToTop, show } from "./dom.js";
import { copyButton } from "./event.js";
import { isContainer, parseExact, written } from "./exact.js";
import { finding } from "./finder.js";
import { FinderPage } from "./finderpage.js";
import { Lab } from "./lab.js";
import { zoned } from "./moments.js";
import { onlyOne } from "./page.js";
import { Sides } from "./sides.js";
import { unified } from "./unified.js";
import { address, current, entitle, go } from "./view.js";

export const { prepare, mount } = onlyOne(() => new DiffPage(), "timeline.css", "diff.css");

const VIEWS = [
  [undefined, "Tree"],
  ["text", "Text"],
  ["patch", "Patch"],
  ["lab", "Upcasters"],
];
const LARGEST_PATCH = 1_000_000;
const NAMED = { replace: "changed", add: "added", remove: "removed", move: "moved" };

class DiffPage extends FinderPage {
  constructor() {
    super("Diff");
    // The style sheets have tables of that name.
    this.element.classList.replace("diff", "compared");
    this.start();
  }

  async update(view) {
    const wrong = objection(view);
    this.finder.update(view);
    if (wrong || !view.aggregate) {
      this.#leave();
      entitle("Diff");
      if (wrong || view.as !== "lab") show(this.main, wrong ? alertBox(wrong) : nothingChosen());
      else await this.#coverage();
      return;
    }
    this.lab = null;
    if (this.comparison?.aggregate !== view.aggregate) {
      this.#leave();
      this.comparison = new Comparison(view.aggregate);
      show(this.main, this.comparison.element);
      scrollToTop(this.element);
    }
    await this.comparison.update(view);
  }

  #leave() {
    this.comparison?.close();
    this.comparison = null;
    this.lab?.close();
    this.lab = null;
  }

  // Without an aggregate there are no events to step through.
  async #coverage() {
    this.lab = new Lab({});
    show(this.main, h("div", { class: "title" }, h("h2", {}, "Upcasters")), this.lab.element);
    await this.lab.update();
  }

  redraw() {
    this.comparison?.redraw();
    this.lab?.redraw();
  }

  key(name) {
    return this.comparison?.key?.(name);
  }
}

// One aggregate beside itself or another. Which states are compared is told by the address.
class Comparison {
  #asked = new Latest();
  #patch = new Latest();

  constructor(aggregate) {
    this.aggregate = aggregate;
    this.heads = new Map();
    this.title = h("div", { class: "title" });
    this.sides = new Sides({ go: (change, options) => this.#go(change, options) });
    this.problem = h("div", { role: "status" });
    this.views = h("div", { class: "segments", role: "group", "aria-label": "Show as" });
    this.summary = h("span", { class: "summary", role: "status" });
    this.copies = h("div", { class: "copies right" });
    this.body = h("section", { class: "difference", "aria-label": "Difference" });
    this.lab = new Lab({ go: (event, options) => this.#go({ event }, options) });
    this.between = new Between();
    this.content = h("div", { class: "comparison" }, h("div", { class: "tools" }, this.views, this.summary, this.copies), this.body, this.lab.element, this.between.element);
    this.deck = h("div", { class: "deck", hidden: true }, this.sides.element);
    this.content.hidden = true;
    this.element = h("div", {}, this.title, this.deck, this.problem, this.content);
  }

  close() {
    this.#asked.cancel();
    for (const part of [this.sides, this.lab, this.between]) part.close();
  }

  async update(view) {
    this.view = view;
    entitle(`${this.aggregate}, diff`);
    this.content.setAttribute("aria-busy", "true");
    try {
      const asking = this.#ask(view);
      asking.catch(() => {}); // Told where it is awaited, if it still is.
      await this.#know(view);
      const found = await asking;
      if (!found || this.view !== view) return;
      if (this.#hasGrown(found)) await this.#know(view);
      show(this.problem, stops(found));
      this.content.hidden = false;
      this.found = found;
      this.sides.update(view, found);
      this.#draw();
    } catch (error) {
      if (this.view === view) this.#fail(error);
    }
    this.content.removeAttribute("aria-busy");
  }

  // Another way to show the same is no new question.
  async #ask({ aggregate, from, to, with: beside, axis }) {
    const params = { aggregate, from, to, with: beside, axis };
    if (JSON.stringify(params) === JSON.stringify(this.params) && this.found) return this.found;
    const found = await this.#asked.run((signal) => load("diff", params, signal, parseExact));
    if (found) Object.assign(this, { params, drawn: null });
    return found;
  }

  async #know({ with: beside }) {
    const wanted = [this.aggregate, ...(beside && beside !== this.aggregate ? [beside] : [])];
    await Promise.all(wanted.filter((id) => !this.heads.has(id)).map(async (id) => this.heads.set(id, await load("replay", { aggregate: id }))));
    const key = wanted.join("\n");
    if (this.known === key || this.view.with !== beside) return;
    this.known = key;
    const [one, other = null] = wanted.map((id) => this.heads.get(id));
    this.sides.know({ one, other });
  }

  // Events that were appended since a history was looked at make it longer.
  #hasGrown({ one, other }) {
    const grown = [one, other].filter((side) => this.heads.get(side.aggregate_id)?.head.version < side.newest);
    for (const side of grown) this.heads.delete(side.aggregate_id);
    if (grown.length) this.known = null;
    return grown.length > 0;
  }

  #fail(error) {
    this.params = null;
    this.content.hidden = true;
    this.deck.hidden = !this.known;
    if (this.known) this.sides.update(this.view, null);
    if (!this.title.childElementCount) show(this.title, h("h2", {}, h("bdi", {}, this.aggregate)));
    show(this.problem, alertBox(error.message));
  }

  #draw() {
    const { found, view } = this;
    this.deck.hidden = false;
    show(this.title, titled(found));
    entitle(`${this.aggregate} ${found.one.version} → ${found.other.version}, diff`);
    show(this.views, VIEWS.map(([as, name]) => button(name, { pressed: as === view.as ? "true" : "false", onclick: () => this.#go({ as }) })));
    show(this.summary, summed(found));
    this.#drawCopies();
    const isLab = view.as === "lab";
    this.body.hidden = isLab;
    this.lab.element.hidden = !isLab;
    this.summary.hidden = this.copies.hidden = isLab;
    if (isLab) {
      this.between.element.hidden = true;
      this.#drawLab();
      return;
    }
    if (this.drawn !== (view.as ?? "tree")) this.#drawBody(view.as);
    this.between.update(found);
  }

  #drawBody(as) {
    this.drawn = as ?? "tree";
    this.#patch.cancel();
    const { found } = this;
    if (!found.changes.length) show(this.body, nothingDiffers());
    else if (as === "patch") this.#drawPatch();
    else if (!found.states || found.more) show(this.body, tooLarge(found), as === "text" ? null : changeList(found.changes, "Changes"));
    else if (as === "text") show(this.body, unified(...found.states));
    else show(this.body, diffTree(...found.states, found.changes, "What differs"));
  }

  async #drawPatch() {
    const { found } = this;
    if (found.patch_bytes > LARGEST_PATCH) {
      show(this.body, h("p", { class: "faint" }, `${number(found.patch_bytes)} bytes are too many to show. Save the patch.`));
      return;
    }
    try {
      const patch = await this.#patch.run((signal) => load("patch", this.params, signal, parseExact));
      if (patch && this.found === found) show(this.body, h("pre", { class: "code patch", tabindex: "0", "aria-label": "JSON Patch" }, operations(patch)));
    } catch (error) {
      show(this.body, alertBox(error.message));
    }
  }

  #drawCopies() {
    const { params, found } = this;
    const name = `${found.one.aggregate_id}.${found.one.version}-${found.other.version}`;
    const save = (document, label, title) => h("a", { class: "button small", href: documentAddress(document, params), download: `${name}.${document}.json`, title }, icon("save"), h("span", {}, label));
    show(
      this.copies,
      h(
        "div",
        { class: "copies", role: "group", "aria-label": "Copy as" },
        copyButton("Patch", "The changes as JSON Patch", () => text("patch", params)),
        copyButton("Command", found.command, async () => found.command),
        copyButton("Link", "The address of this diff", async () => location.href),
      ),
      save("patch", "Save patch", "The changes as JSON Patch"),
      save("states", "Save both states", "Both states and the changes as JSON"),
    );
  }

  #drawLab() {
    const { head, first_version: first, generic } = this.heads.get(this.aggregate);
    const { one, other } = this.found;
    const standing = one.aggregate_id === other.aggregate_id ? Math.max(one.version, other.version) : one.version;
    const version = this.view.event === undefined ? Math.max(standing, first) : Number(this.view.event);
    this.lab.update(this.aggregate, version, { first, last: head.version, generic });
  }

  #go(change, options) {
    const view = { ...current(), ...change };
    // A snapshot stands beside its own replay only.
    if (view.from === "snapshot" && ("to" in change || "with" in change)) view.from = undefined;
    go(view, options);
  }

  redraw() {
    for (const part of [this.sides, this.between, this.lab]) part.redraw();
    if (this.found && !this.content.hidden) show(this.title, titled(this.found));
  }

  key(name) {
    const acts = { s: () => this.sides.swap(), "[": () => this.sides.stepBoth(-1), "]": () => this.sides.stepBoth(1) };
    if (!Object.hasOwn(acts, name)) return false;
    acts[name]();
    return true;
  }
}

const nothingChosen = () =>
  h(
    "div",
    { class: "blank" },
    h("h2", {}, "Diff"),
    h("p", {}, "Choose an aggregate to compare its states: two versions, two times, or another aggregate beside it."),
    h("p", {}, within({ ...finding(current()), as: "lab" }, "Which schema versions are stored, and what they are read as")),
  );

function titled({ one, other }) {
  const merged = one.generic || other.generic ? " · the events’ data merged: there is no domain code for this type" : null;
  const types = one.aggregate_type === other.aggregate_type ? [one.aggregate_type] : [one.aggregate_type, other.aggregate_type];
  const several = one.aggregate_id !== other.aggregate_id;
  const isAlone = !several && !one.generic && !one.name;
  return [
    h("p", { class: "crumbs" }, h("bdi", {}, types.join(" → ")), merged, isAlone ? [" · ", within({ ...finding(current()), aggregate: one.aggregate_id, from: "snapshot" }, "its snapshot beside its replay")] : null),
    h("h2", {}, h("bdi", {}, one.aggregate_id), " ", standing(one), h("span", { class: "arrow" }, " → "), several ? [h("bdi", {}, other.aggregate_id), " "] : null, standing(other)),
  ];
}

const standing = (side) =>
  h("span", { class: "position" }, side.name ? `${side.name} at ` : null, `version ${number(side.version)}`, side.as_of ? `, as of ${zoned(side.as_of)}` : null);

const within = (view, words) => link(address(view), () => go(view), {}, words);

const stops = ({ one, other }) => [...new Set([one.stopped, other.stopped])].filter(Boolean).map((told) => alertBox(told));

function summed({ changes, more }) {
  if (!changes.length) return "no differences";
  const count = (op) => changes.filter((change) => change.op === op).length;
  const told = Object.entries(NAMED).flatMap(([op, name]) => (count(op) ? [`${number(count(op))} ${name}`] : []));
  return more ? `${plural(changes.length + more, "change")}` : told.join(" · ");
}

function tooLarge({ bytes, changes, more }) {
  const why = more ? `Only the first ${number(changes.length)} of ${plural(changes.length + more, "change")} are shown` : `The states have ${number(bytes[0])} and ${number(bytes[1])} bytes: only what changed is shown`;
  return h("p", { class: "faint" }, `${why}. Save the patch or both states for all of it.`);
}

// One operation a line, as in a file that people read.
const operations = (patch) => (patch.length ? `[\n${patch.map((each) => `  ${isContainer(each) ? written(each) : each}`).join(",\n")}\n]` : "[]");

function objection(view) {
  if (view.event !== undefined && !/^\d{1,18}$/.test(view.event)) return `event: '${view.event.slice(0, 40)}' is not a number; correct the address`;
  if (view.as !== undefined && !["text", "patch", "lab"].includes(view.as)) return `as: '${view.as.slice(0, 40)}' is none of text, patch and lab; correct the address`;
  for (const name of ["from", "to", "with", "event"]) {
    if (view[name] && !view.aggregate) return `${name}: which aggregate's? Add aggregate=ID to the address`;
  }
  return null;
}
