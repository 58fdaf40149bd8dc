"""Step 1: supervised fine-tuning, on what people wrote, with the loss on their answers alone."""

import copy
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from gptlib.alignment.docstrings import Demonstration, encode_responses
from gptlib.alignment.rollouts import Responses, answer_logps
from gptlib.minimising import Recipe, train_on_loss
from gptlib.model import GPT
from gptlib.tokenizers import BPETokenizer

BATCH_SIZE, STEPS = 32, 200
LR, MUON_LR = 0.001, 0.003


def response_loss(model: GPT, responses: Responses) -> Tensor:
    """Return the mean of -log p over the tokens of answers, in nats: (); prompts teach nothing."""
    return -answer_logps(model, responses.ids, responses.mask).sum() / responses.mask.sum()


def fine_tune(
    base: GPT, tokenizer: BPETokenizer, given: Sequence[Demonstration], steps: int = STEPS, seed: int = 0
) -> tuple[GPT, list[float]]:
    """Return a copy of a model, trained to answer as in demonstrations, and the loss of each step."""
    model, rng = copy.deepcopy(base), random.Random(seed)
    data = encode_responses(tokenizer, [d.signature for d in given], [d.docstring for d in given])

    def draw(generator: torch.Generator) -> tuple[Responses]:
        return (data[rng.choices(range(len(data)), k=BATCH_SIZE)],)

    losses = train_on_loss(model, draw, response_loss, Recipe(steps, LR, MUON_LR), seed=seed)
    return model, losses
