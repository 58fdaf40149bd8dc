// Two docstrings, a choice. With a kernel each choice is kept in a file; without one, until the page is left.

import { CONTROL, FAINT, make, panel, spoken } from "./parts.js";

/** How many are chosen and to go, and how often each judge would have chosen the same, in words. */
export function score({ pairs, chosen, kept, judges, agreed, agrees }) {
  const all = kept + chosen.length;
  const shares = judges.map((name, i) => {
    const now = chosen.filter((which, pair) => agrees[i][pair][which]).length;
    return `${Math.round((100 * (agreed[i] + now)) / all)}% with ${name}`;
  });
  const told = all && shares.length ? `; you agree ${shares.join(", ")}` : "";
  return `${all} ${all === 1 ? "choice" : "choices"} made, ${pairs.length - chosen.length} to go${told}.`;
}

function render({ model, el }) {
  const box = panel(el);
  box.role = "group", box.ariaLabel = "you, the annotator";
  const question = spoken(box, "margin:0");
  const signature = make(box, "pre", `margin:.4em 0;padding:.5em;background:${FAINT};color:inherit;border:0;font:13px/1.4 ui-monospace,monospace;white-space:pre-wrap`);
  const buttons = [0, 1].map((which) => {
    const button = make(box, "button", CONTROL + ";width:100%;margin:0 0 .4em;padding:.5em .7em;text-align:left");
    button.type = "button";
    button.addEventListener("click", () => {
      model.set("chosen", [...model.get("chosen"), which]);
      model.save_changes();
    });
    return button;
  });
  const said = spoken(box, "margin:.4em 0 0");

  function draw() {
    const [pairs, chosen, kept, judges, agreed, agrees] = ["pairs", "chosen", "kept", "judges", "agreed", "agrees"]
      .map((name) => model.get(name));
    const [asked, ...responses] = pairs[chosen.length] ?? [""];
    question.textContent = asked ? "Which docstring is better?" : "All pairs are answered. Thank you!";
    signature.textContent = asked;
    signature.style.display = asked ? "block" : "none";
    buttons.forEach((button, i) => {
      button.textContent = responses[i] || "(nothing)";
      button.style.display = asked ? "block" : "none";
    });
    said.textContent = score({ pairs, chosen, kept, judges, agreed, agrees });
  }
  model.on("change:chosen", draw);
  draw();
}

export default { render };
