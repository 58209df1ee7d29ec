// A page with the finder at its side, and keys of its own wherever nobody types.

import { Finder } from "./finder.js";
import { Page } from "./page.js";

export class FinderPage extends Page {
  constructor(name) {
    const finder = new Finder();
    super(name, finder.element);
    this.finder = finder;
    document.addEventListener("keydown", (event) => this.#key(event));
    // Streamlit has shortcuts of its own; letters typed into our fields are none of them.
    this.element.addEventListener("keydown", (event) => {
      if (isField(event.composedPath()[0])) event.stopPropagation();
    });
  }

  tools() {
    return null;
  }

  learn(store, before) {
    if (before?.empty && !store.empty) this.finder.reload();
    this.finder.sorts(store.orders);
    this.finder.types(store.aggregate_types);
  }

  // Whether the page makes something of a key.
  key() {
    return false;
  }

  #key(event) {
    if (!this.element.isConnected || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.composedPath()[0];
    if (isField(target)) return;
    if (event.key === "/") {
      event.preventDefault();
      this.finder.focus();
      return;
    }
    // A focused control has the first word; arrows belong to nobody but a field.
    const isControl = target instanceof Element && target.matches("a, button, summary");
    if (isControl && (event.key === "Enter" || event.key === " ")) return;
    if (this.key(event.key)) event.preventDefault();
  }
}

// A slider takes keys, and no letters.
const isField = (element) => element instanceof Element && element.matches("input:not([type=range]), textarea, select, [contenteditable]");
