"""A slider for the number of shots, over what several models predict after each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import anywidget
import torch
import traitlets

from gptlib.in_context import TOKENIZER, Prompt
from gptlib.model import GPT
from gptlib.widgets import script

BARS = 3  # words shown for each model


class ShotSlider(anywidget.AnyWidget):
    """Prompts that grow by a shot a step, and the most probable answers of each model; all stored."""

    _esm = script(__file__)
    prompts = traitlets.List().tag(sync=True)  # description, examples, question, answer of each
    names = traitlets.List().tag(sync=True)  # of the models
    predictions = traitlets.List().tag(sync=True)  # [model][prompt][shots]: (word, probability) pairs

    def __init__(self, models: Mapping[str, GPT], prompts: Sequence[Prompt]):
        shown = [
            {
                "description": prompt.description,
                "examples": [list(example) for example in prompt.examples],
                "question": prompt.question,
                "answer": prompt.answer,
            }
            for prompt in prompts
        ]
        predictions = [[_by_shots(model, prompt) for prompt in prompts] for model in models.values()]
        super().__init__(prompts=shown, names=list(models), predictions=predictions)


@torch.no_grad()
def _by_shots(model: GPT, prompt: Prompt) -> list[list[tuple[str, float]]]:
    """Return the most probable words after 0, 1, ... of the prompt's examples, each with its probability."""
    rows = []
    for k in range(len(prompt.examples) + 1):
        text = replace(prompt, examples=prompt.examples[:k]).text
        ids = torch.tensor([TOKENIZER.encode(text)], device=next(model.parameters()).device)
        best = model(ids)[0, -1].softmax(-1).topk(BARS)
        words = [TOKENIZER.words[i] for i in best.indices.tolist()]
        rows.append([(word, round(p, 3)) for word, p in zip(words, best.values.tolist(), strict=True)])
    return rows
