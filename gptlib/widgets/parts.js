// What several widgets are made of.

const SVG = "http://www.w3.org/2000/svg";
// Colours suit the page: its text's colour, where the book, Colab or Jupyter names one, and tones mixed from it.
const INK = "var(--pst-color-text-base, var(--colab-primary-text-color, var(--jp-ui-font-color1, inherit)))";
const SURFACE = "var(--pst-color-surface, var(--colab-primary-surface-color, var(--jp-layout-color2, transparent)))";
const tone = (share) => `color-mix(in srgb, currentColor ${share}%, transparent)`;
export const BLUE = "color-mix(in srgb, #0072B2 75%, currentColor)", ORANGE = "color-mix(in srgb, #D55E00 75%, currentColor)";
export const FAINT = tone(7), LINE = tone(18), GREY = tone(45), EDGE = tone(65);
/** The style of a select or a button. */
export const CONTROL = `font:inherit;color:inherit;background:${SURFACE};border:1px solid ${EDGE};border-radius:4px;padding:.15em .3em;max-width:100%`;

/** Append an element with a style and a text to a parent; return it. */
export function make(parent, tag, style = "", text = "") {
  const element = document.createElement(tag);
  element.style.cssText = style;
  element.textContent = text;
  parent.append(element);
  return element;
}

/** Append the box that holds a widget. */
export function panel(parent, width = 720) {
  return make(parent, "div", `box-sizing:border-box;max-width:${width}px;padding:.8em;border:1px solid ${LINE};border-radius:6px;`
    + `color:${INK};accent-color:${BLUE};font:15px/1.5 system-ui,sans-serif`);
}

/** Append a control with its label, and return the output that shows its value. */
export function labelled(parent, label, control, columns = "4em minmax(3em,1fr) 2.5em") {
  const row = make(parent, "label", `display:grid;grid-template-columns:${columns};gap:.5em;align-items:center;margin-bottom:.4em`);
  const readout = document.createElement("output");
  row.append(label, control, readout);
  return readout;
}

/** Append a paragraph that is read aloud when it changes. */
export function spoken(parent, style = "margin:.6em 0 0") {
  const paragraph = make(parent, "p", style);
  paragraph.setAttribute("aria-live", "polite");
  return paragraph;
}

/** Append an SVG element with attributes and a text to a parent; return it. */
export function shape(parent, tag, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  parent.append(element);
  return element;
}

/** Append a chart with a text alternative. `draw(svg, width)` fills it, anew for every width: letters keep their size. */
export function chart(parent, alternative, height, draw) {
  const svg = shape(parent, "svg", { role: "img", "aria-label": alternative, width: "100%", height, "font-size": 13, fill: "currentColor" });
  svg.style.display = "block";
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (!contentRect.width || contentRect.width === width) return;
    width = contentRect.width;
    svg.replaceChildren();
    draw(svg, width);
  }).observe(svg);
  return svg;
}

/** Replace a parent's content by a bar for each [word, probability], one of the words standing out. */
export function wordBars(parent, pairs, chosen, mark = "") {
  parent.replaceChildren();
  for (const [word, p] of pairs) {
    const row = make(parent, "div", "display:grid;grid-template-columns:5em 1fr 4em;gap:.4em;align-items:center;font-size:13px;line-height:1.4");
    make(row, "span", `text-align:right;${word === chosen ? "font-weight:700" : ""}`, word === "\n" ? "(line end)" : word);
    const track = make(row, "div", `background:${FAINT};height:.8em`);
    make(track, "div", `width:${100 * p}%;height:100%;background:${word === chosen ? BLUE : GREY}`);
    make(row, "span", "", p.toFixed(2) + (word === chosen ? mark : ""));
  }
}
