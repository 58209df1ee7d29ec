// Asking the server for documents.

import { query } from "./view.js";

export class Refused extends Error {
  constructor(message, kind) {
    super(message);
    this.kind = kind;
  }
}

export const documentAddress = (name, params) =>
  new URL(`documents/${name}?${query(params)}`, document.baseURI).href;

// Who waits longer than a glance is told so.
const BUSY_AFTER = 250;
let waiting = 0;
const listeners = [];

export const onBusy = (listener) => listeners.push(listener);
const announce = (busy) => listeners.forEach((listener) => listener(busy));

async function answered(address, signal) {
  let told = false;
  const timer = setTimeout(() => {
    told = true;
    waiting += 1;
    announce(true);
  }, BUSY_AFTER);
  try {
    return await fetch(address, { signal });
  } finally {
    clearTimeout(timer);
    if (told) {
      waiting -= 1;
      announce(waiting > 0);
    }
  }
}

async function asked(name, params, signal) {
  let response;
  try {
    response = await answered(documentAddress(name, params), signal);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is it still running?", "Unreachable");
  }
  if (response.ok) return response;
  const type = response.headers.get("content-type") ?? "";
  const answer = type.includes("json") ? await response.json() : {};
  throw new Refused(answer.error ?? `The server answered ${response.status}.`, answer.kind ?? "Failed");
}

// `read` makes the document of its text.
export async function load(name, params, signal, read = JSON.parse) {
  const address = documentAddress(name, params);
  const ahead = expected.get(address);
  expected.delete(address);
  if (ahead && Date.now() < ahead.until) return read(await ahead.answer);
  return read(await (await asked(name, params, signal)).text());
}

// Asks beforehand what the next click may want to know: who points at something is about to.
// The answer is used once, and soon, for it grows old.
const EXPECTED_FOR = 2000;
const MOST_EXPECTED = 24;
const expected = new Map();

export function expect(name, params) {
  const address = documentAddress(name, params);
  if ((expected.get(address)?.until ?? 0) > Date.now()) return;
  const answer = asked(name, params).then((response) => response.text());
  answer.catch(() => expected.delete(address)); // Who asks in earnest asks again, and is told.
  expected.set(address, { answer, until: Date.now() + EXPECTED_FOR });
  for (const old of [...expected.keys()].slice(0, -MOST_EXPECTED)) expected.delete(old);
}

export async function text(name, params) {
  return (await asked(name, params)).text();
}

// Only the newest of several questions is answered: an older answer never overwrites a newer one.
export class Latest {
  #running = null;

  async run(question) {
    this.#running?.abort();
    const controller = new AbortController();
    this.#running = controller;
    try {
      const answer = await question(controller.signal);
      return controller.signal.aborted ? undefined : answer;
    } catch (error) {
      if (controller.signal.aborted) return undefined;
      throw error;
    } finally {
      if (this.#running === controller) this.#running = null;
    }
  }

  cancel() {
    this.#running?.abort();
  }
}
