"""The checks' side: stand-ins for what a notebook defines. Calling one calls the student's process."""

import builtins
import math
import time
import types
from typing import Any

import torch
from torch import Tensor

from gptlib import exercises
from grading.sandbox import Limits, Sandbox
from grading.wire import Died, decode, dump


class StandIn:
    """An object of the student's, held by number: call it, read its attributes and items."""

    def __init__(self, student: "Student", number: int, kind: str):
        self._at = (student, number, kind)

    def __call__(self, *arguments, **named):
        student, number, _ = self._at
        content = student.pack((arguments, named, list(exercises.switched_off)))
        return student.ask({"ask": "call", "number": number}, content)

    def __getattr__(self, name: str):
        if name.startswith("__"):  # what copy and pickle look for: never the student's
            raise AttributeError(name)
        student, number, _ = self._at
        return student.ask({"ask": "attribute", "number": number, "name": name})

    def __len__(self) -> int:
        student, number, _ = self._at
        return student.ask({"ask": "length", "number": number})

    def __getitem__(self, item):
        student, number, _ = self._at
        return student.ask({"ask": "item", "number": number}, student.pack(item))

    def __repr__(self) -> str:
        return f"<the student's {self._at[2]}>"


class History(torch.autograd.Function):
    """A result whose gradients the student's process computes."""

    @staticmethod
    def forward(ctx, student: "Student", number: int, values: Tensor, *leaves: Tensor) -> Tensor:
        """Return the values."""
        ctx.student, ctx.number, ctx.count = student, number, len(leaves)
        return values.clone()

    @staticmethod
    def backward(ctx, weights: Tensor) -> tuple:
        """Ask for the gradient of each tensor that was sent."""
        message = {"ask": "backward", "number": ctx.number, "count": ctx.count}
        return None, None, None, *ctx.student.ask(message, ctx.student.pack(weights))


class Student:
    """A student's process, begun anew where it was ended."""

    def __init__(self, sandbox: Sandbox, limits: Limits, end: float = math.inf):
        self.sandbox, self.limits, self.end = sandbox, limits, end
        self.leaves: list[Tensor] = []
        self.functions: list[Any] = []

    def ask(self, message: dict, data: bytes = b"", seconds: float | None = None) -> Any:
        """Send a request, call the checks' functions where it asks for them, and return what comes of it.

        Raises what the student's code raised, where it is of a builtin kind, else RuntimeError; Died where
        the process ended or went on past the time. There is one deadline for all of it, whatever the process
        sends in between, and none is after the submission's own `end`.
        """
        seconds = seconds or self.limits.test
        channel, end = self.sandbox.channel, min(time.monotonic() + seconds * self.limits.waits, self.end)
        channel.send(message | {"seconds": seconds}, data, end)
        while True:
            reply, content = channel.receive(max(end - time.monotonic(), 0))
            if time.monotonic() > end:  # one that sends without pause always has something to be read
                raise Died("it took too long")
            if "callback" in reply:
                self.call_back(reply, content, end)
            elif "raised" in reply:
                raise self.error(reply)
            else:
                return decode(reply.get("value"), self.stand_in, content)

    def call_back(self, reply: dict, content: bytes, end: float) -> None:
        """Call a function of a check's for the student's code, and send what it returns until `end`."""
        value = decode(reply.get("value"), self.stand_in, content)
        try:
            arguments, named = value
            returned = self.functions[reply["callback"]](*arguments, **named)
        except Died:
            raise
        except Exception as error:
            said = {"ask": "returned", "raised": f"{type(error).__name__}: {error}"}
            self.sandbox.channel.send(said, end=end)
        else:
            self.sandbox.channel.send({"ask": "returned"}, self.pack(returned), end)

    @staticmethod
    def error(reply: dict) -> Exception:
        """Return the exception that a reply tells of."""
        kind = getattr(builtins, str(reply["raised"]), None)
        is_kind = isinstance(kind, type) and issubclass(kind, Exception)
        text = str(reply.get("text"))
        if not is_kind or issubclass(kind, UnicodeError | BaseExceptionGroup):
            return RuntimeError(f"{reply['raised']}: {text}")
        return kind(text)

    def stand_in(self, value: dict) -> Any:
        """Return what stands for an object, or a tensor with its history."""
        if value["kind"] == "tensor":
            return History.apply(self, int(value["number"]), value["tensor"], *self.leaves)
        return StandIn(self, int(value["number"]), str(value["type"]))

    def pack(self, value: Any) -> bytes:
        """Pickle arguments: stand-ins, tensors that want gradients and functions of a check's go by name."""
        return dump(value, self.name)

    def name(self, value: Any) -> tuple | None:
        """Name what must not be copied."""
        if isinstance(value, StandIn):
            return "object", value._at[1]
        if isinstance(value, Tensor) and value.requires_grad:
            known = [number for number, leaf in enumerate(self.leaves) if leaf is value]
            if not known:
                self.leaves.append(value)
            number = known[0] if known else len(self.leaves) - 1
            return "leaf", number, value.detach().clone(), isinstance(value, torch.nn.Parameter)
        if isinstance(value, types.FunctionType) and "<locals>" in value.__qualname__:
            self.functions.append(value)
            return "function", len(self.functions) - 1
        return None

    def reset(self) -> None:
        """Forget, on both sides, what the last test held."""
        self.leaves, self.functions = [], []
        self.ask({"ask": "reset"})
