// Draws attention patterns. All numbers come from data-patterns (by side: bytes in base64, 255 is all of a token's
// attention; of each head the lower triangle, row by row); all text is already in the page and stays text.
(() => {
  "use strict";
  const LABELS = 44;  // tokens up to which rows and columns are named
  const LARGE = 620;  // pixels that the large map may take

  function bytes(text) {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  }

  function wake(view) {
    view.dataset.ready = "1";
    const packed = JSON.parse(view.dataset.patterns), data = {};
    for (const side of Object.keys(packed)) data[side] = bytes(packed[side]);
    const tokens = [...view.querySelectorAll(".t")], texts = tokens.map((t) => t.textContent);
    const size = tokens.length, triangle = (size * (size + 1)) / 2;
    const heads = [...view.querySelectorAll(".head")], sides = [...view.querySelectorAll("[data-side]")];
    const directions = [...view.querySelectorAll("[data-direction]")];
    const map = view.querySelector(".map"), readout = view.querySelector(".readout");
    const rows = view.querySelector(".rows"), columns = view.querySelector(".columns");
    const style = getComputedStyle(view);
    const colors = Object.fromEntries(["base", "tuned"].map((s) => [s, style.getPropertyValue("--" + s).trim()]));
    let head = Number(view.dataset.start), side = sides.length ? "difference" : "tuned";
    let pinned = -1, direction = "from", cell = [size - 1, 0];

    const at = (which, h, i, j) => (j > i ? 0 : data[which][h * triangle + (i * (i + 1)) / 2 + j] / 255);
    const value = (h, i, j) => side === "difference" ? at("tuned", h, i, j) - at("base", h, i, j) : at(side, h, i, j);
    const color = (x) => `rgba(${x < 0 || side === "base" ? colors.base : colors.tuned}, ${Math.sqrt(Math.abs(x)).toFixed(3)})`;
    const percent = (x) => `${Math.round(100 * x)} %`;
    const points = (x) => `${x < 0 ? "−" : "+"}${Math.abs(Math.round(100 * x))} points`;
    const quoted = (i) => `“${texts[i]}”`;
    const words = (i, j) => side === "difference"
      ? `${points(value(head, i, j))} (base ${percent(at("base", head, i, j))}, tuned ${percent(at("tuned", head, i, j))})`
      : percent(value(head, i, j));

    function paint(canvas, h, pixels) {
      canvas.width = canvas.height = size * pixels;
      const ctx = canvas.getContext("2d");
      for (let i = 0; i < size; i++) for (let j = 0; j <= i; j++) {
        const x = value(h, i, j);
        if (!x) continue;
        ctx.fillStyle = color(x);
        ctx.fillRect(j * pixels, i * pixels, pixels, pixels);
      }
    }
    function named(host, pixels, along) {
      host.replaceChildren(...(size > LABELS || pixels < 12 ? [] : texts.map((text) => {
        const span = document.createElement("span");
        span.textContent = text;
        span.style[along] = span.style.lineHeight = pixels + "px";
        return span;
      })));
    }
    function draw() {
      heads.forEach((button, h) => {
        paint(button.querySelector("canvas"), h, 1);
        button.setAttribute("aria-pressed", String(h === head));
      });
      const room = Math.min(LARGE, Math.max(160, view.clientWidth - (size > LABELS ? 4 : 130)));
      const pixels = Math.max(1, Math.min(26, Math.floor(room / size)));
      paint(map, head, pixels);
      named(rows, pixels, "height");
      named(columns, pixels, "width");
      sides.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.side === side)));
      const ramp = (a, b) => `linear-gradient(to right, ${a}, ${b})`;
      const full = (s) => `rgb(${colors[s]})`;
      view.querySelector(".ramp").style.background = side === "difference"
        ? `linear-gradient(to right, ${full("base")}, transparent, ${full("tuned")})` : ramp("transparent", full(side));
      view.querySelector(".low").textContent = side === "difference" ? "base more" : "0";
      view.querySelector(".high").textContent = side === "difference" ? "tuned more" : "all attention";
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
      readout.textContent = `${heads[head].getAttribute("aria-label")}: ${quoted(index)} (token ${index + 1}) ${verb} ${list || "nothing"}.`;
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
    const pressed = (event) => event.key === "Enter" || event.key === " ";

    heads.forEach((button, h) => button.addEventListener("click", () => { head = h; draw(); }));
    sides.forEach((button) => button.addEventListener("click", () => { side = button.dataset.side; draw(); }));
    directions.forEach((button) => button.addEventListener("click", () => {
      direction = button.dataset.direction;
      directions.forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
      show(pinned);
    }));
    tokens.forEach((token, i) => {
      token.addEventListener("mouseenter", () => show(i));
      token.addEventListener("focus", () => show(i));
      token.addEventListener("mouseleave", () => show(pinned));
      token.addEventListener("blur", () => show(pinned));
      token.addEventListener("click", () => pin(i));
      token.addEventListener("keydown", (event) => {
        if (!pressed(event)) return;
        event.preventDefault();
        pin(i);
      });
    });
    map.addEventListener("mousemove", (event) => {
      const box = map.getBoundingClientRect();
      const i = Math.floor(((event.clientY - box.top) / box.height) * size);
      const j = Math.floor(((event.clientX - box.left) / box.width) * size);
      if (i >= 0 && i < size && j >= 0 && j <= i) showCell(i, j);
    });
    map.addEventListener("mouseleave", () => show(pinned));
    map.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const i = Math.min(size - 1, Math.max(0, cell[0] + step[0]));
      showCell(i, Math.min(i, Math.max(0, cell[1] + step[1])));
    });
    readout.textContent = "Point at a cell or a token.";
    draw();
  }

  document.querySelectorAll(".itlens-attention:not([data-ready])").forEach(wake);
})();
