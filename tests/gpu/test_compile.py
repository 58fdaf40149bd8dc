"""torch.compile takes a GPT whole: one graph, without a break, in training and in evaluation."""

import dataclasses

import pytest
import torch
from torch._dynamo import explain

from gptlib import training
from gptlib.budget import Budget
from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import EncodedCorpus
from gptlib.training import TrainConfig, train

CONFIGS = {"modern": GPTConfig.modern, "gpt2": GPTConfig.gpt2}
CPU = Budget("cpu", torch.device("cpu"), torch.float32)
IDS = torch.randint(20, (2000,), generator=torch.Generator().manual_seed(0))

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself


@pytest.fixture(autouse=True)
def afresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def tiny(kind: str, **sizes) -> GPT:
    return GPT(CONFIGS[kind](20, context_length=40, n_layer=2, n_head=2, n_embd=16, **sizes))


@pytest.mark.parametrize(
    "T", [1, 8, 40]
)  # positions: a CPU has another way for few rows, and for short contexts
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_gpt_is_one_graph(kind, learns, T):
    model, ids = tiny(kind).train(learns), IDS[:T][None]
    found = explain(model)(ids)
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons
    torch._dynamo.reset()
    whole = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(ids), model(ids))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compiled_model_trains_as_it_does_uncompiled(dtype, monkeypatch):
    compile, graphs = torch.compile, []

    def eager(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(training.torch, "compile", lambda m: compile(m, backend=eager, fullgraph=True))
    data, budget = EncodedCorpus(IDS, IDS[:200], 1.0, 1.0, 20), dataclasses.replace(CPU, dtype=dtype)
    config = TrainConfig(steps=4, batch_size=4, accumulate=2, eval_every=0)
    losses = []
    for compiles in (False, True):
        history = train(tiny("modern"), data, dataclasses.replace(config, compile=compiles), budget)
        losses.append([record.loss for record in history.train])
        assert len(graphs) == compiles
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
