// What a key costs and when it is painted, on a page that answers keys.
() => {
  const roots = [document, ...[...document.querySelectorAll("*")].map((element) => element.shadowRoot).filter(Boolean)];
  const find = (selector) => roots.map((root) => root.querySelector(selector)).find(Boolean);
  const afterPaint = () =>
    new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => resolve(performance.now());
      port2.postMessage(null);
    });
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => resolve(performance.now())));

  window.scrubbing = {
    // From the next key on: milliseconds to the paint that follows it, and those spent on it: in its
    // handlers, and from the beginning of the frame to the end of its painting.
    watch() {
      window.scrubbing.measured = new Promise((resolve) => {
        addEventListener(
          "keydown",
          async (event) => {
            const began = performance.now();
            let handled = began;
            addEventListener("keydown", () => (handled = performance.now()), { once: true });
            const start = await frame();
            const end = await afterPaint();
            resolve([end - event.timeStamp, handled - began + end - start]);
          },
          { capture: true, once: true },
        );
      });
    },

    // The most paints that a frame had while keys came faster than frames do.
    async storm(keys) {
      let most = 0;
      let now = 0;
      const told = find(".position");
      const watcher = new MutationObserver(() => (now += 1));
      watcher.observe(told, { childList: true, characterData: true, subtree: true });
      for (let key = 0; key < keys; key += 5) {
        for (let each = 0; each < 5; each += 1) told.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true, composed: true, cancelable: true }));
        await frame();
        await afterPaint();
        most = Math.max(most, now);
        now = 0;
      }
      watcher.disconnect();
      return most;
    },

    async jump(version) {
      const field = find(".jump-version");
      const told = find(".position");
      const before = told.textContent;
      const began = performance.now();
      field.value = String(version);
      field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, composed: true, cancelable: true }));
      while (told.textContent === before && performance.now() - began < 10_000) await frame();
      return (await afterPaint()) - began;
    },
  };
}
