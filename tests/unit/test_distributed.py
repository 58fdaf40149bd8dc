import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("spawned.py")


def run(tmp_path, name, processes, folder, stop=0):
    """Train with that many processes; return the losses, or None when the run was stopped on its way."""
    out = tmp_path / f"{name}.json"
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    how = torchrun if processes > 1 else []
    command = [sys.executable, *how, SCRIPT, out, tmp_path / folder, str(stop)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (ran.returncode == 0) == (stop == 0), ran.stderr
    return json.loads(out.read_text()) if out.exists() else None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The losses of one process that nothing stopped."""
    return run(tmp_path_factory.mktemp("whole"), "whole", 1, "a")


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, whole):
    """Two gloo processes, two accumulated batches a step: the losses of one process, evaluations too."""
    one, two = whole, run(tmp_path, "two", 2, "b")
    assert len(one["train"]) == 12 and len(one["validation"]) == 3
    assert two["train"] == pytest.approx(one["train"], abs=1e-5)
    assert two["validation"] == pytest.approx(one["validation"], abs=1e-5)
    assert two["unshared"] == 12  # of the two batches of a step, one keeps its gradients to itself
    assert set(two["ranks"]) == {0}  # one process alone reports
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["step-00000009", "step-00000012"]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(tmp_path, before, after, whole):
    assert run(tmp_path, "stopped", before, "b", stop=8) is None
    resumed = run(tmp_path, "resumed", after, "b")
    assert resumed["train"] == pytest.approx(whole["train"], abs=1e-5)
    assert resumed["validation"] == pytest.approx(whole["validation"], abs=1e-5)
