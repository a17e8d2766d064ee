// Embedding, positions, norms, residual stream, MLP, logit lens, contributions.
function drawTokens() {
  const row = (kind, label, index, prefix = "") => element("tr", { class: kind }, element("th", { scope: "row" }, label),
    ...data.tokens.map((token, t) => element("td", { class: t === state.token && "on" }, element("bdi", {}, prefix + token[index]))));
  show("token-table", element("caption", { class: "hidden" }, "The tokens with their ids and bytes"), element("tbody", {}, row("", "token", 1), row("", "id", 0), row("bytes", "bytes", 2)));
}
function drawEmbedding() {
  const t = state.token, parts = ["token", "position", "sum"].map((name) => embedding[name].row(t)), added = data.positions.added;
  const scale = Math.max(...parts.flatMap((part) => Array.from(part, Math.abs)));
  show("embedding-figure", strip(data.tokens[t][1], parts[0], numbers(parts[0]), scale));
  at("embedding-caption").textContent = `The first ${parts[0].length} numbers of the vector of ${named(t)}: orange negative, blue positive.`;
  if (added) {
    show("position-figure", strip("token", parts[0], numbers(parts[0]), scale), strip(`+ place ${t}`, parts[1], numbers(parts[1]), scale), strip("= sum", parts[2], numbers(parts[2]), scale));
    at("position-caption").textContent = "Places are counted from 0. The three strips have the same scale.";
  } else if (data.positions.angles.length) drawRotation();
  else if (data.positions.bias.length) drawSlopes();
  else show("position-figure", element("p", { class: "hint" }, "Nothing is added."));
}
function drawRotation() {
  const { angles, pairs } = data.positions, shown = Math.min(T, 16), step = 46;
  const drawing = svg("svg", { viewBox: `0 0 ${90 + shown * step} ${angles.length * step + 24}`, role: "img", "aria-label": "Arrows turned by the angle of each place: the first pairs turn fast, the last slowly" });
  drawing.style.minWidth = `${60 + shown * 30}px`;
  angles.forEach((row, r) => {
    const y = r * step + 42;
    drawing.append(svg("text", { x: 0, y: y + 4 }, `pair ${pairs[r]}`));
    row.slice(0, shown).forEach((angle, t) => {
      const x = 90 + t * step, dx = 17 * Math.cos(angle), dy = -17 * Math.sin(angle), line = t === state.token ? "var(--orange)" : "var(--blue)";
      if (!r) drawing.append(svg("text", { x, y: 12, "text-anchor": "middle" }, String(t)));
      drawing.append(svg("circle", { cx: x, cy: y, r: 18, fill: "none", stroke: "var(--line)" }), svg("line", { x1: x, y1: y, x2: x + dx, y2: y + dy, stroke: line, "stroke-width": 2.5, "stroke-linecap": "round" }), svg("circle", { cx: x + dx, cy: y + dy, r: 3.2, fill: line }));
    });
  });
  const scroll = element("div", { tabindex: 0, role: "region", "aria-label": "Rotations" }, drawing);
  scroll.style.overflowX = "auto";
  show("position-figure", scroll);
  at("position-caption").textContent = `Two channels of a query or key make a pair, which is turned by the arrow's angle at each place (0 to ${shown - 1}). Early pairs turn fast, late ones slowly.`;
}
function drawSlopes() {
  const lowest = Math.min(-1e-9, ...data.positions.bias.flat()), drawing = svg("svg", { viewBox: "0 0 600 220", role: "img", "aria-label": "What is added to the score, by distance: one falling line for each head" });
  data.positions.bias.forEach((row, head) => drawing.append(svg("polyline", { fill: "none", stroke: head === state.head ? "var(--orange)" : "var(--blue)", "stroke-width": head === state.head ? 3 : 1.5, points: row.map((b, key) => `${40 + (540 * (T - 1 - key)) / Math.max(1, T - 1)},${15 + (170 * b) / lowest}`).join(" ") })));
  drawing.append(svg("text", { x: 40, y: 212 }, "same place"), svg("text", { x: 580, y: 212, "text-anchor": "end" }, `${T - 1} tokens back`), svg("text", { x: 0, y: 18 }, "0"), svg("text", { x: 0, y: 190 }, number(lowest, 1)));
  show("position-figure", drawing);
  at("position-caption").textContent = "What is added to the score of a token farther back; one line per head, the chosen head in orange.";
}
function beforeAfter(index) {
  return [0, 1].map((side) => {
    const at0 = ((index * 2 + side) * T + state.token) * 2;
    return [strips.row(index, side, state.token), `mean ${number(statistics[at0], 3)}, standard deviation ${number(statistics[at0 + 1], 3)}`];
  });
}
function normStrips(name, index) {
  const [before, after] = beforeAfter(index);
  return [strip(`${name}: before`, ...before), strip("after", ...after)];
}
function drawBlock() {
  const { block, token, head } = state, s = data.stream, before = block ? s.output[block - 1][token] : s.embedding[token];
  show("norm-figure", ...normStrips("Before attention", 2 * block), ...normStrips("Before the MLP", 2 * block + 1));
  show("residual-figure", bars([["stream before", before, number(before)], ["attention adds", s.attention[block][token], number(s.attention[block][token])], ["stream after attention", s.middle[block][token], number(s.middle[block][token])], ["MLP adds", s.mlp[block][token], number(s.mlp[block][token])], ["stream after the block", s.output[block][token], number(s.output[block][token])]]),
    element("figcaption", {}, `Lengths of the vectors of ${named(token)}. Lengths of added vectors do not add up unless they point the same way.`));
  show("mlp-figure", bars(data.units[block][token].map(([unit, value, promoted]) => [`unit ${unit}`, value, `${number(value)}  →  ${promoted.join("  ")}`]), true));
  drawHeads(); drawHead();
  if (!data.positions.added && data.positions.bias.length && head >= 0) drawSlopes();
}
function drawStream() {
  const { token } = state, s = data.stream, all = data.tokens.map((_, t) => [s.embedding[t], ...s.output.map((row) => row[t])]);
  const largest = Math.max(...all.flat()), smallest = Math.min(...all.flat().filter((x) => x > 0)), span = Math.log(largest / smallest) || 1;
  const y = (x) => 185 - (165 * Math.log(Math.max(x, smallest) / smallest)) / span, x = (l) => 48 + (540 * l) / data.layers;
  const drawing = svg("svg", { viewBox: "0 0 610 225", role: "img", "aria-label": `Length of the stream of ${named(token)}: ${all[token].map((v) => number(v, 1)).join(", ")}` });
  all.forEach((line, t) => drawing.append(svg("polyline", { fill: "none", stroke: "var(--line)", "stroke-width": 1.2, points: line.map((v, l) => `${x(l)},${y(v)}`).join(" ") })));
  drawing.append(svg("polyline", { fill: "none", stroke: "var(--blue)", "stroke-width": 3, points: all[token].map((v, l) => `${x(l)},${y(v)}`).join(" ") }));
  [smallest, largest].forEach((v) => drawing.append(svg("text", { x: 40, y: y(v) + 4, "text-anchor": "end" }, number(v, 1))));
  for (let l = 0; l <= data.layers; l += Math.ceil(data.layers / 12)) drawing.append(svg("text", { x: x(l), y: 212, "text-anchor": "middle" }, l ? String(l) : "start"));
  show("stream-figure", drawing);
  at("stream-caption").textContent = `Length of the stream after each block, for ${named(token)} in blue and the other tokens in grey, on a logarithmic scale.`;
  const next = token + 1 < T ? data.tokens[token + 1][1] : data.steps[0].token;
  table("lens", "Most likely next tokens after each block", ["after", "1st", "2nd", "3rd", "4th", "5th", `rank of ‘${next}’`], data.lens.ids.map((rows, l) =>
    [l === data.layers ? "on" : "", l ? `block ${l}` : "embedding", ...Array.from({ length: 5 }, (_, i) => i < rows[token].length ? [element("bdi", {}, data.lens.names[rows[token][i]]), ` ${percent(data.lens.probs[l][token][i])}`] : ""), String(data.lens.ranks[l][token])]));
}
function drawParts() {
  const c = data.contributions, values = c.values[state.candidate];
  const order = values.map((value, i) => [c.parts[i][0], value]).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])), top = order.slice(0, 12);
  const rest = order.slice(12).reduce((sum, row) => sum + row[1], 0);
  show("parts-figure", bars([...top, ...(order.length > 12 ? [[`${order.length - 12} other parts`, rest]] : [])].map(([name, value]) => [name, value, number(value)]), true));
  at("parts-caption").textContent = `How far each part lifts the logit of ‘${c.tokens[state.candidate]}’ above the mean logit of all tokens, which is ${number(c.means)}. All parts together: ${number(c.sums[state.candidate], 4)}; the model's logit: ${number(c.logits[state.candidate], 4)}.`;
}
