// The chapter of prompts: a list to search, filter and sort, and the chosen prompt with both answers, its numbers and
// its panels. Everything is in the page as packed data blocks (report/prompts.py) and is unpacked when it is looked at.
// Texts are set as text. Panels are HTML that a template of the package has escaped.
//
//   #/prompt/<id>                           a prompt; further parts as below
//   #/prompts/<search>/<group>/<number>/<order>   the list
(() => {
  "use strict";
  const chapter = document.querySelector(".itlens-prompts");
  if (!chapter) return;
  const ROWS = 100;  // of the list, at first and with each "more"
  const ORDERS = [
    ["change", "largest change first", ([b, t]) => gap(b, t, (x) => Math.abs(x))],
    ["higher", "tuned higher first", ([b, t]) => gap(b, t, (x) => x)],
    ["lower", "base higher first", ([b, t]) => gap(b, t, (x) => -x)],
    ["base", "highest of the base first", ([b]) => b],
    ["tuned", "highest of the tuned first", ([, t]) => t],
    ["study", "as in the study", null],
  ];
  const gap = (base, tuned, way) => (base == null || tuned == null ? null : way(tuned - base));
  const form = chapter.querySelector(".picker"), chosen = chapter.querySelector(".chosen");
  const body = form.querySelector("tbody"), more = form.querySelector(".more"), found = form.querySelector(".found");
  const { q, group, number, order } = form.elements;
  let content = null, listed = [], shown = 0, current = null, drawing = 0;

  function element(name, options = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(options)) {
      if (key in made) made[key] = value;
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  // ---- numbers as text
  const whole = (place) => content.prompts.every((prompt) => (prompt.values[place] ?? []).every((x) => x === null || Number.isInteger(x)));
  function digits(x, place, sign = false) {
    if (x === null || x === undefined) return "–";
    const size = Math.abs(x), front = x < 0 ? "−" : sign && x > 0 ? "+" : "";
    const small = size > 0 && size < 0.0005;
    return front + (content.numbers[place].whole ? String(size) : small ? size.toExponential(1) : size.toFixed(3));
  }
  const title = ({ name, about }) => (about.includes(name) ? name : `${name} (${about})`);
  const difference = (pair) => (pair?.[0] == null || pair?.[1] == null ? null : pair[1] - pair[0]);

  // ---- the list
  const named = (prompt) => prompt.name ?? prompt.id;
  const brief = (text, most = 80) => (text.length > most ? `${text.slice(0, most)}…` : text);
  const textOf = (prompt) => prompt.text.map(([piece]) => piece).join("");
  function prepare() {
    content.byId = new Map(content.prompts.map((prompt, place) => [prompt.id, place]));
    content.numbers.forEach((each, place) => { each.whole = whole(place); });
    for (const prompt of content.prompts) {
      const answers = Object.values(prompt.answers).map((answer) => answer.text.join(""));
      prompt.beginning = textOf(prompt).slice(0, 800).replace(/\s+/g, " ").slice(0, 160);
      prompt.words = [named(prompt), prompt.group, textOf(prompt), ...answers].join("\n").toLowerCase();
    }
    const groups = [...new Set(content.prompts.map((prompt) => prompt.group))].filter(Boolean).sort();
    const option = (value, words) => element("option", { value, textContent: brief(words) });
    group.append(option("", "all groups"), ...groups.map((name) => option(`=${name}`, name)));
    number.append(...content.numbers.map((each, place) => option(String(place), each.name)));
    const orders = content.numbers.length ? ORDERS : ORDERS.slice(-1);
    order.append(...orders.map(([value, words]) => option(value, words)));
    group.closest("label").hidden = groups.length < 2;
    for (const field of [number, order]) field.closest("label").hidden = !content.numbers.length;
    const heads = [["Prompt", "text"], ["Group", "text group"], ...content.numbers.length ? [["base", "n"], ["tuned", "n"], ["difference", "n"]] : [], ["Beginning", "text"]];
    form.querySelector("thead").append(element("tr", {}, ...heads.map(([words, name]) => element("th", { scope: "col", className: name, textContent: words }))));
    for (const note of [content.note, content.short, content.cut]) if (note) form.before(element("p", { className: "caveat", textContent: note }));
    form.hidden = false;
  }
  function list() {
    const words = q.value.trim().toLowerCase(), place = Number(number.value || 0);
    const fits = (prompt) => (!words || prompt.words.includes(words)) && (!group.value || `=${prompt.group}` === group.value);
    listed = content.prompts.filter(fits);
    const key = ORDERS.find(([name]) => name === order.value)?.[2];
    if (key) {
      const keys = new Map(listed.map((prompt) => [prompt, key(prompt.values[place] ?? [])]));
      listed.sort((a, b) => {
        const x = keys.get(a) ?? null, y = keys.get(b) ?? null;
        return x === null || y === null ? (x === null) - (y === null) : y - x;
      });
    }
    found.textContent = `${listed.length} of ${content.prompts.length} prompts` + (content.numbers.length ? ` · ${title(content.numbers[place])}` : "");
    body.replaceChildren();
    shown = 0;
    extend();
  }
  function extend() {
    const place = Number(number.value || 0);
    for (const prompt of listed.slice(shown, shown + ROWS)) body.append(row(prompt, place));
    shown = Math.min(listed.length, shown + ROWS);
    more.hidden = shown >= listed.length;
    mark();
  }
  function row(prompt, place) {
    const pair = prompt.values[place] ?? [];
    const numbers = content.numbers.length ? [["base", digits(pair[0], place)], ["tuned", digits(pair[1], place)], ["difference", digits(difference(pair), place, true)]] : [];
    const link = element("a", { href: address(prompt), textContent: brief(named(prompt)), dir: "auto" });
    const made = element("tr", {},
      element("th", { scope: "row" }, link),
      element("td", { className: "text group", textContent: brief(prompt.group), dir: "auto" }),
      ...numbers.map(([name, words]) => element("td", { className: `n ${name}`, textContent: words })),
      element("td", { className: "text beginning", textContent: prompt.beginning, dir: "auto" }));
    made.dataset.id = prompt.id;
    return made;
  }
  function mark() {
    for (const each of body.rows) {
      const here = current !== null && each.dataset.id === current.id;
      each.classList.toggle("here", here);
      const link = each.querySelector("a");
      if (here) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  // ---- addresses
  const state = () => {
    const parts = [q.value.trim(), group.value.slice(1), number.value === "0" ? "" : number.value, order.selectedIndex ? order.value : ""];
    while (parts.length && !parts.at(-1)) parts.pop();
    return parts;
  };
  const clean = (text) => String(text).replace(/\p{Surrogate}/gu, "?");  // half a pair cannot be in an address
  const link = (prefix, ...parts) => "#/" + [prefix, ...parts].map((part) => encodeURIComponent(clean(part))).join("/");
  const address = (prompt) => link("prompt", prompt.id, ...state());
  const select = (field, value, otherwise) => { field.value = [...field.options].some((each) => each.value === value) ? value : otherwise; };
  let restored = null;
  function restore([words = "", name = "", place = "", way = ""]) {
    const same = JSON.stringify([words, name, place, way]);
    if (same === restored && same === JSON.stringify([...state(), "", "", "", ""].slice(0, 4))) return;
    restored = same;
    q.value = words;
    select(group, name ? `=${name}` : "", "");
    select(number, place, "0");
    select(order, way, order.options[0]?.value ?? "");
    list();
  }
  // the address follows the list; without a step back in the history for each letter
  function remember() {
    if (location.protocol === "about:") return;  // a frame of a notebook has no address of its own
    history.replaceState(null, "", current ? address(current) : link("prompts", ...state()));
  }

  // ---- one prompt
  const KINDS = ["instruction", "context"];
  function answer(side, words) {
    const box = element("section", { className: `answer-text ${side}` });
    const heading = { base: `base: ${content.base}`, tuned: `tuned: ${content.tuned}`, given: "response (given with the prompt)" }[side];
    box.append(element("h4", {}, element("span", { className: `chip ${side}`, textContent: heading })));
    if (!words) {
      box.append(element("p", { className: "sub", textContent: "not in this run folder" }));
      return box;
    }
    const text = element("p", { className: "text", dir: "auto" });
    // the space between the prompt and its answer is not a change of the answer
    words.text.forEach((piece, place) => { if (place === 0) piece = piece.trimStart(); if (piece) text.append(place % 2 ? element("mark", { textContent: piece }) : piece); });
    if (!words.text.some(Boolean)) text.append(element("i", { textContent: "(no text)" }));
    const count = (pieces) => pieces.join(" ").match(/[\p{L}\p{N}]+(?:['’]\p{L}+)*/gu)?.length ?? 0;
    const own = count(words.text.filter((_, place) => place % 2)), all = count(words.text);
    const compared = side !== "given" && words.compared ? `${own} of ${all} words only here` : "";
    box.append(text, element("p", { className: "sub", textContent: [words.end, compared].filter(Boolean).join(" · ") }));
    return box;
  }
  function answers(prompt) {
    const sides = Object.keys(prompt.answers);
    if (prompt.short || !sides.length) return [];
    const both = sides.includes("base") && sides.includes("tuned");
    for (const side of sides) prompt.answers[side].compared = both;
    const boxes = both ? ["base", "tuned"] : sides;
    return [card(both ? "Answers" : "Answer", element("div", { className: both ? "answers two" : "answers" }, ...boxes.map((side) => answer(side, prompt.answers[side]))))];
  }
  const card = (title, ...children) => element("div", { className: "card" }, element("h3", { textContent: title }), ...children);
  function promptText(prompt) {
    const text = element("p", { className: "text", dir: "auto" });
    for (const [piece, kinds] of prompt.text) text.append(kinds.length ? element("span", { className: kinds.join(" "), textContent: piece }) : piece);
    const there = KINDS.filter((kind) => prompt.text.some(([, kinds]) => kinds.includes(kind)));
    const legend = element("p", { className: "sub legend" }, ...there.map((kind) => element("span", { className: kind, textContent: kind })));
    const rest = prompt.short ? [element("p", { className: "sub", textContent: content.short })] : [];
    return card("Prompt", ...there.length ? [legend] : [], text, ...rest);
  }
  function numbers(prompt) {
    if (!content.numbers.length) return [];
    const rows = content.numbers.flatMap((each, place) => {
      const pair = prompt.values[place] ?? [];
      const cells = [digits(pair[0], place), digits(pair[1], place), digits(difference(pair), place, true)];
      const row = element("tr", {}, element("th", { scope: "row", textContent: each.name }), ...cells.map((words) => element("td", { className: "n", textContent: words })));
      if (each.about === content.numbers[place - 1]?.about) return [row];
      return [element("tr", { className: "about" }, element("th", { colSpan: 4, scope: "rowgroup", textContent: each.about })), row];
    });
    const heads = [["number", "text"], ["base", "n"], ["tuned", "n"], ["difference", "n"]];
    const head = element("thead", {}, element("tr", {}, ...heads.map(([words, name]) => element("th", { scope: "col", className: name, textContent: words }))));
    return [card("Numbers", element("div", { className: "scroll" }, element("table", { className: "numbers" }, head, element("tbody", {}, ...rows))))];
  }
  function steps(prompt) {
    const place = listed.indexOf(prompt);
    const step = (other, words, name) => (other
      ? element("a", { className: name, href: address(other), textContent: words, title: brief(named(other)) })
      : element("span", { className: `${name} off`, textContent: words }));
    const where = place < 0 ? "not in the list above" : `${place + 1} of ${listed.length} in the list`;
    return element("nav", { className: "steps", ariaLabel: "Prompts of the list" },
      step(listed[place - 1], "← previous", "previous"), element("span", { className: "sub", textContent: where }),
      step(place < 0 ? listed[0] : listed[place + 1], "next →", "next"));
  }
  async function draw(prompt) {
    const turn = ++drawing;
    current = prompt;
    mark();
    const title = element("h3", { className: "part" }, element("bdi", { textContent: brief(named(prompt), 200) }), ...prompt.group ? [" ", element("small", {}, element("bdi", { textContent: brief(prompt.group) }))] : []);
    const views = element("div", { className: "views" });
    chosen.replaceChildren(title, steps(prompt), promptText(prompt), ...answers(prompt), ...numbers(prompt), views);
    chosen.hidden = false;
    const panels = await panelsOf(prompt.id);
    if (!panels || turn !== drawing) return;  // another prompt was chosen meanwhile
    views.replaceChildren(panels);
    views.dispatchEvent(new Event("itlens:added", { bubbles: true }));
  }

  // the panels of a prompt as elements; null where the page has none of it
  async function panelsOf(id) {
    const number = content.byId.get(id);
    const block = chapter.querySelector(`script.packed-view[data-numbers~="${number}"]`);
    if (!block) return null;
    const template = document.createElement("template");
    template.innerHTML = (await itlens.data(block))[number];  // escaped by the package's templates; the page's policy runs no script of it
    return template.content;
  }
  itlens.promptPanels = (id) => open().then(() => panelsOf(id));  // for the panels of heads

  // ---- opening
  let opened = null;
  const open = () => (opened ??= itlens.data(chapter.querySelector(".packed-prompts")).then((data) => {
    content = data;
    prepare();
    restore([]);
    chapter.dataset.ready = "1";
  }));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    list();
    if (current) chosen.querySelector(".steps").replaceWith(steps(current));
    remember();
  });
  more.addEventListener("click", extend);
  async function showPrompt([id = "", ...rest]) {
    const first = content === null;
    await open();
    const known = content.byId.get(id) ?? content.prompts.findIndex((prompt) => clean(prompt.id) === id);
    restore(rest);
    if (known >= 0) await draw(content.prompts[known]);
    else chosen.replaceChildren(element("p", { className: "caveat", textContent: `This study has no prompt “${id}”; its ids are in the list.` }));
    if (first) chosen.scrollIntoView({ behavior: "instant" });  // the list has moved it
  }
  itlens.route("prompt", (parts) => {
    chosen.hidden = false;
    showPrompt(parts);
    return chosen;
  });
  itlens.route("prompts", (parts) => {
    open().then(() => restore(parts));
    return chapter;
  });
  itlens.onOpen(chapter, open);

  // points of figures that stand for a prompt: their trace says so (meta.link), and has the ids
  document.addEventListener("itlens:figure", (event) => event.target.on("plotly_click", (clicked) => {
    const point = clicked.points[0];
    if (point?.data.meta?.link === "prompt") itlens.go(link("prompt", point.data.ids[point.pointNumber]));
  }));
})();
