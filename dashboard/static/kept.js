// What a viewer chose once and finds again; a browser that keeps nothing forgets it with the page.

const memory = new Map();
const PREFIX = "hindsight.";

export function kept(name) {
  if (!memory.has(name)) {
    try {
      memory.set(name, localStorage.getItem(PREFIX + name));
    } catch {
      return null;
    }
  }
  return memory.get(name);
}

export function keep(name, value) {
  memory.set(name, value);
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // Storage is blocked or full: the choice holds until the page is left.
  }
}
