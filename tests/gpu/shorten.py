"""Cut everything that takes long to a few steps, and keep account of what was cut.

Why it exists: on the fake T4 an operation costs a hundred times what it does, and what is looked for, an
operation that CUDA refuses, shows in the first two steps. What a reader's run would launch is known all the
same: a step that stands for a hundred counts a hundred times.
"""

import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import fake_t4

import gptlib

STEPS = 2
LOOPS = {  # whose argument counts steps, or has a field that does
    "gptlib.training.train": "config",
    "gptlib.finetuning.finetune": "config",
    "gptlib.alignment.ppo.ppo": "config",
    "gptlib.alignment.grpo.grpo": "config",
    "gptlib.alignment.dpo.dpo": "config",
    "gptlib.minimising.train_family": "recipe",
    "gptlib.in_context.finetune_on": "steps",
}
AT_MOST = {  # tokens, which are launches, and how many problems stand side by side, which are not
    "gptlib.training.evaluate": ("tokens", 1500),
    "gptlib.sampling.generate": ("max_tokens", 3),
    "gptlib.in_context.draw_prompts": ("n", 3),
    "gptlib.function_learning.evaluate": ("B", 100),
    "gptlib.emergence.scores": ("B", 30),
    "gptlib.running_sums.accuracy": ("B", 30),
    "gptlib.chain_of_thought.draw_prompts": ("B", 12),
}
ONCE = ("gptlib.training.training_flops_per_token", "gptlib.training._start")  # a run, not a step
CUTS_LAUNCHES = {"tokens", "max_tokens"}


class Account:
    """How many kernels the uncut run would launch: those of a cut call count as often as they stand for."""

    def __init__(self):
        self.weight, self.around, self.settled, self.total = 1.0, 1.0, 0, 0.0

    def settle(self) -> float:
        """Add what was launched since the last time; return all of it."""
        now = sum(fake_t4.counts.values())
        self.total += self.weight * (now - self.settled)
        self.settled = now
        return self.total

    @contextmanager
    def weighing(self, weight: float) -> Iterator[None]:
        """Let each launch count so often."""
        self.settle()
        before, self.weight = self.weight, weight
        try:
            yield
        finally:
            self.settle()
            self.weight = before


account = Account()


def shorten() -> None:
    """Cut all that is named above, in every module that has imported it."""
    for module in pkgutil.walk_packages(gptlib.__path__, "gptlib."):
        importlib.import_module(module.name)
    for name, argument in LOOPS.items():
        _replace(name, functools.partial(_cut_loop, argument=argument))
    for name, (argument, most) in AT_MOST.items():
        _replace(name, functools.partial(_cut_call, argument=argument, most=most))
    for name in ONCE:
        _replace(name, _uncut)
    _replace("gptlib.emergence._right", lambda old: _right)
    _shorten_texts()


def _replace(name: str, change: Callable[[Callable], Callable]) -> None:
    """Put a changed function in the place of the one of that name, wherever gptlib holds it."""
    module, _, attribute = name.rpartition(".")
    old = getattr(sys.modules[module], attribute)
    new = functools.wraps(old)(change(old))
    for holder in [m for key, m in sys.modules.items() if key.partition(".")[0] == "gptlib"]:
        for its_name in [key for key, value in vars(holder).items() if value is old]:
            setattr(holder, its_name, new)


def _cut_loop(loop: Callable, argument: str) -> Callable:
    """Let a training loop make a few steps; each counts for as many as were asked for."""
    signature = inspect.signature(loop)

    def cut(*args, **kwargs):
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        asked = given.arguments[argument]
        if asked is None:
            asked = _default_config(loop)
        steps = asked if isinstance(asked, int) else asked.steps
        few = min(steps, STEPS)
        given.arguments[argument] = few if isinstance(asked, int) else replace(asked, steps=few)
        if given.arguments.get("on_step"):
            given.arguments["on_step"] = _to_the_end(given.arguments["on_step"], few, steps)
        before, account.around = account.around, account.weight
        try:
            with account.weighing(account.weight * steps / few):
                return _with_all_rows(loop(*given.args, **given.kwargs), steps)
        finally:
            account.around = before

    return cut


def _with_all_rows(made, steps: int):
    """Repeat the last row of a run that has a row for each step: a notebook looks at the later ones too."""
    match made:
        case (policy, [*rows, dict(last)]):
            return policy, rows + [last] * (steps - len(rows))
    return made


def _to_the_end(on_step: Callable, few: int, steps: int) -> Callable:
    """Look at the last of a few steps as at all those that would follow it."""

    def look(step: int, *rest):
        with account.weighing(account.around):
            for at in range(step, steps + 1 if step == few else step + 1):
                on_step(at, *rest)

    return look


def _default_config(loop: Callable):
    hint = next(iter(inspect.get_annotations(loop, eval_str=True)["config"].__args__))
    return hint()


def _cut_call(function: Callable, argument: str, most: int) -> Callable:
    """Bound one argument. Evaluations count as often as the loop around is run, not as its steps."""
    signature = inspect.signature(function)

    def cut(*args, **kwargs):
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        asked = given.arguments[argument]
        given.arguments[argument] = most if asked is None else min(asked, most)
        weight = account.weight
        if argument == "tokens":
            asked = len(given.arguments["ids"]) if asked is None else asked
            weight, most_at_once = account.around, 8192
            weight *= max(asked / most_at_once, 1)
        elif argument in CUTS_LAUNCHES:
            weight *= max(asked / most, 1)
        with account.weighing(weight):
            return function(*given.args, **given.kwargs)

    return cut


def _uncut(function: Callable) -> Callable:
    """Count what is done once as often as the loop around is run."""

    def call(*args, **kwargs):
        with account.weighing(account.around):
            return function(*args, **kwargs)

    return call


def _right(model, ids) -> float:
    """Return that all is right: what comes after is asked when that was."""
    return 1.0


def _shorten_texts() -> None:
    """Take fewer examples, documents and pieces, where preparing them is what takes long."""
    import gptlib.in_context
    import gptlib.sweep

    gptlib.sweep.PIECES, gptlib.in_context.N_DOCUMENTS = 2, 500
    tasks = sys.modules["gptlib.labels"].docs_tasks

    def fewer_tests(*args):
        return {name: replace(task, test=task.test[:12]) for name, task in tasks(*args).items()}

    _replace("gptlib.labels.docs_tasks", lambda old: fewer_tests)
    told = sys.modules["gptlib.alignment.docstrings"].demonstrations
    _replace(
        "gptlib.alignment.docstrings.demonstrations", lambda old: lambda documents: told(documents)[:150]
    )
