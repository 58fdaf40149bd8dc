"""How much of a GPU training uses: GPT-2 124M's shapes, against the peak that matrix products reach there.

The peak is measured, in the same dtype, as the best of some large square products. Without a CUDA GPU the
figure stays open, and the line says so.
"""

import measuring
import torch

from gptlib.budget import Budget
from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import EncodedCorpus
from gptlib.training import TrainConfig, train

TARGET = 0.5  # of the measured peak, on an H200
STEPS, BATCH = 60, 32


def peak_flops(dtype: torch.dtype, seed: int) -> float:
    """Return the most operations a second that a product of two square matrices reaches."""
    best = 0.0
    for n in (4096, 8192, 16384):
        a, b = torch.randn(2, n, n, device="cuda", dtype=dtype)
        best = max(best, 2 * n**3 / measuring.median_seconds(lambda a=a, b=b: a @ b, 10))
    return best


def trained_flops(dtype: torch.dtype, seed: int) -> float:
    """Return the operations a second of training, without the first third of the steps, where it compiles."""
    shape = dict(context_length=1024, n_layer=12, n_head=12, n_embd=768)
    model = GPT(GPTConfig.gpt2(50_304, **shape), seed)  # the vocabulary rounded up to a multiple of 64
    ids = torch.randint(50_257, (2_000_000,), generator=torch.Generator().manual_seed(seed))
    data = EncodedCorpus(ids, ids[:20_000], 1.0, 1.0, 50_304)
    config = TrainConfig(
        steps=STEPS, batch_size=BATCH, optimizer="adamw", lr=6e-4, compile=True, eval_every=0
    )
    history = train(model, data, config, Budget("gpu", torch.device("cuda"), dtype))
    first, last = history.train[STEPS // 3 - 1], history.train[-1]
    return (last.flops - first.flops) / (last.seconds - first.seconds)


def main() -> None:
    what = "training GPT-2 124M's shapes, share of the measured matrix-product peak"
    here = Budget.detect()
    if here.device.type != "cuda":
        figures = {"open": "there is no CUDA GPU here", "target": f"at least {TARGET} on an H200"}
        measuring.report(what, figures, "none")
        return
    contestants = {"peak": (peak_flops, here.dtype), "gptlib": (trained_flops, here.dtype)}
    found = measuring.take_turns(contestants, turns=3)
    ratio = found["gptlib"]["value"]["median"] / found["peak"]["value"]["median"]
    case = f"batch {BATCH} x 1024, {str(here.dtype).removeprefix('torch.')}"
    row = {"case": case, "unit": "FLOP/s", **found, "ratio": ratio, "target": f"at least {TARGET}"}
    measuring.report(what, [row], f"3 processes each in turn, {STEPS} steps")


if __name__ == "__main__":
    main()
