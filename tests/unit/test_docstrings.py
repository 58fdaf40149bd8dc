"""Everything public in gptlib says what it is: the page of the package is made of it."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import gptlib

MODULES = ["gptlib", *(module.name for module in pkgutil.walk_packages(gptlib.__path__, "gptlib."))]


def undocumented(module: ModuleType) -> Iterator[str]:
    """Name what is defined in a module, is public, and has no docstring of its own."""
    if not module.__doc__:
        yield module.__name__
    for name, found in vars(module).items():
        if name.startswith("_") or getattr(found, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(found) or inspect.isfunction(inspect.unwrap(found)):
            yield from without_docstring(found, f"{module.__name__}.{name}")


def without_docstring(found: object, name: str) -> Iterator[str]:
    """Name a function, or a class and its public methods and properties, where there is no docstring."""
    made = inspect.isclass(found) and found.__doc__ and found.__doc__.startswith(f"{found.__name__}(")
    if not found.__doc__ or made:  # a dataclass writes its signature where there is nothing else
        yield name
    for part, value in vars(found).items() if inspect.isclass(found) else ():
        value = getattr(value, "__func__", value)  # of a class method or a static method
        method = inspect.isfunction(value) or isinstance(value, property) or hasattr(value, "func")
        if method and not part.startswith("_") and not value.__doc__:
            yield f"{name}.{part}"


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_has_a_docstring(name):
    assert not list(undocumented(importlib.import_module(name)))


def test_what_has_none_is_found():
    module = ModuleType("gptlib.made_up", "What it is.")
    exec(
        "from dataclasses import dataclass\nfrom functools import cache, cached_property\n"
        "def f(): pass\n"
        "@cache\ndef g(): pass\n"
        "@dataclass\nclass Data:\n    x: int\n"
        "class Thing:\n    'Has one.'\n"
        "    def method(self): pass\n"
        "    @property\n    def size(self): pass\n"
        "    @classmethod\n    def make(cls): pass\n"
        "    @cached_property\n    def kept(self): pass\n"
        "    def said(self): 'Has one.'\n",
        vars(module),
    )
    names = ["f", "g", "Data", "Thing.method", "Thing.size", "Thing.make", "Thing.kept"]
    assert list(undocumented(module)) == [f"gptlib.made_up.{name}" for name in names]


def test_every_module_has_its_place_on_the_page():
    page = (Path(__file__).parents[2] / "book" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. automodule:: (\S+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(set(MODULES) - {"gptlib"})
