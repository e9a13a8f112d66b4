// The page's figures: drawn by plotly when they are first seen, in the page's colours, with the page's own buttons, and
// with their panels one above the other where the page is narrow. A drawing is {data, layout, ramps, tones}; what is
// shown is made of it anew for every theme and width, so that nothing has to be undone.
(() => {
  "use strict";
  const figures = [...document.querySelectorAll(".itlens-figure")];
  const config = { responsive: true, displaylogo: false, displayModeBar: false };
  const drawings = new Map();
  const GREY = "#7b828c";  // letters of theme.py, between light and dark
  const PAPER = 760;  // pixels
  let paper = 0;
  const NARROW = 700;  // pixels below which panels are stacked

  const bundle = document.querySelector('script[data-bundle^="plotly"]')?.dataset.bundle;
  const copy = (value) => structuredClone(value);

  // ---- colours
  // Python draws for a light page. In the dark a ramp whose zero is the card's colour has bright ends instead.
  function themed(drawing) {
    const { data, layout } = copy({ data: drawing.data, layout: drawing.layout });
    const soft = itlens.color("--soft"), grid = itlens.color("--grid"), text = itlens.color("--text"), card = itlens.color("--card");
    const dark = itlens.isDark();
    layout.font = { ...layout.font, color: soft };
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: card, bordercolor: grid, font: { ...layout.hoverlabel?.font, color: text } };
    for (const name of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(name)) Object.assign(layout[name], { gridcolor: grid, linecolor: grid, zerolinecolor: grid });
    }
    for (const shape of layout.shapes ?? []) if (shape.name === "default") shape.line.color = text;
    for (const note of layout.annotations ?? []) if (!note.font?.color || note.font.color === GREY) note.font = { ...note.font, color: soft };
    for (const trace of data) {
      const { error_x, error_y, marker, line, textfont, insidetextfont } = trace;
      for (const each of [error_x, error_y, marker, marker?.line, textfont, insidetextfont]) if (each?.color === GREY) each.color = text;  // seen on any mark
      if (dark && drawing.tones) for (const each of [marker, marker?.line, line]) if (drawing.tones[each?.color]) each.color = drawing.tones[each.color];
      if (!trace.colorscale) continue;
      const ramp = (drawing.ramps ?? []).find(([light]) => JSON.stringify(light) === JSON.stringify(trace.colorscale));
      if (ramp) trace.colorscale = ramp[dark ? 1 : 0].map(([at, tone]) => [at, tone === "card" ? card : tone]);
    }
    if (dark && data.some((trace) => trace.type === "heatmap")) {
      const turned = { "#ffffff": "#14181d", "#1f2328": "#f2f4f6" };  // letters on cells
      for (const note of layout.annotations ?? []) if (note.font?.color in turned) note.font.color = turned[note.font.color];
    }
    return { data, layout };
  }

  // ---- panels one above the other
  const NAMES = ["tickvals", "ticktext", "tickfont", "tickangle", "showgrid", "zeroline", "title"];
  function stacked({ data, layout }) {
    const used = new Set(data.map((trace) => (trace.xaxis ?? "x").replace(/^x/, "xaxis")));  // a grid may have empty places
    const names = Object.keys(layout).filter((name) => used.has(name));
    const panels = names.map((name) => {
      const x = layout[name], y = layout[`y${(x.anchor ?? "y").slice(1)}`.replace(/^y/, "yaxis")];
      return { x, y, from: { x: x.domain ?? [0, 1], y: y?.domain ?? [0, 1] } };
    }).filter((panel) => panel.y);
    if (panels.length < 2) return { data, layout };
    panels.sort((a, b) => b.from.y[1] - a.from.y[1] || a.from.x[0] - b.from.x[0]);
    const { t = 0, b = 0 } = layout.margin ?? {};
    const plot = layout.height - t - b;
    const tall = panels.map(({ from }) => Math.max(150, plot * (from.y[1] - from.y[0])));
    const GAP = 96;  // pixels: the axis title of one panel and the title of the next
    const whole = tall.reduce((sum, one) => sum + one, 0) + GAP * (panels.length - 1);
    const beside = data.some((trace) => trace.colorbar) ? 0.86 : 1;
    let top = whole;
    panels.forEach((panel, i) => {
      panel.to = { x: [0, beside], y: [(top - tall[i]) / whole, top / whole] };
      top -= tall[i] + GAP;
      panel.x.domain = panel.to.x;
      panel.y.domain = panel.to.y;
      panel.y.showticklabels = true;
      panel.x.showticklabels = true;
    });
    // rows that panels share are named in the first only, which is no longer beside the others
    for (const { y } of panels) {
      const first = y.matches && layout[y.matches.replace(/^y/, "yaxis")];
      if (first && first !== y) for (const name of NAMES) y[name] ??= copy(first[name]);
    }
    const near = (a, b) => Math.abs(a - b) < 0.02;
    for (const note of layout.annotations ?? []) {
      if (note.xref !== "paper" || note.yref !== "paper") continue;
      const panel = panels.find(({ from }) => near(note.x, (from.x[0] + from.x[1]) / 2) && near(note.y, from.y[1]));
      if (!panel) continue;
      note.x = beside / 2;
      note.y = panel.to.y[1];
    }
    for (const trace of data) {
      const bar = trace.colorbar;
      if (!bar) continue;
      const axis = layout[`x${(trace.xaxis ?? "x").slice(1)}`.replace(/^x/, "xaxis")];
      const panel = panels.find(({ x }) => x === axis) ?? panels[0];
      Object.assign(bar, { x: beside + 0.02, xanchor: "left", y: (panel.to.y[0] + panel.to.y[1]) / 2, yanchor: "middle", len: panel.to.y[1] - panel.to.y[0] });
    }
    if (layout.legend?.y < 0) layout.legend.y *= plot / whole;
    layout.height = whole + t + b;
    return { data, layout };
  }

  // ---- letters that fit a narrow figure: axis titles in two lines, smaller notes
  const WIDE_TITLE = 34;  // characters
  const LINE = 20;  // pixels
  function fitted({ data, layout }) {
    let broken = false;
    for (const name of Object.keys(layout)) {
      const title = /^xaxis\d*$/.test(name) ? layout[name].title : null;
      if (!title?.text || title.text.length <= WIDE_TITLE || title.text.includes("<br>")) continue;
      const half = title.text.lastIndexOf(" ", WIDE_TITLE);
      if (half <= 0) continue;
      title.text = `${title.text.slice(0, half)}<br>${title.text.slice(half + 1)}`;
      broken = true;
    }
    if (broken && layout.legend?.y < 0) {  // the legend is below the axis: a line further down
      const { t = 0, b = 0 } = layout.margin ?? {};
      layout.legend.y -= LINE / (layout.height - t - b);
      layout.margin = { ...layout.margin, b: b + LINE };
      layout.height += LINE;
    }
    const onCells = data.some((trace) => trace.type === "heatmap");
    for (const note of layout.annotations ?? []) {
      const size = note.xref === "paper" ? 11.5 : onCells ? 8 : 10;
      note.font = { ...note.font, size: Math.min(note.font?.size ?? 12, size) };
    }
    return { data, layout };
  }

  // ---- drawing
  function arranged(figure) {
    const shown = themed(drawings.get(figure));
    const narrow = (paper || figure.clientWidth) < NARROW;
    const { data, layout } = narrow ? fitted(stacked(shown)) : shown;
    if (paper) layout.width = paper;
    figure.style.height = `${layout.height}px`;
    figure.dataset.narrow = String(narrow);
    return { data, layout };
  }
  const redraw = (figure) => { const { data, layout } = arranged(figure); return Plotly.react(figure, data, layout, config); };

  async function draw(figure) {
    const block = figure.querySelector("script");
    const [drawing] = await Promise.all([itlens.data(block), itlens.bundle(bundle)]);
    drawings.set(figure, drawing);
    choices(figure, drawing);
    const { data, layout } = arranged(figure);
    await Plotly.newPlot(figure, data, layout, config);
    figure.dispatchEvent(new Event("itlens:figure", { bubbles: true }));  // for links of points
    new ResizeObserver(() => {
      if (!figure.clientWidth || paper) return;
      if (String(figure.clientWidth < NARROW) !== figure.dataset.narrow) redraw(figure);
      else if (figure.layout.width) redraw(figure).then(() => Plotly.Plots.resize(figure));  // was on paper, and hidden since
    }).observe(figure);
  }

  // ---- plotly draws buttons that neither wrap nor answer to the keyboard: the page has its own
  function put(target, path, value) {
    const keys = path.split(".");
    for (const key of keys.slice(0, -1)) target = target[key] ??= {};
    target[keys.at(-1)] = value;
  }
  function choices(figure, drawing) {
    const menu = drawing.layout.updatemenus?.[0];
    delete drawing.layout.updatemenus;
    if (!menu) return;
    const group = document.createElement("div");
    group.className = "choices";
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "What the figure shows");
    const buttons = menu.buttons.map((choice, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = choice.label;
      button.setAttribute("aria-pressed", String(i === menu.active));
      button.addEventListener("click", () => {
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        const [change, traces = drawing.data.map((_, j) => j)] = choice.args;
        traces.forEach((trace, j) => {
          for (const [path, value] of Object.entries(change)) put(drawing.data[trace], path, Array.isArray(value) ? value[j % value.length] : value);
        });
        redraw(figure);
      });
      return button;
    });
    group.append(...buttons);
    figure.before(group);
  }

  // ---- a figure as a file, with its title, in the colours of the page
  async function saveImage(button) {
    const card = button.closest(".figure-card"), figure = card.querySelector(".itlens-figure");
    if (!drawings.has(figure)) await draw(figure);
    const { data, layout } = arranged(figure);
    const title = [card.querySelector("h3"), ...card.querySelectorAll("p.sub")].filter(Boolean).map((line) => line.textContent);
    const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("$", "&#36;");
    const width = Math.max(figure.clientWidth, 500), per = Math.floor(width / 7.2);
    const wrapped = title.flatMap((line, i) => (line.match(new RegExp(`.{1,${i ? per : Math.floor(per * 0.75)}}(\\s|$)|\\S+`, "g")) ?? [line]).map((piece) => (i ? `<span style="font-size:12px">${escape(piece.trim())}</span>` : `<b>${escape(piece.trim())}</b>`)));
    const room = 16 + 20 * wrapped.length;
    const margin = { ...layout.margin, t: (layout.margin?.t ?? 0) + room };
    const named = {
      ...layout, margin, width, height: layout.height + room, paper_bgcolor: itlens.color("--card"),
      title: { text: wrapped.join("<br>"), x: 0, xref: "container", xanchor: "left", y: 1, yref: "container", yanchor: "top", pad: { l: 14, t: 14 }, font: { size: 15, color: itlens.color("--text") } },
    };
    const format = button.dataset.save;
    const address = await Plotly.toImage({ data, layout: named, config }, { format, width, height: named.height, scale: format === "png" ? 2 : 1 });
    itlens.save(`${itlens.fileName(title[0] ?? document.title)}.${format}`, address);
  }
  document.querySelectorAll("button[data-save]").forEach((button) => button.addEventListener("click", () => saveImage(button)));

  // on paper figures are as wide as the style sheet's zoom makes fit
  addEventListener("beforeprint", () => { paper = PAPER; for (const figure of drawings.keys()) redraw(figure); });
  addEventListener("afterprint", () => {
    paper = 0;
    for (const figure of drawings.keys()) if (figure.clientWidth) redraw(figure).then(() => Plotly.Plots.resize(figure));
  });
  itlens.onTheme(() => { for (const figure of drawings.keys()) redraw(figure); });
  // one after the other, so that the first is seen while the others are drawn
  let queue = Promise.resolve();
  const pause = () => new Promise((go) => setTimeout(go));
  const inTurn = (figure) => (queue = queue.catch(() => {}).then(() => draw(figure)).then(pause));
  for (const figure of figures) itlens.onOpen(figure, inTurn);
  // unpacked and read while the reader looks at the first chapter
  if (figures.length) (window.requestIdleCallback ?? setTimeout)(() => itlens.bundle(bundle));
  Object.assign(itlens, { figures: { draw, drawings, arranged } });
})();
