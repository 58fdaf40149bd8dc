"""A problem solved token by token, over stored runs: as the model does it, and after each changed step."""

from collections.abc import Sequence
from dataclasses import replace

import anywidget
import torch
import traitlets

from gptlib.chain_of_thought import MOST_WRITTEN, TOKENIZER, Prompt, write
from gptlib.model import GPT
from gptlib.widgets import script
from gptlib.word_problems import other_results, wrong_step

BARS = 3  # words shown for each token


class StepThrough(anywidget.AnyWidget):
    """Prompts, what a model writes after them, and after every result of a step, true or not; all stored."""

    _esm = script(__file__)
    problems = traitlets.List().tag(sync=True)  # examples, question, answer, places and runs of each

    def __init__(self, model: GPT, prompts: Sequence[Prompt]):
        super().__init__(problems=[_stored(model, prompt) for prompt in prompts])


def _stored(model: GPT, prompt: Prompt) -> dict:
    """Return a prompt with its runs: the first as the model writes it, the others after a changed result.

    A run is its step, its result, the answer that follows, how many of its tokens were given, and tokens.
    """
    problem = prompt.problem
    truths = {i: step.split()[-2] for i, step in enumerate(problem.steps) if other_results(problem, i)}
    changes = [(-1, "", "", problem.answer)]  # step, its result, what is begun, the answer that follows
    changes += [(i, truth, " ".join(problem.steps[: i + 1]), problem.answer) for i, truth in truths.items()]
    changes += [
        (i, other, *wrong_step(problem, i, other)) for i in truths for other in other_results(problem, i)
    ]
    written = _runs(model, [replace(prompt, begun=begun) for _, _, begun, _ in changes])
    runs = [
        {
            "step": i,
            "result": result,
            "follows": follows,
            "tokens": tokens,
            "given": len(TOKENIZER.encode(begun)),
        }
        for (i, result, begun, follows), tokens in zip(changes, written, strict=True)
    ]
    places = [
        [i, len(TOKENIZER.encode(" ".join(problem.steps[: i + 1]))) - 2, truth] for i, truth in truths.items()
    ]  # step, token and word of each result that can be changed
    examples = [example.write(prompt.reasoning).strip() for example in prompt.examples]
    shown = {"examples": examples, "question": problem.question, "answer": problem.answer}
    return shown | {"places": places, "runs": runs}


@torch.no_grad()
def _runs(model: GPT, prompts: Sequence[Prompt]) -> list[list[str]]:
    """Return for each prompt the tokens of its answer, each with the most probable words at its place.

    A token is a string parted by tabs, word, likely word, probability, ..., and so a line in a notebook.
    """
    rows, device = [], next(model.parameters()).device
    for prompt, written in zip(prompts, write(model, prompts), strict=True):
        asked = len(TOKENIZER.encode(replace(prompt, begun="").text))
        end = "\n" if len(TOKENIZER.encode(written)) < MOST_WRITTEN else ""
        ids = TOKENIZER.encode(f"{prompt.text} {written}{end}")
        best = model(torch.tensor([ids[:-1]], device=device))[0, asked - 1 :].softmax(-1).topk(BARS)
        rows.append([])
        for i, likely, shares in zip(ids[asked:], best.indices.tolist(), best.values.tolist(), strict=True):
            bars = [f"{TOKENIZER.words[j]}\t{share:.2f}" for j, share in zip(likely, shares, strict=True)]
            rows[-1].append("\t".join([TOKENIZER.words[i], *bars]))
    return rows
