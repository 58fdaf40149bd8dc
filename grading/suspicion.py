"""Look at a submission's source for what has no place in an exercise: a reason for a person to look at it.

What is found costs no points. Most of it could do no harm: the checks run in another process.
"""

import ast
from collections.abc import Iterator

from IPython.core.inputtransformer2 import TransformerManager

MODULES = {
    "builtins", "ctypes", "dis", "gc", "grading", "http", "importlib", "inspect", "marshal", "mmap",
    "multiprocessing", "otter", "pickle", "pty", "requests", "resource", "signal", "socket", "subprocess",
    "threading", "tracemalloc", "types", "unittest", "urllib",
}  # fmt: skip
ALLOWED = {  # of modules that are harmless in part
    "os": {"path", "cpu_count"},
    "shutil": set(),
    "sys": {"exit", "float_info", "maxsize", "stderr", "stdout", "version", "version_info"},
}
REFUSED = {"torch": {"_C", "compile", "export", "fx", "jit", "ops", "overrides"}}
NAMES = {
    "__import__", "breakpoint", "compile", "delattr", "eval", "exec", "get_ipython", "globals", "locals",
    "open", "setattr", "vars",
}  # fmt: skip
ATTRIBUTES = {
    "_current_frames", "_getframe", "f_back", "f_builtins", "f_code", "f_globals", "f_locals", "gi_frame",
    "rmtree", "switched_off", "tb_frame", "unlink", "write_bytes", "write_text",
}  # fmt: skip
PLAIN = {
    "__call__", "__getitem__", "__init__", "__len__", "__name__", "__post_init__", "__repr__", "__version__",
}  # fmt: skip
WORDS = ("results.json", "scores.csv", "/proc", "/autograder", "assignment.json", "submission.ipynb")
MOST = 6  # reasons told
LONGEST = 200_000  # characters of a cell that is read


def reasons(cells: list[tuple[int, str]], given: list[str]) -> list[str]:
    """Return what a person should look at in numbered sources of cells, other than those given."""
    found: dict[str, int] = {}
    modules: dict[str, str] = {}  # by the name that they were given
    for number, source in cells:
        for reason in _look(source, modules):
            if source not in given:
                found.setdefault(reason, number)
    told = [f"cell {number} {reason}" for reason, number in found.items()]
    return told[:MOST] + ([f"and {len(told) - MOST} more"] if len(told) > MOST else [])


def _look(source: str, modules: dict[str, str]) -> Iterator[str]:
    if len(source) > LONGEST:
        yield "is very long"
        return
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
    except (SyntaxError, ValueError):
        return  # it cannot run either
    except (RecursionError, MemoryError):
        yield "is nested too deeply to be read"
        return
    for node in ast.walk(tree):
        yield from _imported(node, modules)
        yield from _used(node, modules)
        yield from _changed(node, modules)


def _imported(node: ast.AST, modules: dict[str, str]) -> Iterator[str]:
    """Tell of imports that have no place here; collect the others."""
    if isinstance(node, ast.Import):
        for name in node.names:
            modules[name.asname or name.name.split(".")[0]] = name.name
            if name.name.split(".")[0] in MODULES or _is_refused(*name.name.partition(".")[::2]):
                yield f"imports {name.name}"
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        for name in node.names:
            modules[name.asname or name.name] = f"{module}.{name.name}"
            if module.split(".")[0] in MODULES or _is_refused(*f"{module}.{name.name}".partition(".")[::2]):
                yield f"imports {name.name} from {module}"


def _is_refused(module: str, rest: str) -> bool:
    first = rest.split(".")[0]
    return bool(first) and (first not in ALLOWED.get(module, {first}) or first in REFUSED.get(module, ()))


def _used(node: ast.AST, modules: dict[str, str]) -> Iterator[str]:
    """Tell of names, attributes and words that have no place here."""
    match node:
        case ast.Name(id=name) if name in NAMES or _is_inner(name):
            yield f"uses {name}"
        case ast.Attribute(value=ast.Name(id=base), attr=name) if _is_refused(modules.get(base, ""), name):
            yield f"uses {base}.{name}"
        case ast.Attribute(attr=name) if name in ATTRIBUTES or _is_inner(name):
            yield f"uses .{name}"
        case ast.FunctionDef(name=name) if _is_inner(name):
            yield f"defines {name}"
        case ast.Call(func=ast.Name(id="getattr"), args=[_, name, *_]) if not isinstance(name, ast.Constant):
            yield "uses getattr with a computed name"
        case ast.Constant(value=str(text)):
            yield from (f"mentions {word}" for word in WORDS if word in text)
            if _is_inner(text):
                yield f"mentions {text}"


def _changed(node: ast.AST, modules: dict[str, str]) -> Iterator[str]:
    """Tell of assignments to an attribute of something imported."""
    targets = []
    if isinstance(node, ast.Assign | ast.Delete):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For):
        targets = [node.target]
    for target in targets:
        inner = target
        while isinstance(inner, ast.Attribute | ast.Subscript):
            inner = inner.value
        if inner is not target and isinstance(inner, ast.Name) and inner.id in modules:
            yield f"changes {ast.unparse(target)}"


def _is_inner(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and len(name) > 4 and name not in PLAIN
