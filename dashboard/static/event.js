// One event in full: when, by whom, what it changed, what it carries, what it caused.

import { Latest, documentAddress, load, text } from "./documents.js";
import { alertBox, button, h, icon, link, number, show } from "./dom.js";
import { tree } from "./jsontree.js";
import { keep, kept } from "./kept.js";
import { typeName } from "./looks.js";
import { relative, span, microseconds, zoned } from "./moments.js";
import { address, compared, current, go } from "./view.js";

const SPINNER_AFTER = 250;
const DEEPEST = 12;
const COPIED_FOR = 1500;
const LOOK_AHEAD_AFTER = 60;
const MOST_NEAR = 40;

const keyOf = (aggregate, version) => `${version} ${aggregate}`;

export class EventPanel {
  #event = new Latest();
  #related = new Latest();
  #near = new Map();

  constructor() {
    this.steps = h("div", { class: "steps", role: "group", "aria-label": "Step through the history" });
    this.head = h("div", { class: "event-head" });
    this.body = h("div", {});
    this.changes = h("div", { class: "changes" });
    this.state = h("div", { class: "state" });
    this.family = h("div", { class: "family" });
    this.element = h("section", { class: "event", "aria-label": "Chosen event", tabindex: "-1" }, this.steps, this.head, this.body);
  }

  // Shows the event, and then what takes longer to find: its effect and its relatives.
  // Without a version the newest is shown.
  async update(aggregate, version) {
    let found;
    let folding;
    try {
      found = await this.#event.run(async (signal) => {
        const near = this.#near.get(keyOf(aggregate, version));
        folding = near?.effect ?? load("effect", { aggregate, version }, signal);
        folding.catch(() => {}); // Told where it is awaited, if it still is.
        return near ? near.event : load("event", { aggregate, version }, signal);
      });
    } catch (error) {
      this.fail(error);
      return null;
    }
    if (!found) return null;
    this.shown = found;
    this.#draw(found);
    this.#fold(found, folding);
    this.#relatives(found);
    clearTimeout(this.ahead);
    this.ahead = setTimeout(() => this.#lookAhead(found), LOOK_AHEAD_AFTER);
    return found;
  }

  // Fetches an event that may be asked for next. It never changes, but its neighbours do while it
  // is the newest, so that one is fetched again when it is asked for.
  async expect(aggregate, version) {
    const key = keyOf(aggregate, version);
    if (this.#near.has(key)) return;
    const asked = { aggregate, version };
    const effect = load("effect", asked);
    effect.catch(() => this.#near.delete(key)); // Who asks for the event asks again and is told.
    try {
      const event = await load("event", asked);
      if (event.neighbours.following !== null) this.#near.set(key, { event, effect });
    } catch {
      return; // The same.
    }
    for (const old of [...this.#near.keys()].slice(0, -MOST_NEAR)) this.#near.delete(old);
  }

  async #lookAhead({ aggregate_id: aggregate, neighbours }) {
    for (const version of [neighbours.previous, neighbours.following]) {
      if (version !== null) await this.expect(aggregate, version);
    }
  }

  fail(error) {
    this.shown = null;
    show(this.steps);
    show(this.head);
    show(this.body, alertBox(error.message));
  }

  step(name) {
    const to = this.shown?.neighbours[name];
    if (to === undefined || to === null || to === this.shown.version) return;
    // The newest is asked for anew: what was known of it may be of a while ago.
    go({ ...current(), version: name === "last" ? undefined : to, at: undefined }, { step: true });
  }

  #draw(event) {
    show(this.steps, this.#stepButtons(event));
    show(
      this.head,
      h("h3", {}, h("span", { class: "version" }, number(event.version)), " ", typeName(event.event_type)),
      this.#copies(event),
    );
    show(
      this.body,
      facts([
        ["Occurred", moment(event.occurred_at)],
        event.recorded_at && ["Recorded", recorded(event)],
        ["By", event.actor === null ? h("span", { class: "faint" }, "not recorded") : h("bdi", {}, event.actor)],
      ]),
      section("What it changed", "changed", this.changes, true),
      section("Data", "data", [readAs(event), payload(event, "data")], true),
      section("State after", "state", this.state, true),
      this.family,
      section("Identity", "identity", facts(identity(event)), true),
      section("Metadata", "metadata", payload(event, "metadata"), true),
      rawSection(event),
    );
  }

  #stepButtons({ neighbours, version }) {
    const step = (name, label, key, drawn) => {
      const to = neighbours[name];
      const made = button(label, {
        icon: drawn,
        title: `${label} event (${key})`,
        disabled: to === null || to === version,
        onclick: () => this.step(name),
      });
      made.append(h("kbd", { "aria-hidden": "true" }, key));
      return made;
    };
    return [
      step("first", "First", "Home", "first"),
      step("previous", "Previous", "←", "back"),
      step("following", "Next", "→", "on"),
      step("last", "Newest", "End", "last"),
    ];
  }

  #copies(event) {
    const asked = { aggregate: event.aggregate_id, version: event.version };
    return h(
      "div",
      { class: "copies", role: "group", "aria-label": "Copy as" },
      copyButton("JSON", "The event as a line of an export", async () => (await text("line", asked)).trimEnd()),
      copyButton("Command", event.command, async () => event.command),
      copyButton("Link", "The address of this event", async () => new URL(address({ aggregate: event.aggregate_id, version: event.version }), location.href).href),
      h("a", { class: "diff-with", href: compared(event.aggregate_id, event.version, event.neighbours.first), title: "This version beside the one before it, or any other" }, "Diff with…"),
    );
  }

  async #fold(event, folding) {
    // What stands there is another event's: it keeps its room until the answer comes, unseen.
    const parts = [this.changes, this.state];
    for (const part of parts) part.classList.add("stale");
    const current = () => this.shown === event;
    const waiting = setTimeout(() => {
      if (!current()) return;
      for (const part of parts) part.classList.remove("stale");
      show(this.changes, h("p", { class: "faint" }, "Folding the events …"));
      show(this.state);
    }, SPINNER_AFTER);
    try {
      const effect = await folding;
      if (current()) this.#drawEffect(effect);
    } catch (error) {
      if (current()) {
        show(this.changes, alertBox(error.message));
        show(this.state);
      }
    } finally {
      clearTimeout(waiting);
      if (current()) for (const part of parts) part.classList.remove("stale");
    }
  }

  #drawEffect(effect) {
    show(this.changes, changed(effect));
    const reached = effect.born ? `reached, after version ${number(effect.version)}` : "reached, before the first event";
    const fields = new Set(effect.changes.map(({ field }) => field.split("/")[0]));
    show(
      this.state,
      effect.failure ? h("p", { class: "faint" }, `State ${reached}`) : null,
      effect.generic ? h("p", { class: "faint" }, "The events’ data merged: there is no domain code for this type.") : null,
      effect.state === null
        ? h("p", { class: "faint" }, `${number(effect.state_bytes)} bytes are too many for a tree; hindsight replay prints them.`)
        : tree(effect.state, { open: 2, marked: fields }),
    );
  }

  async #relatives(event) {
    show(this.family);
    if (event.correlation_id === null && event.causation_id === null) {
      this.#related.cancel();
      return;
    }
    try {
      const found = await this.#related.run((signal) =>
        load("related", { aggregate: event.aggregate_id, version: event.version }, signal),
      );
      if (found) show(this.family, section("Causes and effects", "family", familyTree(found, event), true));
    } catch (error) {
      show(this.family, alertBox(error.message));
    }
  }
}

function changed(effect) {
  if (effect.failure) return alertBox(effect.failure);
  if (!effect.changes.length) return h("p", { class: "faint" }, "Nothing: the state is as it was before.");
  const value = (json) => (json === null ? h("span", { class: "faint" }, "absent") : h("bdi", { class: "value" }, json));
  const rows = effect.changes.map(({ field, before, after }) =>
    h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, breakable(field))), h("td", {}, h("span", { class: "before" }, value(before)), h("span", { class: "arrow" }, " → "), value(after))),
  );
  const more = effect.more ? h("p", { class: "faint" }, `and ${number(effect.more)} more`) : null;
  return h("div", { class: "scroll", tabindex: "0" }, h("table", { class: "diff", "aria-label": "Fields before and after the event" }, h("tbody", {}, rows)), more);
}

// A long path may be broken behind its slashes.
const breakable = (path) => path.split("/").flatMap((part, index) => (index ? ["/", h("wbr", {}), part] : [part]));

function section(title, name, content, open) {
  const choice = kept(`section.${name}`);
  const details = h("details", { class: `section section-${name}`, open: choice === null ? open : choice === "open" }, h("summary", {}, h("h4", {}, title)), content);
  details.addEventListener("toggle", () => keep(`section.${name}`, details.open ? "open" : "closed"));
  return details;
}

const facts = (rows) =>
  h("dl", { class: "facts" }, rows.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

const moment = (iso) => [h("span", { class: "when" }, zoned(iso)), h("span", { class: "faint" }, ` ${relative(iso)}`)];

function recorded(event) {
  const later = microseconds(event.recorded_at) - microseconds(event.occurred_at);
  const told = later > 0 ? ` ${span(later)} later` : ` ${span(-later)} before it occurred`;
  return [h("span", { class: "when" }, zoned(event.recorded_at)), later ? h("span", { class: "faint" }, told) : null];
}

function identity(event) {
  return [
    ["Position", number(event.position)],
    ["Event id", code(event.event_id)],
    event.correlation_id !== null && ["Correlation id", filterLink("correlation", event.correlation_id)],
    event.causation_id !== null && ["Causation id", searchLink(event.causation_id)],
    ["Written as", written(event.event_type, event.event_version)],
    ["Read as", event.unreadable ? "this code cannot read it" : written(event.read_as, event.schema_version)],
    event.digest && ["Digest", code(event.digest)],
  ];
}

const written = (type, version) => [h("bdi", {}, type), ` in schema version ${number(version)}`];

function code(value) {
  return h("span", { class: "id" }, h("code", {}, value), copyButton("", `Copy ${value}`, async () => value));
}

const filterLink = (name, value) =>
  link(address({ [name]: value }), () => go({ [name]: value }), { title: "All its events" }, h("code", {}, value));

// What has this id may be anywhere: the search finds it.
const searchLink = (id) => {
  const view = () => ({ ...current(), q: id });
  return link(address(view()), () => go(view()), { title: "Search for the event" }, h("code", {}, id));
};

function payload(event, part) {
  if (event[part] === null) {
    return h("p", { class: "faint" }, `${number(event[`${part}_bytes`])} bytes are too many for a tree. Look at them as raw bytes.`);
  }
  return tree(event[part]);
}

// Says so where the data shown is not what is stored.
function readAs(event) {
  if (event.unreadable) return alertBox(`As it is stored: ${event.unreadable}`);
  if (event.event_version === event.schema_version && event.event_type === event.read_as) return null;
  return h("p", { class: "faint" }, `Written in schema version ${number(event.event_version)}, shown as it is read today, in ${number(event.schema_version)}.`);
}

function rawSection(event) {
  const content = h("div", {});
  const details = section("Raw bytes", "raw", content, false);
  const fill = async () => {
    if (!details.open || content.childElementCount) return;
    const asked = { aggregate: event.aggregate_id, version: event.version };
    try {
      const raw = await load("raw", asked);
      show(content, ["data", "metadata"].map((part) => rawPart(raw, part, asked)));
    } catch (error) {
      show(content, alertBox(error.message));
    }
  };
  details.addEventListener("toggle", fill);
  fill();
  return details;
}

function rawPart(raw, part, asked) {
  const size = raw[`${part}_bytes`];
  const whole = h("a", { href: documentAddress("bytes", { ...asked, part }), download: `${asked.version}.${part}.json` }, icon("save"), "Save all");
  return h("div", {}, h("p", { class: "faint" }, `${part} as stored, ${number(size)} bytes `, whole), h("pre", { class: "code", tabindex: "0", "aria-label": `${part} as stored` }, raw[part]));
}

// Who caused what, within one correlation id.
function familyTree(related, event) {
  if (!related.tree.length) {
    return h("p", { class: "faint" }, "Caused by ", h("code", {}, event.causation_id ?? ""), "; without a correlation id its relatives cannot be found.");
  }
  const view = { correlation: related.correlation_id };
  return h(
    "div",
    {},
    h(
      "p",
      { class: "faint" },
      `${number(related.count)}${related.cut ? " or more" : ""} with correlation id `,
      filterLink("correlation", related.correlation_id),
      " · ",
      link(address({ ...view, as: "lanes" }), () => go({ ...view, as: "lanes" }), {}, "on one axis"),
    ),
    branches(related.tree),
  );
}

// Nodes come parents first, each with the number of causes above it.
const branches = (nodes) =>
  h(
    "ul",
    { class: "branches" },
    nodes.map((node) =>
      h("li", { "aria-current": node.chosen ? "true" : null, style: `padding-left:${Math.min(node.depth, DEEPEST) * 16}px` }, branch(node)),
    ),
  );

function branch(node) {
  const view = { aggregate: node.aggregate_id, version: node.version };
  return [
    node.depth ? h("span", { class: "faint", "aria-hidden": "true" }, "└ ") : null,
    link(address(view), () => go(view), {}, typeName(node.event_type)),
    " ",
    h("bdi", { class: "faint" }, `${node.aggregate_id} ${number(node.version)}`),
  ];
}

export function copyButton(label, title, value) {
  const made = button(label, { icon: "copy", title, kind: label ? "small" : "small bare" });
  if (!label) made.setAttribute("aria-label", title);
  const shown = made.querySelector("span");
  shown.setAttribute("aria-live", "polite");
  made.addEventListener("click", async () => {
    let done = "Copied";
    try {
      await copy(await value());
    } catch (error) {
      done = error.message;
    }
    show(shown, done);
    setTimeout(() => show(shown, label), COPIED_FOR);
  });
  return made;
}

async function copy(value) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(value);
    return;
  }
  // Without TLS a browser hands no clipboard to a page; a selected field still can be copied.
  const field = h("textarea", { value, style: "position:fixed;opacity:0" });
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (!copied) throw new Error("The browser allows no copying here");
}
