// The page "BabyGPT in your browser": what the reader does, and what the model answers. Nothing is fetched before the click.

import { CONTEXT, load, missing } from "./model.js";
import { candidates, draw, mulberry32 } from "./sampling.js";

const FIRST_PROMPT = 'def read(self, size=-1):\n    """Read up to size bytes';
const SHOWN = 10; // bars
const FRAME = 40; // milliseconds between two looks at what is being written
const root = document.querySelector(".babygpt");
const find = (selector) => root.querySelector(selector);
const prompt = find("#babygpt-prompt"), temperature = find("#babygpt-temperature"), topK = find("#babygpt-top-k");
const reader = find("#babygpt-reader"), text = find(".text"), status = find(".status");
let model, ids = [], logits, attention, chosen = 0, stopped = true;

const percent = (p) => `${(100 * p).toFixed(1)} %`;
const tokenText = (id) => model.tokenizer.decode([id]);
/** A token with its blanks made visible, and in words for those who hear it. */
const visible = (id) => tokenText(id).replaceAll(" ", "␣").replaceAll("\n", "↵");
const spoken = (id) => tokenText(id).replaceAll("\n", " line break ").replace(/^ (?=\S)/, "space ").replace(/^ +$/, (blanks) => `${blanks.length} spaces`);

function make(parent, tag, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  parent.append(element);
  return element;
}

/* Loading. */

async function start() {
  const button = find(".load"), bar = find("progress"), loaded = find(".loaded");
  button.disabled = true;
  bar.hidden = false;
  bar.value = 0;
  status.textContent = "Loading.";
  try {
    model = await load((bytes) => {
      bar.value += bytes;
      loaded.textContent = `${(bar.value / 1e6).toFixed(1)} of ${(bar.max / 1e6).toFixed(1)} MB`;
    });
  } catch (error) {
    bar.hidden = true;
    loaded.textContent = "";
    button.textContent = "Retry";
    button.disabled = false;
    button.focus();
    status.textContent = `BabyGPT could not be loaded (${error.message}). Check the connection, then retry.`;
    return;
  }
  find(".start").hidden = true;
  find(".playground").hidden = false;
  status.textContent = "BabyGPT is ready.";
  prompt.value = FIRST_PROMPT;
  prompt.focus();
  await read();
}

/* The prompt: read again whenever it changes. The last change wins. */

let reading = false, changed = false;

async function read() {
  changed = true;
  if (reading) return;
  reading = true;
  while (changed) {
    changed = false;
    const all = model.tokenizer.encode(prompt.value);
    const kept = all.length > CONTEXT ? `; the model reads the last ${CONTEXT}` : "";
    find(".count").textContent = all.length ? `${all.length} tokens${kept}`
      : "Write something: the model continues a text, it does not begin one.";
    root.classList.toggle("empty", !all.length);
    find(".generate").disabled = !all.length || !stopped;
    if (!all.length) continue;
    const found = await model.run(all);
    [ids, logits, attention] = [all.slice(-CONTEXT), found.logits.data, found.attention];
    drawBars();
    reader.max = ids.length - 1;
    reader.value = reader.max;
    drawHeads();
  }
  reading = false;
}

function drawBars() {
  const bars = find(".bars");
  bars.replaceChildren();
  for (const [id, p] of candidates(logits, +temperature.value, +topK.value).slice(0, SHOWN)) {
    const button = make(make(bars, "li"), "button", { type: "button" });
    make(button, "span", { className: "token", textContent: visible(id) });
    make(make(button, "span", { className: "track" }), "span", { className: "bar" }).style.width = `${100 * p}%`;
    make(button, "span", { className: "percent", textContent: percent(p) });
    make(button, "span", { className: "visually-hidden", textContent: `append “${spoken(id)}”` });
    button.addEventListener("click", async () => {
      prompt.value += tokenText(id);
      await read();
      find(".bars button")?.focus();
    });
  }
}

function showSettings() {
  for (const input of [temperature, topK]) input.nextElementSibling.textContent = input.value;
  if (logits) drawBars();
}

/* Attention. */

const weight = (head, row, column) => attention.data[(head * ids.length + row) * ids.length + column];
const name = (head) => `layer ${Math.floor(head / attention.dims[1])}, head ${head % attention.dims[1]}`;

/** The mean weight on the token before, and what a head that reads evenly would give it. */
function toPrevious(head) {
  const rows = ids.slice(1).map((_, i) => i + 1);
  const mean = (f) => rows.reduce((sum, row) => sum + f(row), 0) / rows.length;
  return [mean((row) => weight(head, row, row - 1)), mean((row) => 1 / (row + 1))];
}

/** One pixel a pair; the square root, so that small weights are seen beside large ones. */
function paint(canvas, head) {
  const T = ids.length, context = canvas.getContext("2d");
  const [r, g, b] = getComputedStyle(root).getPropertyValue("--map").match(/\d+/g).map(Number);
  canvas.width = canvas.height = T;
  const image = context.createImageData(T, T);
  for (let row = 0; row < T; row++) {
    for (let column = 0; column < T; column++) {
      image.data.set([r, g, b, 255 * Math.sqrt(weight(head, row, column))], 4 * (row * T + column));
    }
  }
  context.putImageData(image, 0, 0);
}

function makeHeads() {
  const [layers, heads] = attention.dims;
  find(".heads").style.setProperty("--heads", heads);
  for (let head = 0; head < layers * heads; head++) {
    const button = make(find(".heads"), "button", { type: "button", title: name(head) });
    make(button, "canvas", { ariaHidden: "true" });
    button.addEventListener("click", () => {
      chosen = head;
      drawHeads();
    });
  }
}

function drawHeads() {
  if (!find(".heads").childNodes.length) makeHeads();
  find(".heads").childNodes.forEach((button, head) => {
    button.ariaPressed = head === chosen;
    button.ariaLabel = `${name(head)}${ids.length > 1 ? `: ${percent(toPrevious(head)[0])} on the token before` : ""}`;
    paint(button.firstChild, head);
  });
  paint(find(".map"), chosen);
  drawReader();
}

function drawReader() {
  const row = +reader.value, weights = ids.slice(0, row + 1).map((_, column) => weight(chosen, row, column));
  reader.nextElementSibling.textContent = `${row + 1} of ${ids.length}`;
  reader.setAttribute("aria-valuetext", `${row + 1} of ${ids.length}, ${spoken(ids[row])}`);
  const line = find(".tokens");
  line.replaceChildren();
  ids.forEach((id, column) => {
    const span = make(line, "span", { textContent: visible(id), className: column === row ? "reads" : "" });
    span.style.setProperty("--weight", Math.sqrt(weights[column] ?? 0));
    if (tokenText(id).includes("\n")) make(line, "br");
    span.addEventListener("click", () => {
      reader.value = column;
      drawReader();
    });
  });
  const most = [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, 5);
  const words = most.map((column) => `${column === row ? "itself" : `“${visible(ids[column])}”`} ${percent(weights[column])}`);
  const told = `In ${name(chosen)}, “${visible(ids[row])}” reads ${words.join(", ")}.`;
  const [before, evenly] = ids.length > 1 ? toPrevious(chosen) : [];
  const summary = ids.length > 1 ? ` Over the whole prompt this head puts ${percent(before)} on the token just before; reading evenly would put ${percent(evenly)}.` : "";
  find(".reading").textContent = told + summary;
  find(".map").ariaLabel = `Attention of ${name(chosen)}: ${ids.length} rows that read, as many columns that are read. ${summary}`;
}

/* Writing. */

/** Let the browser show what was written and hear what was pressed. */
const breathe = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = resolve;
  port2.postMessage(0);
});

function busy(writing) {
  stopped = !writing;
  find(".generate").disabled = writing;
  find(".stop").disabled = !writing;
  find(".keep").disabled = writing;
}

async function generate() {
  const random = mulberry32(+find(".seed").value), wanted = Math.max(1, +find(".length").value);
  const written = model.tokenizer.encode(prompt.value), from = written.length, began = performance.now();
  let shown = 0;
  busy(true);
  find(".stop").focus();
  status.textContent = "Writing.";
  while (!stopped && written.length < from + wanted) {
    const found = await model.run(written, ["logits"]);
    written.push(draw(candidates(found.logits.data, +temperature.value, +topK.value), random()));
    if (performance.now() - shown < FRAME) continue;
    show(written, from);
    await breathe();
    shown = performance.now();
  }
  show(written, from);
  const count = written.length - from, speed = count / (performance.now() - began) * 1000;
  busy(false);
  find(".generate").focus();
  find(".speed").textContent = `${speed.toFixed(0)} tokens per second`;
  status.textContent = `Wrote ${count} tokens, ${speed.toFixed(0)} per second.`;
}

/** The prompt, and what the model wrote after it. */
function show(written, from) {
  const before = model.tokenizer.decode(written.slice(0, from));
  text.replaceChildren();
  make(text, "span", { className: "given", textContent: before });
  make(text, "span", { className: "new", textContent: model.tokenizer.decode(written).slice(before.length) });
  text.scrollTop = text.scrollHeight;
}

/* What is heard. */

function listen() {
  find(".load").addEventListener("click", start);
  prompt.addEventListener("input", read);
  for (const input of [temperature, topK]) input.addEventListener("input", showSettings);
  reader.addEventListener("input", drawReader);
  find(".generate").addEventListener("click", generate);
  find(".stop").addEventListener("click", () => { stopped = true; });
  find(".keep").addEventListener("click", () => {
    prompt.value = text.textContent;
    prompt.focus();
    read();
  });
  find(".map").addEventListener("click", ({ offsetY, target }) => {
    reader.value = Math.floor((offsetY / target.clientHeight) * ids.length);
    drawReader();
  });
  new MutationObserver(() => attention && drawHeads()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}

find(".wait").hidden = true;
if (missing()) {
  status.textContent = `This browser has no ${missing()}, which BabyGPT runs on. Any browser of the last years has it: update yours, or try another.`;
} else {
  find(".start").hidden = false;
  showSettings();
  listen();
}
