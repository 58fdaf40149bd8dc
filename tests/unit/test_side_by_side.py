"""`make grading` and `make site` run tests in several processes: what is made at a price is made in one."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGES = """
import os, pytest

@pytest.fixture(scope="module", params=["a", "b/c-d"], ids=lambda name: f"<{name}>")
def page(request):
    return request.param

@pytest.mark.parametrize("width", range(6))
def test_page(page, width):
    with open("seen.txt", "a") as file:
        print(page, os.getpid(), file=file)
"""


def test_tests_of_one_page_run_in_one_process_and_those_of_a_shared_file_too(tmp_path):
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "test_pages.py").write_text(PAGES)
    whole = PAGES.replace("<{name}>", "{name}").replace('["a", "b/c-d"]', '["whole"]')
    (tmp_path / "test_class.py").write_text(whole)
    side_by_side = ["-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadgroup"]
    command = [sys.executable, "-m", "pytest", *side_by_side]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    seen = re.findall(r"(\S+) (\d+)", (tmp_path / "seen.txt").read_text())
    assert len(seen) == 18 and len(set(seen)) == 3, seen


def test_the_files_that_share_something_are_there():
    shared = re.search(r"SHARED = \((.*?)\)", (TESTS / "conftest.py").read_text())[1]
    for name in re.findall(r'"(.*?)"', shared):
        assert list(TESTS.glob(f"*/{name}")), name
