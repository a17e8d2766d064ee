"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const hidden = new Set();
  // One validation at the end makes no curve.
  const validated = data.grids.val.tokens && data.grids.val.tokens.length > 1;
  const state = { loss: validated ? "val" : "train", show: "conditions" };
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const color = (c) => css(`--c${c % 8}`);
  const dash = (c) => [[], [7, 4], [2, 3], [10, 3, 2, 3]][Math.floor(c / 8) % 4];
  const short = (v) => (v >= 1e9 ? +(v / 1e9).toPrecision(3) + "G" : v >= 1e6 ? +(v / 1e6).toPrecision(3) + "M" : v >= 1e3 ? +(v / 1e3).toPrecision(3) + "k" : String(+v.toPrecision(3)));
  let plots = [];

  // Mean, lowest and highest over a condition's runs at each x that all of them reach.
  function bandOf(runs, size) {
    const mean = Array(size).fill(null), low = Array(size).fill(null), high = Array(size).fill(null);
    for (let i = 0; i < size; i++) {
      let sum = 0, least = Infinity, most = -Infinity, n = 0;
      for (const y of runs) {
        const v = y[i];
        if (v == null) continue;
        n++; sum += v; if (v < least) least = v; if (v > most) most = v;
      }
      if (n && n === runs.length) { mean[i] = sum / n; low[i] = least; high[i] = most; }
    }
    return [mean, low, high];
  }

  function assemble(by) {
    const grid = data.grids[state.loss][by];
    const columns = [grid], series = [{}], bands = [], owner = [null];
    data.conditions.forEach((name, c) => {
      const members = data.runs.filter((run) => run.c === c && run[state.loss][by].length);
      const runs = members.map((run) => run[state.loss][by]);
      if (!runs.length) return;
      const base = { stroke: () => color(c), dash: dash(c), points: { show: false }, spanGaps: true, show: !hidden.has(c) };
      if (state.show === "runs") {
        for (const run of members) {
          columns.push(run[state.loss][by]); owner.push(c);
          series.push({ ...base, width: 1.1, alpha: 0.75, label: `${name}, seed ${run.seed}` });
        }
        return;
      }
      const [mean, low, high] = bandOf(runs, grid.length);
      columns.push(mean, high, low);
      series.push({ ...base, width: 2, label: name }, { ...base, width: 0, label: "" }, { ...base, width: 0, label: "" });
      owner.push(c, c, c);
      const n = series.length;
      bands.push({ series: [n - 2, n - 1], fill: () => color(c) + "2b" });
    });
    return { columns, series, bands, owner };
  }

  // The first fifth of training is steep; the scale begins after it unless the reader zooms in.
  function yRange(columns, owner) {
    return (u, least, most) => {
      const x = u.scales.x, all = columns[0];
      const full = x.min == null || (x.min <= all[0] && x.max >= all[all.length - 1]);
      if (full) {
        const from = Math.floor(all.length * 0.2);
        least = Infinity; most = -Infinity;
        for (let s = 1; s < columns.length; s++) {
          if (hidden.has(owner[s])) continue;
          for (let i = from; i < all.length; i++) {
            const v = columns[s][i];
            if (v != null) { if (v < least) least = v; if (v > most) most = v; }
          }
        }
      }
      if (!(least < Infinity) || least == null) return [0, 1];
      const pad = Math.max((most - least) * 0.06, 1e-3);
      return [least - pad, most + pad];
    };
  }

  function draw(figure) {
    const by = figure.dataset.by, place = figure.querySelector(".plot");
    place.textContent = "";
    const { columns, series, bands, owner } = assemble(by);
    if (columns.length < 2 || columns[0].length < 2) { place.textContent = "No curve to draw."; return null; }
    const tip = document.createElement("div");
    tip.className = "tip";
    const axis = { stroke: () => css("--soft"), grid: { stroke: () => css("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const seconds = by === "seconds";
    const long = columns[0][columns[0].length - 1] > 5400;
    const label = (v) => (seconds ? (long ? +(v / 3600).toFixed(2) + " h" : v >= 60 ? +(v / 60).toFixed(1) + " min" : +v.toPrecision(3) + " s") : short(v));
    const plot = new uPlot({
      width: place.clientWidth, height: Math.max(280, Math.min(380, Math.round(place.clientWidth * 0.62))),
      padding: [8, 14, 0, 0], legend: { show: false }, scales: { x: { time: false }, y: { range: yRange(columns, owner) } },
      axes: [{ ...axis, size: 34, values: (u, splits) => splits.map(label), space: 64 }, { ...axis, size: 46, values: (u, splits) => splits.map((v) => String(+v.toFixed(3))) }],
      cursor: { points: { show: state.show === "conditions", size: 6 }, focus: { prox: 24 }, drag: { x: true, y: false } }, focus: { alpha: 0.35 },
      series, bands,
      hooks: { setCursor: [(u) => hover(u, tip, columns, series, owner, label)] },
    }, columns, place);
    plot.over.appendChild(tip);
    plot.over.addEventListener("mouseleave", () => { tip.style.display = "none"; });
    return { plot, owner, place };
  }

  function hover(u, tip, columns, series, owner, label) {
    const i = u.cursor.idx;
    if (i == null || u.cursor.left < 0) { tip.style.display = "none"; return; }
    // Of each condition the curve that is nearest to the cursor.
    const at = u.posToVal(u.cursor.top, "y"), nearest = new Map();
    const distance = (s) => Math.abs(columns[s][i] - at);
    for (let s = 1; s < columns.length; s++) {
      if (!series[s].label || hidden.has(owner[s]) || columns[s][i] == null) continue;
      if (!nearest.has(owner[s]) || distance(s) < distance(nearest.get(owner[s]))) nearest.set(owner[s], s);
    }
    if (!nearest.size) { tip.style.display = "none"; return; }
    const rows = [...nearest.values()].sort((a, b) => columns[a][i] - columns[b][i]).slice(0, 8);
    tip.replaceChildren();
    const head = document.createElement("b");
    head.textContent = label(columns[0][i]);
    tip.append(head);
    for (const s of rows) {
      const row = document.createElement("div"), dot = document.createElement("i"), name = document.createElement("span"), number = document.createElement("em");
      dot.style.setProperty("--color", `var(--c${owner[s] % 8})`);
      name.textContent = series[s].label;
      number.textContent = columns[s][i].toFixed(4);
      row.append(dot, name, number);
      tip.append(row);
    }
    tip.style.display = "block";
    const right = u.cursor.left > u.over.clientWidth / 2;
    tip.style.left = right ? "auto" : `${u.cursor.left + 14}px`;
    tip.style.right = right ? `${u.over.clientWidth - u.cursor.left + 14}px` : "auto";
    tip.style.top = "8px";
  }

  function drawAll() {
    for (const p of plots) p.plot.destroy();
    plots = [...document.querySelectorAll("figure[data-by]")].map(draw).filter(Boolean);
    window.reportPlots = plots;
  }

  const legend = document.querySelector(".legend");
  if (legend) {
    data.conditions.forEach((name, c) => {
      const chip = document.createElement("button"), mark = document.createElement("i");
      chip.className = "chip"; chip.type = "button"; chip.setAttribute("aria-pressed", "true");
      chip.title = "Click to hide or show; double-click to show it alone";
      chip.style.setProperty("--color", `var(--c${c % 8})`);
      if (c >= 8) mark.className = "dashed";
      chip.append(mark, document.createTextNode(name));
      chip.addEventListener("click", () => { hidden.has(c) ? hidden.delete(c) : hidden.add(c); applyHidden(); });
      chip.addEventListener("dblclick", () => { data.conditions.forEach((_, k) => (k === c ? hidden.delete(k) : hidden.add(k))); applyHidden(); });
      legend.append(chip);
    });
  }
  function applyHidden() {
    document.querySelectorAll(".chip").forEach((chip, c) => chip.setAttribute("aria-pressed", String(!hidden.has(c))));
    for (const { plot, owner } of plots) plot.batch(() => {
      owner.forEach((c, s) => { if (s) plot.setSeries(s, { show: !hidden.has(c) }); });
      plot.setData(plot.data, false); plot.setScale("x", { min: plot.scales.x.min, max: plot.scales.x.max });
    });
  }

  document.querySelectorAll(".switch").forEach((group) => {
    group.querySelectorAll("button").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.value === state[group.dataset.key]));
      if (button.dataset.value === "val") button.disabled = !validated;
    });
    group.querySelectorAll("button").forEach((button) => button.addEventListener("click", () => {
      state[group.dataset.key] = button.dataset.value;
      group.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
      drawAll();
    }));
  });

  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("thead th").forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
        return up ? order : -order;
      });
      body.append(...rows);
    }));
  });

  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  const charts = document.querySelector(".charts");
  let waiting, drawnWidth = charts && charts.clientWidth;
  if (charts) new ResizeObserver(() => {
    if (charts.clientWidth === drawnWidth) return;
    drawnWidth = charts.clientWidth;
    clearTimeout(waiting); waiting = setTimeout(drawAll, 120);
  }).observe(charts);
})();
