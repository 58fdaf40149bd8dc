// The map of language models: filters, sorting, and what one knows of a model under the pointer or the focus.
// All of it is read from the page: without this script the figures and the table stand as they are.
(() => {
  "use strict";
  const form = document.querySelector(".map-controls");
  const table = document.querySelector("table.models");
  const body = table.tBodies[0];
  const rows = [...body.rows]; // in the order of dates
  const heads = [...table.tHead.rows[0].cells];
  const figures = [...document.querySelectorAll(".map-figure")];
  const OF = (model) => `[data-model="${model}"]`;
  const HINT = "Point at a mark, or focus the figure and use the arrow keys.";

  /** Which models the controls let through. */
  function wanted() {
    const fields = new FormData(form);
    const kinds = fields.getAll("openness");
    const [first, last] = [Number(fields.get("first") || -Infinity), Number(fields.get("last") || Infinity)];
    const part = fields.get("organisation").trim().toLowerCase();
    return (row) => kinds.includes(row.dataset.openness) && row.cells[1].textContent.toLowerCase().includes(part)
      && Number(row.dataset.year) >= first && Number(row.dataset.year) <= last;
  }

  /** Show the models that are wanted, in the figures and in the table alike. */
  function filter() {
    const keep = wanted();
    let shown = 0;
    for (const row of rows) {
      const hidden = !keep(row);
      shown += !hidden;
      for (const item of document.querySelectorAll(OF(row.dataset.model))) item.classList.toggle("is-hidden", hidden);
    }
    form.querySelector("[role=status]").textContent = `${shown} of ${rows.length} models are shown.`;
    for (const figure of figures) reach(figure);
  }

  /** Leave one mark of a figure in the order of tabs; the arrow keys lead to the others. */
  function reach(figure, dot) {
    const dots = visible(figure);
    const chosen = dot ?? dots.find((one) => one.tabIndex === 0) ?? dots[0];
    for (const one of figure.querySelectorAll(".dot")) one.setAttribute("tabindex", one === chosen ? 0 : -1);
  }

  const visible = (figure) => [...figure.querySelectorAll(".dot:not(.is-hidden)")];

  /** Tell a model under a figure, and mark it in every figure and in the table. */
  function tell(figure, dot) {
    const model = dot.dataset.model;
    for (const item of document.querySelectorAll(".is-active")) item.classList.remove("is-active");
    for (const item of document.querySelectorAll(OF(model))) item.classList.add("is-active");
    const cells = [...body.querySelector(OF(model)).cells];
    const detail = figure.querySelector(".map-detail");
    detail.replaceChildren();
    add(detail, "b", cells[0].textContent);
    for (const cell of cells.slice(1, 4)) add(detail, "span", cell.textContent);
    detail.append(document.createElement("br"));
    cells.slice(4, -1).forEach((cell, index) => {
      if (cell.textContent) add(detail, "span", `${heads[index + 4].textContent}: ${cell.textContent}`);
    });
    detail.append(document.createElement("br"), "Source: ");
    const sources = cells.at(-1).cloneNode(true);
    for (const element of sources.querySelectorAll("[id]")) element.removeAttribute("id");
    detail.append(...sources.childNodes);
  }

  function add(parent, tag, text) {
    const element = document.createElement(tag);
    element.textContent = text;
    parent.append(element);
  }

  function move(event, figure, dot) {
    const dots = visible(figure);
    const at = dots.indexOf(dot);
    const steps = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: dots.length - 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = dots[Math.max(0, Math.min(dots.length - 1, steps[event.key]))];
    reach(figure, next);
    next.focus();
  }

  /** Order the rows by a column; what is not known comes last, whichever way. */
  function sort(head) {
    const up = head.getAttribute("aria-sort") !== "ascending";
    const column = heads.indexOf(head);
    const numeric = head.dataset.kind === "number";
    const value = (row) => (numeric ? row.cells[column].dataset.value : row.cells[column].textContent.trim());
    const compare = (a, b) => (numeric ? a - b : a.localeCompare(b));
    const ordered = [...body.rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return up ? compare(a, b) : compare(b, a);
    });
    body.append(...ordered);
    state(head, up ? "ascending" : "descending");
  }

  function state(sorted, direction) {
    for (const head of heads) if (head.firstElementChild) head.setAttribute("aria-sort", head === sorted ? direction : "none");
  }

  function reset() {
    form.reset();
    body.append(...rows);
    state(heads[2], "ascending");
    filter();
  }

  for (const head of heads) {
    if (head.dataset.kind === "links") continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head));
  }
  for (const figure of figures) {
    figure.querySelector(".map-detail").textContent = HINT;
    for (const dot of figure.querySelectorAll(".dot")) {
      const title = dot.querySelector("title");
      dot.setAttribute("aria-label", title.textContent);
      title.remove();
      dot.addEventListener("pointerenter", () => tell(figure, dot));
      dot.addEventListener("focus", () => { reach(figure, dot); tell(figure, dot); });
      dot.addEventListener("keydown", (event) => move(event, figure, dot));
    }
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", filter);
  form.querySelector("button").addEventListener("click", reset);
  form.hidden = false;
  reset();
})();
