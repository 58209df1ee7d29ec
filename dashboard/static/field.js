// One field of the state: who set it, when, and everybody who did before.

import { Latest, load } from "./documents.js";
import { alertBox, button, h, number, plural, show } from "./dom.js";
import { copyButton } from "./event.js";
import { typeName } from "./looks.js";
import { zoned } from "./moments.js";

export class FieldPanel {
  #asked = new Latest();

  // `timeline` makes the address of an event on the Timeline.
  constructor({ seek, pin, timeline, close }) {
    Object.assign(this, { seek, pin, timeline });
    this.body = h("div", { class: "field-body" });
    this.element = h("section", { class: "field", "aria-label": "Chosen field", hidden: true }, this.body);
    this.leave = close;
  }

  close() {
    this.#asked.cancel();
  }

  async update(aggregate, version, path, pinned) {
    if (path === undefined) {
      this.#asked.cancel();
      this.element.hidden = true;
      this.shown = undefined;
      return;
    }
    const key = JSON.stringify([aggregate, version, path, pinned]);
    if (this.shown === key) return;
    this.shown = key;
    this.element.hidden = false;
    try {
      const found = await this.#asked.run((signal) => load("blame", { aggregate, version, path }, signal));
      if (found) show(this.body, this.#head(path, pinned), this.#origin(found), this.#history(found));
    } catch (error) {
      this.shown = undefined; // Who asks again asks anew.
      show(this.body, this.#head(path, pinned), alertBox(error.message));
    }
  }

  #head(path, pinned) {
    return h(
      "div",
      { class: "field-head" },
      h("h3", {}, h("bdi", {}, path || "The whole state")),
      h(
        "div",
        { class: "copies" },
        button(pinned ? "Unpin" : "Pin", { kind: "small", pressed: pinned ? "true" : "false", title: "Chart its value over all versions", onclick: () => this.pin(path) }),
        copyButton("Path", "The field as a JSON pointer", async () => path),
        button("Close", { kind: "small", icon: "close", title: "Close (Escape)", onclick: () => this.leave() }),
      ),
    );
  }

  #origin({ value, origin, changes, written_again: again }) {
    const what = value === null ? "Taken away" : "Set";
    const who = origin
      ? [`${what} by `, this.#step(origin.version), " ", typeName(origin.event_type), " ", h("span", { class: "faint" }, `${zoned(origin.occurred_at)}${origin.actor === null ? "" : `, ${origin.actor}`}`)]
      : [value === null ? "No event has set it until here." : "As every state begins; no event has set it."];
    return [
      h("p", { class: "value" }, value ?? h("span", { class: "faint" }, "absent")),
      h("p", { class: "origin" }, who),
      origin ? h("p", { class: "faint" }, h("a", { href: this.timeline(origin.version) }, "The event on the Timeline"), origin.correlation_id === null ? null : ` · correlation id ${origin.correlation_id}`) : null,
      again !== null ? h("p", { class: "faint" }, "The same value was written again by ", this.#step(again)) : null,
      changes > 1 ? h("p", { class: "faint" }, `${plural(changes, "change")} until here`) : null,
    ];
  }

  #history({ history, changes, path }) {
    if (changes < 2) return null;
    const rows = history.toReversed().map((entry) =>
      h(
        "tr",
        {},
        h("td", { class: "number" }, this.#step(entry.origin.version)),
        h("td", {}, typeName(entry.origin.event_type)),
        h("td", {}, entry.path === path ? null : h("span", { class: "faint" }, `${entry.path} `), entry.op === "move" ? "moved here" : null, entry.op === "move" ? null : h("span", { class: "before" }, h("bdi", { class: "value" }, entry.before ?? "absent"), " → "), entry.op === "move" ? null : h("bdi", { class: "value" }, entry.after ?? "absent")),
      ),
    );
    const left = changes - history.length;
    return h("div", { class: "scroll field-history", tabindex: "0" }, h("table", { class: "diff", "aria-label": "History of the field" }, h("tbody", {}, rows)), left ? h("p", { class: "faint" }, `and ${number(left)} before`) : null);
  }

  #step(version) {
    return h("button", { type: "button", class: "inline", title: "Go to this version", onclick: () => this.seek(version) }, number(version));
  }
}
