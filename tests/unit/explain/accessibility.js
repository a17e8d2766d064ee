// The names of all controls, and the contrast of all text with what is behind it (WCAG 2.2).
const controls = () => [...document.querySelectorAll("a, button, input, summary, select, [tabindex]")].map((control) => {
  const title = document.getElementById(control.getAttribute("aria-labelledby"));
  const name = control.ariaLabel || control.labels?.[0]?.textContent || title?.textContent || control.textContent;
  return [control.outerHTML.slice(0, 80), control.tabIndex, name.trim()];
});
const contrasts = () => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (channel) => (channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [r, g, b] = rgba(colour).map((channel) => linear(channel / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (rgba(colour)[3] > 200) return colour;
    }
    return "white";
  };
  const shown = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !node.closest("svg");
  const hasText = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  return [...document.querySelectorAll("body *")].filter((node) => shown(node) && hasText(node)).map((node) => {
    const [dark, light] = [getComputedStyle(node).color, behind(node)].map(luminance).sort((a, b) => a - b);
    return [`${node.tagName} ${node.className} ${node.textContent.trim().slice(0, 30)}`, (light + 0.05) / (dark + 0.05)];
  });
};
