// The alerts that fire: how bad, what it is, since when, and where to read what to do.

import { h, plural, show } from "./dom.js";
import { iso, stamp, zoneName } from "./moments.js";

export class Alerts {
  #told = "";

  constructor() {
    this.list = h("ul");
    this.line = h("p", { class: "faint" });
    this.element = h("section", { class: "alerts", "aria-label": "Alerts" }, this.list, this.line);
  }

  // Drawn anew only when something else is told, as people read and select it.
  update(alerts) {
    const told = JSON.stringify(alerts);
    if (told === this.#told) return;
    this.#told = told;
    const firing = alerts?.firing ?? [];
    show(this.list, firing.map(fired));
    this.list.hidden = !firing.length;
    show(this.line, line(alerts, firing.length));
  }
}

function fired({ name, severity, summary, since }) {
  return h(
    "li",
    { class: severity },
    h("strong", { class: "severity" }, severity),
    h("span", { class: "what" }, h("bdi", {}, summary), since === null ? "" : h("small", { class: "faint" }, ` since ${stamp(iso(since), 0)} ${zoneName()}`)),
    h("code", { class: "faint", title: "Where it says what to do" }, `docs/runbooks/${name}.md`),
  );
}

function line(alerts, firing) {
  if (!alerts) return "Alerts: not looked at, as the store could not be asked.";
  const who = alerts.by === "prometheus" ? "Prometheus" : "this page, without a Prometheus,";
  const rules = `${who} looks at ${plural(alerts.rules, "rule")}`;
  if (!firing) return `No alert fires; ${rules}.`;
  return `${plural(firing, "alert")} ${firing === 1 ? "fires" : "fire"}; ${rules}.`;
}
