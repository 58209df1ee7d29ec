// Elements, made without markup: whatever text goes in stays text.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export const h = (tag, properties, ...children) =>
  fill(document.createElement(tag), properties, children);

export const s = (tag, properties, ...children) =>
  fill(document.createElementNS(SVG, tag), properties, children);

const ICONS = {
  search: "M10 3a7 7 0 1 0 4.2 12.6l5 5 1.4-1.4-5-5A7 7 0 0 0 10 3zm0 2a5 5 0 1 1 0 10 5 5 0 0 1 0-10z",
  back: "M14 6l-6 6 6 6 1.4-1.4L10.8 12l4.6-4.6z",
  on: "M10 6l6 6-6 6-1.4-1.4 4.6-4.6-4.6-4.6z",
  first: "M6 6h2v12H6zm12 0l-6 6 6 6-1.4 1.4L9.2 12l7.4-7.4z",
  last: "M16 6h2v12h-2zM6 6l1.4-1.4L14.8 12l-7.4 7.4L6 18l6-6z",
  turn: "M8 4L4 8l1.4 1.4L7 7.8V18h2V7.8l1.6 1.6L12 8zm8 16l4-4-1.4-1.4-1.6 1.6V6h-2v10.2l-1.6-1.6L12 16z",
  copy: "M8 3h11v13h-2V5H8zM4 7h11v14H4zm2 2v10h7V9z",
  closer: "M10 3a7 7 0 1 0 4.2 12.6l5 5 1.4-1.4-5-5A7 7 0 0 0 10 3zm0 2a5 5 0 1 1 0 10 5 5 0 0 1 0-10zM9 7v2H7v2h2v2h2v-2h2V9h-2V7z",
  further: "M10 3a7 7 0 1 0 4.2 12.6l5 5 1.4-1.4-5-5A7 7 0 0 0 10 3zm0 2a5 5 0 1 1 0 10 5 5 0 0 1 0-10zM7 9v2h6V9z",
  close: "M6.4 5L5 6.4 10.6 12 5 17.6 6.4 19l5.6-5.6 5.6 5.6 1.4-1.4L13.4 12 19 6.4 17.6 5 12 10.6z",
  save: "M11 4h2v8l3-3 1.4 1.4L12 15.8l-5.4-5.4L8 9l3 3zM5 18h14v2H5z",
  alert: "M12 3l10 18H2zm0 4L5.4 19h13.2zm-1 4h2v4h-2zm0 5h2v2h-2z",
};

export const icon = (name) =>
  s("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, s("path", { d: ICONS[name] }));

// Calls back when the pointer rests on an element for a moment, or the keyboard comes to it.
const DWELL = 40;

export function onRest(element, call) {
  let timer;
  element.addEventListener("pointerenter", () => (timer = setTimeout(call, DWELL)));
  element.addEventListener("pointerleave", () => clearTimeout(timer));
  element.addEventListener("focusin", call);
  return element;
}

export const button = (label, { icon: name, onclick, title, disabled, pressed, kind = "" } = {}) =>
  h(
    "button",
    { type: "button", class: `button ${kind}`, onclick, title, disabled, "aria-pressed": pressed },
    name ? icon(name) : null,
    h("span", {}, label),
  );

// A link within the page: followed without loading it anew, yet a new tab, a copy, a bookmark work.
export const link = (address, follow, properties, ...children) =>
  h(
    "a",
    {
      href: address,
      onclick: (event) => {
        if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
        event.preventDefault();
        event.stopPropagation();
        follow();
      },
      ...properties,
    },
    ...children,
  );

// One formatter for all: toLocaleString makes a new one for every number.
const formatter = new Intl.NumberFormat("en-US");

export const number = (value) => formatter.format(value);

export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

export function alertBox(message, ...more) {
  return h("div", { class: "alert", role: "alert" }, icon("alert"), h("div", {}, message, ...more));
}

export function shortened(text, length) {
  if (text.length <= length) return text;
  const head = Math.floor(((length - 1) * 2) / 3);
  return `${text.slice(0, head)}…${text.slice(text.length - (length - 1 - head))}`;
}

// Streamlit scrolls an element around the page, not the window.
export function scrollToTop(element) {
  const root = element.getRootNode();
  for (let at = root.host ?? element; at; at = at.parentElement) at.scrollTop = 0;
}

const CONTROLS = "a, button, input, select, summary";
const told = (control) => [control.tagName, control.getAttribute("href"), control.getAttribute("aria-label"), control.textContent].join("\n");

// Swap a container's content in one go, so that nothing collapses in between. Who had the focus on a
// control finds it on the same one afterwards.
export function show(container, ...children) {
  const focused = container.getRootNode().activeElement;
  const had = focused && focused !== container && container.contains(focused);
  const before = had ? [...container.querySelectorAll(CONTROLS)] : [];
  container.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  if (!had) return;
  const after = [...container.querySelectorAll(CONTROLS)];
  const at = before.indexOf(focused);
  const alike = after.length === before.length ? after[at] : undefined;
  const same = after.filter((control) => told(control) === told(focused));
  (same.includes(alike) ? alike : (same[0] ?? alike))?.focus({ preventScroll: true });
}
