// Shows the view where the viewer saw it last, before Streamlit has started and has a place for it.

import { h } from "./dom.js";
import { keep, kept } from "./kept.js";

// What the style sheet asks Streamlit for.
const THEME = ["text-color", "background-color", "secondary-background-color", "primary-color", "border-color", "link-color", "font", "code-font"].map((name) => `--st-${name}`);

// Another window or another theme has another place, and other colours.
const seenIn = () => `${innerWidth} ${matchMedia("(prefers-color-scheme: dark)").matches}`;

let preview = null;
let released = Promise.resolve();

// The text of some of our style sheets.
export async function styles(sheets) {
  const answers = await Promise.all(sheets.map((name) => fetch(new URL(name, import.meta.url))));
  return (await Promise.all(answers.map((answer) => answer.text()))).join("");
}

// Where Streamlit has put the view.
export function rememberPlace(host) {
  const { left, top: seen, width } = host.getBoundingClientRect();
  const top = seen + ancestors(host).reduce((sum, { scrollTop }) => sum + scrollTop, 0);
  const styles = getComputedStyle(host);
  const theme = Object.fromEntries(THEME.map((name) => [name, styles.getPropertyValue(name)]));
  keep("place", JSON.stringify({ seenIn: seenIn(), left, top, width, theme }));
}

// A place for the view to be shown in for now; none where nothing is known or Streamlit is quicker.
export async function openPreview(tooLate, styled) {
  const place = JSON.parse(kept("place"));
  if (place?.seenIn !== seenIn()) return null;
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(await styled);
  while (!tooLate() && !(await fontOf(place))) await nextFrame();
  if (tooLate()) return null;
  const root = h("div", {});
  for (const [name, value] of Object.entries(place.theme)) root.style.setProperty(name, value);
  const [left, top, width] = [place.left, place.top, place.width].map((length) => `${length}px`);
  Object.assign(root.style, { marginLeft: left, marginTop: top, width });
  preview = h("div", {}, root);
  Object.assign(preview.style, { position: "fixed", inset: 0, zIndex: 1, overflow: "auto", background: place.theme["--st-background-color"] });
  const shadow = root.attachShadow({ mode: "open" });
  shadow.adoptedStyleSheets = [sheet];
  preview.addEventListener("pointerdown", () => (released = release()));
  document.body.append(preview);
  return shadow;
}

// Has the view moved into its place within `host`, where it stays scrolled as far as it is. Not from
// under a pressed pointer, which would lose what it drags or clicks.
export async function leavePreview(host, move) {
  if (preview) await released;
  const scrolled = preview?.scrollTop ?? 0;
  move();
  preview?.remove();
  preview = null;
  if (scrolled) for (const one of ancestors(host)) one.scrollTop = scrolled;
}

const ancestors = (element) => (element.parentElement ? [element.parentElement, ...ancestors(element.parentElement)] : []);

// Streamlit declares its font when it begins to draw; in any other the view would change its shape.
const fontOf = async (place) => (await document.fonts.load(`14px ${place.theme["--st-font"]}`)).length > 0;
// The click comes after the release.
const release = () => new Promise((done) => ["pointerup", "pointercancel"].forEach((name) => addEventListener(name, () => setTimeout(done), { once: true, capture: true })));
const nextFrame = () => new Promise((done) => requestAnimationFrame(done));
