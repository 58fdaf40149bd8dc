"""Runs side by side are those made one after the other."""

import os

import pytest
import torch

from gptlib.cores import on_all_cores
from gptlib.model import GPT, GPTConfig


@pytest.fixture(params=[1, 2])
def threads(request, monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_back_in_order_each_from_one_thread(threads):
    def run(width, seed):  # not importable, like a function of a notebook
        model = GPT(GPTConfig.modern(9, context_length=4, n_layer=1, n_head=1, n_embd=width), seed)
        return model, torch.get_num_threads(), os.getpid()

    settings = [(8, 1), (16, 2), (8, 3)]
    results = on_all_cores(run, settings)
    for (width, seed), (model, used, process) in zip(settings, results, strict=True):
        assert model.config.n_embd == width and used == 1
        assert torch.equal(model.tokens.weight, run(width, seed)[0].tokens.weight)
        assert (process == os.getpid()) == (threads == 1)


def test_an_error_of_one_run_is_raised(threads):
    def run(width):
        raise ValueError(f"width {width} is too wide")

    with pytest.raises(ValueError, match="width 7 is too wide"):
        on_all_cores(run, [(7,), (7,)])
