// One chapter at a time, by the fragment of the address. `#name` is an element of the page: its chapter opens, and
// every fold around it. `#/prefix/a/b` belongs to the script that registered the prefix:
//
//   itlens.route("head", ([layer, head]) => element)
//
// The parts arrive decoded. The callback draws what was asked for and returns the element to show; true where it shows
// it over the chapter that is open; null where there is no such thing. itlens.link("word", "a/b") is the fragment of such a state, itlens.go(fragment) opens one. An unknown
// or broken fragment shows the first chapter.
(() => {
  "use strict";
  const root = document.documentElement;
  const chapters = [...document.querySelectorAll("main > .chapter")];
  const menu = document.querySelector("nav.menu");
  const select = document.querySelector("select.chapters");
  const routes = new Map();
  let current = null;

  const chapterOf = (element) => element?.closest("main > .chapter") ?? null;
  const fragment = () => location.hash.slice(1);
  const decoded = (text) => { try { return decodeURIComponent(text); } catch { return null; } };

  // the element that a fragment names; null where it names none
  function target(text) {
    if (!text.startsWith("/")) return text ? document.getElementById(decoded(text) ?? "") : null;
    const [prefix, ...parts] = text.slice(1).split("/").map(decoded);
    if (prefix === null || parts.includes(null) || !routes.has(prefix)) return null;
    return routes.get(prefix)(parts) ?? null;
  }

  function unfold(element) {
    for (let box = element.parentElement; box; box = box.parentElement) {
      if (box.tagName === "DETAILS") box.open = true;
      if (box.matches(".choice > .option")) itlens.choose?.(box);
    }
  }

  function open(chapter) {
    if (chapter === current) return;
    current?.classList.remove("open");
    current = chapter;
    chapter.classList.add("open");
    for (const link of menu?.querySelectorAll("li > a") ?? []) {
      if (link.hash === `#${chapter.id}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (select) select.value = chapter.id;
    itlens.settle();
    root.dispatchEvent(new CustomEvent("itlens:chapter", { detail: chapter.id }));
  }

  // focus: move it to what is shown, as a link within a page does
  function show({ focus = true } = {}) {
    if (!chapters.length) return;
    const found = target(fragment());
    if (found === true) return current ?? open(chapters[0]);
    const element = chapterOf(found) ? found : chapters[0];
    open(chapterOf(element));
    unfold(element);
    itlens.settle();
    const isChapter = element === current;
    if (isChapter) scrollTo({ top: 0, behavior: "instant" });
    else element.scrollIntoView({ behavior: "instant" });
    if (!focus) return;
    const place = isChapter ? element.querySelector("h1, h2") ?? element : element;
    if (!place.matches("a, button, input, select, summary, [tabindex]")) place.tabIndex = -1;
    place.focus({ preventScroll: true });
  }

  function go(text) {
    const clean = text.replace(/^#/, "");
    if (clean === fragment()) show();
    else location.hash = clean;
  }

  function route(prefix, callback) {
    if (routes.has(prefix)) throw new Error(`The route ${prefix} is taken.`);
    routes.set(prefix, callback);
    if (fragment().split("/")[1] === encodeURIComponent(prefix)) show({ focus: false });
  }

  const link = (prefix, ...parts) => "#/" + [prefix, ...parts].map((part) => encodeURIComponent(String(part))).join("/");

  // All chapters at once, for paper and for the browser's own search; resolves when everything has been drawn.
  function whole(on) {
    root.classList.toggle("whole", on);
    if (on) document.querySelectorAll("details.rest").forEach((rest) => { rest.open = true; });
    itlens.settle();
    return itlens.ready();
  }
  Object.assign(itlens, { route, go, link, show, whole, chapter: () => current?.id ?? "" });

  const all = document.querySelector("button.whole-page");
  all?.addEventListener("click", () => {
    const on = all.getAttribute("aria-pressed") !== "true";
    all.setAttribute("aria-pressed", String(on));
    whole(on);
  });
  // paper is light and has every chapter; what the keys ask for can wait until all is drawn
  let before;
  addEventListener("keydown", async (event) => {
    if (event.key.toLowerCase() !== "p" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return;
    event.preventDefault();
    await whole(true);
    print();
  });
  addEventListener("beforeprint", () => { before = root.dataset.theme; itlens.setTheme("light"); whole(true); });
  addEventListener("afterprint", () => { itlens.setTheme(before); whole(all?.getAttribute("aria-pressed") === "true"); });

  root.classList.add("routed");
  addEventListener("hashchange", () => show());
  // in a frame with srcdoc a link to "#part" would leave the page: the base of its address is another page's
  document.addEventListener("click", (event) => {
    const anchor = event.target.closest?.('a[href^="#"]');
    if (!anchor || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(anchor.getAttribute("href"));
  });
  select?.addEventListener("change", () => go(select.value));

  const copy = document.querySelector("button.copy-link");
  copy?.addEventListener("click", async () => {
    const words = copy.textContent;
    let done = true;
    try { await navigator.clipboard.writeText(itlens.address()); } catch { done = byHand(itlens.address()); }
    copy.textContent = done ? "Copied" : "Not copied: copy the address bar";
    setTimeout(() => { copy.textContent = words; }, 2000);
  });
  function byHand(text) {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }

  // the parts of the open chapter, below its name in the menu; the one that is read is marked
  let watched = null;
  root.addEventListener("itlens:chapter", () => {
    watched?.disconnect();
    menu?.querySelectorAll("ol.parts").forEach((list) => list.remove());
    const parts = [...current.querySelectorAll("h3.part[id]")];
    const place = menu?.querySelector('[aria-current="page"]');
    if (!place || parts.length < 2) return;
    const list = document.createElement("ol");
    list.className = "parts";
    const links = new Map(parts.map((part) => {
      const entry = document.createElement("a");
      entry.href = `#${part.id}`;
      entry.textContent = part.textContent;
      return [part, entry];
    }));
    for (const entry of links.values()) {
      const item = document.createElement("li");
      item.append(entry);
      list.append(item);
    }
    place.after(list);
    const mark = () => {
      const shown = parts.filter((part) => part.getClientRects().length);
      parts.forEach((part) => { links.get(part).parentElement.hidden = !shown.includes(part); });
      const passed = shown.filter((part) => part.getBoundingClientRect().top < innerHeight / 3);
      links.forEach((entry, part) => entry.classList.toggle("here", part === passed.at(-1)));
    };
    watched = new IntersectionObserver(mark, { rootMargin: "0px 0px -66% 0px" });
    parts.forEach((part) => watched.observe(part));
    again = mark;
    mark();
  });
  let again = () => {};
  for (const event of ["itlens:parts", "toggle"]) root.addEventListener(event, () => again(), true);
  show({ focus: false });
})();
