// The softmax with temperature, top-k and top-p: the same steps as gpt2lab/generation/filters.py.
const steps = data.steps.map((step) => {
  const logits = floats(step.logits);
  return { ...step, items: Array.from(logits, (logit, i) => ({ logit, count: i < step.labels.length ? 1 : step.tail[i - step.labels.length], label: step.labels[i], id: step.ids[i] })) };
});
// Probability of each item, from the largest logit down; groups of the tail count as so many equal tokens.
function probabilities(step, temperature, topK, topP) {
  const { items } = steps[step], kept = items.map((item) => item.count);
  if (temperature === 0) return { probs: items.map((_, i) => (i ? 0 : 1)), kept: items.map((_, i) => (i ? 0 : 1)) };
  if (topK !== null) {
    let left = topK, kth = Infinity;
    items.forEach((item, i) => { if (left > 0) kth = item.logit; kept[i] = left > 0 ? Math.min(item.count, left) : item.count === 1 && item.logit === kth ? 1 : 0; left -= item.count; });
  }
  const each = items.map((item) => Math.exp((item.logit - items[0].logit) / temperature));
  if (topP !== null) {
    const goal = topP * each.reduce((sum, p, i) => sum + p * kept[i], 0);
    let before = 0;
    each.forEach((p, i) => { const n = before < goal ? Math.min(kept[i], Math.max(1, Math.ceil((goal - before) / p))) : 0; before += p * kept[i]; kept[i] = Math.min(n, kept[i]); });
  }
  const sum = each.reduce((total, p, i) => total + p * kept[i], 0);
  return { probs: each.map((p, i) => (kept[i] ? p / sum : 0)), kept };
}
// The settings of the figure: the recorded ones, exactly, until a slider is moved. A slider has few positions and ends.
const decoding = { ...data.decoding };
const readSlider = {
  temperature: (x) => { decoding.temperature = x; },
  "top-k": (x) => { decoding.topK = x === 100 ? null : Math.max(1, Math.round(data.vocabulary ** (x / 100))); },
  "top-p": (x) => { decoding.topP = x === 1 ? null : x; },
};
function moveSlider(id) { readSlider[id](Number(at(id).value)); drawNext(); }
const exact = (x) => (Number(x.toFixed(2)) === x ? number(x) : String(x));
function drawNext() {
  const { temperature, topK, topP } = decoding, { probs, kept } = probabilities(state.step, temperature, topK, topP), step = steps[state.step];
  const texts = { temperature: temperature ? exact(temperature) : "0 (greedy)", "top-k": topK === null ? "all" : topK.toLocaleString("en"), "top-p": topP === null ? "all" : exact(topP) };
  for (const [id, text] of Object.entries(texts)) { at(`${id}-value`).textContent = text; at(id).setAttribute("aria-valuetext", text); }
  const possible = kept.reduce((a, b) => a + b, 0), shown = step.items.slice(0, 12).filter((item) => item.label !== undefined);
  const rows = shown.map((item, i) => [item.label, probs[i], percent(probs[i]), `${probs[i] ? "" : "gone "}${item.id === step.tokenId ? "drawn" : ""}`]);
  const rest = Math.max(0, 1 - shown.reduce((sum, _, i) => sum + probs[i], 0)), others = Math.max(0, possible - shown.filter((_, i) => probs[i]).length);
  if (step.items.length > shown.length) rows.push([`${others.toLocaleString("en")} others`, rest, percent(rest), others ? "" : "gone"]);
  show("next-figure", bars(rows));
  at("next-sentence").textContent = `${possible.toLocaleString("en")} of ${data.vocabulary.toLocaleString("en")} tokens can be drawn; the likeliest is ‘${step.labels[0]}’ with ${percent(probs[0])}. Recorded: ‘${step.token}’, number ${step.rank.toLocaleString("en")}.`;
}
function resetSliders() {
  const { temperature, topK, topP } = Object.assign(decoding, data.decoding);
  at("temperature").value = temperature;
  at("top-k").value = topK === null ? 100 : Math.round((100 * Math.log(topK)) / Math.log(data.vocabulary));
  at("top-p").value = topP ?? 1;
  drawNext();
}
function drawStory() {
  show("story", element("bdi", {}, data.tokens.map((token) => token[1]).join("").replaceAll("␣", " ")), ...data.steps.map((step, i) => element("mark", { class: i > state.step ? "later" : "" }, element("bdi", {}, step.token.replaceAll("␣", " ")))));
}
