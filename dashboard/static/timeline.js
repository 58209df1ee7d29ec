// The Timeline page: the finder beside the view that the address asks for.

import { AggregateView } from "./aggregate.js";
import { alertBox, h, icon, number, scrollToTop, show } from "./dom.js";
import { FinderPage } from "./finderpage.js";
import { span } from "./moments.js";
import { onlyOne } from "./page.js";
import { StoreView } from "./store.js";
import { SwimlanesView } from "./swimlanes.js";

export const { prepare, mount } = onlyOne(() => new Timeline(), "timeline.css");

class Timeline extends FinderPage {
  constructor() {
    super("Timeline");
    this.notice = h("div", { class: "notice", role: "status" });
    this.start();
  }

  tools() {
    return this.notice;
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

  redraw() {
    this.view?.redraw();
  }

  learn(store, before) {
    super.learn(store, before);
    this.#drawWatermark(store.watermark);
    this.view?.learn?.(store);
  }

  fail(error) {
    show(this.notice, alertBox(error.message));
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

  key(name) {
    return this.view?.key?.(name);
  }
}

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

