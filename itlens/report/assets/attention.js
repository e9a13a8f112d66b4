// Draws attention patterns. All numbers come from data-patterns (by side: bytes, gzip and base64; 255 is all of a
// token's attention; of each head the lower triangle, row by row); all text is already in the page and stays text.
(() => {
  "use strict";
  const LABELS = 44;  // tokens up to which rows and columns are named
  const LARGE = 620;  // pixels that the large map may take
  const NAMES = 130;  // pixels that the names of rows take
  const CELL = 26;  // pixels of a cell, at most

  async function bytes(text) {
    const raw = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function wake(view) {
    view.dataset.ready = "1";
    const packed = JSON.parse(view.dataset.patterns), data = {};
    for (const side of Object.keys(packed)) data[side] = await bytes(packed[side]);
    const tokens = [...view.querySelectorAll(".t")], texts = tokens.map((t) => t.textContent);
    const size = tokens.length, triangle = (size * (size + 1)) / 2;
    const heads = [...view.querySelectorAll(".head")], sides = [...view.querySelectorAll("[data-side]")];
    const directions = [...view.querySelectorAll("[data-direction]")];
    const map = view.querySelector(".map"), readout = view.querySelector(".readout");
    const rows = view.querySelector(".rows"), columns = view.querySelector(".columns");
    const style = getComputedStyle(view);
    const colors = Object.fromEntries(["base", "tuned"].map((s) => [s, style.getPropertyValue("--" + s).trim()]));
    const channels = Object.fromEntries(Object.entries(colors).map(([s, text]) => [s, text.split(",").map(Number)]));
    let head = Number(view.dataset.start), side = sides.length ? "difference" : "tuned";
    let pinned = -1, direction = "from", cell = [size - 1, 0];

    const at = (which, h, i, j) => (j > i ? 0 : data[which][h * triangle + (i * (i + 1)) / 2 + j] / 255);
    const value = (h, i, j) => side === "difference" ? at("tuned", h, i, j) - at("base", h, i, j) : at(side, h, i, j);
    const tone = (x) => (x < 0 || side === "base" ? "base" : "tuned");
    const color = (x) => `rgba(${colors[tone(x)]}, ${Math.sqrt(Math.abs(x)).toFixed(3)})`;
    const percent = (x) => `${Math.round(100 * x)} %`;
    const points = (x) => `${x < 0 ? "−" : "+"}${Math.abs(Math.round(100 * x))} points`;
    const quoted = (i) => `“${texts[i]}”`;
    const words = (i, j) => side === "difference"
      ? `${points(value(head, i, j))} (base ${percent(at("base", head, i, j))}, tuned ${percent(at("tuned", head, i, j))})`
      : percent(value(head, i, j));

    // a pixel for each cell; the style sheet makes it as large as it is shown
    function paint(canvas, h) {
      canvas.width = canvas.height = size;
      const context = canvas.getContext("2d"), image = context.createImageData(size, size);
      for (let i = 0; i < size; i++) for (let j = 0; j <= i; j++) {
        const x = value(h, i, j);
        if (!x) continue;
        const start = 4 * (i * size + j);
        image.data.set(channels[tone(x)], start);
        image.data[start + 3] = Math.round(255 * Math.sqrt(Math.abs(x)));
      }
      context.putImageData(image, 0, 0);
    }
    function named(host, pixels, along) {
      host.classList.remove("ends");
      host.replaceChildren(...(size > LABELS || pixels < 12 ? [] : texts.map((text) => {
        const span = document.createElement("span");
        span.textContent = text;
        span.style[along] = span.style.lineHeight = pixels + "px";
        return span;
      })));
    }
    let width = 0;
    function fit() {
      width = view.clientWidth;
      const labelled = size <= LABELS && width - NAMES >= 12 * size;
      const room = Math.min(LARGE, Math.max(160, width - (labelled ? NAMES : 4)));
      const pixels = room < size ? room / size : Math.min(CELL, Math.floor(room / size));
      map.style.width = map.style.height = `${pixels * size}px`;
      named(rows, pixels, "height");
      named(columns, pixels, "width");
      if (columns.firstChild || size < 2) return;
      // too many for names: the first and the last token, the others are named below the map
      columns.classList.add("ends");
      columns.style.width = map.style.width;
      columns.replaceChildren(...[0, size - 1].map((i) => Object.assign(document.createElement("span"), { textContent: `${i + 1}: ${texts[i]}` })));
    }
    function draw() {
      heads.forEach((button, h) => {
        paint(button.querySelector("canvas"), h);
        button.setAttribute("aria-pressed", String(h === head));
      });
      sides.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.side === side)));
      const ramp = (a, b) => `linear-gradient(to right, ${a}, ${b})`;
      const full = (s) => `rgb(${colors[s]})`;
      view.querySelector(".ramp").style.background = side === "difference"
        ? `linear-gradient(to right, ${full("base")}, transparent, ${full("tuned")})` : ramp("transparent", full(side));
      view.querySelector(".low").textContent = side === "difference" ? "−100 (base more)" : "0";
      view.querySelector(".high").textContent = side === "difference" ? "+100 (tuned more)" : "100";
      choose(head);
    }
    function choose(h) {
      head = h;
      heads.forEach((button, k) => button.setAttribute("aria-pressed", String(k === head)));
      paint(map, head);
      show(pinned);
    }
    function plain() {
      tokens.forEach((t) => { t.style.backgroundColor = ""; t.classList.remove("here"); });
    }
    function show(index) {  // a token's row (where it looks) or column (who looks at it)
      plain();
      if (index < 0) return;
      tokens[index].classList.add("here");
      const found = tokens.map((_, k) => direction === "from" ? value(head, index, k) : value(head, k, index));
      found.forEach((x, k) => { if (x) tokens[k].style.backgroundColor = color(x); });
      const order = found.map((x, k) => [Math.abs(x), k]).sort((a, b) => b[0] - a[0]).slice(0, 3).filter(([x]) => x > 0);
      const list = order.map(([, k]) => `${quoted(k)} ${direction === "from" ? words(index, k) : words(k, index)}`).join(", ");
      const verb = direction === "from" ? "looks most at" : "is looked at most by";
      const nothing = side === "difference" ? "nothing: base and tuned are alike" : "nothing";
      readout.textContent = `${heads[head].getAttribute("aria-label")}: ${quoted(index)} (token ${index + 1}) ${verb} ${list || nothing}.`;
    }
    function showCell(i, j) {
      cell = [i, j];
      plain();
      tokens[i].classList.add("here");
      tokens[j].style.backgroundColor = color(value(head, i, j) || 0);
      readout.textContent = `${heads[head].getAttribute("aria-label")}: ${quoted(i)} (token ${i + 1}) looks at ${quoted(j)} (token ${j + 1}): ${words(i, j)}.`;
    }
    function pin(index) {
      pinned = pinned === index ? -1 : index;
      tokens.forEach((t, k) => t.setAttribute("aria-pressed", String(k === pinned)));
      show(pinned);
    }
    // one token takes the Tab key, arrows move among them
    function reach(index) {
      tokens.forEach((t, k) => { t.tabIndex = k === index ? 0 : -1; });
      tokens[index].focus();
    }

    heads.forEach((button, h) => button.addEventListener("click", () => choose(h)));
    sides.forEach((button) => button.addEventListener("click", () => { side = button.dataset.side; draw(); }));
    directions.forEach((button) => button.addEventListener("click", () => {
      direction = button.dataset.direction;
      directions.forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
      show(pinned);
    }));
    const STEPS = { ArrowLeft: (i) => i - 1, ArrowRight: (i) => i + 1, Home: () => 0, End: () => size - 1 };
    tokens.forEach((token, i) => {
      token.addEventListener("mouseenter", () => show(i));
      token.addEventListener("focus", () => show(i));
      token.addEventListener("mouseleave", () => show(pinned));
      token.addEventListener("blur", () => show(pinned));
      token.addEventListener("click", () => pin(i));
      token.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") pin(i);
        else if (event.key === "Escape" && pinned >= 0) pin(pinned);
        else if (event.key in STEPS) reach(Math.min(size - 1, Math.max(0, STEPS[event.key](i))));
        else return;
        event.preventDefault();
      });
    });
    map.addEventListener("mousemove", (event) => {
      const box = map.getBoundingClientRect();
      const i = Math.floor(((event.clientY - box.top) / box.height) * size);
      const j = Math.floor(((event.clientX - box.left) / box.width) * size);
      if (i >= 0 && i < size && j >= 0 && j <= i) showCell(i, j);
    });
    map.addEventListener("mouseleave", () => show(pinned));
    map.addEventListener("click", () => {  // a tap: the row stays, and the line below says what the cell is
      pin(cell[0]);
      showCell(...cell);
    });
    map.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const i = Math.min(size - 1, Math.max(0, cell[0] + step[0]));
      showCell(i, Math.min(i, Math.max(0, cell[1] + step[1])));
    });
    readout.textContent = "Point at a cell or tap it: its two tokens are named here. Click a token to keep it.";
    fit();
    draw();
    if (window.ResizeObserver) new ResizeObserver(() => { if (view.clientWidth && view.clientWidth !== width) fit(); }).observe(view);
    view.dataset.drawn = "1";
  }

  // drawn to the width that it has, so when it is seen
  const wakeIn = (root) => root.querySelectorAll(".itlens-attention:not([data-ready])").forEach((view) => {
    if (window.itlens?.onOpen) itlens.onOpen(view, wake);
    else wake(view);
  });
  wakeIn(document);
  document.addEventListener("itlens:added", (event) => wakeIn(event.target));
})();
