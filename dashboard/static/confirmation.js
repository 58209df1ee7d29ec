// Asks for a reason before something is done that others will want to know why.

import { Refused } from "./documents.js";
import { alertBox, button, h, number, show } from "./dom.js";

const TEXTS = {
  redrive: { title: "Redrive", done: "Redriven", told: "It is published again as if it had never been tried, and what waits behind it follows." },
  skip: { title: "Skip", done: "Skipped", told: "It is not published, and what waits behind it goes on without it. It can be redriven later, out of order." },
};

export class Confirmation {
  // `done` hears what has been done.
  constructor({ done }) {
    this.done = done;
    this.title = h("h2", { id: "confirmed" });
    this.told = h("p", { class: "faint" });
    this.reason = h("input", { name: "reason", required: true, maxlength: 500, autocomplete: "off", "aria-label": "Reason", placeholder: "Why? Others will read it" });
    this.problem = h("div", {});
    this.submit = h("button", { class: "button primary", type: "submit" });
    const form = h("form", { method: "dialog", onsubmit: (event) => this.#send(event) }, this.title, this.told, this.reason, this.problem, h("div", { class: "choices" }, button("Cancel", { onclick: () => this.element.close() }), this.submit));
    this.element = h("dialog", { "aria-labelledby": "confirmed", class: "confirmation" }, form);
  }

  ask(action, { aggregate_id: aggregate, version }) {
    this.act = { action, aggregate, version };
    const { title, told } = TEXTS[action];
    show(this.title, `${title} `, h("bdi", {}, aggregate), ` version ${number(version)}?`);
    show(this.told, told);
    show(this.submit, title);
    show(this.problem);
    this.reason.value = "";
    this.submit.disabled = false;
    this.element.showModal();
    this.reason.focus();
  }

  async #send(event) {
    event.preventDefault();
    this.submit.disabled = true;
    const { action, aggregate, version } = this.act;
    try {
      await post("operate", { ...this.act, reason: this.reason.value.trim() });
      this.element.close();
      this.done(`${TEXTS[action].done}: ${aggregate} version ${number(version)}.`);
    } catch (error) {
      show(this.problem, alertBox(error.message));
      this.submit.disabled = false;
    }
  }
}

// JSON, which no form of another site can send without having asked first.
async function post(name, body) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(new URL(`documents/${name}`, document.baseURI), options);
  } catch {
    throw new Refused("The server does not answer. Is it still running?", "Unreachable");
  }
  const type = response.headers.get("content-type") ?? "";
  const answer = type.includes("json") ? await response.json() : {};
  if (!response.ok) throw new Refused(answer.error ?? `The server answered ${response.status}.`, answer.kind ?? "Failed");
  return answer;
}
