// Three sliders over a fitted surface L(N, D). All of it happens here, so it needs no kernel.

import { BLUE, CONTROL, GREY, LINE, ORANGE, chart, labelled, make, panel, shape, spoken } from "./parts.js";

const HEIGHT = 380, LEFT = 56, RIGHT = 14, TOP = 14, BOTTOM = 46;

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

function slider(parent, label, [low, high]) {
  const input = Object.assign(document.createElement("input"), { type: "range", min: low, max: high, step: 0.01 });
  const readout = labelled(parent, label, input, "9.5em minmax(3em,1fr) 4.5em");
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
  const samples = Array.from({ length: 121 }, (_, i) => rangeN[0] + ((rangeN[1] - rangeN[0]) * i) / 120);

  const box = panel(el, 680);
  const sliders = {
    C: slider(box, "compute C, FLOPs", rangeC),
    N: slider(box, "parameters N", rangeN),
    D: slider(box, "tokens D", rangeD),
  };
  const button = make(box, "button", CONTROL + ";margin:.6em 0;padding:.3em .8em", "Split this compute best");
  button.type = "button";
  const said = spoken(box, "margin:0 0 .5em");

  let n, d, X, Y, budget, here;
  const inside = (x, [low, high]) => Math.min(high, Math.max(low, x));
  const path = (f) => samples.map((n) => [n, f(n)]).filter(([, d]) => d >= rangeD[0] && d <= rangeD[1])
    .map(([n, d], i) => `${i ? "L" : "M"}${X(n).toFixed(1)},${Y(d).toFixed(1)}`).join("");

  function draw(svg, width) {
    X = (n) => LEFT + ((n - rangeN[0]) / (rangeN[1] - rangeN[0])) * (width - LEFT - RIGHT);
    Y = (d) => HEIGHT - BOTTOM - ((d - rangeD[0]) / (rangeD[1] - rangeD[0])) * (HEIGHT - TOP - BOTTOM);
    for (let n = Math.ceil(rangeN[0]); n <= rangeN[1]; n++) {
      shape(svg, "line", { x1: X(n), x2: X(n), y1: TOP, y2: HEIGHT - BOTTOM, stroke: LINE });
      shape(svg, "text", { x: X(n), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, short(10 ** n));
    }
    for (let d = Math.ceil(rangeD[0]); d <= rangeD[1]; d++) {
      shape(svg, "line", { x1: LEFT, x2: width - RIGHT, y1: Y(d), y2: Y(d), stroke: LINE });
      shape(svg, "text", { x: LEFT - 6, y: Y(d) + 4, "text-anchor": "end" }, short(10 ** d));
    }
    shape(svg, "text", { x: (LEFT + width) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "parameters N (log)");
    shape(svg, "text", { x: 12, y: HEIGHT / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${HEIGHT / 2})` }, "tokens D (log)");

    const [worst, best] = [0, 1].map((end) => predict(fit, 10 ** rangeN[end], 10 ** rangeD[end]));
    for (let i = 1; i <= 9; i++) {  // spaced evenly in log(L - E), as a power law is
      const level = fit.E + Math.exp(Math.log(worst - fit.E) + (i / 10) * Math.log((best - fit.E) / (worst - fit.E)));
      const tokens = (n) => Math.log10(Math.max(1e-30, (level - fit.E - fit.A * 10 ** (-fit.alpha * n)) / fit.B)) / -fit.beta;
      shape(svg, "path", { d: path(tokens), fill: "none", stroke: BLUE, "stroke-width": 1.2 });
      const end = samples.findLast((n) => tokens(n) >= rangeD[0] && tokens(n) <= rangeD[1]);
      if (end !== undefined) {
        shape(svg, "text", { x: X(end) - 3, y: Y(tokens(end)) - 3, fill: BLUE, "text-anchor": "end" }, level.toFixed(2));
      }
    }
    for (const [N, D] of runs) shape(svg, "circle", { cx: X(Math.log10(N)), cy: Y(Math.log10(D)), r: 2.2, fill: GREY });
    const frontier = samples.map((_, i) => optimal(fit, 10 ** (rangeC[0] + ((rangeC[1] - rangeC[0]) * i) / 120), perToken)
      .map(Math.log10)).filter(([n, d]) => n >= rangeN[0] && n <= rangeN[1] && d >= rangeD[0] && d <= rangeD[1]);
    shape(svg, "path", { d: frontier.map(([n, d], i) => `${i ? "L" : "M"}${X(n)},${Y(d)}`).join(""), fill: "none", stroke: ORANGE, "stroke-width": 2 });
    budget = shape(svg, "path", { fill: "none", stroke: "currentColor", "stroke-dasharray": "5 4" });
    here = shape(svg, "circle", { r: 6 });
    place();
  }

  function place() {
    if (!here) return;  // nothing is drawn yet
    const c = n + d;
    budget.setAttribute("d", path((x) => c - x));
    here.setAttribute("cx", X(n)), here.setAttribute("cy", Y(d));
  }

  function move(newN, newD) {
    n = inside(newN, rangeN);
    d = inside(newD, rangeD);
    const c = n + d + Math.log10(perToken);
    sliders.C.show(c), sliders.N.show(n), sliders.D.show(d);
    place();
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
  chart(box, "Contours of equal predicted loss over parameters and tokens, both on log scales; grey dots are the runs "
    + "measured, the dashed line is where your compute can go, the orange line the best split of every compute.", HEIGHT, draw);
}

export default { render };
