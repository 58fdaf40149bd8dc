"""What the README shows works."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    quick = code.replace("steps=800, batch_size=16", "steps=2, batch_size=2")
    assert quick != code
    exec(compile(quick, "README.md", "exec"), {})
    loss, text = capsys.readouterr().out.split(" ", 1)
    assert 5 < float(loss) < 9  # hardly trained: near ln 2048 = 7.6
    assert text.startswith("def read(self, size=-1):\n")


def test_the_files_it_links_to_are_there():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert not [link for link in links if not (Path(__file__).parents[2] / link).exists()]
