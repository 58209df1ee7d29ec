// The view is the address: reload, back and a pasted link show the same.

const MANY = ["type", "lane", "pin", "where"];
const QUICK = 1000;

let listeners = [];
let lastStep = 0;

export function current() {
  const params = new URLSearchParams(location.search);
  const view = {};
  for (const name of new Set(params.keys())) {
    const values = params.getAll(name).filter(Boolean);
    if (values.length) view[name] = MANY.includes(name) ? values : values[0];
  }
  return view;
}

export function query(view) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(view)) {
    if (value === undefined || value === null || value === "") continue;
    for (const one of [value].flat()) params.append(name, one);
  }
  return params;
}

export function address(view) {
  const params = query(view).toString();
  return params ? `${location.pathname}?${params}` : location.pathname;
}

// The Diff page at a version beside the one before it.
export const compared = (aggregate, version, first = 1) =>
  new URL(`diff?${query({ aggregate, from: Math.max(version - 1, first - 1), to: version })}`, document.baseURI).href;

// Steps that follow one another quickly, a key held down, are one step of the browser's history.
export function go(view, { step = false, replace = false } = {}) {
  const wanted = address(view);
  if (wanted !== location.pathname + location.search) {
    const quick = step && Date.now() - lastStep < QUICK;
    if (step) lastStep = Date.now();
    if (quick || replace) history.replaceState(history.state, "", wanted);
    else history.pushState({}, "", wanted);
  }
  notify();
}

export function onView(listener) {
  listeners.push(listener);
  return () => {
    listeners = listeners.filter((other) => other !== listener);
  };
}

const notify = () => listeners.forEach((listener) => listener(current()));

let page = location.pathname;

// A page has come to its place.
export const arrive = () => {
  page = location.pathname;
};

// Another view of the same page is not Streamlit's business: asked before it has started, it would
// go to its first page, and leave its way there in the browser's history.
window.addEventListener("popstate", (event) => {
  if (location.pathname === page) event.stopImmediatePropagation();
  notify();
});

let title = "";

// Streamlit names the window too, after each run of its script; ours is told again then.
export function entitle(name = title) {
  title = name;
  document.title = name ? `${name} · Hindsight` : "Hindsight";
}
