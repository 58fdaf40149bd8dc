"""One training step of GPT-2's shapes, gptlib beside Hugging Face transformers: seconds, and their ratio.

Forward, loss, backward, AdamW, on the same random ids, without dropout: gptlib in float32, like transformers,
and in the dtype that it picks on this machine.
"""

import measuring
import torch
import torch.nn.functional as F
import transformers

from gptlib.budget import Budget
from gptlib.memory import keep_freed_memory
from gptlib.model import GPT, GPTConfig
from gptlib.optim import make_optimizers
from gptlib.training import next_token_loss

CASES = [  # layers, heads, width, context, batch, at most this share of transformers' time
    (4, 4, 128, 64, 12, 65, 0.6),
    (6, 6, 384, 256, 8, 65, 0.9),
]
TURNS, STEPS = 3, 12


def ours(dtype, n_layer, n_head, n_embd, T, B, V, seed) -> float:
    keep_freed_memory()  # as train() does
    model = GPT(GPTConfig.gpt2(V, context_length=T, n_layer=n_layer, n_head=n_head, n_embd=n_embd), seed)
    optimizers = make_optimizers(model, "adamw", 1e-3, 1e-3, (0.9, 0.95), 0.1, torch.float32)

    def loss(inputs, targets):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return next_token_loss(model(inputs), targets)

    return _seconds_a_step(loss, optimizers, T, B, V, seed)


def theirs(n_layer, n_head, n_embd, T, B, V, seed) -> float:
    shape = dict(
        vocab_size=V,
        bos_token_id=None,
        eos_token_id=None,
        n_positions=T,
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_embd,
    )
    quiet = dict(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **quiet)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)

    def loss(inputs, targets):
        return F.cross_entropy(model(inputs).logits.flatten(0, 1), targets.flatten())

    return _seconds_a_step(loss, [optimizer], T, B, V, seed)


def _seconds_a_step(loss, optimizers, T, B, V, seed) -> float:
    ids = torch.randint(V, (B, T + 1), generator=torch.Generator().manual_seed(seed))

    def step():
        loss(ids[:, :-1], ids[:, 1:]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return measuring.median_seconds(step, STEPS, warmup=3)


def main() -> None:
    figures = []
    for *case, target in CASES:
        n_layer, _, n_embd, T, B, _ = case
        dtypes = {
            f"gptlib, {str(d).removeprefix('torch.')}": d for d in (torch.float32, Budget.detect().dtype)
        }
        contestants = {name: (ours, dtype, *case) for name, dtype in dtypes.items()}
        found = measuring.take_turns(contestants | {"transformers": (theirs, *case)}, TURNS)
        peer = found.pop("transformers")
        for name, row in found.items():
            shape = f"{n_layer} layers x {n_embd}, batch {B} x {T}, {name}"
            ratio = row["value"]["median"] / peer["value"]["median"]
            rows = {name: row, "transformers, float32": peer}
            figures.append(
                {"case": shape, "unit": "s", **rows, "ratio": ratio, "target": f"at most {target}"}
            )
    repeats = f"{TURNS} processes each in turn, median of {STEPS} steps in each"
    measuring.report("a training step, gptlib's time as a share of transformers'", figures, repeats)


if __name__ == "__main__":
    main()
