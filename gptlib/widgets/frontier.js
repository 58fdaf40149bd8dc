// Recorded runs by how far they went and what they gained: which would the reward model take? It needs no kernel.

import { BLUE, CONTROL, EDGE, LINE, ORANGE, chart, labelled, make, panel, shape, spoken } from "./parts.js";

const HEIGHT = 340, LEFT = 42, RIGHT = 14, TOP = 12, BOTTOM = 44;
const PRICES = [0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 2, 3], START = 5;
const VIEWS = {
  gold: "gold reward gained",
  score: "score gained",
  win: "win rate over SFT",
};
const MARKS = {  // each around its own middle
  SFT: "M-7,0H7M0,-7V7M-5,-5L5,5M-5,5L5,-5",
  PPO: "M-5,0a5,5 0 1 0 10,0a5,5 0 1 0 -10,0",
  "PPO-ptx": "M-6,0H6M0,-6V6",
  "PPO, small judge": "M-5,-5L5,5M-5,5L5,-5",
  GRPO: "M-4.5,-4.5h9v9h-9z",
  DPO: "M0,-6L6,5H-6z",
  "best of n": "M0,-6L5,0L0,6L-5,0z",
};
const LEGEND = [
  ["M2,8a6,6 0 1 0 12,0a6,6 0 1 0 -12,0", BLUE, "the reward model's choice"],
  ["M2,8a6,6 0 1 0 12,0a6,6 0 1 0 -12,0", ORANGE, "the gold reward's choice"],
  ["M0,8H16", BLUE, "score, on the way to the reward model's choice"],
  ["M0,8H16", ORANGE, "gold reward, on that way"],
  ["M0,8H4M6,8H10M12,8H16", EDGE, "worth as much as the choice, at this price"],
];

/** The run whose reward, less the price of its distance from SFT, is highest. */
export function choose(rows, reward, price) {
  const worth = (row) => row[reward] - price * row.kl;
  return rows.reduce((best, row) => (worth(row) > worth(best) ? row : best));
}

/** A gain with its sign, in two digits. */
export function signed(x) {
  const digits = Math.abs(x).toFixed(2);
  return Number(digits) === 0 ? digits : (x < 0 ? "\u2212" : "+") + digits;
}

/** What is chosen at a price, in words. */
export function verdict(byScore, byGold, price) {
  const nats = (row) => `${row.kl.toFixed(1)} nats away, score ${signed(row.score)}, gold ${signed(row.gold)}`;
  const first = `At a price of ${price} a nat the reward model chooses ${byScore.name} (${nats(byScore)}).`;
  if (byScore === byGold) return `${first} The gold reward would choose the same.`;
  const lost = byGold.gold - byScore.gold;
  const cost = Math.abs(lost) < 0.005 ? "They are equally good"
    : lost > 0 ? `Trusting the score costs ${lost.toFixed(2)} of gold`
    : `That has ${(-lost).toFixed(2)} of gold less, and is nearer`;
  return `${first} The gold reward would choose ${byGold.name} (${nats(byGold)}). ${cost}.`;
}

function icon(parent, d, attributes) {
  const svg = shape(parent, "svg", { width: 16, height: 16, "aria-hidden": true });
  svg.style.cssText = "flex:none;overflow:visible";
  return shape(svg, "path", { d, "stroke-width": 2, ...attributes });
}

function render({ model, el }) {
  const rows = model.get("rows"), methods = [...new Set(rows.map(({ method }) => method))].filter((name) => name !== "SFT");
  const box = panel(el);
  const options = (values, names) => {
    const select = document.createElement("select");
    select.style.cssText = CONTROL + ";width:100%";
    values.forEach((value, i) => select.add(new Option(names[i], value)));
    select.addEventListener("change", update);
    return select;
  };
  const columns = "7em minmax(3em,1fr) 2.5em";
  const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: PRICES.length - 1, step: 1, value: START });
  const readout = labelled(box, "price of a nat", slider, columns);
  slider.addEventListener("input", update);
  const seeds = [...new Set(rows.map(({ seed }) => seed))];
  const seed = options(seeds, seeds), view = options(Object.keys(VIEWS), Object.values(VIEWS));
  labelled(box, "upwards", view, columns);
  labelled(box, "seed", seed, columns);
  const field = make(box, "fieldset", "border:0;margin:0;padding:0");
  make(field, "legend", "float:left;width:7.5em;padding:0;margin:0;font-size:inherit", "methods");
  const ticks = make(field, "div", "display:flex;flex-wrap:wrap;gap:.1em 1em");
  const boxes = methods.map((method) => {
    const label = make(ticks, "label", "display:flex;gap:.35em;align-items:center");
    const input = Object.assign(document.createElement("input"), { type: "checkbox", value: method, checked: method !== "PPO, small judge" });
    input.addEventListener("change", update);
    label.append(input);
    icon(label, MARKS[method], { transform: "translate(8 8)", fill: "none", stroke: "currentColor" });
    label.append(method);
    return input;
  });
  const said = spoken(box, "margin:.6em 0;min-height:4.5em");
  chart(box, "Runs over their distance from the SFT model, in nats. The sentence above says which two are "
    + "marked, and the table below holds all that are shown.", HEIGHT, draw);
  const legend = make(box, "div", "display:flex;flex-wrap:wrap;gap:0 1em;font-size:13px;margin:.3em 0 .6em");
  for (const [d, stroke, text] of LEGEND) {
    const entry = make(legend, "span", "display:flex;gap:.35em;align-items:center");
    icon(entry, d, { fill: "none", stroke });
    entry.append(text);
  }
  const details = make(box, "details");
  details.className = "more";  // the book styles those without a class
  make(details, "summary", "cursor:pointer", "the runs shown, as a table");
  const table = make(details, "table", "border-collapse:collapse;font-size:13px;margin:.4em 0;width:100%");

  const far = Math.log1p(Math.max(...rows.map(({ kl }) => kl)));
  const spread = (values) => [Math.min(...values) - 0.05, Math.max(...values) + 0.05];
  const gains = spread(rows.flatMap(({ gold, score, path }) => [gold, score, ...path.flatMap(([, ...both]) => both)]));
  const wins = spread(rows.flatMap(({ win }) => win ?? []));
  let layer, X, Y, here, byScore, byGold;

  function shown() {
    const kept = boxes.filter(({ checked }) => checked).map(({ value }) => value);
    return rows.filter((row) => row.seed === Number(seed.value) && (row.method === "SFT" || kept.includes(row.method)));
  }

  function draw(svg, width) {
    layer = shape(svg, "g");
    X = (kl) => LEFT + (Math.log1p(kl) / far) * (width - LEFT - RIGHT);
    for (const kl of [0, 1, 3, 10, 30, 100]) {
      shape(svg, "line", { x1: X(kl), x2: X(kl), y1: TOP, y2: HEIGHT - BOTTOM, stroke: LINE });
      shape(svg, "text", { x: X(kl), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, kl);
    }
    shape(svg, "text", { x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "KL from SFT, nats a response (log of 1 + KL)");
    plot();
  }

  function plot() {
    if (!layer) return;
    layer.replaceChildren();
    const what = view.value, [low, high] = what === "win" ? wins : gains, step = what === "win" ? 0.1 : 0.5;
    Y = (y) => HEIGHT - BOTTOM - ((y - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    for (let i = Math.ceil(low / step); i * step <= high; i++) {
      shape(layer, "line", { x1: LEFT, x2: X(Math.expm1(far)), y1: Y(i * step), y2: Y(i * step), stroke: LINE });
      shape(layer, "text", { x: LEFT - 10, y: Y(i * step) + 4, "text-anchor": "end" }, (i * step).toFixed(1).replace("-", "\u2212"));
    }
    const line = (points, attributes) => shape(layer, "path", {
      d: points.map(([kl, y], i) => `${i ? "L" : "M"}${X(kl).toFixed(1)},${Y(y).toFixed(1)}`).join(""), fill: "none", "stroke-width": 2, ...attributes,
    });
    if (what !== "win") {
      const chosen = what === "score" ? byScore : byGold, price = PRICES[slider.value];
      const alike = Array.from({ length: 101 }, (_, i) => Math.expm1((far * i) / 100))
        .map((kl) => [kl, chosen[what] + price * (kl - chosen.kl)]).filter(([, y]) => y >= low && y <= high);
      line(alike, { stroke: EDGE, "stroke-width": 1.5, "stroke-dasharray": "4 3" });
      line(byScore.path.map(([kl, score]) => [kl, score]), { stroke: BLUE });
      line(byScore.path.map(([kl, , gold]) => [kl, gold]), { stroke: ORANGE });
    }
    for (const row of here.filter((row) => row[what] !== null)) {
      const at = `translate(${X(row.kl)} ${Y(row[what])})`;
      const dot = shape(layer, "path", { d: MARKS[row.method], transform: at, fill: "none", stroke: "currentColor", "stroke-width": 1.8 });
      shape(dot, "title", {}, `${row.name}: ${row.kl.toFixed(1)} nats, score ${signed(row.score)}, gold ${signed(row.gold)}`);
      if (row === byScore) shape(layer, "circle", { transform: at, r: 14, fill: "none", stroke: BLUE, "stroke-width": 3 });
      if (row === byGold) shape(layer, "circle", { transform: at, r: 10, fill: "none", stroke: ORANGE, "stroke-width": 3 });
    }
  }

  function list() {
    table.replaceChildren();
    const line = (cells, tag) => {
      const row = make(table, "tr");
      cells.forEach((cell, i) => make(row, tag, `padding:.1em .3em;text-align:${i ? "right;white-space:nowrap" : "left"}`, cell));
    };
    line(["run", "KL", "score", "gold", "win"], "th");
    for (const { name, kl, score, gold, win } of here) {
      line([name, kl.toFixed(1), signed(score), signed(gold), win === null ? "\u2013" : `${Math.round(100 * win)}\u00a0%`], "td");
    }
  }

  function update() {
    const price = PRICES[slider.value];
    here = shown();
    byScore = choose(here, "score", price), byGold = choose(here, "gold", price);
    readout.textContent = price;
    slider.setAttribute("aria-valuetext", `${price} a nat`);
    const missing = view.value === "win" && here.some(({ win }) => win === null) ? " Best of n has no win rate on record." : "";
    said.textContent = verdict(byScore, byGold, price) + missing;
    list();
    plot();
  }
  update();
}

export default { render };
