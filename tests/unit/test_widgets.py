"""What a widget computes in JavaScript is what gptlib computes in Python."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from node import NODE, in_node

from gptlib import chain_of_thought
from gptlib.in_context import CONTEXT, TOKENIZER, answers, draw_prompts
from gptlib.model import GPT, GPTConfig
from gptlib.scaling import fit_joint
from gptlib.widgets import annotator, frontier, scaling_explorer, script, shot_slider, step_through
from gptlib.word_problems import other_results, wrong_step


def test_the_explorer_predicts_what_the_fit_predicts():
    params, tokens = (x.ravel() for x in np.meshgrid(np.geomspace(1e6, 1e9, 4), np.geomspace(1e8, 1e11, 4)))
    loss = 1.7 + 400 * params**-0.34 + 400 * tokens**-0.28
    fit = fit_joint(params, tokens, loss, n_boot=0)
    widget = scaling_explorer.ScalingExplorer(fit, zip(params, tokens, loss, strict=True), per_token=6.5)
    constants = json.dumps(widget.constants)
    assert in_node(scaling_explorer, f"widget.predict({constants}, 1e7, 1e9)") == pytest.approx(
        fit.predict(1e7, 1e9)
    )
    assert in_node(scaling_explorer, f"widget.optimal({constants}, 1e20, 6.5)") == pytest.approx(
        fit.optimal(1e20, 6.5)
    )
    assert in_node(scaling_explorer, "[950, 1234567, 4e12].map(widget.short)") == ["950", "1.23 M", "4 T"]


def test_the_slider_shows_the_prompt_that_the_model_read_and_what_it_would_answer():
    model = GPT(
        GPTConfig.modern(TOKENIZER.vocab_size, context_length=CONTEXT, n_layer=1, zero_init=False)
    ).eval()
    prompts = [draw_prompts(family, 15, 1, seed=3)[0] for family in ("noun to name", "pick")]
    widget = shot_slider.ShotSlider({"tiny": model}, prompts)
    for i, prompt in enumerate(prompts):
        for shots in (0, 4, 15):
            asked = dataclasses.replace(prompt, examples=prompt.examples[:shots])
            lines = in_node(shot_slider, f"widget.promptLines({json.dumps(widget.prompts[i])}, {shots})")
            assert "\n".join(lines) == asked.text
            best = widget.predictions[0][i][shots]
            assert [best[0][0].strip()] == answers(model, TOKENIZER, [asked], max_tokens=1)
            assert len(best) == shot_slider.BARS and best == sorted(best, key=lambda pair: -pair[1])


WIDGETS = [annotator, frontier, scaling_explorer, shot_slider, step_through]


@pytest.mark.parametrize("module", WIDGETS, ids=lambda module: module.__name__)
def test_a_script_in_a_page_needs_no_other_file(module):
    text = script(module.__file__)
    assert "import " not in text.replace("important", "")
    command = [
        sys.executable,
        "-c",
        NODE,
        "--input-type=module",
        "-e",
        text + "\nconsole.log(typeof wordBars)",
    ]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "function"


def test_stepping_through_shows_what_the_model_writes_and_what_it_writes_after_a_change():
    shape = dict(context_length=chain_of_thought.CONTEXT, n_layer=1, n_embd=16, zero_init=False)
    model = GPT(GPTConfig.modern(chain_of_thought.TOKENIZER.vocab_size, **shape)).eval()
    prompts = [chain_of_thought.draw_prompts(kind, True, 1)[0] for kind in ("arithmetic", "facts")]
    stored = step_through.StepThrough(model, prompts).problems
    for prompt, problem in zip(prompts, stored, strict=True):
        written = chain_of_thought.write(model, [prompt])[0]
        assert " ".join(token.split("\t")[0] for token in problem["runs"][0]["tokens"]).strip() == " ".join(
            written.split()
        )
        for step, at, truth in problem["places"]:
            steps = " ".join(prompt.problem.steps).split()
            assert steps[at] == truth
            changes = [run for run in problem["runs"] if run["step"] == step]
            assert [run["result"] for run in changes] == [truth, *other_results(prompt.problem, step)]
            assert changes[0]["follows"] == prompt.problem.answer
            for run in changes[1:]:
                begun, follows = wrong_step(prompt.problem, step, run["result"])
                words = [token.split("\t")[0] for token in run["tokens"]]
                assert words[: run["given"]] == begun.split() and words[at] == run["result"]
                assert run["follows"] == follows
        for run in problem["runs"]:
            for token in run["tokens"][run["given"] :]:
                word, *likely = token.split("\t")
                assert (
                    word == likely[0]
                    and list(map(float, likely[1::2])) == sorted(map(float, likely[1::2]))[::-1]
                )
        ids = chain_of_thought.TOKENIZER.encode(prompt.text)
        token = in_node(step_through, f"widget.parse({json.dumps(problem['runs'][0]['tokens'][0])})")
        likely = model(torch.tensor([ids]))[0, -1].softmax(-1)
        for word, p in token["best"]:
            assert p == pytest.approx(likely[chain_of_thought.TOKENIZER.encode(word)[0]].item(), abs=0.006)
        assert len(token["best"]) == step_through.BARS


def test_the_page_finds_the_run_of_a_change_and_its_answer():
    first, changed = ["answer\tx\t0.5", "7", "\n"], ["x", "answer", "l", "a"]
    runs = [{"step": -1, "result": "", "tokens": first}, {"step": 1, "result": "4", "tokens": changed}]
    problem = json.dumps({"runs": runs})
    assert in_node(step_through, f"widget.answerOf(widget.findRun({problem}, 1, '4'))") == "l a"
    assert in_node(step_through, f"widget.answerOf(widget.findRun({problem}, 0, '9'))") == "7"
