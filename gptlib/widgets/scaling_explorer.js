// Three sliders over a fitted surface L(N, D). All of it happens here, so it needs no kernel.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 640, HEIGHT = 380, LEFT = 62, RIGHT = 14, TOP = 14, BOTTOM = 46;
const BLUE = "#0072B2", ORANGE = "#D55E00", GREY = "#767676";

/** The loss of a model of N parameters after D tokens. */
export function predict({ E, A, B, alpha, beta }, N, D) {
  return E + A * N ** -alpha + B * D ** -beta;
}

/** The N and D with the lowest loss for C = perToken N D FLOPs. */
export function optimal({ A, B, alpha, beta }, C, perToken) {
  const N = ((alpha * A) / (beta * B)) ** (1 / (alpha + beta)) * (C / perToken) ** (beta / (alpha + beta));
  return [N, C / perToken / N];
}

/** A number in three digits, with the letter that engineers use: 1.23 M. */
export function short(x) {
  const letters = ["", " k", " M", " G", " T", " P", " E"];
  const power = Math.max(0, Math.min(letters.length - 1, Math.floor(Math.log10(x) / 3 + 1e-9)));
  return Number((x / 1000 ** power).toPrecision(3)) + letters[power];
}

function make(parent, tag, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  parent.append(element);
  return element;
}

function slider(parent, label, [low, high]) {
  const row = document.createElement("label");
  row.style.cssText = "display:grid;grid-template-columns:8.5em minmax(3em,1fr) 4.5em;gap:.4em;align-items:center";
  const input = Object.assign(document.createElement("input"), { type: "range", min: low, max: high, step: 0.01 });
  const readout = document.createElement("output");
  row.append(label, input, readout);
  parent.append(row);
  return {
    input,
    show(logarithm) {
      input.value = logarithm;
      readout.textContent = short(10 ** logarithm);
      input.setAttribute("aria-valuetext", readout.textContent);
    },
  };
}

function render({ model, el }) {
  const fit = model.get("constants"), perToken = model.get("per_token"), runs = model.get("runs");
  const unit = model.get("unit"), spread = (values, room) => [Math.min(...values) - room, Math.max(...values) + room];
  const rangeN = spread(runs.map(([N]) => Math.log10(N)), 0.7), rangeD = spread(runs.map(([, D]) => Math.log10(D)), 0.7);
  const rangeC = [0, 1].map((end) => rangeN[end] + rangeD[end] + Math.log10(perToken));
  const X = (n) => LEFT + ((n - rangeN[0]) / (rangeN[1] - rangeN[0])) * (WIDTH - LEFT - RIGHT);
  const Y = (d) => HEIGHT - BOTTOM - ((d - rangeD[0]) / (rangeD[1] - rangeD[0])) * (HEIGHT - TOP - BOTTOM);
  const samples = Array.from({ length: 121 }, (_, i) => rangeN[0] + ((rangeN[1] - rangeN[0]) * i) / 120);
  const path = (f) => samples.map((n) => [n, f(n)]).filter(([, d]) => d >= rangeD[0] && d <= rangeD[1])
    .map(([n, d], i) => `${i ? "L" : "M"}${X(n).toFixed(1)},${Y(d).toFixed(1)}`).join("");

  const box = document.createElement("div");
  box.style.cssText = "background:#fff;color:#222;padding:.8em;max-width:680px;font:15px/1.5 system-ui,sans-serif";
  el.append(box);
  const sliders = {
    C: slider(box, "compute C, FLOPs", rangeC),
    N: slider(box, "parameters N", rangeN),
    D: slider(box, "tokens D", rangeD),
  };
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Split this compute best" });
  button.style.cssText = "margin:.6em 0;padding:.3em .8em;font:inherit;color:#222;background:#eee;border:1px solid #767676;border-radius:4px";
  const said = document.createElement("p");
  said.setAttribute("aria-live", "polite");
  said.style.margin = "0 0 .5em";
  box.append(button, said);

  const svg = make(box, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", width: "100%", "font-size": 13 });
  svg.setAttribute("aria-label", "Contours of equal predicted loss over parameters and tokens, both on log scales; grey "
    + "dots are the runs measured, the dashed line is where your compute can go, the orange line the best split of every compute.");
  for (let n = Math.ceil(rangeN[0]); n <= rangeN[1]; n++) {
    make(svg, "line", { x1: X(n), x2: X(n), y1: TOP, y2: HEIGHT - BOTTOM, stroke: "#E3E3E3" });
    make(svg, "text", { x: X(n), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, short(10 ** n));
  }
  for (let d = Math.ceil(rangeD[0]); d <= rangeD[1]; d++) {
    make(svg, "line", { x1: LEFT, x2: WIDTH - RIGHT, y1: Y(d), y2: Y(d), stroke: "#E3E3E3" });
    make(svg, "text", { x: LEFT - 6, y: Y(d) + 4, "text-anchor": "end" }, short(10 ** d));
  }
  make(svg, "text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "parameters N (log)");
  make(svg, "text", { x: 14, y: HEIGHT / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${HEIGHT / 2})` }, "tokens D (log)");

  const [worst, best] = [0, 1].map((end) => predict(fit, 10 ** rangeN[end], 10 ** rangeD[end]));
  for (let i = 1; i <= 9; i++) {  // spaced evenly in log(L - E), as a power law is
    const level = fit.E + Math.exp(Math.log(worst - fit.E) + (i / 10) * Math.log((best - fit.E) / (worst - fit.E)));
    const tokens = (n) => Math.log10(Math.max(1e-30, (level - fit.E - fit.A * 10 ** (-fit.alpha * n)) / fit.B)) / -fit.beta;
    make(svg, "path", { d: path(tokens), fill: "none", stroke: BLUE, "stroke-width": 1.2 });
    const end = samples.findLast((n) => tokens(n) >= rangeD[0] && tokens(n) <= rangeD[1]);
    if (end !== undefined) {
      make(svg, "text", { x: X(end) - 3, y: Y(tokens(end)) - 3, fill: BLUE, "text-anchor": "end" }, level.toFixed(2));
    }
  }
  for (const [N, D] of runs) make(svg, "circle", { cx: X(Math.log10(N)), cy: Y(Math.log10(D)), r: 2.2, fill: GREY });
  const frontier = samples.map((_, i) => optimal(fit, 10 ** (rangeC[0] + ((rangeC[1] - rangeC[0]) * i) / 120), perToken)
    .map(Math.log10)).filter(([n, d]) => n >= rangeN[0] && n <= rangeN[1] && d >= rangeD[0] && d <= rangeD[1]);
  make(svg, "path", { d: frontier.map(([n, d], i) => `${i ? "L" : "M"}${X(n)},${Y(d)}`).join(""), fill: "none", stroke: ORANGE, "stroke-width": 2 });
  const budget = make(svg, "path", { fill: "none", stroke: "#222", "stroke-dasharray": "5 4" });
  const here = make(svg, "circle", { r: 6, fill: "#222", stroke: "#fff", "stroke-width": 1.5 });

  let n, d;
  const inside = (x, [low, high]) => Math.min(high, Math.max(low, x));
  function move(newN, newD) {
    n = inside(newN, rangeN);
    d = inside(newD, rangeD);
    const c = n + d + Math.log10(perToken);
    sliders.C.show(c), sliders.N.show(n), sliders.D.show(d);
    budget.setAttribute("d", path((x) => c - Math.log10(perToken) - x));
    here.setAttribute("cx", X(n)), here.setAttribute("cy", Y(d));
    const [bestN, bestD] = optimal(fit, 10 ** c, perToken), loss = predict(fit, 10 ** n, 10 ** d);
    said.textContent = `Predicted loss ${loss.toFixed(3)} ${unit}. The best split of this compute: ${short(bestN)} parameters on `
      + `${short(bestD)} tokens, ${predict(fit, bestN, bestD).toFixed(3)}.`;
  }
  const split = () => move(...optimal(fit, 10 ** sliders.C.input.value, perToken).map(Math.log10));
  sliders.C.input.addEventListener("input", () => {  // more compute goes to both alike
    const more = sliders.C.input.value - Math.log10(perToken) - n - d;
    move(n + more / 2, d + more / 2);
  });
  sliders.N.input.addEventListener("input", () => move(+sliders.N.input.value, d));
  sliders.D.input.addEventListener("input", () => move(n, +sliders.D.input.value));
  button.addEventListener("click", split);
  const [N0, D0] = runs[runs.length - 1];
  move(Math.log10(N0), Math.log10(D0));
}

export default { render };
