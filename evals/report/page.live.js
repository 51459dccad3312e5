// Only on a page that `prefzoo report --serve` shows: reload when the run has written something.
(function follow() {
  const EVERY = 3000; // milliseconds
  let shown = null;
  async function look() {
    try {
      const state = await (await fetch("state", { cache: "no-store" })).text();
      if (shown !== null && state !== shown) { location.reload(); return; }
      shown = state;
    } catch { /* the server has ended; it may come back */ }
    setTimeout(look, EVERY);
  }
  look();
})();
