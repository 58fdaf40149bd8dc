"""The zip, run as Gradescope runs it: opened in source/, a submission beside it, results.json in results/."""

import json
import os
import subprocess
import sys
import zipfile

import nbformat
import pytest
from toy import POINTS, RIGHT, SECRETS, answered

WRONG = {"double": "import inspect\ndef double(x):\n    return x + 2"}
# Where bubblewrap does not work, a submission runs as another user. Only root can try it: in a view of files
# of its own, bubblewrap is hidden, and a Python that lies in root's own folder is made readable.
USER = """
mount --bind /dev/null "$(command -v bwrap)"
mkdir "{root}/open" && for name in "$HOME"/.[!.]*; do
  [ -d "$name" ] && mkdir "{root}/open/${{name##*/}}" && mount --bind "$name" "{root}/open/${{name##*/}}"
done
chmod 755 "{root}/open" && mount --rbind "{root}/open" "$HOME"
exec bash "{root}/source/run_autograder"
"""
WALLS = ["bubblewrap", "user"] if os.getuid() == 0 else ["bubblewrap"]
READS = """
import os
def double(x):
    seen = []
    for top, _, names in os.walk("{root}"):
        seen += [name for name in names if name in ("assignment.json", "checks.py")]
    for kind in ("source/planted", "results/results.json"):
        try:
            open("{root}/" + kind, "w").close()
            seen.append(kind)
        except OSError:
            pass
    return 0 if seen else 2 * x
"""


def run(root, package, notebooks, wall="bubblewrap"):
    """Return what results.json holds after a run in a clean folder."""
    for folder in ("source", "submission", "results"):
        (root / folder).mkdir(parents=True)
    with zipfile.ZipFile(package) as file:
        file.extractall(root / "source")
    for name, notebook in notebooks.items():
        nbformat.write(notebook, root / "submission" / name)
    command = ["bash", root / "source" / "run_autograder"]
    environment = {
        "PATH": os.environ["PATH"],
        "GRADESCOPE_ROOT": str(root),
        "GRADESCOPE_PYTHON": sys.executable,
    }
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [path.name for path in (root / "results").iterdir()] == ["results.json"]
    return json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))


def test_a_right_notebook_earns_all_points(toy, tmp_path):
    told = run(tmp_path, toy.package, {"my work.ipynb": answered(toy.student, RIGHT)})
    assert sum(test["score"] for test in told["tests"]) == sum(POINTS.values())
    assert sum(test["max_score"] for test in told["tests"]) == sum(POINTS.values())
    assert all(test["visibility"] == "visible" for test in told["tests"]) and not told["output"]


def test_a_wrong_one_loses_its_own_and_is_told_nothing_hidden(toy, tmp_path):
    told = run(tmp_path, toy.package, {"a.ipynb": answered(toy.student, RIGHT | WRONG)})
    assert sum(test.get("score", 0) for test in told["tests"]) == sum(POINTS.values()) - 2
    assert not [secret for secret in SECRETS if secret in json.dumps(told)]
    [review] = [test for test in told["tests"] if test["visibility"] == "hidden"]
    assert "inspect" in review["output"]


@pytest.mark.parametrize("wall", WALLS)
def test_a_submission_finds_no_test_and_writes_no_result(toy, tmp_path, wall):
    notebook = answered(toy.student, RIGHT | {"double": READS.replace("{root}", str(tmp_path))})
    told = run(tmp_path, toy.package, {"a.ipynb": notebook}, wall)
    assert sum(test.get("score", 0) for test in told["tests"]) == sum(POINTS.values())
    assert not (tmp_path / "source" / "planted").exists()


@pytest.mark.parametrize("names", [(), ("a.ipynb", "b.ipynb")])
def test_other_than_one_notebook_is_told(toy, tmp_path, names):
    told = run(tmp_path, toy.package, {name: toy.student for name in names})
    assert told == {"score": 0, "output": f"Hand in one notebook (.ipynb): here are {len(names)}."}
