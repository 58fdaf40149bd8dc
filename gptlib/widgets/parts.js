// What several widgets are made of.

const BLUE = "#0072B2", GREY = "#B8B8B8";

/** Append an element with a style and a text to a parent; return it. */
export function make(parent, tag, style = "", text = "") {
  const element = document.createElement(tag);
  element.style.cssText = style;
  element.textContent = text;
  parent.append(element);
  return element;
}

/** Append a control with its label, and return the output that shows its value. */
export function labelled(parent, label, control, columns = "4em minmax(3em,1fr) 2.5em") {
  const row = make(parent, "label", `display:grid;grid-template-columns:${columns};gap:.5em;align-items:center;margin-bottom:.4em`);
  const readout = document.createElement("output");
  row.append(label, control, readout);
  return readout;
}

/** Replace a parent's content by a bar for each [word, probability], one of the words standing out. */
export function wordBars(parent, pairs, chosen, mark = "") {
  parent.replaceChildren();
  for (const [word, p] of pairs) {
    const row = make(parent, "div", "display:grid;grid-template-columns:5em 1fr 4em;gap:.4em;align-items:center;font-size:13px;line-height:1.4");
    make(row, "span", `text-align:right;${word === chosen ? "font-weight:700" : ""}`, word === "\n" ? "(line end)" : word);
    const track = make(row, "div", "background:#f0f0f0;height:.8em");
    make(track, "div", `width:${100 * p}%;height:100%;background:${word === chosen ? BLUE : GREY}`);
    make(row, "span", "", p.toFixed(2) + (word === chosen ? mark : ""));
  }
}
