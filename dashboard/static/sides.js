// The two sides of a diff: where each stands in its history, and how they are moved.

import { button, h, number, show } from "./dom.js";
import { typed } from "./moments.js";
import { Scrubber } from "./scrubber.js";

const RESTED = 150;
const LETTERS = { one: "A", other: "B" };

export class Sides {
  // `go` is told which points, aggregate or axis are wanted.
  constructor({ go }) {
    this.go = go;
    this.at = {};
    this.scrubbers = { one: this.#scrubber("one"), other: this.#scrubber("other") };
    this.fields = { one: this.#field("one"), other: this.#field("other") };
    this.beside = h("input", { class: "beside", "aria-label": "Another aggregate as B", placeholder: "another aggregate’s id", title: "B is of this aggregate (Enter); empty: of the same", autocomplete: "off", spellcheck: "false", onkeydown: (event) => this.#entered(event, () => this.#besideOther()) });
    this.axis = h("select", { "aria-label": "The time that A and B speak of", title: "The time that A and B speak of", onchange: () => this.go({ axis: this.axis.value === "occurred" ? undefined : this.axis.value }) }, ["occurred", "recorded"].map((axis) => h("option", { value: axis }, `as ${axis}`)));
    this.told = h("span", { class: "faint", role: "status" });
    this.back = button("Both", { icon: "back", kind: "small", title: "Step both back ([)", onclick: () => this.stepBoth(-1) });
    this.on = button("Both", { icon: "on", kind: "small", title: "Step both on (])", onclick: () => this.stepBoth(1) });
    const swap = button("Swap", { icon: "turn", kind: "small", title: "Swap A and B (s)", onclick: () => this.swap() });
    swap.append(h("kbd", { "aria-hidden": "true" }, "s"));
    this.back.append(h("kbd", { "aria-hidden": "true" }, "["));
    this.on.append(h("kbd", { "aria-hidden": "true" }, "]"));
    const named = (side) => h("label", { class: "player-group" }, h("span", { class: `letter ${side}`, "aria-hidden": "true" }, LETTERS[side]), this.fields[side]);
    this.element = h(
      "div",
      { class: "sides" },
      h("div", { class: "player" }, named("one"), swap, named("other"), h("label", { class: "player-group" }, h("span", { class: "faint" }, "of"), this.beside), this.axis, h("div", { class: "player-group", role: "group", "aria-label": "Step both" }, this.back, this.on), this.told),
      h("div", { class: "tracks" }, this.scrubbers.one.element, this.scrubbers.other.element),
    );
  }

  close() {
    clearTimeout(this.rested);
    for (const scrubber of Object.values(this.scrubbers)) scrubber.close();
  }

  redraw() {
    for (const scrubber of Object.values(this.scrubbers)) scrubber.redraw();
  }

  // The histories both stand in; `other` is null where it is the same.
  know({ one, other }) {
    this.heads = { one, other: other ?? one };
    this.several = other !== null;
    const range = ({ first_version: first, head, kinds, types }) => ({ first, last: head.version, kinds, types });
    this.scrubbers.one.update(range(one));
    this.scrubbers.other.update(other ? range(other) : { ...range(one), kinds: [] });
    this.element.classList.toggle("several", this.several);
  }

  // Where both stand, as the view asked for it and as it was answered; what was refused may be corrected.
  update(view, found) {
    this.view = view;
    // Who is dragging already wants something else.
    if (this.moving) return;
    this.at = { one: this.#standing("one", found), other: this.#standing("other", found) };
    for (const side of ["one", "other"]) this.#place(side, view[parameter(side)] ?? String(this.at[side]));
    if (!isFocused(this.beside)) this.beside.value = view.with ?? "";
    this.axis.value = view.axis ?? "occurred";
    this.back.disabled = !this.#canStep(-1);
    this.on.disabled = !this.#canStep(1);
    show(this.told);
  }

  swap() {
    if (!this.view || this.view.from === "snapshot") return;
    const { with: beside, aggregate } = this.view;
    this.#settle();
    const points = { from: this.#point("other"), to: this.#point("one") };
    this.go({ ...points, ...(beside ? { aggregate: beside, with: aggregate } : {}) });
  }

  stepBoth(by) {
    if (!this.#canStep(by)) return;
    this.#settle();
    this.at = { one: this.at.one + by, other: this.at.other + by };
    for (const side of ["one", "other"]) this.#place(side, String(this.at[side]));
    this.go({ from: this.at.one, to: this.at.other }, { step: true });
  }

  #canStep(by) {
    return Boolean(this.heads) && ["one", "other"].every((side) => {
      const { first_version: first, head } = this.heads[side];
      return this.at[side] + by >= first - 1 && this.at[side] + by <= head.version;
    });
  }

  #standing(side, found) {
    if (found) return found[side].version;
    const asked = Number(this.view[parameter(side)]);
    const { first_version: first, head } = this.heads[side];
    return asked >= first - 1 && asked <= head.version ? asked : head.version;
  }

  // A side's point as the address has it, or as it is.
  #point(side) {
    return this.view[parameter(side)] ?? this.at[side];
  }

  // What is being dragged has come to rest where it is.
  #settle() {
    if (!this.moving) return;
    clearTimeout(this.rested);
    this.view = { ...this.view, ...this.moving };
    this.moving = null;
  }

  #scrubber(side) {
    const scrubber = new Scrubber({ label: `Version of ${LETTERS[side]}`, seek: (version) => this.#drag(side, version) });
    scrubber.element.classList.add(side);
    scrubber.element.append(h("span", { class: "thumb-letter", "aria-hidden": "true" }, LETTERS[side]));
    return scrubber;
  }

  #drag(side, version) {
    if (!this.view) return;
    this.at = { ...this.at, [side]: version };
    this.#place(side, String(version));
    this.moving = { from: this.#point("one"), to: this.#point("other"), ...this.moving, [parameter(side)]: version };
    clearTimeout(this.rested);
    this.rested = setTimeout(() => {
      const { moving } = this;
      this.moving = null;
      this.go(moving, { step: true });
    }, RESTED);
  }

  #place(side, written) {
    const version = this.at[side];
    this.scrubbers[side].moveTo(version, `version ${number(version)}`);
    if (!isFocused(this.fields[side])) this.fields[side].value = written;
    const { first_version: first, head } = this.heads.one;
    const share = (each) => (this.at[each] - first + 1) / Math.max(head.version - first + 1, 1);
    const shares = this.several ? [0, 0] : [share("one"), share("other")].sort((left, right) => left - right);
    this.element.style.setProperty("--from", shares[0]);
    this.element.style.setProperty("--to", shares[1]);
  }

  #field(side) {
    return h("input", { class: "point", "aria-label": `${LETTERS[side]}: version or time`, placeholder: "version or time", title: "A version, or a time such as 2026-01-31 12:00Z (Enter)", autocomplete: "off", spellcheck: "false", onkeydown: (event) => this.#entered(event, () => this.#jump(side)) });
  }

  #entered(event, act) {
    if (event.key === "Escape") event.target.blur();
    if (event.key !== "Enter") return;
    event.preventDefault();
    act();
  }

  #jump(side) {
    const text = this.fields[side].value.trim();
    const point = text === "" ? undefined : /^-?\d{1,18}$/.test(text.replaceAll(",", "")) ? text.replaceAll(",", "") : typed(text);
    if (point === null) show(this.told, "Write a version, or a time such as 2026-01-31 12:00Z");
    else this.#leaving(this.fields[side], { [parameter(side)]: point });
  }

  #besideOther() {
    this.#leaving(this.beside, { with: this.beside.value.trim() || undefined, to: undefined });
  }

  // The field shows what came of it.
  #leaving(field, change) {
    field.blur();
    this.go(change);
  }
}

const parameter = (side) => (side === "one" ? "from" : "to");
const isFocused = (field) => field.getRootNode().activeElement === field;
