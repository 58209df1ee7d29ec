// Shows the view where the viewer saw it last, before Streamlit has started and has a place for it.

import { h } from "./dom.js";
import { keep, kept } from "./kept.js";

// What the style sheet asks Streamlit for.
const THEME = ["text-color", "background-color", "secondary-background-color", "primary-color", "border-color", "link-color", "font", "code-font"].map((name) => `--st-${name}`);

// Another window or another theme has another place, and other colours.
const seenIn = () => `${innerWidth} ${matchMedia("(prefers-color-scheme: dark)").matches}`;

const sheet = fetch(new URL("timeline.css", import.meta.url)).then((answer) => answer.text());
let preview = null;

// Where Streamlit has put the view.
export function rememberPlace(host) {
  const { left, top, width } = host.getBoundingClientRect();
  const styles = getComputedStyle(host);
  const theme = Object.fromEntries(THEME.map((name) => [name, styles.getPropertyValue(name)]));
  keep("place", JSON.stringify({ seenIn: seenIn(), left, top, width, theme }));
}

// A place for the view to be shown in for now; none where nothing is known or Streamlit is quicker.
export async function openPreview(tooLate) {
  const place = JSON.parse(kept("place"));
  if (place?.seenIn !== seenIn()) return null;
  const styles = new CSSStyleSheet();
  styles.replaceSync(await sheet);
  while (!tooLate() && !(await fontOf(place))) await nextFrame();
  if (tooLate()) return null;
  preview = h("div", {});
  for (const [name, value] of Object.entries(place.theme)) preview.style.setProperty(name, value);
  const [left, top, width] = [place.left, place.top, place.width].map((length) => `${length}px`);
  const background = "var(--st-background-color)";
  Object.assign(preview.style, { position: "fixed", zIndex: 1, left, top, width, bottom: 0, overflow: "clip visible", background });
  const root = preview.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = [styles];
  document.body.append(preview);
  return root;
}

export function closePreview() {
  preview?.remove();
  preview = null;
}

// Streamlit declares its font when it begins to draw; in any other the view would change its shape.
const fontOf = async (place) => (await document.fonts.load(`14px ${place.theme["--st-font"]}`)).length > 0;
const nextFrame = () => new Promise((done) => requestAnimationFrame(done));
