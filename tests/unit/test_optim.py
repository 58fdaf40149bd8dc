import itertools

import pytest
import torch

from gptlib.model import GPT, GPTConfig
from gptlib.optim import Muon, hidden_matrices, make_optimizers, schedule, update


def rates(steps=100, warmup=10, decay="linear", decay_fraction=0.5, final=0.1):
    return [schedule(step, steps, warmup, decay, decay_fraction, final) for step in range(steps + 1)]


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_the_rate_rises_stays_and_falls(decay):
    factor = rates(decay=decay)
    assert factor[0] == pytest.approx(1 / 11) and factor[9] == pytest.approx(10 / 11)
    assert factor[10:51] == [1.0] * 41
    assert all(later < earlier for earlier, later in itertools.pairwise(factor[50:]))
    assert factor[75] == pytest.approx(0.55)  # half-way between 1 and 0.1, for the line and for the cosine
    assert factor[100] == pytest.approx(0.1)


def test_linear_and_cosine_differ_between_their_ends():
    line, cosine = rates(decay="linear"), rates(decay="cosine")
    assert cosine[60] > line[60] and cosine[90] < line[90]


def test_a_constant_rate_is_constant_after_warmup():
    assert set(rates(decay="constant")[10:]) == {1.0}


def test_without_warmup_the_first_step_is_at_the_peak_and_a_decay_waits_for_the_warmup():
    assert schedule(0, 10, 0, "linear", 0.5, 0.1) == 1
    fall = rates(decay_fraction=1.0)  # longer than what the warm-up leaves: it starts where that ends
    assert fall[9] == pytest.approx(10 / 11) and fall[10] == 1 and fall[55] == pytest.approx(0.55)


def test_past_the_last_step_the_rate_stays_where_it_ended():
    assert schedule(150, 100, 10, "cosine", 0.5, 0.1) == pytest.approx(0.1)
    assert schedule(12, 10, 10, "linear", 0.5, 0.1) == pytest.approx(0.1)  # nothing but warm-up


def test_every_group_keeps_its_peak_rate():
    model = GPT(GPTConfig.modern(50, n_layer=1, n_embd=16, context_length=8))
    adamw, muon = make_optimizers(model, "muon", 0.01, 0.02, (0.8, 0.9), 0.3, torch.float32)
    assert {(group["lr"], group["peak_lr"]) for group in adamw.param_groups} == {(0.01, 0.01)}
    assert {(group["lr"], group["peak_lr"]) for group in muon.param_groups} == {(0.02, 0.02)}
    assert {group["betas"] for group in adamw.param_groups} == {(0.8, 0.9)}
    decays = [group["weight_decay"] for group in [*adamw.param_groups, *muon.param_groups]]
    assert decays == [0.3, 0.0, 0.3]


def test_muon_moves_the_hidden_matrices_and_adamw_all_the_rest():
    model = GPT(GPTConfig.modern(50, n_layer=2, n_embd=16, context_length=8))
    adamw, muon = make_optimizers(model, "muon", 0.01, 0.02, (0.9, 0.95), 0.1, torch.float32)
    moved = {name: [] for name in ("adamw", "muon")}
    for name, parameter in model.named_parameters():
        for kind, optimizer in (("adamw", adamw), ("muon", muon)):
            if any(parameter is p for group in optimizer.param_groups for p in group["params"]):
                moved[kind].append(name)
    assert sorted(moved["adamw"] + moved["muon"]) == sorted(name for name, _ in model.named_parameters())
    assert all(name.startswith("blocks.") and "norm" not in name for name in moved["muon"])
    assert {"tokens.weight", "head.weight", "norm.weight"} <= set(moved["adamw"])
    assert len(moved["muon"]) == 2 * 4 == len(hidden_matrices(model))


def test_only_matrices_decay():
    model = GPT(GPTConfig.gpt2(50, n_layer=1, n_embd=16, context_length=8))
    (adamw,) = make_optimizers(model, "adamw", 0.01, 0.02, (0.9, 0.95), 0.1, torch.float32)
    matrices, vectors = adamw.param_groups
    assert matrices["weight_decay"] == 0.1 and vectors["weight_decay"] == 0
    assert {p.ndim for p in matrices["params"]} == {2} and {p.ndim for p in vectors["params"]} == {1}
    assert len(matrices["params"]) + len(vectors["params"]) == len(list(model.parameters()))


def test_muon_takes_equal_steps_in_all_directions():
    """Its update is the gradient with all singular values, here from 0.1 to 1, made (nearly) equal."""
    weight = torch.nn.Linear(8, 8, bias=False)
    before = weight.weight.detach().clone()
    (_, muon) = make_optimizers(
        torch.nn.ModuleDict({"a": weight, "head": torch.nn.Linear(8, 8)}),
        "muon",
        0.1,
        0.1,
        (0.9, 0.95),
        0.0,
        torch.float32,
    )
    weight.weight.grad = torch.diag(torch.tensor([1.0, 0.5, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]))
    muon.step()
    steps = torch.linalg.svdvals(before - weight.weight.detach())
    assert steps.max() / steps.min() < 2 and 0.07 < steps.mean() < 0.13  # the rate is 0.1


def test_muon_is_that_of_torch():
    """Its steps are those of torch.optim.Muon, to the precision of the bfloat16 in which that computes."""
    shapes = [(8, 8), (24, 8), (8, 24), (8, 8)]
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i, shape in enumerate(shapes)]
    ours, theirs = ([torch.nn.Parameter(s.clone()) for s in start] for _ in range(2))
    muons = (
        Muon(ours, 0.1, 0.1, torch.bfloat16),
        torch.optim.Muon(theirs, lr=0.1, weight_decay=0.1, ns_steps=3),
    )
    generator = torch.Generator().manual_seed(9)
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        for muon in muons:
            muon.step()
    for a, b, s in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.02 * (a - s).norm()


PARTS = (
    "tokens.weight",
    "blocks.0.attention.qkv.weight",
    "blocks.1.mlp.out.weight",
    "norm.weight",
    "head.weight",
)


@pytest.mark.parametrize("part", [None, *PARTS])
@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_a_gradient_that_overflows_in_one_part_stops_every_part(part, bad):
    """float16: all optimizers skip the step, or none; their momenta stay as clean as the weights."""
    model = GPT(GPTConfig.modern(50, n_layer=2, n_embd=16, context_length=8))
    optimizers = make_optimizers(model, "muon", 0.01, 0.02, (0.9, 0.95), 0.1, torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(spoilt):
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            parameter.grad = 1024 * torch.randn(parameter.shape, generator=generator)
            if name == spoilt:
                parameter.grad[0] = bad
        scaler.scale(torch.ones(()))  # as a loss would be: the scaler starts with its first
        update([model], optimizers, 1.0, 1.0, scaler)

    def everything():
        states = [value for each in optimizers for its in each.state.values() for value in its.values()]
        return [t.clone() for t in (*model.parameters(), *states)]

    step(None)
    before = everything()
    step(part)
    moved = [not torch.equal(a, b) for a, b in zip(before, everything(), strict=True)]
    assert all(moved) if part is None else not any(moved)
    assert scaler.get_scale() == (1024 if part is None else 512)


def test_every_model_of_several_has_its_own_gradient_clipped():
    models = [torch.nn.Linear(3, 2, bias=False) for _ in range(2)]
    optimizers = [torch.optim.SGD([model.weight], lr=1.0) for model in models]
    for model, optimizer, size in zip(models, optimizers, (10.0, 0.1), strict=True):
        optimizer.param_groups[0]["peak_lr"] = 1.0
        torch.nn.init.zeros_(model.weight)
        model.weight.grad = torch.zeros(2, 3)
        model.weight.grad[0, 0] = size
    update(models, optimizers, 0.5, 1.0)
    assert [model.weight[0, 0].item() for model in models] == pytest.approx([-0.5, -0.05])
