import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gptlib.layers import Linear, causal_attention, rotate, rotation_table
from gptlib.model import GPT, MLP, GPTConfig, KVCache
from gptlib.sampling import generate

SIZES = dict(context_length=24, n_layer=2, n_head=4, n_embd=32)
FIELDS = {
    "positions": ("learned", "rope"),
    "norm": ("layernorm", "rmsnorm"),
    "activation": ("gelu", "relu", "relu2", "swiglu"),
    "qk_norm": (False, True),
    "bias": (False, True),
    "tie_embeddings": (False, True),
    "n_kv_head": (None, 2),
    "n_hidden": (None, 0),
}
CHOICES = [dict(zip(FIELDS, values, strict=True)) for values in itertools.product(*FIELDS.values())]
SOME_CHOICES = CHOICES[::13]  # 13 shares no factor with the 2s and the 4: every value of every field occurs


def make(seed=0, **choices):
    """A model with no weight at zero, so that everything in it matters."""
    model = GPT(GPTConfig(50, **(SIZES | choices)), seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def random_ids(B=2, T=24, seed=0):
    return torch.randint(50, (B, T), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("choices", SOME_CHOICES, ids=str)
def test_a_future_token_changes_no_past_logit(choices):
    model, ids = make(**choices), random_ids()
    changed = ids.clone()
    changed[:, 10] = (ids[:, 10] + 1) % 50
    with torch.no_grad():
        before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :10], after[:, :10])
    assert not torch.allclose(before[:, 10:], after[:, 10:])


@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_n_params_on_paper_is_the_real_count(choices):
    model = GPT(GPTConfig(50, **(SIZES | choices)))
    assert model.config.n_params == model.n_params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("choices", SOME_CHOICES, ids=str)
@pytest.mark.parametrize("T", [24, 7])
def test_flops_on_paper_are_those_the_modules_spend(choices, T):
    model = make(**choices)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(random_ids(T=T))
    assert 2 * T * model.config.flops_per_token(T) == counter.get_total_flops()


def test_gpt2_124m_has_the_published_number_of_parameters():
    config = GPTConfig.gpt2(context_length=1024, n_layer=12, n_head=12, n_embd=768)
    assert config.n_params == 124_439_808


def test_rotated_products_depend_on_the_distance_alone():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(8, generator=generator), torch.randn(8, generator=generator)
    table = rotation_table(20, 8, 10_000.0)
    queries, keys = (rotate(z.expand(1, 1, 20, 8), table)[0, 0] for z in (q, k))  # (T, H)
    scores = queries @ keys.T  # (T, T)
    torch.testing.assert_close(scores[5, 3], scores[17, 15])
    torch.testing.assert_close(scores[0, 0], q @ k)
    assert not torch.allclose(scores[5, 3], scores[5, 4])


@pytest.mark.parametrize("choices", SOME_CHOICES[::4], ids=str)
def test_attention_maps_are_causal_and_explain_the_output(choices):
    model, ids = make(**choices), random_ids()
    maps = model.attention_maps(ids)  # (n_layer, B, nh, T, T)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, 4, 24))
    assert (maps.triu(1) == 0).all()
    attention = model.blocks[0].attention
    x = model.blocks[0].norm1(model.embed(ids))
    v = attention.queries_keys_values(x)[2]
    mixed = maps[0] @ v.repeat_interleave(4 // attention.config.kv_heads, dim=1)  # (B, nh, T, H)
    torch.testing.assert_close(attention.out(mixed.transpose(1, 2).reshape(2, 24, 32)), attention(x))


def test_grouped_queries_are_ordinary_heads_that_share_keys_and_values():
    grouped, ordinary = make(n_kv_head=2), make()
    weights = grouped.state_dict()
    for name, value in weights.items():
        if "qkv" in name:
            q, k, v = value.view(8, 8, -1).split((4, 2, 2))  # (heads, H, C)
            shared = torch.cat([q, k.repeat_interleave(2, 0), v.repeat_interleave(2, 0)])
            weights[name] = shared.reshape(ordinary.state_dict()[name].shape)
    ordinary.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(grouped(random_ids()), ordinary(random_ids()))


def test_the_loss_at_the_start_is_that_of_a_uniform_guess():
    model = GPT(GPTConfig.modern(50, **SIZES))
    logps = model(random_ids()).log_softmax(-1)
    assert logps.mean().item() == pytest.approx(-math.log(50), rel=0.05)


def test_the_same_seed_gives_the_same_weights_whatever_ran_before():
    first = GPT(GPTConfig.modern(50, **SIZES), seed=3).state_dict()
    torch.randn(10)
    second = GPT(GPTConfig.modern(50, **SIZES), seed=3).state_dict()
    other = GPT(GPTConfig.modern(50, **SIZES), seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["tokens.weight"], other["tokens.weight"])


@pytest.mark.parametrize(
    ("choices", "remedy"),
    [
        (dict(n_embd=30, n_head=4), "multiple of n_head"),
        (dict(n_head=4, n_kv_head=3), "multiple of n_kv_head"),
        (dict(positions="rope", n_embd=12, n_head=4), "even"),
        (dict(positions="alibi"), "learned, rope"),
        (dict(norm="batchnorm"), "layernorm, rmsnorm"),
        (dict(activation="tanh"), "swiglu"),
        (dict(dropout=1.0), "probability"),
        (dict(n_layer=0), "at least 1"),
        (dict(n_hidden=-1), "hidden must be at least 0"),
        (dict(vocab_size=0), "at least 1"),
    ],
)
def test_a_config_that_cannot_work_is_refused_with_the_remedy(choices, remedy):
    with pytest.raises(ValueError, match=remedy):
        GPTConfig(**({"vocab_size": 50} | SIZES | choices))


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(ValueError, match="context of 24"):
        make()(random_ids(T=25))


@pytest.mark.parametrize(
    ("activation", "bend"),
    [
        ("relu", lambda h: h.clamp(min=0)),
        ("relu2", lambda h: h.clamp(min=0) ** 2),
        ("gelu", lambda h: h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))) / 2),
    ],
)
def test_the_mlp_bends_as_its_name_says(activation, bend):
    mlp = MLP(GPTConfig.gpt2(10, n_embd=8, n_head=2, activation=activation))
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mlp(x), mlp.out(bend(mlp.up(x))))


def test_the_swiglu_mlp_gates_one_half_with_the_other():
    mlp = MLP(GPTConfig.gpt2(10, n_embd=6, n_head=2, activation="swiglu"))
    x = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    gate, h = mlp.up(x)[..., :16], mlp.up(x)[..., 16:]  # 16 = 8/3 of 6
    torch.testing.assert_close(mlp(x), mlp.out(gate * gate.sigmoid() * h))


def test_blocks_of_the_modern_preset_start_by_doing_nothing():
    model = GPT(GPTConfig.modern(10, context_length=8, n_layer=2, n_head=2, n_embd=8))
    x = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(block(x), x) for block in model.blocks)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 3, 8), (8,), (4, 20, 8), (0, 8)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_that_is_shared_among_threads_is_the_plain_one(threads, shape, bias):
    before = torch.get_num_threads()
    layer = Linear(8, 10, bias=bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    try:
        torch.set_num_threads(threads)
        y = layer(x)
    finally:
        torch.set_num_threads(before)
    plain = torch.nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(y, plain)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], torch.autograd.grad(plain.sum(), x)[0])


def test_scaled_embeddings_are_those_of_vaswani():
    """Multiplied by sqrt(C) where they are looked up, and nowhere else."""
    plain, scaled = make(n_embd=16), make(n_embd=16, scale_embeddings=True)
    ids = random_ids()
    place = plain.positions.weight[:24]
    torch.testing.assert_close(scaled.embed(ids) - place, 4 * (plain.embed(ids) - place))


@pytest.mark.parametrize("field", ["n_kv_head", "n_head", "n_layer", "n_embd", "context_length"])
@pytest.mark.parametrize("value", [0, -2, 2.0, "2", True, [2], float("nan")])
def test_a_size_that_is_no_whole_number_from_one_on_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} must be"):
        GPTConfig(20, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", None),
        ("vocab_size", "50257"),
        ("n_hidden", -1),
        ("n_hidden", 0.5),
        ("dropout", "0.1"),
        ("dropout", 1),
        ("dropout", float("nan")),
        ("norm_eps", 0),
        ("norm_eps", float("nan")),
        ("rope_base", float("inf")),
        ("rope_base", -1.0),
        ("bias", 1),
        ("bias", "no"),
        ("tie_embeddings", None),
        ("norm", None),
        ("positions", 3),
        ("activation", "silu"),
    ],
)
def test_a_choice_of_another_kind_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        GPTConfig(**({"vocab_size": 20} | {field: value}))


def test_whole_numbers_of_numpy_are_whole_numbers():
    config = GPTConfig(
        np.int64(20), n_embd=np.int32(16), n_head=np.int64(2), dropout=0, norm_eps=np.float64(1e-5)
    )
    assert config.kv_heads == 2


@pytest.mark.parametrize("choices", SOME_CHOICES, ids=str)
@pytest.mark.parametrize("last", [1, 5, 24])
def test_the_last_positions_alone_have_the_states_they_have_among_all(choices, last):
    model, ids = make(**choices), random_ids()
    with torch.no_grad():
        torch.testing.assert_close(model.states(ids, last=last), model.states(ids)[:, -last:])
        cache = KVCache(model.config, 2)
        model.states(ids[:, :7], cache)
        after = model.states(ids[:, 7:], cache, last=min(last, 17))
        torch.testing.assert_close(after, model.states(ids)[:, -min(last, 17) :], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("T", "S"), [(1, 1), (2, 2), (9, 9), (4, 9), (1, 9), (33, 33), (30, 40)])
@pytest.mark.parametrize("groups", [1, 2])
def test_attention_is_that_of_plain_sums_whatever_computes_it(T, S, groups):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, T, 8, generator=generator, requires_grad=True)
    k, v = (torch.randn(2, 4 // groups, S, 8, generator=generator) for _ in range(2))
    mixed = causal_attention(q, k, v, whole=T == S)
    expected = torch.zeros_like(mixed)
    for h, t in itertools.product(range(4), range(T)):
        seen = slice(S - T + t + 1)
        keys, values = k[:, h // groups, seen], v[:, h // groups, seen]  # (B, seen, H)
        weights = (keys @ q[:, h, t, :, None] / math.sqrt(8)).softmax(1)  # (B, seen, 1)
        expected[:, h, t] = (weights * values).sum(1)
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("T", [24, 60])
def test_a_model_in_half_precision_reads_and_writes_with_and_without_a_cache(dtype, T):
    exact = make(positions="rope", norm="rmsnorm", context_length=64)
    half, ids = make(positions="rope", norm="rmsnorm", context_length=64).to(dtype), random_ids(T=T)
    with torch.no_grad():
        logits, cache = half(ids), KVCache(half.config, 2, dtype=dtype)
        steps = torch.cat([half(piece, cache) for piece in ids.split([T - 2, 1, 1], dim=1)], 1)
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.float(), exact(ids), atol=0.3, rtol=0.1)
    torch.testing.assert_close(steps, logits, atol=0.3, rtol=0.1)
    assert len(generate(half, [1, 2, 3], max_tokens=5)) == 8


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("choices", [{}, dict(positions="rope", norm="rmsnorm", qk_norm=True)], ids=str)
@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
def test_a_compiled_model_is_one_graph(training, choices):
    model = make(**choices).train(training)
    torch._dynamo.reset()
    found = torch._dynamo.explain(model)(random_ids())
    assert (found.graph_count, found.graph_break_count) == (1, 0)
