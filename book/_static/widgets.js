// Run the anywidgets of a page from the state that its notebook saved, without a kernel and without Jupyter's
// widget manager, which is 3.5 MB. A widget that needs Python says so, and what it showed last.

/** The part of anywidget's model that works without a kernel. */
class Model extends EventTarget {
  constructor(state) {
    super();
    this.state = state;
    this.heard = new Map();
  }
  get(name) {
    return this.state[name];
  }
  set(name, value) {
    this.state[name] = value;
    this.dispatchEvent(new CustomEvent(`change:${name}`));
    this.dispatchEvent(new CustomEvent("change"));
  }
  save_changes() {}
  on(name, callback) {
    this.heard.set(callback, () => callback());
    this.addEventListener(name, this.heard.get(callback));
  }
  off(name, callback) {
    this.removeEventListener(name, this.heard.get(callback));
  }
}

/** Run the script of a widget in an element. */
async function run(state, el) {
  const url = URL.createObjectURL(new Blob([state._esm], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  URL.revokeObjectURL(url);
  const style = document.createElement("style");
  style.textContent = state._css ?? "";
  el.before(style);
  const model = new Model(state);
  const made = typeof widget === "function" ? await widget() : widget;
  await made.initialize?.({ model });
  await made.render({ model, el });
}

/** The text that a widget and those inside it showed when the notebook was run. */
function shown(models, { model_name, state }) {
  const parts = (state.outputs ?? []).map(({ text }) => text ?? "");
  if (model_name === "HTMLModel") parts.push(new DOMParser().parseFromString(state.value, "text/html").body.textContent);
  parts.push(...(state.children ?? []).map((child) => shown(models, models[child.slice("IPY_MODEL_".length)])));
  return parts.filter(Boolean).join("\n");
}

/** Say that a widget needs Python, above what it showed. */
function explain(text, el) {
  const note = document.createElement("p");
  note.textContent = "The controls here ask Python: open the chapter on Colab, or run it at home, to use them.";
  el.append(note);
  if (!text) return;
  note.textContent += " This is what they showed when the chapter was run:";
  el.append(Object.assign(document.createElement("pre"), { textContent: text }));
}

const saved = document.querySelector('script[type="application/vnd.jupyter.widget-state+json"]');
const models = JSON.parse(saved.textContent).state;
for (const view of document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')) {
  const model = models[JSON.parse(view.textContent).model_id];
  const el = document.createElement("div");
  view.after(el);
  if (model.state._esm) {
    el.className = "widget";
    run(model.state, el);
  } else {
    el.className = "needs-python";
    explain(shown(models, model), el);
  }
}
