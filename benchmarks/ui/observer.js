// Runs in every page before its own scripts: when what was asked for has been painted.

(() => {
  const roots = [document];
  const attach = Element.prototype.attachShadow;
  Element.prototype.attachShadow = function (options) {
    const root = attach.call(this, options);
    roots.push(root);
    return root;
  };

  const find = (selector) => {
    for (const root of roots) {
      const found = root.querySelector(selector);
      if (found) return found;
    }
    return null;
  };
  // Where marks are many, one path draws all of a colour.
  const shapes = (element) => element.getAttribute("d")?.match(/M/g).length ?? 1;
  const marks = () => roots.flatMap((root) => [...root.querySelectorAll(MARKS)]).reduce((sum, mark) => sum + shapes(mark), 0);

  const BUTTON = ".st-key-more button";
  const HISTORY = "table[aria-label='Events of the aggregate'] tbody tr";
  const FEED = "table[aria-label='Events of the store'] tbody tr";
  const MARKS = ".chart .marks > *";
  const BARS = "svg.bars g + g rect";
  const STACKS = ".chart path.area[d]:not([d=''])";
  const LINES = ".chart path.line[d]:not([d=''])";
  const LOSERS = "table[aria-label='Recent conflicts'] tbody tr";
  const CHOSEN = ".event h3 .version";

  const parts = () => ({
    label: find(BUTTON)?.textContent,
    version: find(CHOSEN)?.textContent,
    changes: find(".changes")?.firstElementChild,
    row: find(FEED),
    bars: find("svg.bars")?.firstElementChild,
    stacks: find(STACKS)?.closest("svg").getAttribute("aria-label"),
  });

  // What a page shows when it is ready.
  const ready = {
    empty: () => find(BUTTON),
    timeline: () => find(HISTORY) && find(MARKS) && find(CHOSEN),
    replay: () => find(".state-row:not([hidden])") && find(".step h3") && find(".ticks"),
    store: () => find(FEED) && find(BARS) && find(".chips button"),
    monitoring: () => find(STACKS) && find(LINES) && find(LOSERS),
  };

  // What a page shows after a click, beside what it showed before.
  const changed = {
    number: (before, now) => now.label && now.label !== before.label,
    event: (before, now) => now.version && now.version !== before.version,
    effect: (before, now) => changed.event(before, now) && now.changes && now.changes !== before.changes,
    list: (before, now) => now.row && now.row !== before.row,
    filtered: (before, now) => changed.list(before, now) && now.bars !== before.bars,
    blame: () => find(".field:not([hidden]) .origin"),
    opened: () => ready.timeline(),
    range: (before, now) => now.stacks !== before.stacks,
    returned: () => ready.store(),
  };

  // The moment after the paint of the first frame in which it is so.
  const painted = (isSo) =>
    new Promise((resolve) => {
      const look = () => {
        if (!isSo()) {
          requestAnimationFrame(look);
          return;
        }
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => resolve(performance.now());
        port2.postMessage(null);
      };
      requestAnimationFrame(look);
    });

  window.bench = {
    marks,
    bytes: () =>
      performance
        .getEntriesByType("resource")
        .filter(({ name }) => name.includes("/documents/"))
        .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
    // Milliseconds since the navigation began.
    ready: (page) => painted(ready[page]),
    // From the next event of this type on: milliseconds until each of `names` has changed.
    watch: (type, names) => {
      window.bench.measured = new Promise((resolve) => {
        const begin = (event) => {
          const before = parts();
          resolve(Promise.all(names.map(async (name) => (await painted(() => changed[name](before, parts()))) - event.timeStamp)));
        };
        addEventListener(type, begin, { capture: true, once: true });
      });
    },
  };
})();
