"""Scores are 1 for a perfect induction head and small for others; ablation removes one head and no more."""

import math

import pytest
import torch
from torch import nn

from gptlib.induction import (
    CONTEXT,
    COPIES,
    VOCAB_SIZE,
    attention_only,
    in_context_gain,
    prefix_matching,
    previous_token,
    probes,
    repeated_corpus,
    repeated_tokens,
    without_head,
)


class Copier(nn.Module):
    """Predicts, with a certainty, the token that followed the last occurrence of the one it reads."""

    def __init__(self, logit=20.0):
        super().__init__()
        self.logit = logit

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, VOCAB_SIZE)
        for row, tokens in enumerate(ids.tolist()):
            for t, token in enumerate(tokens):
                if token in tokens[:t]:
                    last = t - 1 - tokens[:t][::-1].index(token)
                    logits[row, t, tokens[last + 1]] = self.logit
        return logits


def lively(n_layer, n_head=1):
    """A model with no weight at zero."""
    model = attention_only(n_layer, n_head, n_embd=16).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def test_probes_write_different_tokens_twice():
    ids = probes(B=8, half=12)
    assert ids.shape == (8, 24) and torch.equal(ids[:, :12], ids[:, 12:])
    assert all(len(set(row)) == 12 for row in ids[:, :12].tolist())
    assert not torch.equal(ids[0], ids[1])


def test_training_segments_are_written_four_times():
    ids = repeated_tokens(1, seed=3).tolist()
    length = len(ids) // COPIES
    assert 4 <= length <= 20 and len(set(ids[:length])) == length
    assert ids == ids[:length] * COPIES


def test_a_perfect_induction_head_scores_one_and_an_even_one_little():
    half, T = 6, 12
    perfect = torch.zeros(T, T)
    for q in range(half, T):
        perfect[q, q - half + 1] = 1
    even = torch.ones(T, T).tril() / torch.arange(1, T + 1)[:, None]
    maps = torch.stack([perfect, even])[None, None].expand(2, 3, 2, T, T)  # (L, B, nh, T, T)
    scores = prefix_matching(maps)
    expected = (1 / torch.arange(half + 1, T + 1)).mean().item()
    torch.testing.assert_close(scores, torch.tensor([[1.0, expected]] * 2))


def test_a_previous_token_head_scores_one():
    maps = torch.eye(12).roll(-1, 1)[None, None, None]  # row t reads t - 1
    assert previous_token(maps).item() == pytest.approx(1.0)
    assert previous_token(maps.mT).item() == pytest.approx(0.0)


def test_the_gain_is_what_looking_back_is_worth():
    ids = probes(B=4, half=8)
    assert in_context_gain(Copier(), ids) == pytest.approx(math.log(VOCAB_SIZE), abs=1e-3)
    assert in_context_gain(Copier(0.0), ids) == pytest.approx(0.0, abs=1e-6)


def test_ablating_the_only_head_leaves_each_token_alone():
    model, ids = lively(n_layer=1), probes(B=2)
    ablated = without_head(model, 0, 0)
    with torch.no_grad():
        together = ablated(ids)
        alone = torch.cat([ablated(ids[:, t : t + 1]) for t in range(ids.shape[1])], 1)
        assert not torch.allclose(model(ids), together)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_ablating_one_head_takes_away_its_part_and_leaves_the_model_as_it_was():
    model, ids = lively(n_layer=1, n_head=2), probes(B=2)
    with torch.no_grad():
        x = model.embed(ids)
        parts = [without_head(model, 0, head).blocks[0](x) - x for head in (0, 1)]  # the other head's
        torch.testing.assert_close(parts[0] + parts[1], model.blocks[0](x) - x, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(parts[0], parts[1])


@pytest.mark.parametrize(("layer", "head"), [(1, 0), (0, 2), (0, -1)])
def test_a_head_that_is_not_there_is_not_ablated_in_silence(layer, head):
    with pytest.raises(ValueError, match="heads to 1"):
        without_head(lively(n_layer=1, n_head=2), layer, head)


def test_the_corpus_trains_on_other_segments_than_it_validates_on():
    corpus, other = repeated_corpus(50), repeated_corpus(50, seed=1)
    assert corpus.vocab_size == VOCAB_SIZE > corpus.train.max()
    assert not torch.equal(corpus.train[:40], corpus.validation[:40])
    assert not torch.equal(corpus.train[:40], other.train[:40])


def test_the_models_have_attention_alone_and_room_for_the_probes():
    model = attention_only(2)
    assert not hasattr(model.blocks[0], "mlp") and probes().shape[1] <= CONTEXT
