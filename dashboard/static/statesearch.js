// Search in the state: what is there now is marked, and where it was in other versions is told.

import { Latest, load } from "./documents.js";
import { alertBox, h, number, plural, shortened, show } from "./dom.js";

const TYPED = 250;

export class Search {
  #asked = new Latest();

  constructor({ aggregate, seek, tree, search }) {
    Object.assign(this, { aggregate, seek, tree });
    this.changed = search;
    this.text = "";
    this.field = h("input", { type: "search", "aria-label": "Find a key or value in the state", placeholder: "Key or value…", autocomplete: "off", spellcheck: "false", oninput: () => this.#type(), onkeydown: (event) => event.key === "Escape" && this.field.blur() });
    this.count = h("span", { class: "faint", role: "status" });
    this.places = h("div", { class: "places" });
    this.element = h("div", { class: "state-search" }, h("div", { class: "state-search-head" }, this.field, this.count), this.places);
  }

  close() {
    clearTimeout(this.timer);
    this.#asked.cancel();
  }

  // There are new versions to be asked.
  refresh() {
    if (this.text) this.#load();
  }

  update(text) {
    if (text === this.text) return;
    this.text = text;
    if (this.field.getRootNode().activeElement !== this.field) this.field.value = text;
    if (this.tree.step) this.tree.search(text);
    this.moveTo();
    this.#load();
  }

  moveTo() {
    if (this.tree.step && (this.tree.text ?? "") !== this.text.toLowerCase()) this.tree.search(this.text);
    show(this.count, this.text && this.tree.step ? `${number(this.tree.matches)} here` : null);
  }

  #type() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.changed(this.field.value.trim()), TYPED);
  }

  async #load() {
    if (!this.text) {
      this.#asked.cancel();
      show(this.places);
      return;
    }
    try {
      const found = await this.#asked.run((signal) => load("places", { aggregate: this.aggregate, text: this.text }, signal));
      if (found) this.#draw(found);
    } catch (error) {
      show(this.places, alertBox(error.message));
    }
  }

  #draw({ places, more }) {
    if (!places.length) {
      show(this.places, h("p", { class: "faint" }, "No version has it."));
      return;
    }
    const rows = places.map((place) =>
      h("tr", {}, h("th", { scope: "row" }, this.#link(place, place.first, place.path)), h("td", {}, h("bdi", { class: "value" }, shortened(place.value, 60))), h("td", { class: "number" }, this.#link(place, place.first)), h("td", { class: "number" }, this.#link(place, place.last))),
    );
    show(
      this.places,
      h("p", { class: "faint" }, `${more ? "The first " : ""}${plural(places.length, "place")} over all versions`),
      h("div", { class: "scroll places-scroll", tabindex: "0" }, h("table", { class: "diff", "aria-label": "Where it appears" }, h("thead", {}, h("tr", {}, ["Field", "Last value", "First", "Last"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows))),
    );
  }

  #link({ path }, version, label = number(version)) {
    const follow = () => {
      this.seek(version);
      requestAnimationFrame(() => this.tree.reveal(path));
    };
    return h("button", { type: "button", class: "inline", title: `Go to version ${number(version)}`, onclick: follow }, label);
  }
}
