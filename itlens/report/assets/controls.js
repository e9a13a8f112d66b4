// Tables that sort by a click or Enter on a heading, fade where they go on, and are saved as CSV; switches between sets of blocks; the theme.
(() => {
  "use strict";
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    const key = (row, column) => row.cells[column]?.dataset.v ?? row.cells[column]?.textContent ?? "";
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
      head.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sort();
      });
    });
  }
  document.querySelectorAll("table.sortable").forEach(sortable);

  // a number as exact as the page has it, any other cell as its text; a reason covers the columns of a test
  function rowsOf(table) {
    const cells = (row) => [...row.cells].flatMap((cell) => {
      const value = cell.dataset.v || cell.innerText.trim().replaceAll("\u2212", "-");
      return [value, ...Array(cell.colSpan - 1).fill("")];
    });
    return [...table.rows].map(cells);
  }
  document.querySelectorAll("button[data-csv]").forEach((button) => button.addEventListener("click", () => {
    const card = button.closest(".table-card");
    itlens.download(`${itlens.fileName(card.dataset.title)}.csv`, "\ufeff" + itlens.csv(rowsOf(card.querySelector("table"))), "text/csv");
  }));

  // ---- tables and lists that go on beyond an edge fade out there
  function edges(box) {
    const says = () => {
      const { scrollLeft, scrollTop, scrollWidth, scrollHeight, clientWidth, clientHeight } = box;
      box.classList.toggle("more-left", scrollLeft > 1);
      box.classList.toggle("more-right", scrollWidth - clientWidth - scrollLeft > 1);
      box.classList.toggle("more-below", scrollHeight - clientHeight - scrollTop > 1);
    };
    box.addEventListener("scroll", says, { passive: true });
    const watch = new ResizeObserver(says);
    watch.observe(box);
    if (box.firstElementChild) watch.observe(box.firstElementChild);
  }
  document.querySelectorAll(".scroll, .list").forEach(edges);

  // ---- switches: all of a chapter that choose the same thing change together
  itlens.choose = (option) => {
    const { label } = option.parentElement.dataset, { name } = option.dataset;
    for (const choice of option.closest(".chapter").querySelectorAll(".choice")) {
      if (choice.dataset.label !== label) continue;
      const options = [...choice.querySelectorAll(":scope > .option")];
      if (!options.some((each) => each.dataset.name === name)) continue;
      options.forEach((each) => each.classList.toggle("open", each.dataset.name === name));
      choice.querySelectorAll(":scope > .switch button").forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === name)));
    }
    itlens.settle();
    document.documentElement.dispatchEvent(new CustomEvent("itlens:parts"));
  };
  for (const choice of document.querySelectorAll(".choice")) {
    const options = [...choice.querySelectorAll(":scope > .option")];
    const group = document.createElement("div");
    group.className = "switch";
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", choice.dataset.label);
    group.append(...options.map((option) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "plain";
      button.textContent = option.dataset.name;
      button.addEventListener("click", () => itlens.choose(option));
      return button;
    }));
    if (options.length > 1) choice.prepend(group);
    itlens.choose(options[0]);
  }

  const button = document.querySelector("button.theme");
  const label = () => { if (button) button.textContent = itlens.isDark() ? "Light" : "Dark"; };
  button?.addEventListener("click", () => itlens.setTheme(itlens.isDark() ? "light" : "dark"));
  itlens.onTheme(label);
  label();
})();
