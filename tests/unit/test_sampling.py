import pytest
import torch

from gptlib import sampling
from gptlib.model import GPT, GPTConfig, KVCache
from gptlib.sampling import generate, next_token_probabilities, sequence_logps

P = torch.tensor([[0.5, 0.3, 0.15, 0.05]])


def probabilities(**how):
    return next_token_probabilities(P.log(), **how)


def test_temperature_one_changes_nothing():
    torch.testing.assert_close(probabilities(), P)


def test_temperature_raises_probabilities_to_a_power():
    torch.testing.assert_close(probabilities(temperature=0.5), P**2 / (P**2).sum())
    torch.testing.assert_close(probabilities(temperature=2.0), P**0.5 / (P**0.5).sum())


def test_temperature_zero_leaves_only_the_best():
    torch.testing.assert_close(probabilities(temperature=0), torch.tensor([[1.0, 0, 0, 0]]))


def test_top_k_keeps_exactly_k_also_among_equals():
    torch.testing.assert_close(probabilities(top_k=2), torch.tensor([[0.625, 0.375, 0, 0]]))
    assert (next_token_probabilities(torch.zeros(1, 5), top_k=2) > 0).sum() == 2


@pytest.mark.parametrize(("p", "kept"), [(0.4, 1), (0.5, 1), (0.51, 2), (0.8, 2), (0.9, 3), (1.0, 4)])
def test_top_p_keeps_the_fewest_that_reach_p(p, kept):
    left = probabilities(top_p=p - 1e-6)  # so that 0.5 + 0.3 reaches 0.8, whatever rounding does
    wanted = torch.where(torch.arange(4) < kept, P, 0.0)
    torch.testing.assert_close(left, wanted / wanted.sum())


def test_top_p_stops_where_p_is_reached_exactly():
    halves = torch.tensor([[0.0, 0.0, -torch.inf]])  # softmax makes of them 0.5, to the last bit
    for p, kept in ((0.5, 1), (1.0, 2)):
        assert (next_token_probabilities(halves, top_p=p) > 0).sum() == kept


def test_top_p_keeps_each_rows_own_tokens_wherever_they_stand():
    rows = torch.tensor([[0.05, 0.5, 0.15, 0.3], [0.7, 0.1, 0.1, 0.1]])
    left = next_token_probabilities(rows.log(), top_p=0.6)
    torch.testing.assert_close(left, torch.tensor([[0, 0.625, 0, 0.375], [1.0, 0, 0, 0]]))


def test_temperature_and_top_k_come_before_top_p():
    # At 0.5 the best has 0.685; at 1 it has 0.5, and two are needed for 0.6.
    assert (probabilities(temperature=0.5, top_p=0.6) > 0).sum() == 1 < (probabilities(top_p=0.6) > 0).sum()
    assert (probabilities(top_k=2, top_p=0.62) > 0).sum() == 1  # 0.5 of the 0.8 that are left


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-45, 1e-38, 1e-20])
def test_a_tiny_temperature_leaves_only_the_best_and_equals_share(temperature):
    torch.testing.assert_close(probabilities(temperature=temperature), torch.tensor([[1.0, 0, 0, 0]]))
    close = torch.tensor([[1.0, 1.0 + 2**-23, 1.0 + 2**-23, -1e4]])
    drawn = next_token_probabilities(close, temperature, top_k=3, top_p=0.99)
    torch.testing.assert_close(drawn, torch.tensor([[0.0, 0.5, 0.5, 0.0]]))


@pytest.mark.parametrize("temperature", [1e38, 1e39, 1e300])
def test_a_huge_temperature_flattens_what_top_k_left(temperature):
    flat = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    torch.testing.assert_close(probabilities(temperature=temperature, top_k=2), flat)


@pytest.mark.parametrize("p", [5e-324, 1e-300, 1e-45, 1e-38])
def test_a_tiny_top_p_keeps_the_best(p):
    torch.testing.assert_close(probabilities(top_p=p), torch.tensor([[1.0, 0, 0, 0]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("how", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.999}])
def test_an_infinite_logit_takes_all_and_several_share_it(how, dtype):
    inf = torch.inf
    logits = torch.tensor([[0, inf, 1, -inf], [inf, 0, 1, inf], [0, -inf, 0, -inf]], dtype=dtype)
    right = torch.tensor([[0, 1.0, 0, 0], [0.5, 0, 0, 0.5], [0.5, 0, 0.5, 0]])
    torch.testing.assert_close(next_token_probabilities(logits, **how), right)


def test_a_logit_that_is_no_number_is_not_hidden():
    assert next_token_probabilities(torch.tensor([[0.0, torch.nan]])).isnan().all()


class Fixed(torch.nn.Module):
    """A model that always predicts the same."""

    context_length = 4

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, ids):
        return self.logits.expand(*ids.shape, -1)


@pytest.mark.parametrize("how", [{}, {"temperature": 0}, {"top_k": 5}, {"top_p": 0.9}])
def test_ids_that_only_fill_up_the_vocabulary_are_never_drawn(tokenizer, how):
    V = tokenizer.vocab_size
    padded = Fixed(torch.cat([torch.zeros(1, V), torch.full((1, 40), 3.0)], 1))  # prefers ids without a text
    text = generate(padded, "the", tokenizer, max_tokens=50, **how)
    assert text.startswith("the") and len(text) == 53
    rows = generate(padded, torch.ones(3, 2, dtype=torch.long), tokenizer, max_tokens=50, **how)
    assert rows.max() < V
    assert max(generate(padded, [1], max_tokens=50)) >= V  # without the tokenizer nobody can tell


def test_drawn_tokens_follow_the_probabilities():
    drawn = generate(Fixed(P.log()), torch.zeros((4000, 1), dtype=torch.long), max_tokens=1)[:, 1]
    frequencies = drawn.bincount(minlength=4) / 4000
    torch.testing.assert_close(frequencies, P[0], atol=0.03, rtol=0)  # three standard deviations


def test_text_lists_and_tensors_give_the_same_continuation(tiny, tokenizer):
    ids = tokenizer.encode("the c")
    text = generate(tiny, "the c", tokenizer, max_tokens=30)
    assert text.startswith("the c") and len(text) == 35
    assert generate(tiny, ids, max_tokens=30) == tokenizer.encode(text)
    assert generate(tiny, torch.tensor([ids]), max_tokens=30).tolist() == [tokenizer.encode(text)]


def test_the_seed_decides(tiny):
    assert generate(tiny, [1], seed=1) == generate(tiny, [1], seed=1)
    assert generate(tiny, [1], seed=1) != generate(tiny, [1], seed=2)


def test_greedy_takes_the_best_token_each_time(tiny):
    ids = generate(tiny, [1, 2], max_tokens=5, temperature=0)
    for t in range(2, 7):
        assert ids[t] == tiny(torch.tensor([ids[:t]]))[0, -1].argmax()


def test_the_stop_token_ends_a_row_and_is_repeated_until_all_have_stopped(tiny):
    rows = generate(tiny, torch.tensor([[1], [2], [3]]), max_tokens=200, stop=4, seed=0).tolist()
    ends = [row.index(4) for row in rows]
    assert max(ends) == len(rows[0]) - 1 < 200 and min(ends) < max(ends)
    assert all(set(row[end:]) == {4} for row, end in zip(rows, ends, strict=True))


def test_writing_leaves_training_mode_as_it_was(tiny):
    generate(tiny.train(), [1], max_tokens=2)
    assert tiny.training


@pytest.mark.parametrize(
    ("prompt", "how", "remedy"),
    [
        ("the @", {}, "never seen"),
        ("", {}, "empty"),
        ("the cat sat on the mat", {}, "context holds 16"),
        ("the", {"temperature": -0.1}, "temperature must be 0"),
        ("the", {"temperature": float("nan")}, "temperature must be 0"),
        ("the", {"top_k": 0}, "top_k counts tokens"),
        ("the", {"top_k": 1000}, "top_k counts tokens"),
        ("the", {"top_p": 0.0}, "top_p is a probability"),
        ("the", {"top_p": 1.1}, "top_p is a probability"),
        ("the", {"max_tokens": 0}, "max_tokens"),
        ([], {}, "empty"),
        ([99], {}, "ids run from 0"),
    ],
)
def test_bad_input_is_refused_with_the_remedy(tiny, tokenizer, prompt, how, remedy):
    with pytest.raises(ValueError, match=remedy):
        generate(tiny, prompt, tokenizer, **how)


def test_text_without_a_tokenizer_is_refused(tiny):
    with pytest.raises(ValueError, match="tokenizer"):
        generate(tiny, "the")


def test_past_its_end_the_context_slides():
    model = GPT(GPTConfig.gpt2(20, context_length=16, n_layer=2, n_head=2, n_embd=16)).eval()
    for parameter in model.parameters():
        parameter.data *= 10  # so that what is far back matters
    written = generate(model, [1, 2, 3], max_tokens=40, temperature=0)
    for end in range(3, len(written)):
        window = torch.tensor([written[max(end - 16, 0) : end]])
        assert written[end] == model(window)[0, -1].argmax()


CHOICES = [
    GPTConfig.gpt2(20, context_length=16, n_layer=2, n_head=2, n_embd=16),
    GPTConfig.modern(20, context_length=16, n_layer=2, n_head=4, n_kv_head=2, n_embd=32, zero_init=False),
]


@pytest.fixture(params=CHOICES, ids=["gpt2", "modern"])
def loud(request):
    """A model with large weights, in which every token that is read changes what is written."""
    model = GPT(request.param)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and name != "tokens.weight":
            parameter.data *= 10
    return model


def test_the_cache_changes_nothing_also_past_the_end_of_the_context(loud):
    with_cache = generate(loud, [1, 2, 3], max_tokens=40, temperature=0)
    assert with_cache == generate(loud, [1, 2, 3], max_tokens=40, temperature=0, use_cache=False)
    assert len(set(with_cache)) > 5


def test_prompts_of_unequal_length_are_continued_as_if_each_were_alone(loud):
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11, 12], list(range(16))]
    together = generate(loud, prompts, max_tokens=20, temperature=0)
    assert together == [generate(loud, prompt, max_tokens=20, temperature=0) for prompt in prompts]


def test_the_cache_is_filled_in_pieces_of_any_size(loud):
    ids = torch.randint(20, (2, 16), generator=torch.Generator().manual_seed(0))
    cache, loud = KVCache(loud.config, 2), loud.eval()
    pieces = [loud(piece, cache) for piece in ids.split([5, 1, 7, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), loud(ids), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="17 tokens do not fit"):
        loud(ids[:, :1], cache)


def test_several_texts_are_continued_side_by_side(tiny, tokenizer):
    texts = generate(tiny, ["the cat", "a"], tokenizer, max_tokens=5)
    assert [len(text) for text in texts] == [12, 6]
    assert texts[0].startswith("the cat") and texts[1].startswith("a")


def test_a_list_ends_with_the_stop_token_where_a_tensor_repeats_it(tiny):
    prompts = [[1], [2, 3]]
    rows = generate(tiny, prompts, max_tokens=60, stop=5, seed=1)
    for prompt, row in zip(prompts, rows, strict=True):
        assert row[: len(prompt)] == prompt
        assert 5 not in row[len(prompt) : -1]
        assert row[-1] == 5 or len(row) == len(prompt) + 60
    assert any(row[-1] == 5 for row in rows)


def test_an_empty_prompt_among_several_is_refused(tiny):
    with pytest.raises(ValueError, match="empty"):
        generate(tiny, [[1], []])


def test_sequence_logps_are_those_of_the_next_tokens():
    model = GPT(GPTConfig.modern(5, context_length=8, n_layer=1, n_head=2, n_embd=8, zero_init=False))
    ids = torch.tensor([[1, 2, 3, 4], [4, 0, 0, 2]])
    logps = sequence_logps(model, ids)  # (B, T - 1)
    every = model(ids).log_softmax(-1)
    for b in range(2):
        for t in range(3):
            assert logps[b, t].item() == pytest.approx(every[b, t, ids[b, t + 1]].item(), abs=1e-5)


def test_prompts_of_like_length_are_continued_side_by_side_and_returned_in_their_order(monkeypatch):
    model = GPT(GPTConfig.modern(9, context_length=12, n_layer=1, n_head=2, n_embd=8, zero_init=False))
    lengths = [7, 2, 6, 2, 7, 3]
    prompts = [[i + 1, *[1] * (n - 1)] for i, n in enumerate(lengths)]
    alone = [generate(model, p, max_tokens=3, temperature=0)[len(p) :] for p in prompts]
    together = []

    def seen(model, part, *rest, **how):
        together.append([len(prompt) for prompt in part])
        return generate(model, part, *rest, **how)

    monkeypatch.setattr(sampling, "generate", seen)
    assert sampling.continuations(model, prompts, 3, max_tokens=3, temperature=0) == alone
    assert together == [[2, 2, 3], [6, 7, 7]]


def test_sequence_logps_of_all_continuations_sum_to_one():
    model = GPT(GPTConfig.modern(3, context_length=8, n_layer=1, n_head=2, n_embd=8, zero_init=False))
    ids = torch.cartesian_prod(torch.tensor([1]), torch.arange(3), torch.arange(3))  # (9, 3)
    assert sequence_logps(model, ids).sum(1).exp().sum().item() == pytest.approx(1, abs=1e-5)
