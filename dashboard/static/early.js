// Runs in the page's head, before Streamlit: what the address asks for is on its way, and drawn,
// by the time Streamlit has a place for it.

export function early(prepare) {
  // Streamlit would guess from the address where it is served, first the page itself, and wait after a miss.
  window.__streamlit = { ...window.__streamlit, BACKEND_BASE_URL: new URL(".", document.baseURI).href };
  prepare();
}
