"use strict";
// Text from models and data is only ever set as text, never as markup.
const $ = (id) => document.getElementById(id);

function element(tag, className, text) {
  const created = document.createElement(tag);
  if (className) created.className = className;
  if (text !== undefined) created.textContent = text;
  return created;
}

// Colours: as the system, light or dark; remembered if the browser lets a file store anything.
(function theme() {
  const button = $("theme"), names = ["auto", "light", "dark"];
  const words = { auto: ["Auto", "as the system"], light: ["Light", "light"], dark: ["Dark", "dark"] };
  let now = "auto";
  try { now = localStorage.getItem("prefzoo-theme") || "auto"; } catch { /* private mode */ }
  if (!names.includes(now)) now = "auto";
  function apply() {
    if (now === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = now;
    button.querySelector(".word").textContent = words[now][0];
    button.setAttribute("aria-label", "Colours: " + words[now][1]);
  }
  button.addEventListener("click", () => {
    now = names[(names.indexOf(now) + 1) % names.length];
    try { localStorage.setItem("prefzoo-theme", now); } catch { /* private mode */ }
    apply();
  });
  apply();
})();

// The leaderboard: sorted by its headings, missing numbers always last; filtered by what is typed.
(function leaderboard() {
  const table = $("board");
  if (!table) return;
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const before = head.getAttribute("aria-sort");
    const falling = before === "none" ? column > 1 : before === "ascending"; // numbers start with the largest
    heads.forEach((h) => h.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const sign = falling ? -1 : 1;
    const key = (row) => row.cells[column].dataset.sort;
    const compare = column === 0
      ? (a, b) => sign * key(a).localeCompare(key(b))
      : (a, b) => (key(a) === "") - (key(b) === "") || sign * (Number(key(a)) - Number(key(b)));
    body.append(...[...body.rows].sort(compare));
  }));

  // Columns: the main ones, or those that were chosen before; a choice holds for every report in this browser.
  const chooser = $("chooser"), boxes = [...chooser.querySelectorAll("input")];
  let chosen = {};
  try { chosen = JSON.parse(localStorage.getItem("prefzoo-columns")) || {}; } catch { /* private mode */ }
  const isShown = (box) => chosen[box.dataset.column] ?? "main" in box.dataset;
  function showColumns() {
    for (const box of boxes) {
      const on = isShown(box), at = heads.findIndex((head) => head.dataset.column === box.dataset.column);
      box.checked = on;
      for (const row of table.rows) row.cells[at].hidden = !on;
    }
  }
  function choose(on) {
    for (const box of boxes) chosen[box.dataset.column] = on(box);
    try { localStorage.setItem("prefzoo-columns", JSON.stringify(chosen)); } catch { /* private mode */ }
    showColumns();
  }
  boxes.forEach((box) => box.addEventListener("change", () => choose((b) => b.checked)));
  $("columns-main").addEventListener("click", () => choose((b) => "main" in b.dataset));
  $("columns-all").addEventListener("click", () => choose(() => true));
  document.addEventListener("click", (event) => { if (!chooser.contains(event.target)) chooser.open = false; });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") chooser.open = false; });
  chooser.hidden = false;
  showColumns();

  const find = $("find"), matched = $("matched");
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase(), rows = [...body.rows];
    for (const row of rows) row.hidden = !row.dataset.find.toLowerCase().includes(wanted);
    const n = rows.filter((row) => !row.hidden).length;
    matched.textContent = wanted ? n + " of " + rows.length + " shown" : "";
  });
})();

// A chip of the legend highlights one variant in all charts.
(function highlight() {
  const chips = [...document.querySelectorAll("[data-highlight]")];
  const marks = [...document.querySelectorAll(".chart [data-variant]")];
  for (const chip of chips) chip.addEventListener("click", () => {
    const on = chip.getAttribute("aria-pressed") !== "true";
    chips.forEach((c) => c.setAttribute("aria-pressed", String(on && c === chip)));
    document.body.classList.toggle("lit", on);
    marks.forEach((m) => m.classList.toggle("on", on && m.dataset.variant === chip.dataset.highlight));
  });
})();

// Prompts and answers.
(function answers() {
  const source = $("answers-data");
  if (!source) return;
  const data = JSON.parse(source.textContent), list = $("prompts"), opened = $("opened");
  const search = $("search"), show = $("show"), count = $("count");
  const better = (won) => won !== null && won > 0.5, worse = (won) => won !== null && won < 0.5;
  let shown = [], now = -1;

  const filters = [["all prompts", () => true], ["where variants differ", (p) => p.won.some(better) && p.won.some(worse)]];
  data.variants.forEach((name, i) => {
    if (!data.prompts.some((p) => p.won[i] !== null)) return;
    filters.push([name + " is better than " + data.base, (p) => better(p.won[i])]);
    filters.push([name + " is worse than " + data.base, (p) => worse(p.won[i])]);
  });
  filters.forEach(([label], i) => show.append(new Option(label, i)));

  function badge(prompt, i) {
    const won = prompt.won[i];
    if (data.variants[i] === data.base) return element("span", "badge", "baseline");
    if (won === null) return element("span", "badge", prompt.why[i] ? "no verdict" : "not judged");
    const sure = won === 0 || won === 1 || won === 0.5 ? "" : " (" + won.toFixed(2) + ")";
    if (better(won)) return element("span", "badge better", "▲ better" + sure);
    return worse(won) ? element("span", "badge worse", "▼ worse" + sure) : element("span", "badge", "= tie");
  }

  function sheet(prompt, name, i) {
    const card = element("section", "sheet"), head = element("h3", "", name), facts = [];
    head.append(badge(prompt, i));
    if (prompt.scores[i] !== null) facts.push("score " + Math.round(100 * prompt.scores[i]) + "%");
    if (prompt.words[i] !== null) facts.push(prompt.words[i] + (prompt.words[i] === 1 ? " word" : " words"));
    if (prompt.why[i]) facts.push(prompt.why[i]);
    card.append(head, element("small", "", facts.join(" · ")), element("p", "text", prompt.answers[i] || "(empty)"));
    return card;
  }

  const title = (p) => (p.messages ? p.messages[p.messages.length - 1].text : p.text);

  function asked(prompt) {
    if (!prompt.messages) return element("p", "asked", prompt.text);
    const turns = element("ol", "asked turns");
    for (const message of prompt.messages) {
      const turn = element("li", message.role);
      turn.append(element("b", "", message.role), element("p", "", message.text));
      turns.append(turn);
    }
    return turns;
  }

  function open(place, focus) {
    now = place;
    const index = shown[place], prompt = data.prompts[index];
    for (const b of list.querySelectorAll("button")) {
      b.setAttribute("aria-current", String(Number(b.dataset.place) === place));
      b.tabIndex = Number(b.dataset.place) === place ? 0 : -1;
    }
    const bar = element("div", "step");
    bar.append(element("p", "quieter", "Prompt " + (index + 1) + " of " + data.total));
    for (const [word, to] of [["← Previous", place - 1], ["Next →", place + 1]]) {
      const button = element("button", "quiet", word);
      button.type = "button";
      button.disabled = to < 0 || to >= shown.length;
      button.addEventListener("click", () => open(to, true));
      bar.append(button);
    }
    const sheets = element("div", "sheets");
    data.variants.forEach((name, i) => sheets.append(sheet(prompt, name, i)));
    opened.replaceChildren(bar, asked(prompt), sheets);
    if (focus) opened.focus({ preventScroll: true });
  }

  function fill() {
    const wanted = search.value.trim().toLowerCase(), keep = filters[show.value][1];
    const has = (p) => !wanted || [p.text, ...p.answers].some((t) => t.toLowerCase().includes(wanted));
    shown = data.prompts.map((p, i) => i).filter((i) => keep(data.prompts[i]) && has(data.prompts[i]));
    list.replaceChildren(...shown.map((index, place) => {
      const item = element("li"), button = element("button");
      button.type = "button";
      button.dataset.place = place;
      button.tabIndex = -1;
      button.append(element("span", "", index + 1), element("span", "", title(data.prompts[index])));
      button.addEventListener("click", () => open(place, false));
      item.append(button);
      return item;
    }));
    count.textContent = shown.length + " of " + data.prompts.length + " prompts";
    if (shown.length) open(0, false);
    else opened.replaceChildren(element("p", "empty", "No prompt matches."));
  }

  list.addEventListener("keydown", (event) => {
    const at = Number(document.activeElement.dataset.place);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (to === undefined || to < 0 || to >= shown.length) return;
    event.preventDefault();
    list.querySelectorAll("button")[to].focus();
  });
  search.addEventListener("input", fill);
  show.addEventListener("change", fill);
  document.querySelector(".browser").hidden = false;
  fill();
})();
