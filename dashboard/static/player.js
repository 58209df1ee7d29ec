// The controls over the scrubber: step, play, and jump to a version, a time, a change or an error.

import { Refused, load } from "./documents.js";
import { button, h, number, show } from "./dom.js";
import { typed } from "./moments.js";

const SPEEDS = [
  ["1×", 500],
  ["4×", 125],
  ["Real", null],
];
const SHORTEST_WAIT = 16;
// Nobody watches nothing happen for longer.
const LONGEST_WAIT = 2000;

export class Player {
  constructor(wanted) {
    Object.assign(this, wanted);
    this.speed = 0;
    this.version = h("input", { class: "jump-version", inputmode: "numeric", "aria-label": "Go to version", title: "Go to version (Enter)", autocomplete: "off", onkeydown: (event) => this.#entered(event, () => this.#toVersion()) });
    this.time = h("input", { class: "jump-time", "aria-label": "Go to the version at a time", placeholder: "2026-01-31 12:00Z", title: "Go to what was there at a time (Enter)", autocomplete: "off", spellcheck: "false", onkeydown: (event) => this.#entered(event, () => this.#toTime()) });
    this.told = h("span", { class: "faint jump-told", role: "status" });
    this.element = h("div", { class: "player" });
    this.#draw();
  }

  close() {
    this.#stop();
  }

  // The version has become another one, whoever made it so.
  moved() {
    const version = this.at();
    if (this.version.getRootNode().activeElement !== this.version) this.version.value = version;
    if (this.told.firstChild) show(this.told);
    const [atStart, atEnd] = [version <= this.first() - 1, version >= this.last()];
    if (this.back.disabled !== atStart) this.back.disabled = this.start.disabled = atStart;
    if (this.on.disabled !== atEnd) this.on.disabled = this.end.disabled = atEnd;
  }

  key(name) {
    const { [name]: act } = {
      ArrowLeft: () => this.#by(-1),
      ArrowRight: () => this.#by(1),
      Home: () => this.#to(this.first() - 1),
      End: () => this.#to(this.last()),
      " ": () => this.#toggle(),
      n: () => this.#change(true),
      p: () => this.#change(false),
      e: () => this.#error(),
    };
    act?.();
    return Boolean(act);
  }

  #draw() {
    this.start = button("First", { icon: "first", kind: "small", title: "Before the first event (Home)", onclick: () => this.#to(this.first() - 1) });
    this.back = button("Back", { icon: "back", kind: "small", title: "One event back (←)", onclick: () => this.#by(-1) });
    this.play = button("Play", { icon: "on", kind: "small play", title: "Play (space)", onclick: () => this.#toggle() });
    this.on = button("Next", { icon: "on", kind: "small", title: "One event on (→)", onclick: () => this.#by(1) });
    this.end = button("Newest", { icon: "last", kind: "small", title: "The newest event (End)", onclick: () => this.#to(this.last()) });
    this.speeds = h("div", { class: "segments", role: "group", "aria-label": "Speed" });
    this.#drawSpeeds();
    show(
      this.element,
      h("div", { class: "player-group" }, this.start, this.back, this.play, this.on, this.end),
      this.speeds,
      h("div", { class: "player-group" }, this.version, this.time),
      h(
        "div",
        { class: "player-group" },
        button("Pinned change", { kind: "small", title: "Next change of a pinned field (n, back: p)", onclick: () => this.#change(true) }),
        button("Error", { kind: "small", title: "Next event that cannot be applied (e)", onclick: () => this.#error() }),
      ),
      this.told,
    );
  }

  #drawSpeeds() {
    const title = (wait) => (wait === null ? "As it happened, idle time cut to 2 s" : `${number(1000 / wait)} events a second`);
    show(this.speeds, SPEEDS.map(([name, wait], index) => button(name, { kind: "small", pressed: this.speed === index ? "true" : "false", title: title(wait), onclick: () => this.#setSpeed(index) })));
  }

  #setSpeed(index) {
    this.speed = index;
    this.#drawSpeeds();
  }

  #to(version) {
    this.#stop();
    this.seek(version);
  }

  #by(count) {
    this.#to(Math.min(Math.max(this.at() + count, this.first() - 1), this.last()));
  }

  #toggle() {
    if (this.playing) {
      this.#stop();
      return;
    }
    if (this.at() >= this.last()) this.seek(this.first() - 1);
    this.playing = true;
    this.#drawPlay();
    this.#wait();
  }

  #wait() {
    const [, wait] = SPEEDS[this.speed];
    this.timer = setTimeout(() => this.#tick(), wait ?? this.#realWait());
  }

  // How long it really was until the next event, as far as it is known.
  #realWait() {
    const gap = this.following()?.gap;
    return Math.min(Math.max((gap ?? 0) / 1000, SHORTEST_WAIT), LONGEST_WAIT);
  }

  async #tick() {
    if (this.at() >= this.last()) {
      this.#stop();
      return;
    }
    await this.seek(this.at() + 1);
    if (!this.element.isConnected) this.#stop(); // Another page is shown now.
    if (this.playing) this.#wait();
  }

  #stop() {
    clearTimeout(this.timer);
    if (!this.playing) return;
    this.playing = false;
    this.#drawPlay();
  }

  #drawPlay() {
    this.play.querySelector("span").textContent = this.playing ? "Pause" : "Play";
    this.play.title = this.playing ? "Pause (space)" : "Play (space)";
    this.play.setAttribute("aria-pressed", this.playing ? "true" : "false");
  }

  #entered(event, act) {
    if (event.key === "Escape") event.target.blur();
    if (event.key !== "Enter") return;
    event.preventDefault();
    event.target.blur(); // The next keys are the page's.
    act();
  }

  #toVersion() {
    const text = this.version.value.trim().replaceAll(",", "");
    if (/^\d{1,15}$/.test(text)) this.#to(Number(text));
    else this.#say(`'${text.slice(0, 20)}' is no version`);
  }

  async #toTime() {
    const at = typed(this.time.value.trim());
    if (at === null) {
      this.#say("Write a time such as 2026-01-31 12:00Z");
      return;
    }
    try {
      const { version } = await load("reached", { aggregate: this.aggregate, at });
      this.#to(version);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#say(error.message);
    }
  }

  #change(forward) {
    const version = this.next(this.at(), forward);
    if (version === undefined) this.#say(`No change of a pinned field is known ${forward ? "after" : "before"} this version`);
    else this.#to(version);
  }

  async #error() {
    this.#say("Looking for events that cannot be applied …");
    try {
      const { versions, more, gap } = await this.failures();
      const version = versions.find((each) => each > this.at()) ?? versions[0];
      if (version !== undefined) this.#to(version);
      if (gap) this.#say(gap);
      else if (version === undefined) this.#say("Every event can be applied");
      else if (more && this.at() >= versions.at(-1)) this.#say(`The first ${number(versions.length)} were looked for`);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#say(error.message);
    }
  }

  #say(text) {
    show(this.told, text);
  }
}
