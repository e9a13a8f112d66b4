// What all scripts of a page share, as `itlens`: data and bundles that are unpacked when they are needed, callbacks for
// what becomes visible, the theme, and files for the reader. Nothing here asks the network for anything.
window.itlens = (() => {
  "use strict";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  // ---- packed data: gzip in base 85 (report/page.py), in a data block
  const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%:()*+-;.=,?@^_`{|}~";
  const VALUES = new Uint8Array(128);
  [...LETTERS].forEach((letter, value) => { VALUES[letter.charCodeAt(0)] = value; });
  // five letters are four bytes; a last group of fewer letters has as many bytes fewer
  function bytesOf(letters) {
    const groups = Math.ceil(letters.length / 5), view = new DataView(new ArrayBuffer(4 * groups));
    for (let group = 0, at = 0; group < groups; group++) {
      let value = 0;
      for (const end = at + 5; at < end; at++) value = 85 * value + (at < letters.length ? VALUES[letters.charCodeAt(at)] : 84);
      view.setUint32(4 * group, value);
    }
    return new Uint8Array(view.buffer, 0, letters.length - groups);
  }
  const opened = (block) => new Response(new Blob([bytesOf(block.textContent.trim())]).stream().pipeThrough(new DecompressionStream("gzip")));
  const unpacked = async (block) => (block.type === "application/gzip;base85" ? opened(block).text() : block.textContent);
  const bytes = async (block) => new Uint8Array(await opened(block).arrayBuffer());
  // The value of a JSON data block: an element, or the id of one.
  const data = async (block) => JSON.parse(await unpacked(typeof block === "string" ? document.getElementById(block) : block));

  // A bundle ("plotly", "circuitsvis") runs once, when it is first asked for. The policy of the page knows its digest.
  const bundles = new Map();
  function bundle(name) {
    if (!bundles.has(name)) bundles.set(name, (async () => {
      const block = document.querySelector(`script[data-bundle="${name}"]`);
      if (!block) throw new Error(`This page has no bundle ${name}.`);
      const script = document.createElement("script");
      script.textContent = await unpacked(block);
      document.head.append(script);
    })());
    return bundles.get(name);
  }

  // ---- what is drawn when it is seen
  const waiting = new Map(), begun = [];
  // what a closed fold hides has a place on the page all the same, where checkVisibility sees that it is hidden
  const isShown = (element) => element.checkVisibility?.() ?? element.getClientRects().length > 0;
  const AHEAD = 1200;  // pixels below and above the window in which things are drawn
  function isNear(element) {
    const box = element.getBoundingClientRect();
    return root.classList.contains("whole") || (box.top < innerHeight + AHEAD && box.bottom > -AHEAD);
  }
  // Call `draw` once, as soon as `element` is shown (its chapter is open, and so is every fold around it) and near the
  // window.
  function onOpen(element, draw) {
    waiting.set(element, draw);
    settle();
  }
  function settle() {
    for (const [element, draw] of [...waiting]) {
      if (!isShown(element) || !isNear(element)) continue;
      waiting.delete(element);
      begun.push(draw(element));
    }
  }
  let asked = false;
  function soon() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; settle(); });
  }
  addEventListener("scroll", soon, { passive: true, capture: true });  // of the panel of a head, too
  addEventListener("resize", soon);
  // A promise that everything which was begun has been drawn.
  const ready = () => Promise.all(begun);
  document.addEventListener("toggle", settle, true);

  // ---- light and dark
  const painters = [];
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const onTheme = (paint) => painters.push(paint);
  const repaint = () => painters.forEach((paint) => paint());
  function setTheme(theme) {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    repaint();
  }
  system.addEventListener("change", repaint);

  // ---- files for the reader
  function save(name, address) {
    const link = document.createElement("a");
    link.download = name;
    link.href = address;
    document.body.append(link);
    link.click();
    link.remove();
  }
  function download(name, text, type) {
    const address = URL.createObjectURL(new Blob([text], { type }));
    save(name, address);
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
  // A spreadsheet runs a text that begins like a formula: an apostrophe keeps it text. Numbers stay numbers.
  function csvCell(value) {
    let text = String(value ?? "");
    const number = text.trim() !== "" && Number.isFinite(Number(text));
    if (!number && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }
  const csv = (rows) => rows.map((row) => row.map(csvCell).join(",") + "\r\n").join("");
  const fileName = (words) => words.normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60).toLowerCase() || "itlens";

  // the address of what is shown; a page in a notebook's frame has none of its own, so that of the file in the run folder
  const address = () => (location.protocol === "about:" ? `report.html${location.hash}` : location.href);

  return { address, data, bytes, bundle, onOpen, settle, ready, isDark, color, onTheme, setTheme, save, download, csv, fileName };
})();
