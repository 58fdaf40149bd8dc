"""Sampling with a KV cache, gptlib beside transformers' `generate`: tokens per second, and their ratio.

Greedy, float32, context 512, random weights: the prompt is 16 tokens, the context is then written full.
"""

import time

import measuring
import torch
import transformers

from gptlib.budget import Budget
from gptlib.model import GPT, GPTConfig
from gptlib.sampling import generate

CASES = [  # layers, heads, width, vocabulary, batch, tokens to write, at least this many times as fast
    (6, 6, 384, 65, 1, 496, 2.5),
    (6, 6, 384, 65, 16, 496, 2.0),
    (12, 12, 768, 50_257, 1, 96, 1.3),
]
TURNS, PROMPT, CONTEXT = 3, 16, 512


def ours(n_layer, n_head, n_embd, V, B, new, seed) -> float:
    device = Budget.detect().device
    shape = dict(context_length=CONTEXT, n_layer=n_layer, n_head=n_head, n_embd=n_embd)
    model = GPT(GPTConfig.gpt2(V, **shape), seed).to(device)
    return _tokens_a_second(
        lambda ids, n: generate(model, ids, max_tokens=n, temperature=0), V, B, new, device, seed
    )


def theirs(n_layer, n_head, n_embd, V, B, new, seed) -> float:
    device = Budget.detect().device
    shape = dict(vocab_size=V, n_positions=CONTEXT, n_layer=n_layer, n_head=n_head, n_embd=n_embd)
    config = transformers.GPT2Config(**shape, bos_token_id=None, eos_token_id=None)
    model = transformers.GPT2LMHeadModel(config).eval().to(device)
    how = dict(do_sample=False, use_cache=True, pad_token_id=0)

    def call(ids, n):
        return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, **how)

    return _tokens_a_second(call, V, B, new, device, seed)


def _tokens_a_second(call, V, B, new, device, seed) -> float:
    prompt = torch.randint(V, (B, PROMPT), generator=torch.Generator().manual_seed(seed)).to(device)
    call(prompt, 8)  # not counted
    began = time.perf_counter()
    written = call(prompt, new)
    seconds = time.perf_counter() - began
    assert written.shape == (B, PROMPT + new), written.shape
    return B * new / seconds


def main() -> None:
    figures = []
    for *case, target in CASES:
        found = measuring.take_turns({"gptlib": (ours, *case), "transformers": (theirs, *case)}, TURNS)
        n_layer, _, n_embd, _, B, new = case
        ratio = found["gptlib"]["value"]["median"] / found["transformers"]["value"]["median"]
        shape = f"{n_layer} layers x {n_embd}, batch {B}, {new} tokens each"
        row = {"case": shape, "unit": "tokens/s", **found, "ratio": ratio, "target": f"at least {target}"}
        figures.append(row)
    repeats = f"{TURNS} processes each in turn"
    measuring.report("greedy sampling with a KV cache, times as fast as transformers", figures, repeats)


if __name__ == "__main__":
    main()
