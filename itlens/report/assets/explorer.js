// One panel for a head or a layer, with all that the findings know of it, and the search of words:
// #/head/5/3, #/layer/5, #/layer/5/<heading>/<part>, #/word/<text>. Whatever it writes is text, never mark-up.
(() => {
  "use strict";
  const dialog = document.querySelector("dialog.explorer");
  const title = document.getElementById("explorer-title");
  const content = dialog.querySelector(".content"), said = dialog.querySelector(".said");
  const button = (name) => dialog.querySelector(`button[name="${name}"]`);
  const field = dialog.querySelector(".explorer-search input");
  const PAIRS = 15, ROWS = 60, PARTS = 8, CHIPS = 30, LONG = 80, MOST_ASKED = 500;  // how many are shown at first, and characters
  const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Co}]/gu, SIGNS = { "\n": "↵", "\t": "⇥", "\u200c": "\u200c", "\u200d": "\u200d" };

  // ---- text
  // what prints nothing or moves its neighbours gets a sign, as itlens/report/text.py does
  const visible = (text) => String(text).replace(HIDDEN, (one) => SIGNS[one] ?? signOf(one.codePointAt(0)));
  const hex = (code, digits) => code.toString(16).toUpperCase().padStart(digits, "0");
  const signOf = (code) => (code < 0x80 ? `<0x${hex(code, 2)}>` : `⟨U+${hex(code, 4)}⟩`);
  const short = (text, most = LONG) => (text.length > most ? text.slice(0, most - 1).trimEnd() + "…" : text);
  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
    element.append(...children.flat().filter((child) => child !== null));
    return element;
  }
  const word = (text) => make("bdi", text.length > LONG ? { title: visible(short(text, 1000)) } : {}, short(visible(text)));
  const link = itlens.link;

  function number(value, { unit = "", signed = false } = {}) {
    if (value === null) return "";
    const whole = Number.isInteger(value) && !unit, decimals = unit === "%" || unit === "°" ? 1 : 3;
    const small = value !== 0 && Math.abs(value) < 0.5 * 10 ** -decimals;
    const text = whole && Math.abs(value) < 1e6 ? String(value) : small ? value.toExponential(1) : value.toFixed(decimals);
    return (signed && value > 0 ? "+" : "") + text.replaceAll("-", "−");
  }
  const pText = (p) => (p === null ? "" : p < 0.001 ? "< 0.001" : p.toFixed(p < 0.1 ? 3 : 2));
  const interval = ({ low, high, unit }) => (low === null || high === null ? "" : `[${number(low, { unit })}, ${number(high, { unit })}]`);

  // ---- what a place shows
  // lines of both models, and below them those with one number; columns and lines without a number are left out
  const isPaired = (line) => line.base !== null || line.tuned !== null;
  const hasNumber = (line) => isPaired(line) || [line.value, line.low, line.p].some((each) => each !== null);
  function numbersTables(lines) {
    const known = lines.filter(hasNumber);
    return [known.filter(isPaired), known.filter((line) => !isPaired(line))].filter((some) => some.length).map(numbersTable);
  }
  function numbersTable(lines) {
    const paired = isPaired(lines[0]), some = (name) => lines.some((line) => line[name] !== null);
    const columns = [
      ["base", paired, (line) => number(line.base, line)],
      ["tuned", paired, (line) => number(line.tuned, line)],
      [paired ? "tuned − base" : "value", some("value"), (line) => number(line.value, { unit: line.unit, signed: paired })],
      ["95 % interval", some("low"), interval],
      ["p", some("p"), (line) => pText(line.p)],
    ].filter((column) => column[1]);
    const heads = columns.map(([heading]) => make("th", { scope: "col", "data-of": heading }, heading));
    const rows = lines.map((line) => make("tr", {},
      make("th", { scope: "row" }, visible(line.name), line.unit ? make("small", {}, ` ${visible(line.unit)}`) : null),
      columns.map(([, , text]) => make("td", {}, text(line)))));
    return make("div", { class: "wide" }, make("table", { class: "numbers" }, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, ""), heads)), make("tbody", {}, rows)));
  }

  // of a concept in few words
  const numbersLine = (lines) => make("p", { class: "about" }, lines.filter(hasNumber).flatMap((line, i) => {
    const text = isPaired(line) ? `${number(line.base, line) || "–"} → ${number(line.tuned, line) || "–"}` : number(line.value, line);
    return [i ? " · " : "", `${visible(line.name)} `, make("b", {}, text), line.unit ? ` ${visible(line.unit)}` : "", line.p === null ? "" : `, p ${pText(line.p)}`];
  }));

  const NEW = { base: "gone", tuned: "new" }, NOUN = { base: "only here", tuned: "new" };
  const pairOf = ({ words }) => words.flatMap((text, i) => (i ? [" → ", word(text)] : [word(text)]));
  const marked = (entry, side, chip = true) => {
    const inside = pairOf(entry);
    if (!entry.only) return make("span", {}, inside);
    return make("span", { class: NEW[side] }, chip ? [make(side === "tuned" ? "b" : "s", {}, inside), " ", make("small", {}, NEW[side])] : inside);
  };

  function side(name, list, models) {
    const heading = models[name] && models[name] !== name ? `${name}: ${models[name]}` : name;
    const { entries, total, label } = list ?? { entries: [], total: 0, label: "" };
    const only = entries.filter((entry) => entry.only).length, isPair = entries[0]?.words.length === 2;
    const counts = [total > entries.length ? `the first ${entries.length} of ${total}` : `${entries.length}`, ...(only ? [`${only} ${isPair ? NEW[name] : `${NOUN[name]} (dotted)`}`] : [])];
    const caption = make("figcaption", {}, make("b", { class: `model ${name}` }, visible(heading)), " ", make("span", { class: "count" }, counts.join(" · ")));
    const about = label ? make("p", { class: "label" }, visible(label)) : null;
    if (!entries.length) return make("figure", {}, caption, about, make("p", { class: "none" }, "None."));
    const headings = Object.keys(entries[0].numbers);
    if (!isPair) {
      const words = entries.map((entry) => make("li", { title: headings.map((each) => `${each} ${number(entry.numbers[each])}`).join(", ") }, marked(entry, name, false)));
      return make("figure", {}, caption, about, make("ul", { class: "words" }, words));
    }
    const rows = (from, to) => entries.slice(from, to).map((entry, i) => make("tr", { class: entry.only ? NEW[name] : null },
      make("td", { class: "n place" }, String(from + i + 1)), make("td", { class: "pair" }, marked(entry, name)), headings.map((each) => make("td", { class: "n" }, number(entry.numbers[each])))));
    const body = make("tbody", {}, rows(0, PAIRS));
    const head = make("tr", {}, make("th", { scope: "col", class: "n" }, "#"), make("th", { scope: "col" }, "pair"), headings.map((each) => make("th", { scope: "col", class: "n" }, visible(each))));
    return make("figure", {}, caption, about, make("table", { class: "pairs" }, make("thead", {}, head), body),
      more(entries.length - PAIRS, () => body.append(...rows(PAIRS))));
  }

  function more(left, show) {
    if (left <= 0) return null;
    const rest = make("button", { type: "button", class: "more" }, `Show ${left} more`);
    rest.addEventListener("click", () => { show(); rest.remove(); });
    return rest;
  }

  // what the chapter of prompts has of this head (attention patterns), a prompt at a time; drawn when it is seen
  function shownOn({ layer, head, shownOn: ids }) {
    const box = make("div", { class: "shown-on" }), read = make("a", {}, "read the prompt");
    const choice = make("select", {}, ids.map((id) => make("option", { value: id }, short(visible(id), 60))));
    let turn = 0;
    async function show() {
      const mine = ++turn, id = choice.value;
      read.href = link("prompt", id);
      const found = await itlens.promptPanels?.(id);
      if (mine !== turn) return;
      const views = [...(found?.querySelectorAll("[data-places]") ?? [])].filter((view) => {
        const at = view.dataset.places.split(" ").indexOf(`${layer}/${head}`);
        if (at < 0) return false;
        view.dataset.start = at;
        view.querySelector(".heads").hidden = true;
        return true;
      });
      box.replaceChildren(...(views.length ? views : [make("p", { class: "none" }, "There was no room for the panels of this prompt in the page.")]));
      box.dispatchEvent(new Event("itlens:added", { bubbles: true }));
    }
    choice.addEventListener("change", show);
    show();
    return make("div", {}, make("p", { class: "about" }, make("label", {}, "Prompt ", choice), " ", read), box);
  }

  function part(place, models) {
    return make("div", { class: "part", "data-part": place.part },
      place.part ? make("h5", {}, visible(place.part)) : null,
      place.text ? make("p", { class: "about" }, visible(place.text)) : null,
      !place.numbers.length ? null : place.part ? numbersLine(place.numbers) : numbersTables(place.numbers),
      place.shownOn.length ? shownOn(place) : null,
      place.base || place.tuned ? make("div", { class: "sides" }, ["base", "tuned"].map((name) => side(name, place[name], models))) : null);
  }

  // finding by finding, heading by heading; wanted: the part that a link leads to is drawn at once
  function sections(places, models, wanted) {
    const chapters = Map.groupBy?.(places, (place) => place.chapter) ?? places.reduce((all, place) => all.set(place.chapter, [...(all.get(place.chapter) ?? []), place]), new Map());
    return [...chapters].map(([chapter, own]) => {
      const headings = [...new Set(own.map((place) => place.what))];
      return make("section", {},
        make("h3", {}, visible(chapter.heading), " ", make("a", { href: `#${encodeURIComponent(chapter.name)}` }, "chapter")),
        headings.map((what) => {
          const parts = own.filter((place) => place.what === what);
          const from = Math.max(PARTS, 1 + parts.findIndex((place) => wanted && what === wanted[0] && place.part === wanted[1]));
          const box = make("div", { class: "parts" }, parts.slice(0, from).map((place) => part(place, models)));
          return make("div", { class: "heading", "data-what": what }, what ? make("h4", {}, visible(what)) : null, box,
            more(parts.length - from, () => box.append(...parts.slice(from).map((place) => part(place, models)))));
        }));
    });
  }

  // ---- the states
  const nameOf = (layer, head) => (head === null ? `Layer ${layer}` : `Layer ${layer}, head ${head}`);
  const fragment = (layer, head) => (head === null ? link("layer", layer) : link("head", layer, head));
  const plain = (text) => (/^\d{1,5}$/.test(text ?? "") ? Number(text) : null);

  function showPlace(places, layer, head, wanted) {
    const list = head === null ? places.layers.map((each) => [each, null]) : places.heads;
    const at = list.findIndex(([l, h]) => l === layer && h === head);
    title.textContent = nameOf(layer, head);
    step("previous", list[at - 1], "←");
    step("next", list[at + 1], "→");
    const known = places.of(layer, head);
    tools(known.length > 0);
    const heads = places.heads.filter(([l]) => l === layer).map(([, h]) => h);
    const around = make("p", { class: "around" }, head === null ? "Heads: " : [make("a", { href: link("layer", layer) }, `Layer ${layer}`), " · heads: "],
      heads.flatMap((h) => [h === head ? make("b", { "aria-current": "page" }, String(h)) : make("a", { href: link("head", layer, h) }, String(h)), " "]));
    content.replaceChildren(heads.length ? around : "", ...(known.length ? sections(known, places.models, wanted) : [make("p", { class: "none" }, "No finding of this page says anything about this layer as a whole.")]));
    const places_ = wanted ? [...content.querySelectorAll(".part")] : [];
    const aim = places_.find((each) => each.dataset.part === wanted[1] && each.closest(".heading").dataset.what === wanted[0]);
    content.scrollTop = 0;
    if (aim) { aim.classList.add("aim"); aim.scrollIntoView({ block: "center" }); }
    current = { name: nameOf(layer, head), layer, head, known, models: places.models };
  }

  function step(name, place, arrow) {
    const one = button(name);
    one.hidden = !place;
    if (!place) return;
    const words = place[1] === null ? `Layer ${place[0]}` : `L${place[0]}H${place[1]}`;
    one.textContent = name === "previous" ? `${arrow} ${words}` : `${words} ${arrow}`;
    one.onclick = () => { location.hash = fragment(...place); };
  }
  function tools(hasNumbers) {
    button("numbers").hidden = !hasNumbers;
    said.textContent = "";
  }

  function showNothing(places, text) {
    title.textContent = "Not on this page";
    const range = (values) => (values.length > 1 ? `${values[0]} to ${values.at(-1)}` : String(values[0] ?? "none"));
    const heads = [...new Set(places.heads.map(([, head]) => head))].sort((a, b) => a - b);
    step("previous"), step("next"), tools(false);
    content.replaceChildren(make("p", { class: "none" }, `This page has no ${short(visible(text))}: its layers are ${range(places.layers)}${heads.length ? `, their heads ${range(heads)}` : ""}.`));
    current = null;
  }

  const MARKS = { both: "base and tuned", base: "only base", tuned: "only tuned" };
  const models = (hit) => (hit.base.length && hit.tuned.length ? "both" : hit.base.length ? "base" : "tuned");
  function showWord(places, text) {
    const { hits, words } = places.search(text);
    title.textContent = text.trim() ? `Heads and layers with “${short(visible(text.trim()), 40)}”` : "Search a word";
    step("previous"), step("next"), tools(false);
    if (field.value !== text) field.value = text;
    current = null;
    content.scrollTop = 0;
    if (!text.trim()) return content.replaceChildren(make("p", { class: "none" }, "Type a word, or a part of one: every head that relates or writes it, and every concept that holds it, in either model."));
    if (!hits.length) return content.replaceChildren(make("p", { class: "none" }, `No head and no concept of this page holds “${short(visible(text.trim()))}”, in either model.`), scope(places));
    const drawn = hits.map((hit) => ({ hit, place: places.heading(hit.place) }));
    const chips = words.slice(0, CHIPS).map(({ word: each, count, exact }) => make("li", {}, make("a", { href: link("word", each), class: exact ? "exact" : null }, word(each)), ` ${count}`));
    const kinds = [["Heads", drawn.filter(({ place }) => place.head !== null)], ["Layers", drawn.filter(({ place }) => place.head === null)]];
    return content.replaceChildren(
      make("p", { class: "about" }, `Words with these letters, and how often they are listed${words.length > CHIPS ? ` (the first ${CHIPS} of ${words.length})` : ""}:`),
      make("ul", { class: "words found" }, chips), ...kinds.filter(([, rows]) => rows.length).map(([heading, rows]) => results(places, heading, rows)), scope(places));
  }

  // what was searched: a page of a large model holds the first of each list
  function scope(places) {
    const { cut, most } = places.listed();
    return make("p", { class: "about scope" }, cut ? `Searched are the lists of this page: some hold the first of more (at most ${most} a list). The tables of the run folder have all.` : "Searched are all lists of the run.");
  }

  function results(places, heading, rows) {
    const counts = Object.keys(MARKS).map((mark) => [mark, rows.filter(({ hit }) => models(hit) === mark).length]).filter(([, count]) => count);
    const row = ({ hit, place }) => {
      const address = place.head === null ? link("layer", place.layer, place.what, place.part) : link("head", place.layer, place.head);
      const label = place.head === null ? `Layer ${place.layer}` : `L${place.layer}H${place.head}`;
      // those of the tuned model, then what only the base has
      const of = (name) => places.entries(name, hit.place, hit[name]).map((entry) => [name, entry]);
      const base = of("base"), first = hit.tuned.length ? [...of("tuned"), ...base.filter(([, entry]) => entry.only)] : base;
      const shown = first.slice(0, 4).flatMap(([name, entry], i) => [i ? ", " : "", marked(entry, name)]);
      return make("tr", {}, make("th", { scope: "row" }, make("a", { href: address }, label), make("br"), make("small", {}, visible([place.what, place.part].filter(Boolean).join(" · ")))),
        make("td", { class: models(hit) }, MARKS[models(hit)]), make("td", { class: "n", "data-of": "base" }, String(hit.base.length)), make("td", { class: "n", "data-of": "tuned" }, String(hit.tuned.length)),
        make("td", { class: "pair" }, shown, first.length > 4 ? ` and ${first.length - 4} more` : ""));
    };
    const body = make("tbody", {}, rows.slice(0, ROWS).map(row));
    const heads = ["where", "in", "base", "tuned", "entries"].map((each) => make("th", { scope: "col", class: each === "base" || each === "tuned" ? "n" : null }, each));
    return make("section", {}, make("h3", {}, heading, " ", make("span", { class: "count" }, `${rows.length}: ${counts.map(([mark, count]) => `${count} ${MARKS[mark]}`).join(", ")}`)),
      make("div", { class: "wide" }, make("table", { class: "results" }, make("thead", {}, make("tr", {}, heads)), body)),
      more(rows.length - ROWS, () => body.append(...rows.slice(ROWS).map(row))));
  }

  // ---- opening, closing, and the address
  let current = null;  // the place that is shown, for its numbers
  let before = "";     // the fragment to go back to
  const PREFIXES = ["head", "layer", "word"];
  const isOurs = () => PREFIXES.includes(location.hash.split("/")[1]) && location.hash.startsWith("#/");

  async function show(prefix, parts) {
    const places = await opening();
    if (!places) return;
    const [layer, head] = parts.map(plain);
    const isKnown = prefix === "head" ? places.at.has(places.key(layer, head ?? "none")) : places.layers.includes(layer);
    if (prefix === "word") showWord(places, parts.join("/").slice(0, MOST_ASKED));
    else if (parts.length < (prefix === "head" ? 2 : 1) || !isKnown) showNothing(places, `${prefix} ${parts.join("/")}`);
    else showPlace(places, layer, prefix === "head" ? head : null, prefix === "layer" && parts.length > 1 ? [parts[1], parts[2] ?? ""] : null);
  }

  async function opening() {
    if (!dialog.open) {
      dialog.showModal();
      title.focus();
    }
    try {
      return await itlens.places();
    } catch (error) {
      title.textContent = "This browser cannot open the data";
      content.replaceChildren(make("p", { class: "none" }, `They are compressed, and reading them failed (${error.name}). A browser of 2023 or later can.`));
      return null;
    }
  }

  // any other fragment is of the page below, which is shown when the panel is closed
  function follow() {
    if (isOurs()) return;
    before = location.hash;
    if (dialog.open) dialog.close();
  }
  function leave() {
    history.pushState(null, "", location.href.split("#")[0] + (before || "#"));
    dialog.close();
  }
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); leave(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) leave(); });
  button("close").addEventListener("click", leave);
  addEventListener("hashchange", follow, true);  // before the router, which moves the focus to what is below
  addEventListener("popstate", follow, true);

  // ---- tools of the panel
  const copyByHand = (text) => {
    const box = make("textarea", { "aria-hidden": "true" });
    box.value = text;
    dialog.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    return done;
  };
  button("link").addEventListener("click", async () => {
    let done = true;
    try { await navigator.clipboard.writeText(itlens.address()); } catch { done = copyByHand(itlens.address()); }
    said.textContent = done ? "The link is copied." : "The link could not be copied: copy it from the address bar.";
  });
  button("numbers").addEventListener("click", () => {
    const { name, layer, head, known, models: names } = current;
    const findings = {};
    for (const { chapter, layer: l, head: h, ...place } of known) (findings[chapter.name] ??= []).push(place);
    const text = JSON.stringify({ layer, head, models: names, findings }, null, 1);
    itlens.download(`${itlens.fileName(name)}.json`, text, "application/json");
    said.textContent = "The numbers are saved as a file.";
  });

  // ---- ways in: the search, the form, a cell of a map
  document.querySelectorAll(".explorer-search").forEach((form) => form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = link("word", form.elements.text.value.slice(0, MOST_ASKED));
  }));
  let typing;
  dialog.addEventListener("close", () => clearTimeout(typing));
  field.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      history.replaceState(null, "", location.href.split("#")[0] + link("word", field.value.slice(0, MOST_ASKED)));
      show("word", [field.value]);
    }, 200);
  });
  document.querySelectorAll(".explorer-go").forEach((form) => form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { layer, head } = form.elements;
    location.hash = head.value === "" ? link("layer", layer.value) : link("head", layer.value, head.value);
  }));
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [contenteditable]")) return;
    event.preventDefault();
    (dialog.open ? field : document.querySelector(".explorer-bar input")).focus();
  });

  // a trace says which layers (and heads) its places are (meta); a figure of somebody else's by the names of its axes
  function cell({ points: [point] }) {
    const { meta, type } = point.data;
    const named = (axis, wanted) => axis?.title?.text === wanted;
    if (type === "heatmap") {
      if (meta?.layers) return [meta.layers[point.y], meta.heads?.[point.x] ?? null];
      return named(point.yaxis, "layer") && named(point.xaxis, "head") ? [Number(point.y), Number(point.x)] : null;
    }
    if (meta?.layers) return [meta.layers[point.y], null];
    return named(point.xaxis, "layer") ? [Number(point.x), null] : null;
  }
  function clicked(data) {
    const place = cell(data);
    if (place && place.every((each) => each === null || Number.isInteger(each))) location.hash = fragment(...place);
  }
  // figures are drawn late and anew, so listeners are put on when a pointer comes down
  document.addEventListener("pointerdown", (event) => {
    const figure = event.target.closest?.(".js-plotly-plot");
    if (!figure?.on) return;
    figure.removeListener("plotly_click", clicked);
    figure.on("plotly_click", clicked);
  }, true);

  for (const late of document.querySelectorAll(".explorer-bar, .cell-hint")) late.hidden = false;
  follow();
  for (const prefix of PREFIXES) itlens.route(prefix, (parts) => { show(prefix, parts); return true; });
})();
