"""What crosses between the checks and a student's process comes out as it went in."""

import json
import os
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from conftest import SHORT
from nbformat.v4 import new_notebook

from gptlib.exercises import without
from gptlib.model import GPT, GPTConfig
from grading.sandbox import Sandbox
from grading.stand_ins import Student
from grading.wire import HEADER, Channel, Died, decode, encode

CELLS = """
import numpy as np, torch
same = lambda x: x
twice = lambda f, x: f(f(x))
class Kept:
    size = 3
    def grow(self, by): return self.size + by
    def __len__(self): return 7
    def __getitem__(self, item): return item * 2
kept = Kept()
read = lambda kept: kept.size
weigh = lambda model, ids: model(ids).square().mean()
product = lambda a, b: (a * b, a + b)
draw = lambda generator: torch.rand(3, generator=generator)
def picky(x): raise KeyError("no " + x)
class Own(Exception): pass
def own(): raise Own("mine")
attend = torch.nn.functional.scaled_dot_product_attention
"""


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "n.ipynb"
    nbformat.write(new_notebook(), path)
    with Sandbox(path, SHORT) as sandbox:
        student = Student(sandbox, SHORT)
        assert student.ask({"ask": "cell", "source": CELLS}) == ""
        yield student


def get(student, name):
    student.reset()
    return student.ask({"ask": "get", "name": name})


VALUES = [
    None, True, 3, -2.5, float("inf"), "text", ..., [1, [2, "x"]], (1, 2), {1, 2}, {"a": (1,), 2: None},
    torch.arange(6).view(2, 3), torch.tensor(True), torch.zeros(0, 3), torch.randn(2, dtype=torch.bfloat16),
    np.arange(4.0), np.float32(2), np.zeros((2, 0)),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_plain_data_comes_back_as_it_went(student, value):
    back = get(student, "same")(value)
    assert type(back) is (
        float if isinstance(value, np.floating) and isinstance(value, float) else type(value)
    )
    if isinstance(value, torch.Tensor):
        assert back.dtype == value.dtype and back.shape == value.shape and torch.equal(back, value)
    elif isinstance(value, np.ndarray):
        np.testing.assert_array_equal(back, value)
    else:
        assert back == value


def test_other_objects_stay_and_are_used_from_here(student):
    kept = get(student, "kept")
    assert (kept.size, kept.grow(4), len(kept), kept[5]) == (3, 7, 7, 10)
    assert student.ask({"ask": "get", "name": "read"})(kept) == 3


def test_a_students_code_calls_a_function_of_the_check(student):
    seen = []

    def add(x):
        seen.append(x)
        return x + 1

    assert get(student, "twice")(add, 5) == 7 and seen == [5, 6]


def test_gradients_cross_and_add_up(student):
    product = get(student, "product")
    a, b = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 4.0], requires_grad=True)
    first, second = product(a, b)
    (first.sum() + 2 * second.sum() + a.sum()).backward()
    assert a.grad.tolist() == [6.0, 7.0] and b.grad.tolist() == [3.0, 4.0]


def test_gradients_reach_the_parameters_of_a_model(student):
    model = GPT(GPTConfig.gpt2(5, context_length=4, n_layer=1, n_head=1, n_embd=4))
    ids = torch.tensor([[1, 2, 3]])
    get(student, "weigh")(model, ids).backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model(ids).square().mean().backward()
    for here, there in zip(model.parameters(), found, strict=True):
        torch.testing.assert_close(here.grad, there)


def test_a_generator_draws_the_same_there(student):
    drawn = get(student, "draw")(torch.Generator().manual_seed(3))
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(3)))


def test_exceptions_arrive_by_their_kind(student):
    with pytest.raises(KeyError, match="no luck"):
        get(student, "picky")("luck")
    with pytest.raises(RuntimeError, match="Own: mine"):
        get(student, "own")()


def test_a_function_switched_off_here_is_off_there(student):
    attend, x = get(student, "attend"), torch.randn(1, 1, 3, 4)
    with (
        without("torch.nn.functional.scaled_dot_product_attention"),
        pytest.raises(RuntimeError, match="off"),
    ):
        attend(x, x, x)
    assert attend(x, x, x).shape == x.shape


def test_subclasses_arrive_as_what_they_are_made_of():
    class Liar(float):
        def __eq__(self, other):
            return True

    @dataclass
    class Any_:
        x: int

    data = bytearray()
    told = encode([Liar(2), Any_(1)], lambda value: 9, data)
    back = decode(told, lambda value: value["number"], bytes(data))
    assert back == [2.0, 9] and back[0] != 3


@pytest.mark.parametrize(
    "forged",
    [
        {"kind": "tensor", "dtype": "load", "shape": [1], "bytes": [0, 4], "number": None},
        {"kind": "tensor", "dtype": "float32", "shape": [10**9], "bytes": [0, 4], "number": None},
        {"kind": "array", "dtype": "O", "shape": [1], "bytes": [0, 8]},
        {"kind": "set", "items": [{"kind": "list", "items": []}]},
        {"kind": "nothing"},
        {},
    ],
)
def test_forged_values_are_refused(forged):
    with pytest.raises(Died):
        decode(forged, lambda value: None, bytes(8))


@pytest.mark.parametrize("sent", [b"\xff" * 8, b"\0\0\0\2\0\0\0\0[]", b"\0\0\0\2\0\0\0\0{x", b"\0\0"])
def test_forged_messages_are_refused(sent):
    read, write = os.pipe()
    os.write(write, sent)
    os.close(write)
    with pytest.raises(Died):
        Channel(read, -1).receive(1)
    os.close(read)


@pytest.fixture
def pipes():
    """A channel of ours, and the ends that a student's process would hold: (channel, to us, from us)."""
    (read, to_us), (from_us, write) = os.pipe(), os.pipe()
    yield Channel(read, write), to_us, from_us
    for end in (read, to_us, from_us, write):
        os.close(end)


HASTY = replace(SHORT, test=0.1, waits=1)


@pytest.mark.parametrize("deadline", ["of the request", "of the submission"])
def test_a_process_that_calls_back_for_ever_has_one_deadline(pipes, deadline):
    channel, to_us, from_us = pipes
    student, calls = Student(SimpleNamespace(channel=channel), HASTY), []
    if deadline == "of the submission":
        student.limits, student.end = replace(HASTY, test=1000), time.monotonic() + 0.1
    nothing = {"kind": "tuple", "items": [{"kind": "list", "items": []}, {"kind": "dict", "items": []}]}
    text = json.dumps({"callback": 0, "value": nothing}).encode()
    frame = HEADER.pack(len(text), 0) + text

    def again():
        calls.append(1)
        os.write(to_us, frame)
        os.read(from_us, 1 << 16)  # what we were asked and told, thrown away

    student.functions.append(again)
    os.write(to_us, frame)
    with pytest.raises(Died, match="too long"):
        student.ask({"ask": "call", "number": 0})
    assert len(calls) > 1


def test_a_process_that_does_not_read_ends_the_wait(pipes):
    channel, _, _ = pipes
    with pytest.raises(Died, match="too long"):
        Student(SimpleNamespace(channel=channel), HASTY).ask({"ask": "call", "number": 0}, bytes(1 << 20))
