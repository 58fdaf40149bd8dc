"""Write with a model: one token at a time, each drawn from what the model predicts."""

import math

import torch
from torch import Tensor, nn

from gptlib.model import GPT
from gptlib.tokenizers import Tokenizer


def next_token_probabilities(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Turn scores into the probabilities to draw from: (B, V) -> (B, V), rows sum to one.

    `temperature` divides the logits: below 1 sharpens, above 1 flattens, 0 leaves only the best
    token. `top_k` keeps the k most probable tokens; `top_p` the fewest whose probabilities sum to at
    least p (nucleus sampling, Holtzman et al. 2020, equation 2). What is left is scaled to sum to one.
    Raises ValueError when temperature is below 0, or top_k or top_p is out of range.
    """
    _check(logits.shape[-1], temperature, top_k, top_p)
    if temperature == 0:
        temperature, top_k = 1.0, 1
    if top_k is not None:
        chosen = logits.topk(top_k, dim=-1)
        logits = torch.full_like(logits, -torch.inf).scatter(-1, chosen.indices, chosen.values)
    probabilities = (logits.float() / temperature).softmax(-1)  # (B, V)
    if top_p is not None:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered  # what the more probable tokens sum to, (B, V)
        kept = ordered.masked_fill(before >= top_p, 0.0)
        probabilities = torch.zeros_like(kept).scatter(-1, order, kept / kept.sum(-1, keepdim=True))
    return probabilities


@torch.no_grad()
def generate(
    model: nn.Module,
    prompt: str | list[int] | Tensor,
    tokenizer: Tokenizer | None = None,
    *,
    max_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: int | None = None,
) -> str | list[int] | Tensor:
    """Continue a prompt; return the prompt and what follows it, in the form the prompt was given in.

    `prompt` is a text (with its tokenizer), a list of ids, or a tensor of ids (B, T), whose rows are
    continued side by side: (B, T + new). At most `max_tokens` are written, fewer when `stop`, a
    token id, is drawn; a row that has stopped repeats it until all have. The model sees the last
    `context_length` tokens. The other arguments are those of `next_token_probabilities`.
    Raises ValueError when the prompt is empty, longer than the context, or holds an unknown character or id.
    """
    if isinstance(prompt, str):
        if tokenizer is None:
            raise ValueError("a prompt given as text needs the tokenizer that the model was trained with")
        prompt_ids = torch.tensor([tokenizer.encode(prompt)], dtype=torch.long)
    else:
        prompt_ids = prompt if isinstance(prompt, Tensor) else torch.tensor([prompt], dtype=torch.long)
    _check_prompt(prompt_ids, model, max_tokens)
    generator = torch.Generator().manual_seed(seed)
    ids = prompt_ids.to(next(model.parameters()).device)  # (B, T)
    stopped = torch.zeros(len(ids), dtype=torch.bool)
    was_training = model.training
    model.eval()
    for _ in range(max_tokens):
        logits = model(ids[:, -model.context_length :])[:, -1]  # (B, V)
        probabilities = next_token_probabilities(logits, temperature, top_k, top_p)
        drawn = torch.multinomial(probabilities.cpu(), 1, generator=generator)  # (B, 1)
        if stop is not None:
            drawn[stopped] = stop
            stopped |= drawn[:, 0] == stop
        ids = torch.cat([ids, drawn.to(ids.device)], dim=1)  # (B, T + 1)
        if stopped.all():
            break
    model.train(was_training)
    if isinstance(prompt, str):
        return tokenizer.decode(ids[0])
    return ids if isinstance(prompt, Tensor) else ids[0].tolist()


def _check(vocab_size: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be 0 (always the best token) or above, not {temperature}")
    if top_k is not None and not 1 <= top_k <= vocab_size:
        raise ValueError(f"top_k counts tokens: from 1 to {vocab_size}, not {top_k}; None keeps all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is a probability: above 0, at most 1, not {top_p}; None keeps all")


def _check_prompt(ids: Tensor, model: nn.Module, max_tokens: int) -> None:
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(
            "the prompt is empty: the model needs at least one token to go on from, shape (B, T)"
        )
    if ids.shape[1] > model.context_length:
        raise ValueError(
            f"the prompt has {ids.shape[1]} tokens, the model's context holds {model.context_length}: "
            "give its last part only"
        )
    if isinstance(model, GPT) and not (ids.min() >= 0 and ids.max() < model.config.vocab_size):
        raise ValueError(
            f"ids run from 0 to {model.config.vocab_size - 1}, the prompt's from {ids.min()} to {ids.max()}: "
            "encode it with the tokenizer that the model was trained with"
        )
