"""float16 overflows: whether a step is skipped is decided once, for all optimizers, before clipping."""

import copy
from itertools import pairwise

import pytest
import torch

from gptlib.budget import Budget
from gptlib.model import GPT, GPTConfig
from gptlib.optim import make_optimizers, update
from gptlib.tokenizers import EncodedCorpus
from gptlib.training import TrainConfig, next_token_loss, train

V = 20
PARTS = {
    "embedding": "tokens.weight",
    "attention": "blocks.0.attention.qkv.weight",
    "mlp": "blocks.1.mlp.up.weight",
    "norm": "blocks.0.norm2.weight",
    "head": "head.weight",
}
IDS = torch.randint(V, (2000,), generator=torch.Generator().manual_seed(0))


def tiny() -> GPT:
    return GPT(GPTConfig.modern(V, context_length=8, n_layer=2, n_head=2, n_embd=16, zero_init=False))


def one_is(value: float):
    """Change a single entry of a gradient."""

    def change(gradient: torch.Tensor) -> torch.Tensor:
        changed = gradient.clone()
        changed.view(-1)[3] = value
        return changed

    return change


def everything(model: GPT, optimizers: list) -> list[torch.Tensor]:
    """Return copies of all that a step may move."""
    states = [each.state[p] for each in optimizers for group in each.param_groups for p in group["params"]]
    held = [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
    return [value.detach().clone() for value in [*model.parameters(), *held]]


@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("part", PARTS)
def test_one_gradient_that_is_not_finite_moves_nothing(part, value, optimizer, grad_clip):
    model, ids = tiny(), IDS[:9][None]
    optimizers = make_optimizers(model, optimizer, 0.01, 0.01, (0.9, 0.95), 0.1, torch.float32)
    scaler = torch.amp.GradScaler("cpu")

    def step() -> tuple[list[torch.Tensor], float]:
        scaler.scale(next_token_loss(model(ids[:, :-1]), ids[:, 1:])).backward()
        update([model], optimizers, 1.0, grad_clip, scaler)
        assert all(p.grad is None for p in model.parameters())
        return everything(model, optimizers), scaler.get_scale()

    before, scale = step()
    hook = model.get_parameter(PARTS[part]).register_hook(one_is(value))
    skipped, smaller = step()
    assert all(torch.equal(a, b) for a, b in zip(before, skipped, strict=True))
    assert smaller == scale / 2
    hook.remove()
    after, _ = step()
    assert all(x.isfinite().all() for x in after)
    assert not any(torch.equal(a, b) for a, b in zip(skipped, after, strict=True))


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_a_run_goes_on_after_a_step_that_was_skipped(value):
    """The second step of three has such a gradient: the weights stay, the losses go on."""
    model, seen, calls = tiny(), [], []

    def second(gradient):
        calls.append(1)
        return one_is(value)(gradient) if len(calls) == 2 else gradient

    model.head.weight.register_hook(second)
    half = Budget("cpu", torch.device("cpu"), torch.float16)
    data = EncodedCorpus(IDS, IDS[:200], 1.0, 1.0, V)
    config = TrainConfig(steps=3, batch_size=4, eval_every=1)
    history = train(
        model, data, config, half, on_evaluation=lambda _: seen.append(copy.deepcopy(model.state_dict()))
    )
    moved = [not all(torch.equal(a[name], b[name]) for name in a) for a, b in pairwise(seen)]
    assert len(calls) == 3 and moved == [False, True]
    assert len(history.train) == 3


@pytest.mark.parametrize("width", [128, 256])
def test_a_narrow_model_computes_in_float32_on_a_gpu(width):
    """Below 256 channels a GPU waits for launches: half precision gains nothing, and costs some."""
    t4 = Budget("gpu", torch.device("cuda"), torch.float16)
    model = GPT(GPTConfig.modern(4000, context_length=8, n_layer=1, n_head=4, n_embd=width))
    assert t4.dtype_for(model) == (torch.float32 if width < 256 else torch.float16)
    cpu = Budget("cpu", torch.device("cpu"), torch.bfloat16)
    assert cpu.dtype_for(model) == torch.bfloat16
