"""The student's side: runs in the sandbox, executes cells, and answers calls. It never sees a test."""

import contextlib
import json
import os
import resource
import signal
import sys
from typing import Any

import torch
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell
from torch import Tensor

from gptlib.exercises import without
from grading.wire import Channel, encode, load

AGAIN = 5  # seconds of work after which a student who caught the alarm is told once more
LONGEST = 2000  # characters of an exception's text


class TooSlow(BaseException):
    """The time for a cell or a call is over. Not an Exception, so that few programs catch it."""


class Side:
    """What a student's notebook has defined, and what of it the checks hold by number."""

    def __init__(self, channel: Channel):
        self.channel, self.pid = channel, os.getpid()
        HistoryManager.enabled = False
        self.shell = InteractiveShell.instance(colors="nocolor")
        self.kept: list[Any] = []  # objects, and results with a history, by number
        self.leaves: list[tuple[int, Tensor]] = []  # what gradients are wanted for, by the checks' number

    def serve(self, until: str = "") -> tuple[dict, bytes]:
        """Answer requests one after the other, until one of a certain kind comes."""
        while True:
            message, data = self.channel.receive()
            if os.getpid() != self.pid:  # a child of the student's, which went on where it was forked
                os._exit(0)
            if message["ask"] in until.split():
                return message, data
            answer, content = self.answer(message, data)
            if os.getpid() != self.pid:
                os._exit(0)
            self.channel.send(answer, content)

    def answer(self, message: dict, data: bytes) -> tuple[dict, bytes]:
        """Do what is asked in the time given; return the result, or what was raised."""
        content = bytearray()
        try:
            with self.alarm(message["seconds"]):
                result = getattr(self, f"do_{message['ask']}")(message, data)
                return {"value": encode(result, self.keep, content)}, bytes(content)
        except TooSlow:
            return {"raised": "TimeoutError", "text": f"it took over {message['seconds']} s"}, b""
        except BaseException as error:  # a student's code may raise anything
            with contextlib.suppress(BaseException):
                return {"raised": type(error).__name__, "text": str(error)[:LONGEST]}, b""
            return {"raised": type(error).__name__, "text": ""}, b""

    @contextlib.contextmanager
    def alarm(self, seconds: float):
        """Raise TooSlow in the student's code after so much work: a busy machine costs no points."""
        signal.signal(signal.SIGPROF, self.ring)
        signal.setitimer(signal.ITIMER_PROF, seconds, AGAIN)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    @staticmethod
    def ring(number, frame):
        raise TooSlow

    def keep(self, value: Any) -> int:
        self.kept.append(value)
        return len(self.kept) - 1

    def do_read(self, message: dict, data: bytes) -> list[list[str]]:
        """Return the cells of the notebook: kind and source of each."""
        with open(message["path"], encoding="utf-8") as file:
            cells = json.load(file)["cells"]
        return [[str(cell["cell_type"]), "".join(cell["source"])] for cell in cells]

    def do_cell(self, message: dict, data: bytes) -> str:
        """Run one cell; return what it raised, or nothing."""
        result = self.shell.run_cell(message["source"], store_history=False)
        error = result.error_before_exec or result.error_in_exec
        if isinstance(error, TooSlow):
            raise error
        return "" if error is None else f"{type(error).__name__}: {error}"[:LONGEST]

    def do_get(self, message: dict, data: bytes) -> Any:
        """Return what a name stands for. Raises NameError where it is not defined."""
        if message["name"] not in self.shell.user_ns:
            raise NameError(f"{message['name']} is not defined")
        return self.shell.user_ns[message["name"]]

    def do_reset(self, message: dict, data: bytes) -> None:
        """Forget what the last test held."""
        self.kept, self.leaves = [], []
        torch.manual_seed(0)

    def do_call(self, message: dict, data: bytes) -> Any:
        """Call an object that the checks hold, with the functions named switched off."""
        arguments, named, off = load(data, self.find)
        with without(*off):
            return self.kept[message["number"]](*arguments, **named)

    def do_attribute(self, message: dict, data: bytes) -> Any:
        """Return an attribute of an object that the checks hold."""
        return getattr(self.kept[message["number"]], message["name"])

    def do_length(self, message: dict, data: bytes) -> int:
        """Return the length of an object that the checks hold."""
        return len(self.kept[message["number"]])

    def do_item(self, message: dict, data: bytes) -> Any:
        """Return an item of an object that the checks hold."""
        return self.kept[message["number"]][load(data, self.find)]

    def do_backward(self, message: dict, data: bytes) -> list[Tensor | None]:
        """Return the gradients of a result, weighted, for each of the tensors that the checks sent."""
        result, weights = self.kept[message["number"]], load(data, self.find)
        sent = [leaf for _, leaf in self.leaves]
        found = torch.autograd.grad(result, sent, weights, retain_graph=True, allow_unused=True)
        sums: list[Tensor | None] = [None] * message["count"]
        for (number, _), gradient in zip(self.leaves, found, strict=True):
            if gradient is not None:
                sums[number] = gradient if sums[number] is None else sums[number] + gradient
        return sums

    def find(self, name: tuple) -> Any:
        """Return what a name means: an object kept, a tensor with a history, or a check's function."""
        kind, number, *rest = name
        if kind == "object":
            return self.kept[number]
        if kind == "leaf":
            values, is_parameter = rest
            leaf = torch.nn.Parameter(values) if is_parameter else values.requires_grad_()
            self.leaves.append((number, leaf))
            return leaf
        return self.back(number)

    def back(self, number: int):
        """Return a function that calls a function of the checks."""

        def call(*arguments, **named):
            content = bytearray()
            value = encode([list(arguments), named], self.keep, content)
            self.channel.send({"callback": number, "value": value}, bytes(content))
            message, data = self.serve(until="returned")
            if "raised" in message:
                raise RuntimeError(message["raised"])
            return load(data, self.find)

        return call


def confine(megabytes: int, file_megabytes: int, processes: int) -> None:
    """Give up, for good, the right to more memory, larger files and more processes."""
    for kind, most in (
        (resource.RLIMIT_AS, megabytes << 20),
        (resource.RLIMIT_FSIZE, file_megabytes << 20),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def main() -> None:
    """Take the two pipes for the channel, leave nothing for a student to print to, and serve."""
    channel = Channel(os.dup(0), os.dup(1))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    torch.set_num_threads(1)
    side = Side(channel)
    confine(*map(int, sys.argv[1:]))
    channel.send({"value": "ready"})
    side.serve()


if __name__ == "__main__":
    main()
