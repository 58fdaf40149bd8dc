"""Induction heads (Olsson et al. 2022): the circuit that continues what was seen before, found and removed.

An induction head reads, from a token, the token that followed its last occurrence, and predicts that it
will follow again. Probes are random tokens written twice: in the first half nothing can be predicted,
in the second everything, by looking back.

Shapes: B probes, T tokens (twice T / 2), nh heads, V vocabulary.
"""

import copy

import torch
from torch import Tensor

from gptlib.model import GPT, GPTConfig
from gptlib.sampling import sequence_logps
from gptlib.tokenizers import EncodedCorpus

VOCAB_SIZE = 32
CONTEXT = 64
COPIES = 4  # how often a training segment is written


def repeated_tokens(n_segments: int, seed: int) -> Tensor:
    """Return segments of 4 to 20 different random tokens, each written four times: (N,)."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, 21, (n_segments,), generator=generator)
    segments = [torch.randperm(VOCAB_SIZE, generator=generator)[:length] for length in lengths]
    return torch.cat([segment.repeat(COPIES) for segment in segments])


def repeated_corpus(n_segments: int = 12_000, seed: int = 0) -> EncodedCorpus:
    """Return repeated tokens as a corpus to train on, and others to validate on."""
    parts = repeated_tokens(n_segments, 2 * seed), repeated_tokens(200, 2 * seed + 1)
    return EncodedCorpus(*parts, 1.0, 1.0, VOCAB_SIZE)


def attention_only(n_layer: int, n_head: int = 1, n_embd: int = 128, seed: int = 0) -> GPT:
    """Return a GPT without MLPs, as in Olsson et al., whose attention may become as sharp as it likes."""
    sizes = dict(context_length=CONTEXT, n_layer=n_layer, n_head=n_head, n_embd=n_embd, n_hidden=0)
    # QK-norm bounds the attention logits: with it no head read one token alone, and some never settled.
    return GPT(GPTConfig.modern(VOCAB_SIZE, qk_norm=False, **sizes), seed)


def probes(B: int = 64, half: int = 16, seed: int = 5000) -> Tensor:
    """Return random different tokens, written twice: (B, 2 half)."""
    generator = torch.Generator().manual_seed(seed)
    once = torch.rand(B, VOCAB_SIZE, generator=generator).argsort(1)[:, :half]  # (B, half)
    return once.repeat(1, 2)  # (B, 2 half)


def prefix_matching(maps: Tensor) -> Tensor:
    """Return how much each head reads what followed its token last time: (L, B, nh, T, T) -> (L, nh).

    The mean attention, over probes and the positions of their second half. T is twice the segment.
    """
    half = maps.shape[-1] // 2
    return maps.diagonal(-(half - 1), -2, -1)[..., 1:].mean((1, -1))  # from half on: (L, nh)


def previous_token(maps: Tensor) -> Tensor:
    """Return how much each head reads the token just before: (L, B, nh, T, T) -> (L, nh)."""
    return maps.diagonal(-1, -2, -1).mean((1, -1))


def in_context_gain(model: GPT, ids: Tensor) -> float:
    """Return how much better the second half is predicted than the first, in nats per token (B, T) -> ().

    Olsson et al.'s in-context learning score with its sign turned: early loss less late loss.
    The second half's first token cannot be predicted, and is left out.
    """
    losses = -sequence_logps(model, ids).mean(0)  # (T - 1,): losses[i] is of token i + 1
    half = ids.shape[1] // 2
    return (losses[: half - 1].mean() - losses[half:].mean()).item()


@torch.no_grad()
def without_head(model: GPT, layer: int, head: int) -> GPT:
    """Return a copy of a model in which one head's output is 0. Raises ValueError when it has no such."""
    n_layer, n_head = model.config.n_layer, model.config.n_head
    if not (0 <= layer < n_layer and 0 <= head < n_head):
        raise ValueError(f"layers run from 0 to {n_layer - 1}, heads to {n_head - 1}: not {layer}, {head}")
    model = copy.deepcopy(model)
    H = model.config.head_size
    model.blocks[layer].attention.out.weight[:, head * H : (head + 1) * H] = 0
    return model
