// The page's data: packed numbers unpacked, and what is chosen.
const data = JSON.parse(document.getElementById("data").textContent);
const T = data.tokens.length;
const state = { token: T - 1, block: 0, head: 0, key: 0, candidate: 0, step: 0 };

function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
function floats(text) {
  return new Float32Array(bytesOf(text).buffer);
}
// Rows of whole numbers of a few bits, each row with its scale (gpt2lab/explain/packing.py).
function unpack(packed) {
  const bytes = bytesOf(packed.data), scale = floats(packed.scale);
  const width = packed.shape.at(-1), steps = 2 ** (packed.bits - 1) - 1;
  const values = new Float32Array(packed.shape.reduce((a, b) => a * b, 1));
  let held = 0, bits = 0, at = 0;
  for (let i = 0; i < values.length; i++) {
    while (bits < packed.bits) { held = ((held & 0xffff) << 8) | bytes[at++]; bits += 8; }
    bits -= packed.bits;
    values[i] = ((((held >> bits) & (2 ** packed.bits - 1)) - steps) / steps) * scale[Math.floor(i / width)];
  }
  return { shape: packed.shape, row(...index) {
    const row = index.reduce((sum, i, axis) => sum * packed.shape[axis] + i, 0);
    return values.subarray(row * width, (row + 1) * width);
  } };
}
const scores = unpack(data.attention.scores);
const vectors = { q: unpack(data.attention.q), k: unpack(data.attention.k), v: unpack(data.attention.v) };
const strips = unpack(data.norms.strips), statistics = floats(data.norms.statistics);
const embedding = { token: unpack(data.embedding.token), position: unpack(data.embedding.position), sum: unpack(data.embedding.sum) };

// Scores of one query, from the first key to itself; then bias, softmax.
function scoresOf(block, head, token) {
  const first = (token * (token + 1)) / 2;
  return scores.row(block, head).subarray(first, first + token + 1);
}
function biasOf(head, token, key) {
  if (!data.positions.bias.length) return 0;
  const last = data.positions.bias[head % data.positions.bias.length];
  return last[T - 1 - token + key];
}
function weightsOf(block, head, token) {
  const added = Array.from(scoresOf(block, head, token), (score, key) => score + biasOf(head, token, key));
  const largest = Math.max(...added), powers = added.map((x) => Math.exp(x - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / sum);
}
const keyHead = (head) => Math.floor(head / (data.heads / data.kvHeads));

function number(x, digits = 2) { return x.toFixed(digits).replace("-", "−"); }
function percent(p) { return p >= 0.9995 ? "100 %" : p >= 0.1 ? (100 * p).toFixed(1) + " %" : p >= 0.00005 ? (100 * p).toPrecision(2) + " %" : "< 0.01 %"; }
const named = (token) => `‘${data.tokens[token][1]}’`;
