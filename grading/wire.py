"""What the two sides of the grader say to each other: the checks, and the process that runs a student's code.

The checks send pickles, which the student's process may open. What comes back is JSON and raw bytes, never a
pickle: plain data by value, and a number in the place of anything else.
"""

import io
import json
import os
import pickle
import select
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

HEADER = struct.Struct("!II")  # bytes of JSON, bytes that follow it
MOST_TEXT, MOST_BYTES = 16 << 20, 64 << 20  # of one message


class Died(Exception):
    """The other side has gone, is silent for too long, or does not speak the language."""


class Channel:
    """Messages through two file descriptors: a small dictionary and bytes."""

    def __init__(self, read: int, write: int):
        self.read_fd, self.write_fd = read, write

    def send(self, message: dict, data: bytes = b"", end: float | None = None) -> None:
        """Write one message, until `end` by the monotonic clock at the latest.

        Raises ValueError where it is too long, Died where nobody reads, or not in time.
        """
        text = json.dumps(message).encode()
        if len(text) > MOST_TEXT or len(data) > MOST_BYTES:
            raise ValueError(f"a result of over {MOST_TEXT >> 20} MB is too large to be checked")
        rest = memoryview(HEADER.pack(len(text), len(data)) + text + data)
        os.set_blocking(self.write_fd, end is None)  # else a full pipe that nobody reads holds us for ever
        while rest:
            if (
                end is not None
                and not select.select([], [self.write_fd], [], max(end - time.monotonic(), 0))[1]
            ):
                raise Died("it took too long")
            try:
                rest = rest[os.write(self.write_fd, rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Died("it ended") from error

    def receive(self, seconds: float | None = None) -> tuple[dict, bytes]:
        """Read one message. Raises Died after so many seconds, at the end, and where it is none."""
        end = None if seconds is None else time.monotonic() + seconds
        sizes = HEADER.unpack(self._exactly(HEADER.size, end))
        if sizes[0] > MOST_TEXT or sizes[1] > MOST_BYTES:
            raise Died("it sent something else than a result")
        text, data = self._exactly(sizes[0], end), self._exactly(sizes[1], end)
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Died("it sent something else than a result") from error
        if not isinstance(message, dict):
            raise Died("it sent something else than a result")
        return message, data

    def _exactly(self, size: int, end: float | None) -> bytes:
        parts = []
        while size:
            left = None if end is None else max(end - time.monotonic(), 0)
            if not select.select([self.read_fd], [], [], left)[0]:
                raise Died("it took too long")
            if not (part := os.read(self.read_fd, min(size, 1 << 20))):
                raise Died("it ended")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def encode(value: Any, keep: Callable[[Any], int], data: bytearray) -> Any:
    """Return a value as JSON, its numbers' bytes appended to `data`; `keep` numbers what is no plain data."""

    def plain(value):
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float | str):
            base = next(kind for kind in (int, float, str) if isinstance(value, kind))
            return base(value)
        if value is ...:
            return {"kind": "dots"}
        if isinstance(value, list | tuple | set | frozenset):
            kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
            return {"kind": kind.__name__, "items": [plain(item) for item in value]}
        if isinstance(value, dict):
            return {"kind": "dict", "items": [[plain(k), plain(v)] for k, v in value.items()]}
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            number = keep(value) if value.requires_grad else None
            kind = str(value.dtype).removeprefix("torch.")
            return _bytes("tensor", kind, value.shape, flat, data) | {"number": number}
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
            kind = "array" if isinstance(value, np.ndarray) else "scalar"
            return _bytes(kind, value.dtype.str, value.shape, value.tobytes(), data)
        return {"kind": "object", "number": keep(value), "type": type(value).__name__}

    return plain(value)


def _bytes(kind: str, dtype: str, shape, content: bytes, data: bytearray) -> dict:
    start = len(data)
    data += content
    return {"kind": kind, "dtype": dtype, "shape": list(shape), "bytes": [start, len(data)]}


def decode(value: Any, stand_in: Callable[[dict], Any], data: bytes) -> Any:
    """Return what `encode` was given; `stand_in` makes what stands for an object or for a tensor's history.

    Raises Died where it is not what `encode` makes: it may come from anybody.
    """
    try:
        return _decode(value, stand_in, data)
    except Died:
        raise
    except Exception as error:  # every way in which a forged value can be broken
        raise Died("it sent something else than a result") from error


def _decode(value: Any, stand_in: Callable[[dict], Any], data: bytes) -> Any:
    if not isinstance(value, dict):
        return value
    kind = value["kind"]
    if kind == "dots":
        return ...
    if kind in ("list", "tuple", "set", "frozenset"):
        make = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind]
        return make(_decode(item, stand_in, data) for item in value["items"])
    if kind == "dict":
        return {_decode(k, stand_in, data): _decode(v, stand_in, data) for k, v in value["items"]}
    if kind == "object":
        return stand_in(value)
    content = bytearray(data[slice(*value["bytes"])])
    if kind == "tensor":
        dtype = getattr(torch, value["dtype"])
        flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        tensor = flat.reshape(value["shape"])
        return tensor if value["number"] is None else stand_in(value | {"tensor": tensor})
    array = np.frombuffer(content, dtype=np.dtype(value["dtype"])).reshape(value["shape"])
    return array if kind == "array" else array[()]


def dump(value: Any, name: Callable[[Any], Any]) -> bytes:
    """Pickle what the checks send; `name` gives a name to what must not be copied, None to the rest."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file)
    pickler.persistent_id = name
    pickler.dispatch_table = {torch.Generator: lambda g: (generator, (g.get_state(),))}
    pickler.dump(value)
    return file.getvalue()


def load(content: bytes, find: Callable[[Any], Any]) -> Any:
    """Open what `dump` made, in the student's process; `find` returns what a name means."""
    unpickler = pickle.Unpickler(io.BytesIO(content))
    unpickler.persistent_load = find
    return unpickler.load()


def generator(state: Tensor) -> torch.Generator:
    """Return a generator in a given state."""
    made = torch.Generator()
    made.set_state(state)
    return made
