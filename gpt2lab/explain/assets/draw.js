// Elements, strips, bars and radio groups. Text always goes in as text.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== false) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
function svg(tag, attributes = {}, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
const at = (id) => document.getElementById(id);
function show(id, ...children) { at(id).replaceChildren(...children); }
function color(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}
function mix(a, b, share) { return a.map((x, i) => Math.round(x + (b[i] - x) * share)); }

// A row of numbers as colors: orange below zero, blue above.
function strip(label, values, note, scale) {
  const canvas = element("canvas", { width: values.length, height: 1, role: "img" });
  const largest = scale ?? Math.max(1e-9, ...Array.from(values, Math.abs));
  canvas.setAttribute("aria-label", `${label}: first numbers ${Array.from(values.slice(0, 4), (x) => number(x)).join(", ")}`);
  const context = canvas.getContext("2d"), zero = color("zero"), ends = [color("orange"), color("blue")];
  values.forEach((x, i) => {
    context.fillStyle = `rgb(${mix(zero, ends[x < 0 ? 0 : 1], Math.min(1, Math.abs(x) / largest))})`;
    context.fillRect(i, 0, 1, 1);
  });
  return element("div", { class: "strip" }, element("div", { class: "label" }, label), canvas, element("p", { class: "facts" }, note ?? ""));
}
function numbers(values) { return Array.from(values.slice(0, 5), (x) => number(x)).join("  ") + (values.length > 5 ? "  …" : ""); }

// Rows of [name, value, text, class]; signed values grow from the middle.
function bars(rows, signed = false) {
  const largest = Math.max(1e-12, ...rows.map((row) => Math.abs(row[1])));
  const cells = rows.flatMap(([name, value, text, kind]) => {
    const bar = element("span", { class: value < 0 ? "bar negative" : "bar" });
    bar.style.width = `${(100 * Math.abs(value)) / largest}%`;
    const halves = signed ? [element("span", { class: "half left" }), element("span", { class: "half" })] : [];
    if (signed) halves[value < 0 ? 0 : 1].append(bar);
    return [
      element("bdi", { class: `name ${kind ?? ""}` }, name),
      element("span", { class: `track ${signed ? "signed" : ""} ${kind ?? ""}`, "aria-hidden": "true" }, ...(signed ? halves : [bar])),
      element("span", { class: `value ${kind ?? ""}` }, text),
    ];
  });
  return element("div", { class: "bars" }, ...cells);
}
// Radio buttons: the arrow keys move, and screen readers count.
function chooser(id, title, labels, chosen, change) {
  const picks = labels.map((label, i) => {
    const input = element("input", { type: "radio", name: id, value: i, "aria-label": `${title} ${label}` });
    input.checked = i === chosen;
    input.addEventListener("change", () => change(i));
    return element("label", { class: "pick" }, input, element("span", {}, element("bdi", {}, label)));
  });
  show(id, element("fieldset", {}, element("legend", {}, title), ...picks));
}
function table(id, caption, headings, rows) {
  const cell = (tag, content, attributes) => element(tag, attributes, ...(Array.isArray(content) ? content : [content]));
  show(id, element("caption", { class: "hidden" }, caption),
    element("thead", {}, element("tr", {}, ...headings.map((heading) => element("th", { scope: "col" }, heading)))),
    element("tbody", {}, ...rows.map(([kind, first, ...others]) =>
      element("tr", { class: kind }, cell("th", first, { scope: "row" }), ...others.map((other) => cell("td", other, {}))))));
}
