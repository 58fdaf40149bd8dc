"""The rules that every notebook follows, each a function that yields what breaks it."""

import json
import re
from collections.abc import Iterator

from nbformat import NotebookNode

MAX_CELL, MAX_MEDIAN, MAX_SETUP, LONG_CELL = 25, 8, 6, 12  # lines of code
WIDE = 900  # pixels of a figure; a column of text has 667
WORDS_PER_LINE = 5  # of prose, for each line of code, at least
MAX_BYTES = 1_500_000
ABSOLUTE_PATH = re.compile(
    r"(?<![\w/.:<])/(?:home|root|work|tmp|Users|content|opt|usr|var)/|\b[A-Z]:\\\\?[\w]"
)
COLAB = {"accelerator": "GPU", "colab": {"gpuType": "T4", "provenance": []}}  # as Colab itself writes it
MORE_SEEDS = re.compile(r"pick\(cpu=range\((\d+)\), gpu=range\((\d+)\)\)")
DEBRIS = re.compile(r"\d+%\|| \?it/s|it/s\]|step/s|HBox\(")


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells that hold code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def lines(cell: NotebookNode) -> int:
    """Count the lines of a cell that are not blank."""
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def named(cell: NotebookNode) -> str:
    """Name a cell by its first line."""
    return repr(cell.source.strip().split("\n")[0][:60])


def executed_in_order(notebook: NotebookNode) -> Iterator[str]:
    """Cells were run once, from top to bottom, in a fresh kernel."""
    for expected, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != expected:
            yield f"{named(cell)} was run as {cell.execution_count}, not {expected}: run `make notebooks`"
            return


def no_error_or_warning(notebook: NotebookNode) -> Iterator[str]:
    """No output is an error or was written to stderr."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                yield f"{named(cell)} shows an error or a warning"


def no_absolute_path(notebook: NotebookNode) -> Iterator[str]:
    """Neither sources nor text outputs name a place of one machine."""
    for cell in notebook.cells:
        outputs = [without_images(output) for output in cell.get("outputs", [])]
        if found := ABSOLUTE_PATH.search(cell.source + json.dumps(outputs)):
            yield f"{named(cell)} names the absolute path {found.group()!r}"


def no_progress_bar(notebook: NotebookNode) -> Iterator[str]:
    """No progress bar was left among the outputs."""
    for cell in code_cells(notebook):
        if DEBRIS.search(json.dumps([without_images(output) for output in cell.outputs])):
            yield f"{named(cell)} keeps a progress bar: run `make notebooks`"


def checked_cells_have_output(notebook: NotebookNode) -> Iterator[str]:
    """nbval passes a checked cell that has nothing to compare: there must be something."""
    for cell in code_cells(notebook):
        if _is_checked(cell) and not cell.outputs:
            yield f"{named(cell)} is to be checked but has no output"


def cells_are_short(notebook: NotebookNode) -> Iterator[str]:
    """No cell is long, most are short, and two longish ones do not follow each other without a word."""
    lengths = sorted(lines(cell) for cell in code_cells(notebook))
    if lengths and lengths[len(lengths) // 2] > MAX_MEDIAN:
        yield f"half of the code cells have over {MAX_MEDIAN} lines"
    for cell in code_cells(notebook):
        if lines(cell) > MAX_CELL:
            yield f"{named(cell)} has {lines(cell)} lines, more than {MAX_CELL}"
    for first, second in zip(notebook.cells, notebook.cells[1:], strict=False):
        both_code = first.cell_type == second.cell_type == "code"
        if both_code and min(lines(first), lines(second)) > LONG_CELL:
            yield f"{named(second)} follows another long cell without a word between them"


def prose_outweighs_code(notebook: NotebookNode) -> Iterator[str]:
    """There are at least five words for each line of code."""
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    code = sum(lines(cell) for cell in code_cells(notebook))
    if words < WORDS_PER_LINE * code:
        yield f"{words} words for {code} lines of code: fewer than {WORDS_PER_LINE} a line"


def opens_well(notebook: NotebookNode) -> Iterator[str]:
    """The first cell asks a question and says how long it takes; the set-up after it is short."""
    opening = notebook.cells[0]
    if opening.cell_type != "markdown" or not re.search(r"minutes.*CPU.*T4", opening.source, re.DOTALL):
        yield "the first cell must be prose that says the minutes on two CPU cores and on a T4"
    if "?" not in opening.source:
        yield "the first cell must ask the question of the chapter"
    setup = code_cells(notebook)[0]
    if lines(setup) > MAX_SETUP or "gptlib" not in setup.source:
        yield f"the first code cell must install gptlib where it is missing, in at most {MAX_SETUP} lines"


def asks_colab_for_a_gpu(notebook: NotebookNode) -> Iterator[str]:
    """Its metadata make Colab open it on a T4, without a click by the reader."""
    if {**notebook.metadata, **COLAB} != notebook.metadata:
        yield f"the notebook's metadata must hold {json.dumps(COLAB)}"


def a_gpu_adds_only_seeds(notebook: NotebookNode) -> Iterator[str]:
    """A size was run before it is asked of a reader; until a GPU has measured more, it gets the CPU's."""
    for cell in notebook.cells:
        pairs = [(int(cpu), int(gpu)) for cpu, gpu in MORE_SEEDS.findall(cell.source)]
        if len(pairs) < cell.source.count("pick(") or any(cpu > gpu for cpu, gpu in pairs):
            yield f"{named(cell)} picks more than seeds: write pick(cpu=range(3), gpu=range(5))"


def figures_have_alt_text(notebook: NotebookNode) -> Iterator[str]:
    """Every image says in words what it shows."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}) and not output.metadata.get("image/png", {}).get("alt"):
                yield f"{named(cell)} shows an image without alt text: use gptlib.plots.show"


def wide_figures_use_the_margin(notebook: NotebookNode) -> Iterator[str]:
    """A figure wider than the text takes the page's margin too, so that its letters stay legible."""
    for cell in code_cells(notebook):
        widths = [output.get("metadata", {}).get("image/png", {}).get("width", 0) for output in cell.outputs]
        if max(widths, default=0) >= WIDE and "full-width" not in cell.metadata.get("tags", []):
            yield f"{named(cell)} shows a wide figure: tag the cell full-width"


def style_lives_in_plots(notebook: NotebookNode) -> Iterator[str]:
    """Notebooks set no font sizes and no style."""
    for cell in code_cells(notebook):
        if re.search(r"font_?size|rcParams|figsize|plt\.style", cell.source):
            yield f"{named(cell)} sets a style: that belongs to gptlib/plots.py"


def claims_were_checked(notebook: NotebookNode) -> Iterator[str]:
    """A cell that claims something shows the claim."""
    claims = [output for cell in code_cells(notebook) for output in cell.outputs if _is_claim(output)]
    if not claims:
        yield "the notebook claims nothing"
    for cell in code_cells(notebook):
        if re.search(r"^\s*claim\(", cell.source, re.MULTILINE) and not any(map(_is_claim, cell.outputs)):
            yield f"{named(cell)} claims something but shows no claim: run `make notebooks`"


def is_lean(notebook: NotebookNode) -> Iterator[str]:
    """The file stays small enough to open quickly."""
    size = len(json.dumps(notebook))
    if size > MAX_BYTES:
        yield f"the notebook has {size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6}"


def without_images(output: NotebookNode) -> dict:
    """Return an output without its binary data, in which any letters may occur."""
    kept = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
    return {**output, "data": kept}


def _is_checked(cell: NotebookNode) -> bool:
    return "NBVAL_CHECK_OUTPUT" in cell.source or "nbval-check-output" in cell.metadata.get("tags", [])


def _is_claim(output: NotebookNode) -> bool:
    return "application/vnd.gptlib.claim+json" in output.get("data", {})


RULES = [
    executed_in_order,
    no_error_or_warning,
    no_absolute_path,
    no_progress_bar,
    checked_cells_have_output,
    cells_are_short,
    prose_outweighs_code,
    opens_well,
    asks_colab_for_a_gpu,
    a_gpu_adds_only_seeds,
    figures_have_alt_text,
    wide_figures_use_the_margin,
    style_lives_in_plots,
    claims_were_checked,
    is_lean,
]
