// Colours the prompt's tokens for the response token that is pointed at. All numbers come from data-rows (row 0: the
// importance density; row j + 1: response token j; each [unit, largest, [token, value, ...]]); all text is already in
// the page. Where the page holds the circuitsvis bundle, circuitsvis draws the prompt; else the page's own spans do.
(() => {
  "use strict";
  const WORD_JOINER = "\u2060";
  const STRONGEST = 0.6;  // opacity of the strongest token (view_tokens.py): letters stay readable on it
  // circuitsvis writes a token as markup and again as text in its tooltip, so entities would show in one of the two.
  // "<" opens a tag only before a letter, "/", "!" or "?", and "&" an entity only before a letter, digit or "#": a
  // word joiner (it has no width) after each leaves plain text in both places.
  const inert = (text) => text.replace(/[<&]/g, "$&" + WORD_JOINER);
  let drawn = 0;

  function dense(row, count) {
    const values = new Array(count).fill(0);
    for (let k = 0; k < row[2].length; k += 2) values[row[2][k]] = row[2][k + 1];
    return values;
  }

  const digits = (x) => (x === 0 ? "0" : Number(x.toPrecision(3)).toString());

  function plainPainter(spans) {
    return (row, words) => dense(row, spans.length).forEach((value, i) => {
      const part = Math.min(1, Math.abs(value) / row[1]);
      spans[i].style.backgroundColor = part ? `rgba(var(--${value < 0 ? "neg" : "rgb"}), ${(STRONGEST * part).toFixed(3)})` : "";
      spans[i].title = `${words}: ${digits(value * row[0])}${spans[i].dataset.place ? `, ${spans[i].dataset.place}` : ""}`;
    });
  }

  function circuitsvisPainter(prompt, spans) {
    const style = getComputedStyle(prompt);
    const color = (name) => `rgb(${style.getPropertyValue(name)})`;
    const colors = [color("--rgb"), color("--neg")];
    const tokens = spans.map((s) => inert(s.textContent) + (s.nextSibling?.nodeName === "BR" ? "\n" : ""));
    const hosts = new Map();  // one root per row that was looked at: a root can be rendered into only once
    let shown = null;
    prompt.replaceChildren();
    const show = (host) => {
      if (shown) shown.hidden = true;
      host.hidden = false;
      shown = host;
    };
    return (row) => {
      if (hosts.has(row)) return show(hosts.get(row));
      const host = document.createElement("div");
      host.id = `itlens-cv-${++drawn}`;
      host.className = "cv";
      host.hidden = shown !== null;
      hosts.set(row, host);
      prompt.append(host);
      new MutationObserver((_, observer) => {
        const drawnTokens = host.querySelectorAll(".colored-tokens > span");
        if (drawnTokens.length < spans.length) return;
        observer.disconnect();
        spans.forEach((span, i) => {
          for (const name of ["i", "p"]) drawnTokens[i].classList.toggle(name, span.classList.contains(name));
        });
      }).observe(host, { childList: true, subtree: true });
      const values = dense(row, spans.length).map((v) => Number((v * row[0]).toPrecision(3)));
      const largest = (row[0] * row[1]) / STRONGEST;
      CircuitsVis.render(host.id, CircuitsVis.ColoredTokens, {
        tokens, values, minValue: -largest, maxValue: largest, positiveColor: colors[0], negativeColor: colors[1],
      });
      show(host);
    };
  }

  function wake(view) {
    view.dataset.ready = "1";
    const rows = JSON.parse(view.dataset.rows);
    const prompt = view.querySelector(".prompt");
    const spans = [...prompt.querySelectorAll(".t")];
    const targets = [...view.querySelectorAll(".r")];
    const mode = view.querySelector(".mode"), whole = view.querySelector(".whole");
    const paint = window.CircuitsVis && spans.length ? circuitsvisPainter(prompt, spans) : plainPainter(spans);
    let kept = Number(view.dataset.start), current = -1;

    const show = (index) => {
      if (index === current) return;
      current = index;
      const words = index ? `${view.dataset.kind} for response token ${index}` : view.dataset.all;
      mode.textContent = index ? `${words} “${targets[index - 1].dataset.place ?? targets[index - 1].textContent}”` : view.dataset.all;
      paint(rows[index], words);
    };
    const keep = (index) => {
      kept = index === kept ? 0 : index;
      targets.forEach((target, j) => target.setAttribute("aria-pressed", String(j + 1 === kept)));
      if (whole) whole.hidden = kept === 0;
      show(kept);
    };
    targets.forEach((target, j) => {
      target.addEventListener("mouseenter", () => show(j + 1));
      target.addEventListener("focus", () => show(j + 1));
      target.addEventListener("mouseleave", () => show(kept));
      target.addEventListener("blur", () => show(kept));
      target.addEventListener("click", () => keep(j + 1));
      target.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        keep(j + 1);
      });
    });
    whole?.addEventListener("click", () => keep(0));
    show(kept);
  }

  // a page wakes a view when its chapter opens, and unpacks the bundle then
  async function wakeInPage(view) {
    if (document.querySelector('script[data-bundle="circuitsvis"]')) await itlens.bundle("circuitsvis");
    wake(view);
  }
  const wakeIn = (root) => root.querySelectorAll(".itlens-tokens:not([data-ready])").forEach((view) => {
    if (window.itlens?.onOpen) itlens.onOpen(view, wakeInPage);
    else wake(view);
  });
  wakeIn(document);
  document.addEventListener("itlens:added", (event) => wakeIn(event.target));
})();
