// The Timeline page: the finder beside the view that the address asks for.

import { AggregateView } from "./aggregate.js";
import { load, onBusy } from "./documents.js";
import { alertBox, button, h, icon, number, scrollToTop, show } from "./dom.js";
import { Finder } from "./finder.js";
import { setLooks } from "./looks.js";
import { isLocal, localZone, setLocal, span } from "./moments.js";
import { leavePreview, openPreview, rememberPlace } from "./preview.js";
import { StoreView } from "./store.js";
import { SwimlanesView } from "./swimlanes.js";
import { current, entitle, onView } from "./view.js";

const COUNTING = 500;
const CALM = 5000;
const DARK = 0.4;

// One for the whole document: Streamlit takes it away with its page and brings it back.
let timeline = null;

// Loads and draws the view before there is a place to show it, and shows it where it was last.
export async function prepare() {
  timeline = new Timeline();
  await timeline.drawn;
  const root = await openPreview(() => timeline.shown);
  if (root) timeline.preview(root);
}

export function mount(root) {
  timeline ??= new Timeline();
  leavePreview(root.host, () => timeline.show(root));
  requestAnimationFrame(() => rememberPlace(root.host));
}

class Timeline {
  constructor() {
    this.finder = new Finder();
    this.main = h("main", { class: "main", "aria-label": "Timeline" });
    this.bar = h("div", { class: "bar" });
    this.notice = h("div", { class: "notice", role: "status" });
    this.element = h("div", { class: "app" }, this.finder.element, h("div", { class: "stage" }, this.bar, this.main));
    onBusy((busy) => this.main.setAttribute("aria-busy", busy));
    document.addEventListener("keydown", (event) => this.#key(event));
    // Streamlit has shortcuts of its own; letters typed into our fields are none of them.
    this.element.addEventListener("keydown", (event) => {
      if (isField(event.composedPath()[0])) event.stopPropagation();
    });
    onView((view) => this.#isShown() && this.update(view));
    this.#drawBar();
    this.#learn();
    this.drawn = this.update(current());
  }

  preview(root) {
    root.append(this.element);
    this.#followTheme(root.host);
  }

  show(root) {
    const back = this.shown && this.element.parentNode !== root;
    const focused = this.element.getRootNode().activeElement;
    if (this.element.parentNode !== root) root.append(this.element);
    focused?.focus({ preventScroll: true });
    this.#followTheme(root.host ?? document.body);
    this.shown = true;
    if (back) this.update(current());
    entitle();
  }

  // Until it was shown for the first time it is being made ready.
  #isShown() {
    return !this.shown || this.element.isConnected;
  }

  // Resolves when what the view shows has been drawn.
  async update(view) {
    const wrong = objection(view);
    if (wrong) {
      this.#swap(null);
      show(this.main, alertBox(wrong));
      return;
    }
    this.finder.update(view);
    const Wanted = view.lane || view.as === "lanes" ? SwimlanesView : view.aggregate ? AggregateView : StoreView;
    if (!(this.view instanceof Wanted)) {
      this.#swap(new Wanted(this.store));
      show(this.main, this.view.element);
      scrollToTop(this.element);
    }
    await this.view.update(view);
  }

  #swap(view) {
    this.view?.close();
    this.view = view;
  }

  // What the store holds: its types and their looks, exact once all has been counted.
  async #learn() {
    let wait = CALM;
    if (!this.#isShown()) {
      setTimeout(() => this.#learn(), wait);
      return;
    }
    try {
      const store = await load("store", {});
      const changed = JSON.stringify([store.looks, store.name]) !== JSON.stringify([this.store?.looks, this.store?.name]);
      if (this.store?.empty && !store.empty) this.finder.reload();
      this.store = store;
      this.#drawWatermark(store.watermark);
      this.finder.types(store.aggregate_types);
      setLooks(store.looks);
      if (changed) {
        this.#drawBar();
        this.view?.redraw();
      }
      this.view?.learn?.(store);
      wait = store.complete ? CALM : COUNTING;
    } catch (error) {
      show(this.notice, alertBox(error.message));
    }
    setTimeout(() => (document.hidden ? this.#whenSeen() : this.#learn()), wait);
  }

  #whenSeen() {
    document.addEventListener("visibilitychange", () => this.#learn(), { once: true });
  }

  #drawBar() {
    const zone = (name, local) =>
      button(name, { pressed: isLocal() === local ? "true" : "false", title: `Show times in ${name}`, onclick: () => this.#setZone(local) });
    show(
      this.bar,
      h("span", { class: "store-name" }, h("bdi", {}, this.store?.name ?? "")),
      this.notice,
      h("div", { class: "segments", role: "group", "aria-label": "Time zone" }, zone("UTC", false), zone(localZone() === "UTC" ? "Local (UTC)" : localZone(), true)),
    );
  }

  #setZone(local) {
    setLocal(local);
    this.#drawBar();
    this.view?.redraw();
  }

  #drawWatermark(watermark) {
    if (!watermark) {
      show(this.notice);
      return;
    }
    const by = watermark.pid === null ? "by a transaction" : `by pid ${watermark.pid}`;
    const since = watermark.held_for === null ? "" : ` for ${span(watermark.held_for)}`;
    show(
      this.notice,
      h("p", { class: "held", title: "Followers of the feed wait: it may still fill the next position." }, icon("alert"), `Readers are held at #${number(watermark.position)} ${by}${since}`),
    );
  }

  #key(event) {
    if (!this.element.isConnected) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.composedPath()[0];
    if (isField(target)) return;
    if (event.key === "/") {
      event.preventDefault();
      this.finder.focus();
      return;
    }
    // A focused control has the first word; arrows belong to nobody but a field.
    if (event.key === "Enter" && target instanceof Element && target.matches("a, button, summary")) return;
    if (this.view?.key?.(event.key)) event.preventDefault();
  }

  // Streamlit's variables say which theme is on; nothing says it is dark but its background.
  #followTheme(host) {
    this.host = host;
    const apply = () => {
      const background = getComputedStyle(this.host).getPropertyValue("--st-background-color").trim();
      this.element.classList.toggle("dark", lightness(background) < DARK);
    };
    apply();
    if (this.themed) return;
    this.themed = true;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTimeout(apply, 100));
  }
}

function lightness(colour) {
  const hex = /^#([0-9a-f]{6})/i.exec(colour)?.[1];
  const channels = hex ? [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)) : (colour.match(/\d+/g) ?? [255]).slice(0, 3).map(Number);
  return Math.max(...channels) / 255;
}

const isField = (element) => element instanceof Element && element.matches("input, textarea, select, [contenteditable]");

const MOMENT = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?(Z|[+-]\d\d:?\d\d)$/;

// What no view can be; the server says the same of documents, but a page needs one line, not five.
function objection(view) {
  for (const name of ["version", "at", "before", "after"]) {
    if (view[name] !== undefined && !/^\d{1,18}$/.test(view[name])) return `${name}: '${view[name].slice(0, 40)}' is not a number; correct the address`;
  }
  for (const name of ["since", "until"]) {
    if (view[name] !== undefined && !(MOMENT.test(view[name]) && !Number.isNaN(Date.parse(view[name])))) {
      return `${name}: '${view[name].slice(0, 40)}' is not a time such as 2026-01-31T12:00:00Z`;
    }
  }
  if (view.since && view.until && Date.parse(view.since) >= Date.parse(view.until)) return "since: it must be before until";
  if (view.version && !view.aggregate) return "version: which aggregate's? Add aggregate=ID to the address";
  return null;
}

