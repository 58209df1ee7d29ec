// What every page is: a bar over its content, in Streamlit's theme and at the place Streamlit gives it.

import { load, onBusy } from "./documents.js";
import { button, h, show } from "./dom.js";
import { setLooks } from "./looks.js";
import { isLocal, localZone, setLocal } from "./moments.js";
import { leavePreview, openPreview, rememberPlace, styles } from "./preview.js";
import { arrive, current, entitle, onView } from "./view.js";

const COUNTING = 500;
const CALM = 5000;
const DARK = 0.4;

// One for the whole document: Streamlit takes it away with its page and brings it back.
export function onlyOne(make, ...sheets) {
  const styled = styles(sheets);
  let page = null;
  return {
    // Loads and draws the view before there is a place to show it, and shows it where it was last.
    async prepare() {
      page = make();
      await page.drawn;
      const root = await openPreview(() => page.shown, styled);
      if (root) page.preview(root);
    },
    mount(root) {
      page ??= make();
      leavePreview(root.host, () => page.show(root));
      requestAnimationFrame(() => rememberPlace(root.host));
    },
  };
}

// A page says how it is updated and redrawn, what its bar holds, and what it makes of the store.
export class Page {
  constructor(name, ...beside) {
    this.main = h("main", { class: "main", "aria-label": name });
    this.bar = h("div", { class: "bar" });
    this.stage = h("div", { class: "stage" }, this.bar, this.main);
    this.element = h("div", { class: `app ${name.toLowerCase().replaceAll(" ", "-")}` }, beside, this.stage);
    onBusy((busy) => this.main.setAttribute("aria-busy", busy));
    onView((view) => this.isShown() && this.update(view));
  }

  // Once the page has all its parts.
  start() {
    this.drawBar();
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
    arrive();
    if (back) this.#comeBack();
    entitle();
  }

  // Until it was shown for the first time it is being made ready.
  isShown() {
    return !this.shown || this.element.isConnected;
  }

  drawBar() {
    const zone = (name, local) =>
      button(name, { pressed: isLocal() === local ? "true" : "false", title: `Show times in ${name}`, onclick: () => this.#setZone(local) });
    show(
      this.bar,
      h("span", { class: "store-name" }, h("bdi", {}, this.store?.name ?? "")),
      this.tools(),
      h("div", { class: "segments", role: "group", "aria-label": "Time zone" }, zone("UTC", false), zone(localZone() === "UTC" ? "Local (UTC)" : localZone(), true)),
    );
  }

  // What a page makes of the store beyond the looks of its types.
  learn() {}

  // The store is not to be had just now.
  fail() {}

  // The zone may have been changed on another page.
  #comeBack() {
    this.drawBar();
    this.redraw();
    this.update(current());
  }

  #setZone(local) {
    setLocal(local);
    this.drawBar();
    this.redraw();
  }

  // What the store holds: its types and their looks, exact once all has been counted.
  async #learn() {
    let wait = CALM;
    if (!this.isShown()) {
      setTimeout(() => this.#learn(), wait);
      return;
    }
    try {
      const store = await load("store", {});
      const before = this.store;
      const changed = JSON.stringify([store.looks, store.name]) !== JSON.stringify([before?.looks, before?.name]);
      this.store = store;
      setLooks(store.looks);
      if (changed) {
        this.drawBar();
        this.redraw();
      }
      this.learn(store, before);
      wait = store.complete ? CALM : COUNTING;
    } catch (error) {
      this.fail(error);
    }
    setTimeout(() => (document.hidden ? this.#whenSeen() : this.#learn()), wait);
  }

  #whenSeen() {
    document.addEventListener("visibilitychange", () => this.#learn(), { once: true });
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
