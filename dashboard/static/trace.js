// A trace: one aggregate's history in a file of its own, to be stepped through without a server.

import { blamed } from "./blamed.js";
import { differences } from "./differences.js";
import { alertBox, button, h, number, plural, shortened, show } from "./dom.js";
import { parseExact, written } from "./exact.js";
import { tree } from "./jsontree.js";
import { setLooks, typeName } from "./looks.js";
import { span, zoned } from "./moments.js";
import { find } from "./patches.js";
import { Scrubber } from "./scrubber.js";
import { StateTree } from "./statetree.js";
import { Told } from "./told.js";

const WAIT = 500;
const RESTED = 150;
const MOST = 200;
const LONGEST = 160;

class Trace {
  constructor(told) {
    this.told = told;
    this.types = [...new Set(told.events.map((event) => event.event_type))];
    setLooks(Object.fromEntries(this.types.map((type, index) => [type, index])));
    this.scrubber = new Scrubber({ seek: (version) => this.go(version) });
    this.tree = new StateTree({ choose: (path) => this.choose(path) });
    this.position = h("span", { class: "position", role: "status" });
    this.field = h("section", { class: "field", "aria-label": "Chosen field", hidden: true });
    this.event = h("section", { class: "step", "aria-label": "Event of this version" });
    this.data = h("div", { class: "step-data" });
    this.found = h("span", { class: "faint", role: "status" });
    this.search = h("input", { type: "search", "aria-label": "Search", placeholder: "Search keys and values", autocomplete: "off", spellcheck: "false", oninput: () => this.#searched(), onkeydown: (event) => this.#searching(event) });
    this.element = h(
      "main",
      { class: "app trace replay" },
      this.#header(),
      h("div", { class: "deck" }, this.#player(), this.scrubber.element),
      h(
        "div",
        { class: "replay-columns" },
        h("section", { class: "state-pane", "aria-label": "State" }, h("div", { class: "state-search-head" }, this.search, button("Next", { kind: "small", title: "Next version with this text in its event or changes (Enter)", onclick: () => this.#next() }), this.found), this.tree.element),
        h("div", { class: "column", tabindex: "0", role: "region", "aria-label": "Details" }, this.field, this.event, this.data, this.#compare()),
      ),
    );
    document.body.append(this.element);
    this.#dress();
    this.scrubber.update({ first: told.first, last: told.last, kinds: told.events.map((event) => this.types.indexOf(event.event_type)), types: this.types });
    document.addEventListener("keydown", (event) => this.#key(event));
    this.go(told.last);
  }

  go(version) {
    const { told } = this;
    this.version = Math.min(Math.max(version, told.first - 1), told.last);
    const step = told.at(this.version);
    this.scrubber.moveTo(this.version, step.event ? `version ${number(this.version)}, ${step.event.event_type}` : "before the first event");
    this.position.textContent = `${number(this.version)} of ${number(told.last)}`;
    this.tree.show(step);
    this.start.disabled = this.back.disabled = this.version < told.first;
    this.on.disabled = this.end.disabled = this.version === told.last;
    this.#drawEvent(step);
    // A tree, or a walk through the history, takes longer than all the rest; who holds a key down reads neither.
    this.data.classList.add("stale");
    this.field.classList.add("stale");
    clearTimeout(this.rested);
    this.rested = setTimeout(() => this.#rest(step), RESTED);
    this.#searched();
    if (this.other.getRootNode().activeElement !== this.other) this.other.value = Math.max(this.version - 1, told.first - 1);
    show(this.difference);
  }

  choose(path) {
    this.path = path;
    this.tree.chooseField(path);
    this.#drawField();
  }

  #rest(step) {
    if (step.event) this.#drawData(step);
    this.#drawField();
  }

  // The looks of the dark theme, which go with a class.
  #dress() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const dress = () => {
      this.element.classList.toggle("dark", dark.matches);
      this.scrubber.redraw();
    };
    dark.addEventListener("change", dress);
    dress();
  }

  #header() {
    const { header, first, last } = this.told;
    const label = (text, kind = "") => h("span", { class: `label ${kind}` }, text);
    return h(
      "header",
      { class: "title replay-title" },
      h("p", { class: "crumbs" }, h("bdi", {}, header.aggregate_type)),
      h("h1", {}, h("bdi", {}, header.aggregate_id), " ", this.position),
      h(
        "div",
        { class: "facts" },
        masking(header.masked, label),
        header.generic ? label("the events’ data merged: there was no domain code for this type", "warn") : null,
        h("span", {}, versions(first, last, header.newest)),
        h("span", {}, "from ", h("bdi", {}, header.store)),
        h("span", {}, `made ${zoned(header.made_at)}`),
      ),
      header.gap ? alertBox(header.gap) : null,
    );
  }

  #player() {
    const { told } = this;
    this.start = button("First", { icon: "first", kind: "small", title: "Before the first event (Home)", onclick: () => this.#to(told.first - 1) });
    this.back = button("Back", { icon: "back", kind: "small", title: "One event back (←)", onclick: () => this.#to(this.version - 1) });
    this.play = button("Play", { icon: "on", kind: "small play", title: "Play (space)", pressed: "false", onclick: () => this.#toggle() });
    this.on = button("Next", { icon: "on", kind: "small", title: "One event on (→)", onclick: () => this.#to(this.version + 1) });
    this.end = button("Last", { icon: "last", kind: "small", title: "The last event (End)", onclick: () => this.#to(told.last) });
    return h("div", { class: "player" }, h("div", { class: "player-group" }, this.start, this.back, this.play, this.on, this.end));
  }

  #to(version) {
    this.#stop();
    this.go(version);
  }

  #toggle() {
    if (this.playing) {
      this.#stop();
      return;
    }
    if (this.version === this.told.last) this.go(this.told.first - 1);
    this.playing = setInterval(() => {
      this.go(this.version + 1);
      if (this.version === this.told.last) this.#stop();
    }, WAIT);
    this.#drawPlay();
  }

  #stop() {
    clearInterval(this.playing);
    this.playing = undefined;
    this.#drawPlay();
  }

  #drawPlay() {
    this.play.querySelector("span").textContent = this.playing ? "Pause" : "Play";
    this.play.setAttribute("aria-pressed", this.playing ? "true" : "false");
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { target } = event;
    if (target.matches("input:not([type=range])")) return;
    if (event.key === " " && target.matches("button, summary")) return;
    const { [event.key]: act } = {
      ArrowLeft: () => this.#to(this.version - 1),
      ArrowRight: () => this.#to(this.version + 1),
      Home: () => this.#to(this.told.first - 1),
      End: () => this.#to(this.told.last),
      " ": () => this.#toggle(),
      "/": () => this.search.focus(),
      Escape: () => this.choose(undefined),
    };
    if (!act) return;
    event.preventDefault();
    act();
  }

  #drawEvent(step) {
    const { event } = step;
    if (!event) {
      show(this.event, h("h2", {}, `Before event ${number(this.told.first)}`));
      show(this.data);
      return;
    }
    const { actor, correlation_id: correlation } = event.metadata;
    const facts = [zoned(event.occurred_at), step.gap === undefined ? null : `${span(step.gap)} after the one before`, actor ? `by ${text(actor)}` : null, correlation ? `correlation id ${text(correlation)}` : null];
    show(
      this.event,
      h("div", { class: "event-head" }, h("h2", {}, h("span", { class: "version" }, number(this.version)), " ", typeName(event.event_type))),
      h("p", { class: "faint step-facts" }, facts.filter(Boolean).join(" · ")),
      step.error ? alertBox(step.error) : this.#changed(step.changes),
    );
  }

  #changed(changes) {
    if (!changes.length) return h("p", { class: "faint" }, "It changed nothing.");
    return h("ul", { class: "changes-list", "aria-label": "What it changed" }, changes.slice(0, MOST).map((change) => h("li", {}, this.#told(change))), left(changes));
  }

  #told({ op, path, from, value, before }) {
    if (op === "move") return [this.#chooser(path), h("span", { class: "faint" }, ` moved from ${from}`)];
    return [this.#chooser(path), " ", h("span", { class: "before" }, shown(before)), " → ", shown(op === "remove" ? undefined : value)];
  }

  #chooser(path) {
    return h("button", { type: "button", class: "inline", title: "Who set it?", onclick: () => this.choose(path) }, path || "the whole state");
  }

  #drawData({ event, read }) {
    const { data, metadata } = event;
    const part = (title, value) => [h("h3", {}, title), tree(written(value))];
    show(
      this.data,
      read ? part(`Data, as it is read: ${read.event_type} ${number(read.schema_version)}`, read.data) : null,
      part(read ? `Data, as it was stored in schema version ${number(event.schema_version)}` : "Data", data),
      Object.keys(metadata).length ? part("Metadata", metadata) : null,
    );
    this.data.classList.remove("stale");
  }

  #drawField() {
    const { path, told, version } = this;
    this.field.hidden = path === undefined;
    this.field.classList.remove("stale");
    if (path === undefined) return;
    const history = taken(MOST + 1, blamed((at) => told.changes[at - told.first], version, told.first, path));
    const value = find(told.state(version), path);
    show(
      this.field,
      h("div", { class: "field-head" }, h("h2", {}, h("bdi", {}, path || "The whole state")), button("Close", { kind: "small", icon: "close", title: "Close (Escape)", onclick: () => this.choose(undefined) })),
      h("p", { class: "value" }, shown(value)),
      h("p", { class: "origin" }, history.length ? this.#origin(history[0], value) : this.#unset()),
      history.length > 1 ? h("div", { class: "scroll field-history", tabindex: "0" }, h("table", { class: "diff", "aria-label": "History of the field" }, h("tbody", {}, history.slice(0, MOST).map((entry) => this.#entry(entry))))) : null,
      history.length > MOST ? h("p", { class: "faint" }, "and others before") : null,
    );
  }

  #origin({ version }, value) {
    const event = this.told.events[version - this.told.first];
    const { actor } = event.metadata;
    return [value === undefined ? "Taken away by " : "Set by ", this.#seeker(version), " ", typeName(event.event_type), " ", h("span", { class: "faint" }, `${zoned(event.occurred_at)}${actor ? `, ${text(actor)}` : ""}`)];
  }

  #unset() {
    return this.told.header.cut ? "No event of this trace has set it until here; those before are left out." : "No event has set it until here.";
  }

  #entry({ version, change }) {
    return h("tr", {}, h("td", { class: "number" }, this.#seeker(version)), h("td", {}, typeName(this.told.events[version - this.told.first].event_type)), h("td", {}, this.#told(change)));
  }

  #seeker(version) {
    return h("button", { type: "button", class: "inline", title: "Go to this version", onclick: () => this.#to(version) }, number(version));
  }

  #compare() {
    this.other = h("input", { inputmode: "numeric", "aria-label": "Compare with version", autocomplete: "off" });
    this.difference = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Differences" });
    const form = h("form", { onsubmit: (event) => this.#compared(event) }, h("h2", {}, "Compare"), "this version with", this.other, h("button", { class: "button small" }, "Compare"));
    return h("section", { class: "compare", "aria-label": "Compare" }, form, this.difference);
  }

  #compared(event) {
    event.preventDefault();
    const { told, version } = this;
    const other = /^\d{1,15}$/.test(this.other.value.trim()) ? Number(this.other.value) : NaN;
    if (!(other >= told.first - 1 && other <= told.last)) {
      show(this.difference, h("p", {}, `Write a version from ${number(told.first - 1)} to ${number(told.last)}.`));
      return;
    }
    const [one, two] = [Math.min(other, version), Math.max(other, version)];
    const found = [...differences(told.state(one), told.state(two))];
    show(
      this.difference,
      h("p", { class: "faint" }, `${number(one)} → ${number(two)}: ${found.length ? plural(found.length, "difference") : "nothing differs"}`),
      h("ul", { class: "changes-list" }, found.slice(0, MOST).map(({ path, before, after }) => h("li", {}, this.#chooser(path), " ", h("span", { class: "before" }, shown(before)), " → ", shown(after)))),
      left(found),
    );
  }

  #searched() {
    this.tree.search(this.search.value);
    show(this.found, this.search.value ? `${number(this.tree.matches)} here` : null);
  }

  #searching(event) {
    if (event.key === "Escape") this.search.blur();
    if (event.key === "Enter") this.#next();
  }

  // To the next version whose event or changes hold the text, around the end.
  #next() {
    const wanted = this.search.value.toLowerCase();
    if (!wanted) return;
    const { first, last } = this.told;
    const count = last - first + 1;
    for (let index = 1; index <= count; index += 1) {
      const version = first + ((Math.max(this.version, first - 1) - first + index) % count);
      if (this.#holds(version, wanted)) {
        this.#to(version);
        return;
      }
    }
    show(this.found, "nowhere");
  }

  #holds(version, wanted) {
    const index = version - this.told.first;
    const [event, { patch }] = [this.told.events[index], this.told.steps[index]];
    return [event.event_type, written(event.data), written(event.metadata), written(patch)].some((each) => each.toLowerCase().includes(wanted));
  }
}

const text = (value) => (typeof value === "string" ? value : written(value));

const shown = (value) => (value === undefined ? h("span", { class: "faint" }, "absent") : h("bdi", { class: "value" }, shortened(written(value), LONGEST)));

function taken(count, all) {
  const found = [];
  for (const each of all) {
    found.push(each);
    if (found.length === count) break;
  }
  return found;
}

const left = (all) => (all.length > MOST ? h("p", { class: "faint" }, `and ${number(all.length - MOST)} more`) : null);

function masking(masked, label) {
  if (masked === null) return label("nothing masked", "warn");
  if (!masked.length) return label("nothing masked: nothing was known to be personal", "warn");
  const told = label("personal fields masked");
  told.title = masked.join(", ");
  return told;
}

function versions(first, last, newest) {
  const told = `versions ${number(first)} to ${number(last)}`;
  return last === newest ? told : `${told} of ${number(newest)}`;
}

const lines = document.getElementById("events").textContent.split("\n").filter((line) => line.trim());
new Trace(new Told(lines, parseExact(document.getElementById("trace").textContent)));
