// Put together: the choosers, and what is drawn again when one changes.
function drawToken() { drawTokens(); drawEmbedding(); drawBlock(); drawStream(); }
function drawFinal() {
  const token = state.token;
  state.token = T - 1;
  show("final-figure", ...normStrips("Last vector", 2 * data.layers));
  state.token = token;
  show("logits-figure", bars(steps[0].items.slice(0, 8).filter((item) => item.label !== undefined).map((item) => [item.label, item.logit, number(item.logit)]), true), element("figcaption", {}, "The largest logits after the last token."));
}
function drawAll() { drawToken(); drawFinal(); drawParts(); drawNext(); drawStory(); }
chooser("chooser", "Token", data.tokens.map((token) => token[1]), state.token, (t) => { state.token = t; drawToken(); });
chooser("block-chooser", "Block", Array.from({ length: data.layers }, (_, l) => String(l + 1)), 0, (l) => { state.block = l; drawBlock(); });
chooser("candidate-chooser", "Token", data.contributions.tokens, 0, (i) => { state.candidate = i; drawParts(); });
chooser("step-chooser", "Step", data.steps.map((step, i) => `${i + 1}: ${step.token}`), 0, (i) => { state.step = i; drawNext(); drawStory(); });
for (const id of Object.keys(readSlider)) at(id).addEventListener("input", () => moveSlider(id));
at("reset").addEventListener("click", resetSliders);
resetSliders();
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
