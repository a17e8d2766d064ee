// Heads as pictures, and one of them number by number.
function paint(canvas, block, head, size) {
  const context = canvas.getContext("2d"), low = color("low"), high = color("high"), step = size / T;
  context.clearRect(0, 0, size, size);
  for (let query = 0; query < T; query++) weightsOf(block, head, query).forEach((weight, key) => {
    context.fillStyle = `rgb(${mix(low, high, Math.sqrt(weight))})`;
    context.fillRect(key * step, query * step, Math.ceil(step), Math.ceil(step));
  });
}
function strongest(weights, n) {
  return weights.map((weight, key) => [key, weight]).sort((a, b) => b[1] - a[1]).slice(0, n);
}
function sentence(head) {
  const seen = strongest(weightsOf(state.block, head, state.token), 3).map(([key, weight]) => `${named(key)} ${percent(weight)}`);
  return `${named(state.token)} takes most from ${seen.join(", ")}`;
}
function drawHeads() {
  show("heads", ...Array.from({ length: data.heads }, (_, head) => {
    const canvas = element("canvas", { width: T, height: T, "aria-hidden": "true" });
    paint(canvas, state.block, head, T);
    const button = element("button", { type: "button", "aria-pressed": head === state.head, "aria-label": `Head ${head + 1}: ${sentence(head)}` }, canvas, `${head + 1}`);
    button.addEventListener("click", () => { state.head = head; drawHeads(); drawHead(); at("heads").children[head].focus(); });
    return button;
  }));
}
function drawHead() {
  const map = at("map"), context = map.getContext("2d"), step = map.width / T;
  paint(map, state.block, state.head, map.width);
  context.lineWidth = 2; context.strokeStyle = `rgb(${color("orange")})`;
  context.strokeRect(1, state.token * step + 1, Math.max(4, (state.token + 1) * step - 2), Math.max(3, step - 2));
  map.setAttribute("aria-label", `Attention of block ${state.block + 1}, head ${state.head + 1}. ${sentence(state.head)}.`);
  at("head-sentence").textContent = `Block ${state.block + 1}, head ${state.head + 1}: ${sentence(state.head)}.`;
  state.key = strongest(weightsOf(state.block, state.head, state.token), 1)[0][0];
  drawWorked();
}
function drawWorked() {
  const { block, head, token } = state, found = scoresOf(block, head, token), weights = weightsOf(block, head, token);
  const root = Math.sqrt(data.headDim), alibi = data.positions.bias.length > 0;
  table("worked", "Product, score, mask and weight of each key", ["key", "q · k", `÷ √${data.headDim}`, ...(alibi ? ["distance"] : []), "mask", "after softmax", ""],
    data.tokens.map(([, name], key) => {
      if (key > token) return ["masked", name, "", "", ...(alibi ? [""] : []), "−∞", "0", ""];
      const button = element("button", { type: "button", "aria-label": `Show the product with ${name}` }, element("bdi", {}, name));
      button.addEventListener("click", () => { state.key = key; drawWorked(); at("worked").tBodies[0].rows[key].querySelector("button").focus(); });
      const bar = element("span", { class: "bar" });
      bar.style.width = `${Math.round(90 * weights[key])}px`;
      return [key === state.key ? "on" : "", [button], number(found[key] * root), number(found[key]), ...(alibi ? [number(biasOf(head, token, key))] : []), "0", number(weights[key], 4), [bar]];
    }));
  const q = vectors.q.row(block, head, token), k = vectors.k.row(block, keyHead(head), state.key);
  const terms = Array.from(q, (x, i) => [x, k[i], x * k[i]]).sort((a, b) => Math.abs(b[2]) - Math.abs(a[2])), few = terms.slice(0, 4);
  const rest = found[state.key] * root - few.reduce((sum, term) => sum + term[2], 0);
  show("product", `q of ${named(token)} · k of ${named(state.key)} = ${few.map(([x, y]) => `(${number(x)} × ${number(y)})`).join(" + ")}`
    + (terms.length > 4 ? ` + ${number(rest)} from ${terms.length - 4} more channels` : "") + " = ", element("b", {}, number(found[state.key] * root)),
    `. Divided by √${data.headDim} = ${number(root)}: ${number(found[state.key])}.`);
  const top = strongest(weights, 4), output = new Float32Array(data.headDim), explained = new Float32Array(data.headDim);
  weights.forEach((weight, key) => vectors.v.row(block, keyHead(head), key).forEach((x, i) => { output[i] += weight * x; }));
  top.forEach(([key, weight]) => vectors.v.row(block, keyHead(head), key).forEach((x, i) => { explained[i] += weight * x; }));
  const rows = top.map(([key, weight]) => strip(`${number(weight, 3)} × v of ${data.tokens[key][1]}`, vectors.v.row(block, keyHead(head), key), numbers(vectors.v.row(block, keyHead(head), key))));
  if (weights.length > 4) rows.push(strip(`+ ${weights.length - 4} more`, output.map((x, i) => x - explained[i]), numbers(output.map((x, i) => x - explained[i]))));
  show("weighted", element("figure", {}, ...rows, strip("= output of the head", output, numbers(output)), element("figcaption", {}, "The values, weighted and added: what this head hands to the chosen token.")));
}
