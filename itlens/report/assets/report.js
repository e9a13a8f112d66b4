// The report's figures, its colours (the system's, or the reader's choice), and tables that sort by a click.
(() => {
  "use strict";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.querySelector("button.theme");
  const figures = [...document.querySelectorAll(".itlens-figure")];
  const config = { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtons: [["toImage"]] };

  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const variable = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function colors(figure) {
    const text = variable("--soft"), grid = variable("--grid");
    const axis = { gridcolor: grid, linecolor: grid, zerolinecolor: grid };
    const change = { "font.color": text, "hoverlabel.bgcolor": variable("--card"), "hoverlabel.bordercolor": grid, "hoverlabel.font.color": variable("--text") };
    const axes = Object.keys(figure.layout).filter((name) => /^[xy]axis\d*$/.test(name));
    for (const name of axes) for (const key in axis) change[`${name}.${key}`] = axis[key];
    return change;
  }

  function paint() {
    for (const figure of figures) {
      const change = colors(figure);
      const outlines = {};
      (figure.layout.shapes ?? []).forEach((shape, i) => { if (shape.name === "default") outlines[`shapes[${i}].line.color`] = variable("--text"); });
      Plotly.relayout(figure, { ...change, ...outlines });
    }
    if (button) button.textContent = isDark() ? "Light" : "Dark";
  }

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    const key = (row, column) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    heads.forEach((head, column) => {
      const sort = () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const numeric = head.classList.contains("n");
        const rows = [...body.rows].sort((a, b) => {
          const x = key(a, column), y = key(b, column);
          if (!numeric) return (up ? 1 : -1) * x.localeCompare(y, undefined, { numeric: true });
          if (x === "" || y === "") return (x === "") - (y === "");
          return (up ? 1 : -1) * (Number(x) - Number(y));
        });
        body.append(...rows);
      };
      head.tabIndex = 0;
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    });
  }

  // plotly draws buttons that neither wrap nor answer to the keyboard: the page has its own
  function buttons(figure, layout) {
    const menu = layout.updatemenus?.[0];
    if (!menu) return;
    delete layout.updatemenus;
    const group = document.createElement("div");
    group.className = "choices";
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "What the figure shows");
    const all = menu.buttons.map((choice, i) => {
      const one = document.createElement("button");
      one.type = "button";
      one.textContent = choice.label;
      one.setAttribute("aria-pressed", String(i === menu.active));
      one.addEventListener("click", () => {
        all.forEach((other) => other.setAttribute("aria-pressed", String(other === one)));
        Plotly.restyle(figure, ...choice.args);
      });
      return one;
    });
    group.append(...all);
    (figure.closest(".scroll") ?? figure).before(group);
  }

  Promise.all(figures.map((figure) => {
    const drawing = JSON.parse(figure.querySelector("script").textContent);
    buttons(figure, drawing.layout);
    return Plotly.newPlot(figure, drawing.data, drawing.layout, config);
  })).then(paint);
  document.querySelectorAll("table.sortable").forEach(sortable);
  system.addEventListener("change", paint);
  button?.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    paint();
  });
  // figures of several panels are drawn as wide as they must be, and the style sheet makes them smaller on paper
  const panels = figures.filter((figure) => figure.classList.contains("panels"));
  const drawn = (width) => panels.forEach((figure) => {
    figure.style.width = width ? `${width}px` : "";
    Plotly.relayout(figure, width ? { width } : { autosize: true });  // at once, which Plotly.Plots.resize is not
  });
  let before;
  addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; paint(); drawn(800); });
  addEventListener("afterprint", () => { if (before) root.dataset.theme = before; else delete root.dataset.theme; paint(); drawn(0); });
})();
