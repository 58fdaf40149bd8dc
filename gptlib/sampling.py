"""Write with a model: one token at a time, each drawn from what the model predicts."""

import math

import torch
from torch import Tensor, nn

from gptlib.model import GPT, KVCache
from gptlib.tokenizers import Tokenizer

TINY = torch.finfo(torch.float32).tiny  # below it a float32 loses digits, or becomes 0


def next_token_probabilities(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Turn scores into the probabilities to draw from: (B, V) -> (B, V), rows sum to one.

    `temperature` divides the logits: below 1 sharpens, above 1 flattens, 0 leaves only the best
    token. `top_k` keeps the k most probable tokens; `top_p` the fewest whose probabilities sum to at
    least p (nucleus sampling, Holtzman et al. 2020, equation 2). What is left is scaled to sum to one. A
    logit of infinity takes all; several share it equally; NaN stays NaN.
    Raises ValueError when temperature is below 0, or top_k or top_p is out of range.
    """
    _check(logits.shape[-1], temperature, top_k, top_p)
    if temperature == 0:
        temperature, top_k = 1.0, 1
    if top_k is not None:
        chosen = logits.topk(top_k, dim=-1)
        logits = torch.full_like(logits, -torch.inf).scatter(-1, chosen.indices, chosen.values)
    logits = logits.float()
    best = logits.amax(-1, keepdim=True)  # (B, 1)
    below = torch.where(logits == best, 0.0, logits - best)  # at most 0, also where the best is infinite
    probabilities = (below / min(max(temperature, TINY), 1 / TINY)).softmax(-1)  # (B, V)
    if top_p is not None:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered  # what the more probable tokens sum to, (B, V)
        kept = ordered.masked_fill(before >= max(top_p, TINY), 0.0)
        probabilities = torch.zeros_like(kept).scatter(-1, order, kept / kept.sum(-1, keepdim=True))
    return probabilities


@torch.no_grad()
def sequence_logps(model: nn.Module, ids: Tensor) -> Tensor:
    """Return the log-probability, in nats, of each token given those before it: (B, T) -> (B, T - 1).

    Tokens that fill a row up at its end do not change what stands before them: leave theirs out of sums.
    """
    was_training = model.training
    model.eval()
    logps = model(ids[:, :-1]).float().log_softmax(-1)  # (B, T - 1, V)
    model.train(was_training)
    return logps.gather(-1, ids[:, 1:, None])[..., 0]  # (B, T - 1)


Prompt = str | list[int]
POSITIONS = 8  # that a GPU writes between two looks at whether all texts have ended


@torch.no_grad()
def generate(
    model: nn.Module,
    prompt: Prompt | list[Prompt] | Tensor,
    tokenizer: Tokenizer | None = None,
    *,
    max_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: int | None = None,
    use_cache: bool = True,
) -> Prompt | list[Prompt] | Tensor:
    """Continue a prompt; return the prompt and what follows it, in the form the prompt was given in.

    `prompt` is a text (with its tokenizer), a list of ids, a list of either, whose lengths may differ,
    or a tensor of ids (B, T); several are continued side by side. At most `max_tokens` are written to
    each, fewer when `stop`, a token id, is drawn: lists end with it, the rows of a tensor (B, T + new)
    repeat it. The model sees the last `context_length` tokens. `use_cache` keeps the keys and values of
    a GPT's past: faster, the same output. Ids that a given `tokenizer` does not have, such as those which
    fill a model's vocabulary up, are never drawn. The other arguments are `next_token_probabilities`'.
    Raises ValueError when a prompt is empty, longer than the context, or holds an unknown character or id.
    """
    several = isinstance(prompt, Tensor) or (bool(prompt) and isinstance(prompt[0], str | list | tuple))
    several = several and not isinstance(prompt, str)
    prompts = [_ids(each, tokenizer) for each in (prompt if several else [prompt])]
    _check_prompts(prompts, model, max_tokens)
    was_training = model.training
    model.eval()
    how = dict(temperature=temperature, top_k=top_k, top_p=top_p)
    known = tokenizer.vocab_size if tokenizer else None  # ids beyond it have no text
    rows = _continue(model, prompts, max_tokens, how, seed, stop, use_cache, known)
    model.train(was_training)
    if isinstance(prompt, Tensor):
        longest = max(map(len, rows))
        return torch.tensor([row + [stop] * (longest - len(row)) for row in rows], device=prompt.device)
    kind = prompt[0] if several else prompt
    answers = [tokenizer.decode(row) for row in rows] if isinstance(kind, str) else rows
    return answers if several else answers[0]


def continuations(
    model: nn.Module,
    prompts: list[list[int]],
    at_once: int,
    tokenizer: Tokenizer | None = None,
    *,
    max_tokens: int,
    temperature: float = 1.0,
    stop: int | None = None,
    seed: int = 0,
) -> list[list[int]]:
    """Return the ids that a model writes after each prompt, `at_once` side by side, to bound the memory.

    Side by side are prompts of like length, so that few wait for others to be read.
    """
    order, new = sorted(range(len(prompts)), key=lambda i: len(prompts[i])), {}
    for start in range(0, len(prompts), at_once):
        part = order[start : start + at_once]
        how = dict(max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed + start)
        rows = generate(model, [prompts[i] for i in part], tokenizer, **how)
        new |= {i: row[len(prompts[i]) :] for i, row in zip(part, rows, strict=True)}
    return [new[i] for i in range(len(prompts))]


def _continue(model, prompts, max_tokens, how, seed, stop, use_cache, known) -> list[list[int]]:
    """Write to all rows, a position at a time; where the prompt of a row still goes on, its token stays.

    Everything stays on the model's device. Whether all rows have ended is asked there only now and then,
    since the answer makes a GPU run dry; what is written past a row's end is cut off.
    """
    first = next(model.parameters())
    device, generator = first.device, torch.Generator(first.device).manual_seed(seed)
    lengths = torch.tensor([len(prompt) for prompt in prompts])  # (B,)
    shortest, longest = int(lengths.min()), int(lengths.max()) + max_tokens
    ids = torch.zeros((len(prompts), longest), dtype=torch.long)  # (B, T)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(prompt)
    ids, lengths = ids.to(device), lengths.to(device)
    ends = lengths + max_tokens  # (B,)
    cached = use_cache and isinstance(model, GPT)
    cache = KVCache(model.config, len(prompts), device, first.dtype) if cached else None
    look_every = 1 if device.type == "cpu" else POSITIONS
    for here in range(shortest, longest):
        logits = _last_logits(model, ids[:, :here], cache)[:, :known]  # (B, V)
        drawn = _draw(logits, generator, **how)  # (B,)
        ids[:, here] = torch.where(here < lengths, ids[:, here], drawn)
        if stop is not None:
            ended = (here >= lengths) & (ids[:, here] == stop)
            ends = torch.where(ended, ends.clamp(max=here + 1), ends)
            if (here + 1 - shortest) % look_every == 0 and (here + 1 >= ends).all():
                break
    return [row[:end] for row, end in zip(ids.tolist(), ends.tolist(), strict=True)]


def _last_logits(model: nn.Module, ids: Tensor, cache: KVCache | None) -> Tensor:
    """Score what follows ids: (B, T) -> (B, V). A cache is read and extended until the context is full."""
    T = model.context_length
    # Past the context's end every token sits at another position in the window: nothing kept is of use.
    if ids.shape[1] > T:
        cache = None
    new = ids[:, cache.length :] if cache else ids[:, -T:]  # (B, tokens not read yet)
    if not isinstance(model, GPT):
        return model(new)[:, -1]
    return model.head(model.states(new, cache, last=1)[:, 0])


def _draw(logits: Tensor, generator: torch.Generator, temperature: float, top_k, top_p) -> Tensor:
    """Draw one token a row, on the device of the logits and of the generator: (B, V) -> (B,)."""
    if temperature == 0:
        _check(logits.shape[-1], temperature, top_k, top_p)
        return logits.argmax(-1)
    probabilities = next_token_probabilities(logits, temperature, top_k, top_p)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def _ids(prompt: Prompt | Tensor, tokenizer: Tokenizer | None) -> list[int]:
    if isinstance(prompt, str):
        if tokenizer is None:
            raise ValueError("a prompt given as text needs the tokenizer that the model was trained with")
        return tokenizer.encode(prompt)
    return prompt.tolist() if isinstance(prompt, Tensor) else list(prompt)


def _check(vocab_size: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be 0 (always the best token) or above, not {temperature}")
    if top_k is not None and not 1 <= top_k <= vocab_size:
        raise ValueError(f"top_k counts tokens: from 1 to {vocab_size}, not {top_k}; None keeps all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is a probability: above 0, at most 1, not {top_p}; None keeps all")


def _check_prompts(prompts: list[list[int]], model: nn.Module, max_tokens: int) -> None:
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
    if not prompts or not all(isinstance(prompt, list) and prompt for prompt in prompts):
        raise ValueError(
            "a prompt is empty: the model needs at least one token to go on from; a tensor is (B, T)"
        )
    longest, T = max(map(len, prompts)), model.context_length
    if longest > T:
        raise ValueError(
            f"the prompt has {longest} tokens, the model's context holds {T}: give its last part only"
        )
    low, high = min(map(min, prompts)), max(map(max, prompts))
    if isinstance(model, GPT) and not (low >= 0 and high < model.config.vocab_size):
        raise ValueError(
            f"ids run from 0 to {model.config.vocab_size - 1}, the prompt's from {low} to {high}: "
            "encode it with the tokenizer that the model was trained with"
        )
