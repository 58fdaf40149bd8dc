"""What a set-up cell does on Colab: it installs gptlib where it is missing, whole, and leaves torch alone.

Runs on the Python that runs pytest, of 3.11 to 3.13. For Colab stands a clean virtual environment that sees
everything installed here but gptlib; for the repository, a wheel built from this checkout. pip may ask no
index: a dependency that is missing, or a torch that does not do, fails the cell.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = Path(sysconfig.get_path("purelib"))
ADDRESS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
PACKAGED = [path for path in (ROOT / "gptlib").rglob("[!.]*.*") if "__pycache__" not in path.parts]


def set_up_cell(path):
    """The source of a notebook's first code cell."""
    cells = nbformat.read(path, as_version=4).cells
    return next(cell.source for cell in cells if cell.cell_type == "code")


# Cells with the same text are run once.
CELLS = {set_up_cell(path): path.stem for path in reversed(NOTEBOOKS)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that pip builds from this checkout."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "gptlib", source / "gptlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT"):
        shutil.copy(ROOT / name, source)
    build = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w"]
    subprocess.run([sys.executable, *build, built, source], check=True)
    return next(built.glob("*.whl"))


@pytest.fixture
def colab(tmp_path):
    """The folder of a virtual environment that sees all packages of this one, but not gptlib."""
    preinstalled, environment = tmp_path / "preinstalled", tmp_path / "environment"
    preinstalled.mkdir()
    for path in PACKAGES.iterdir():
        if "gptlib" not in path.name:
            (preinstalled / path.name).symlink_to(path)
    venv.create(environment, symlinks=True)
    (own_packages(environment) / "preinstalled.pth").write_text(str(preinstalled))
    return environment


def own_packages(environment):
    """Where a virtual environment installs packages."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))


def run(cell, environment):
    """Run a cell twice in an environment, without a network; return what set_up.py says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    pip = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ran = subprocess.run(
        [environment / "bin" / "python", Path(__file__).with_name("set_up.py")],
        input=cell, env={**kept, **pip, "IPYTHONDIR": str(environment / "ipython")}, cwd=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def module(path):
    """The name under which a file of gptlib is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def torch_files():
    """When each file at the top of torch, and of what pip notes on it, was written."""
    found = [*(PACKAGES / "torch").iterdir(), *PACKAGES.glob("torch-*/*")]
    return {path: path.stat().st_mtime_ns for path in found if path.is_file()}


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_gptlib(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("gptlib/")]
    assert sorted(names) == sorted(path.relative_to(ROOT).as_posix() for path in PACKAGED)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=CELLS.values())
def test_it_installs_gptlib_where_it_is_missing_and_nothing_else(cell, wheel, colab):
    assert cell.count(f"git+{ADDRESS}") == 1
    before = torch_files()
    told = run(cell.replace(f"git+{ADDRESS}", wheel.as_uri()), colab)
    assert told["commands"] == [1, 1]  # the second time gptlib is there
    assert Path(told["gptlib"]).is_relative_to(own_packages(colab))
    assert {"gptlib", *told["modules"]} == {module(path) for path in PACKAGED if path.suffix == ".py"}
    assert set(told["rows"]) == {path.name for path in PACKAGED if path.suffix == ".csv"}
    assert all(told["rows"].values())
    installed = {path.name for path in own_packages(colab).iterdir()}
    assert installed == {"gptlib", f"gptlib-{version('gptlib')}.dist-info", "preinstalled.pth"}
    assert told["torch"] == version("torch") and torch_files() == before
