"use strict";
(() => {
  const themes = JSON.parse(document.getElementById("themes").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { displaylogo: false, responsive: true, displayModeBar: false };

  // Figures are stored in the colours of paper; a dark page swaps ink, lines and the diverging scale.
  const recolour = (figure, theme) => {
    const { layout } = figure;
    layout.font.color = theme.ink;
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) {
        layout[key].linecolor = theme.line;
        layout[key].gridcolor = theme.line;
        layout[key].zerolinecolor = theme.muted;
      }
    }
    if (layout.coloraxis) {
      layout.coloraxis.colorscale = theme.scale.map((c, i) => [i / (theme.scale.length - 1), c]);
    }
    const swap = (part) => {
      for (const key of ["color", "fillcolor"]) {
        const colour = part?.[key];
        if (Array.isArray(colour)) part[key] = colour.map((c) => theme.swap[c] ?? c);
        else if (colour in theme.swap) part[key] = theme.swap[colour];
      }
    };
    for (const trace of figure.data) {
      for (const part of [trace, trace.marker, trace.marker?.line, trace.line, trace.error_x, trace.error_y]) swap(part);
    }
    for (const note of layout.annotations ?? []) swap(note.font);
    for (const shape of layout.shapes ?? []) swap(shape.line);
    return figure;
  };

  const drawOne = (source, theme) => {
    const target = document.getElementById(source.dataset.figure);
    const figure = recolour(JSON.parse(source.textContent), theme);
    target.closest("figure")?.classList.add("live"); // before drawing: what is hidden has no width
    Plotly.newPlot(target, figure.data, figure.layout, config).then(() => { target.dataset.drawn = "yes"; });
  };
  let turn = 0;
  const draw = (printing) => {
    if (!window.Plotly) return; // the page was sent without its plotly.js: the static figures stay
    const theme = !printing && dark.matches ? themes.dark : themes.light;
    const waiting = [...document.querySelectorAll("script[data-figure]")];
    const mine = ++turn; // a later call draws all anew
    if (printing) return waiting.forEach((source) => drawOne(source, theme));
    const next = () => { // one at a time, so that the page can be read and scrolled meanwhile
      if (mine !== turn || !waiting.length) return;
      drawOne(waiting.shift(), theme);
      setTimeout(next);
    };
    next();
  };
  // A report is there before plotly.js is: reading that takes a second or two, and until then the static figures stand.
  const later = document.querySelector("main").dataset.plotly;
  if (later) addEventListener("load", () => {
    const script = document.createElement("script");
    script.nonce = document.querySelector("script[nonce]").nonce;
    script.src = later;
    script.onload = () => draw(false);
    document.head.append(script);
  });
  draw(false);
  dark.addEventListener("change", () => draw(false));
  window.addEventListener("beforeprint", () => draw(true));
  window.addEventListener("afterprint", () => draw(false));

  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b, undefined, { numeric: true });
    return Number.isNaN(a) - Number.isNaN(b) || a - b;
  };
  const sort = (header) => {
    const table = header.closest("table");
    const up = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => (up ? 1 : -1) * compare(value(a, header.cellIndex), value(b, header.cellIndex)));
    table.tBodies[0].append(...rows);
  };
  for (const button of document.querySelectorAll("table.sortable th button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  for (const box of document.querySelectorAll("[data-filters]")) {
    const table = document.getElementById(box.dataset.filters);
    const search = box.querySelector("input[type=search]");
    const only = box.querySelector("input[type=checkbox]");
    const filter = () => {
      const wanted = " " + search.value.toLowerCase().replaceAll(",", " ").replace(/\s+/g, " ").trimStart();
      for (const row of table.tBodies[0].rows) {
        const found = ` ${row.dataset.find} `.includes(wanted); // from the start of a word: 7 is not 17
        row.hidden = !found || (only.checked && row.dataset.resolved === "no");
      }
    };
    search.addEventListener("input", filter);
    only.addEventListener("change", filter);
    box.hidden = false;
  }
})();
