"""What the exercises' checks need: functions that are switched off while a reader's own is called."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch.overrides import TorchFunctionMode

switched_off: list[str] = []  # by the checks that run now; the grader switches them off where the answer runs


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Switch functions off, named by their full path, whoever holds them and under whatever name.

    `without("gptlib.model.CausalSelfAttention.forward")` makes that function raise RuntimeError as long as
    the block lasts. A function of Python loses its code; one of torch's that is compiled is caught when it
    is called. Raises TypeError for a class, which no call of a function is.
    """
    with ExitStack() as stack:
        for name in names:
            function = _find(name)
            off = _emptied if hasattr(function, "__code__") else _Caught
            stack.enter_context(off(function, name))
        switched_off.extend(names)
        try:
            yield
        finally:
            del switched_off[len(switched_off) - len(names) :]


def _find(name: str) -> Callable:
    """Return what a path such as `package.module.Class.method` names."""
    module, _, rest = name.rpartition(".")
    attributes = [rest]
    while True:
        try:
            found = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, rest = module.rpartition(".")
            attributes.insert(0, rest)
    for attribute in attributes:
        found = getattr(found, attribute)
    if isinstance(found, type) or not callable(found):
        raise TypeError(f"{name} is not a function: name a method of the class, such as {name}.forward")
    return getattr(found, "__wrapped__", found)


@contextmanager
def _emptied(function: Callable, name: str) -> Iterator[None]:
    """Give a function of Python, for a while, the code of one that raises."""
    kept = function.__code__
    constants = [_refusal(name) if constant == "why" else constant for constant in _off.__code__.co_consts]
    function.__code__ = _off.__code__.replace(co_consts=tuple(constants))
    try:
        yield
    finally:
        function.__code__ = kept


def _off(*args, **kwargs):
    raise RuntimeError("why")


class _Caught(TorchFunctionMode):
    """Catch the calls of one function of torch."""

    def __init__(self, function: Callable, name: str):
        super().__init__()
        self.function, self.name = function, name

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Raise where the function is the one, else call it."""
        if func is self.function:
            raise RuntimeError(_refusal(self.name))
        return func(*args, **(kwargs or {}))


def _refusal(name: str) -> str:
    return f"{name} is switched off while this is checked: the exercise asks for your own"
