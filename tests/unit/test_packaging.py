"""What gptlib and the notebooks import is declared, in ranges that leave Colab's packages alone."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import gptlib

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "gptlib").rglob("*.py"), *(ROOT / "notebooks").rglob("*.ipynb")])
INSTALLED_AS = {"sklearn": "scikit-learn"}  # imported under another name
COLABS_OWN = "google"  # there, and nowhere else
ON_REQUEST = "transformers"  # no extra has it: what needs it says so


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(lines):
    """Requirements by the name under which pip knows the package."""
    return {canonicalize_name(need.name): need for need in map(Requirement, lines)}


PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
NEEDED = requirements(PROJECT["dependencies"])
EXTRAS = {name: requirements(lines) for name, lines in PROJECT["optional-dependencies"].items()}
PINS = {
    name: requirements(re.findall(r"^\w\S+", read(name), re.MULTILINE))
    for name in ("requirements.txt", "requirements-colab.txt")
}


def parsed(path):
    """The syntax tree of a module, or of a notebook's code cells without their magics."""
    if path.suffix == ".py":
        return ast.parse(path.read_text(encoding="utf-8"))
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return ast.parse(re.sub(r"^( *)%.*", r"\1pass", code, flags=re.MULTILINE))


def imported(tree, inside=False):
    """Yield (name, whether within a function) of each package of others that is imported under a node."""
    for node in ast.iter_child_nodes(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"gptlib"}:
            yield canonicalize_name(INSTALLED_AS.get(name, name)), inside
        yield from imported(node, inside or isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_it_imports_is_declared(path):
    """At once only what every installation has; in functions also what an extra brings.

    A file that is of no use without an extra names it ("Needs the extra `demo`") and may import it at once.
    """
    tree = parsed(path)
    extra = re.search(r"Needs the extra `(\w+)`", ast.get_docstring(tree) or "")
    at_once = {*NEEDED, *(EXTRAS[extra[1]] if extra else [])}
    later = {*at_once, *EXTRAS["hub"], COLABS_OWN, ON_REQUEST}
    assert not [name for name, inside in imported(tree) if name not in (later if inside else at_once)]


def test_the_rule_on_imports_sees_where_they_stand():
    at_once = "import os, a.b\nfrom . import x\nif 1:\n    from sklearn import y\n"
    later = "def f():\n    if 1:\n        import d"
    assert list(imported(ast.parse(at_once + later))) == [("a", False), ("scikit-learn", False), ("d", True)]


def test_nothing_is_declared_that_is_not_imported():
    found = {name for path in FILES for name, _ in imported(parsed(path))}
    assert not set(NEEDED) - found


def test_a_range_has_a_lower_bound_alone():
    """So pip keeps Colab's torch, and every other package of Colab's that is new enough."""
    operators = {name: [bound.operator for bound in need.specifier] for name, need in NEEDED.items()}
    assert operators == {name: [">="] for name in NEEDED}
    assert Version("2.9") in NEEDED["torch"].specifier  # the first with torch.optim.Muon


@pytest.mark.parametrize("file", PINS)
def test_every_pin_is_exact_and_in_its_range(file):
    pins = {name: [*need.specifier] for name, need in PINS[file].items()}
    assert not [name for name, pin in pins.items() if [bound.operator for bound in pin] != ["=="]]
    assert not set(NEEDED) - set(pins)
    for name, need in [item for needs in (NEEDED, *EXTRAS.values()) for item in needs.items()]:
        assert name not in pins or pins[name][0].version in need.specifier, f"{need} is not {pins[name][0]}"


def test_the_citation_agrees_with_the_package_and_the_licences():
    citation = yaml.safe_load(read("CITATION.cff"))
    (author,) = {author["name"] for author in citation["authors"]}
    config = yaml.safe_load(read("_config.yml"))
    assert citation["version"] == gptlib.__version__
    assert citation["title"].startswith(config["title"]) and author == config["author"]
    assert citation["license"] == [PROJECT["license"], "CC-BY-4.0"]
    assert read("LICENSE").startswith(f"MIT License\n\nCopyright (c) {config['copyright']} {author}\n")
    assert "(CC BY 4.0)" in read("LICENSE-TEXT")
