// One more example at a time: the prompt as it stands, and what each model would answer. It needs no kernel.

import { CONTROL, FAINT, labelled, make, panel, spoken, wordBars } from "./parts.js";

/** The prompt's lines after so many shots, as the model reads them. */
export function promptLines({ description, examples, question }, shots) {
  return [description, ...examples.slice(0, shots).map(([asked, answer]) => `${asked} => ${answer}`), `${question} =>`];
}

function render({ model, el }) {
  const prompts = model.get("prompts"), predictions = model.get("predictions");
  const box = panel(el);

  const choice = document.createElement("select");
  choice.style.cssText = CONTROL + ";min-width:0;width:100%";
  prompts.forEach(({ description, question }, i) => choice.add(new Option(`${description} ${question} => ?`, i)));
  labelled(box, "task", choice);
  const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, step: 1, value: 0 });
  const readout = labelled(box, "shots", slider);

  const columns = make(box, "div", "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(15em,100%),1fr));gap:1em;margin-top:.6em");
  const text = make(columns, "pre", `margin:0;padding:.6em;background:${FAINT};color:inherit;border:0;font:13px/1.35 ui-monospace,monospace;min-height:min(25em,40vw);white-space:pre-wrap`);
  const answers = make(columns, "div", "display:grid;gap:.7em;align-content:start");
  const said = spoken(box);

  const charts = model.get("names").map((name, i) => {
    const part = make(answers, "div");
    make(part, "div", "font-weight:600", name);
    return { name, stored: predictions[i], bars: make(part, "div") };
  });

  function draw() {
    const prompt = prompts[choice.value];
    slider.max = prompt.examples.length;
    const shots = Number(slider.value);
    readout.textContent = shots;
    text.textContent = promptLines(prompt, shots).join("\n");
    const right = [];
    for (const { name, stored, bars } of charts) {
      const best = stored[choice.value][shots];
      wordBars(bars, best, prompt.answer, " \u2713");
      if (best[0][0] === prompt.answer) right.push(name);
    }
    const seen = prompt.examples.slice(0, shots).some(([asked]) => asked === prompt.question);
    const others = /^(add|pick)/.test(prompt.description) ? "" : seen ? " The question is among the examples." : " The question is not among the examples yet.";
    said.textContent = `The answer is ${prompt.answer}.${others} Right with its first choice: ${right.join(", ") || "none"}.`;
  }
  slider.addEventListener("input", draw);
  choice.addEventListener("change", draw);
  draw();
}

export default { render };
