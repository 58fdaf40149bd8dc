"""The wall ends what a submission started, and never a stranger that has one of its numbers."""

import subprocess
import sys
from pathlib import Path

import pytest

from grading import sandbox as module
from grading.sandbox import Limits, Sandbox, born, descendants


@pytest.fixture
def parent():
    """A process with a child, behind the wall of another user; the child tells that it lives by its pipe."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    sandbox = Sandbox(Path("none.ipynb"), Limits(), "another user")
    sandbox.process = process
    while not descendants(process.pid):
        pass
    yield sandbox
    process.kill()
    process.communicate()


def test_what_a_process_started_is_ended_with_it(parent):
    [child] = descendants(parent.process.pid)
    parent.kill()
    assert parent.process.wait() == -9
    while Path(f"/proc/{child}").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
        pass


def test_a_number_that_another_process_was_given_is_left_alone(parent, monkeypatch):
    births = iter(["100", "200"])  # at the first look, and just before its end
    monkeypatch.setattr(module, "born", lambda pid: next(births))
    monkeypatch.setattr(module.os, "kill", lambda pid, signal: pytest.fail(f"killed {pid}"))
    monkeypatch.setattr(parent.process, "kill", lambda: None)
    parent.kill()


def test_a_process_that_has_ended_is_not_killed_by_its_number(parent, monkeypatch):
    parent.process.kill()
    parent.process.wait()
    monkeypatch.setattr(module.os, "kill", lambda pid, signal: pytest.fail(f"killed {pid}"))
    monkeypatch.setattr(module, "descendants", lambda pid: pytest.fail("looked for a stranger's children"))
    parent.kill()


def test_a_birth_is_told_of_a_process_that_lives(parent):
    assert born(parent.process.pid).isdecimal() and born(2**31 - 1) == ""
