// One problem, token by token: what the model predicted at each, and what it writes after a changed step. No kernel.

import { BLUE, CONTROL, FAINT, ORANGE, labelled, make, panel, spoken, wordBars } from "./parts.js";

const COLUMNS = "4.5em minmax(3em,1fr) 5em";

/** A stored token: the word, and the most probable words at its place with their probabilities. */
export function parse(token) {
  const [word, ...rest] = token.split("\t");
  return { word, best: rest.filter((_, i) => i % 2 === 0).map((other, i) => [other, Number(rest[2 * i + 1])]) };
}

/** The run after a change, or the one without any. */
export function findRun({ runs }, step, result) {
  return runs.find((run) => run.step === step && run.result === result) ?? runs[0];
}

/** The words after the last "answer". */
export function answerOf({ tokens }) {
  const words = tokens.map((token) => parse(token).word).filter((word) => word !== "\n");
  const at = words.lastIndexOf("answer");
  return at < 0 ? "" : words.slice(at + 1).join(" ");
}

function render({ model, el }) {
  const problems = model.get("problems");
  const box = panel(el);

  const choice = document.createElement("select");
  choice.style.cssText = CONTROL + ";min-width:0;width:100%";
  problems.forEach(({ question }, i) => choice.add(new Option(question, i)));
  labelled(box, "problem", choice, COLUMNS);
  const shown = make(box, "details", "margin:.4em 0");
  shown.className = "more";  // the book styles those without a class
  make(shown, "summary", "cursor:pointer", "the examples before it");
  const examples = make(shown, "pre", `margin:.3em 0;padding:.6em;background:${FAINT};color:inherit;border:0;font:12px/1.4 ui-monospace,monospace;white-space:pre-wrap`);
  const question = make(box, "p", "margin:.4em 0;font-weight:600");
  const line = make(box, "p", `margin:.4em 0;padding:.6em;background:${FAINT};font:13px/2 ui-monospace,monospace;min-height:8em`);
  const slider = Object.assign(document.createElement("input"), { type: "range", min: 1, step: 1, value: 1 });
  const readout = labelled(box, "token", slider, COLUMNS);
  const bars = make(box, "div", "min-height:5em");
  const said = spoken(box);

  let run, wrong;  // wrong: the result that was put in the place of the true one, if any

  function pick(step, result) {
    const problem = problems[choice.value];
    run = findRun(problem, step, result);
    const truth = problem.places.find(([at]) => at === run.step)?.[2];
    wrong = run.result === truth ? "" : run.result;
    slider.max = run.tokens.length;
    slider.value = run.step < 0 ? 1 : Math.min(run.given + 1, run.tokens.length);
    const answer = answerOf(run);
    const verdict = !wrong ? (answer === problem.answer ? "right" : `wrong: ${problem.answer} is right`)
      : answer === run.follows ? "it follows the change"
      : answer === problem.answer ? "still the right one, as if nothing had been changed"
      : `neither the right one, ${problem.answer}, nor what follows, ${run.follows}`;
    said.textContent = `The model answers ${answer || "nothing"}: ${verdict}.`;
    write();
  }

  function write() {
    const { places, runs } = problems[choice.value], here = Number(slider.value) - 1;
    line.replaceChildren();
    run.tokens.forEach((token, i) => {
      const { word } = parse(token);
      const place = places.find(([, at]) => at === i);
      const outline = i === here ? `outline:2px solid ${BLUE};outline-offset:1px;` : "";
      const changed = wrong && place?.[0] === run.step;
      const results = place ? runs.filter(({ step }) => step === place[0]).map(({ result }) => result) : [];
      if (results.includes(word) && (run.step < 0 || place[0] <= run.step)) {
        const select = make(line, "select", `${CONTROL};padding:.1em .2em;${outline}${changed ? `color:${ORANGE};font-weight:700;border-color:${ORANGE}` : ""}`);
        select.setAttribute("aria-label", `result of step ${place[0] + 1}`);
        results.forEach((result) => select.add(new Option(result)));
        select.value = word;
        select.addEventListener("change", () => pick(place[0], select.value));
      } else {
        const colour = run.step >= 0 && i >= run.given ? ORANGE : "inherit";
        make(line, "span", `color:${colour};${outline}`, word === "\n" ? "\u21b5" : word);
      }
      line.append(" ");
    });
    readout.textContent = `${here + 1} of ${run.tokens.length}`;
    const { word: written, best } = parse(run.tokens[here]);
    wordBars(bars, best, written);
    if (here < run.given && written === wrong && best[0][0] !== written) make(bars, "div", "font-size:13px", `${written} was put there, not predicted.`);
  }

  function choose() {
    const problem = problems[choice.value];
    examples.textContent = problem.examples.join("\n\n");
    question.textContent = problem.question;
    pick(-1, "");
  }
  slider.addEventListener("input", write);
  choice.addEventListener("change", choose);
  choose();
}

export default { render };
