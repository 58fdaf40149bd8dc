"""A class is graded: everybody has a row, the honest their points, the hostile no more than they earned."""

import csv
import os
from pathlib import Path

import pytest
from classroom import HONEST, HOSTILE, UNREADABLE
from conftest import OF_THE_CLASS, SHORT
from toy import POINTS, RIGHT, SECRETS, answered, save

from grading.grade import grade_folder


def earned(row):
    return tuple(float(row[question]) for question in POINTS)


def test_everybody_has_one_row(graded):
    names = {name.rpartition(".")[0] or name for name in UNREADABLE if not name.startswith("=")}
    assert set(graded.rows) - {name for name in graded.rows if name.startswith("unnamed ")} == (
        set(HONEST) | set(HOSTILE) | names | {"foldered"}
    )
    assert len(graded.rows) == len(HONEST) + len(HOSTILE) + len(UNREADABLE) + 1


@pytest.mark.parametrize("name", HONEST)
def test_the_honest_earn_exactly_their_points(graded, name):
    row, member = graded.rows[name], HONEST[name]
    assert (earned(row), row["status"]) == (member.points, "graded")
    assert float(row["total"]) == sum(member.points)
    assert (member.review in row["review"]) if member.review else not row["review"]


@pytest.mark.parametrize("name", HOSTILE)
def test_the_hostile_earn_no_more_and_are_marked(graded, name):
    row, member = graded.rows[name], HOSTILE[name]
    assert earned(row) == member.points
    assert member.review in row["review"]


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_graded_says_why(graded, name):
    found = [row for row in graded.rows.values() if UNREADABLE[name] in row["status"]]
    assert found and all(earned(row) == (0, 0, 0) for row in found)


def test_a_folder_may_hold_a_students_notebook(graded):
    assert earned(graded.rows["foldered"]) == tuple(POINTS.values())


def test_grader_and_submissions_are_as_they_were(graded):
    assert graded.after == graded.before


def test_nothing_was_planted_and_nobody_is_left(graded):
    for place in (graded.folder, graded.out, Path("/tmp"), Path("/home")):
        assert not list(place.glob("planted.txt"))
    limits = (OF_THE_CLASS.megabytes, OF_THE_CLASS.files, OF_THE_CLASS.processes)
    started = "\0".join(map(str, ("grading.student", *limits))).encode()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                command = Path(entry.path, "cmdline").read_bytes()
            except OSError:
                continue
            assert started not in command and b"sleep\x0060" not in command


def test_pages_tell_what_was_earned_and_nothing_hidden(graded):
    for student in graded.rows:
        page = (graded.out / "feedback" / f"{student}.html").read_text(encoding="utf-8")
        assert not [secret for secret in SECRETS if secret in page]
    page = (graded.out / "feedback" / "wrong_double.html").read_text(encoding="utf-8")
    assert "8 of 10 points" in page and "1 of 3 points" in page and "hidden check 1" in page
    assert "twice two is four" in (graded.out / "feedback" / "peeks_at_frames.html").read_text(
        encoding="utf-8"
    )


def test_texts_to_mark_stand_beside_the_rubric(graded):
    page = (graded.out / "to_mark_q4_why.html").read_text(encoding="utf-8")
    assert "mark well" in page and page.count("<h2>") == len(graded.rows)


def test_the_class_is_drawn(graded):
    assert (graded.out / "statistics.png").read_bytes().startswith(b"\x89PNG")


def test_started_again_it_grades_only_what_is_missing_or_changed(toy, tmp_path):
    folder, out = tmp_path / "class", tmp_path / "out"
    folder.mkdir()
    for name in ("ada", "ben", "cleo"):
        save(folder, f"{name}.ipynb", answered(toy.student, RIGHT))
    scores = grade_folder(folder, toy.package, out, SHORT, workers=2)
    lines = scores.read_text(encoding="utf-8").splitlines(keepends=True)
    marked = [line.replace(",graded,", ",graded,seen before") for line in lines]
    scores.write_text("".join([*marked[:3], marked[3][:20]]), encoding="utf-8")  # killed in the third row
    save(folder, "ben.ipynb", answered(toy.student, RIGHT | {"guess": "guess = 8"}))
    (folder / "ada.ipynb").touch()
    grade_folder(folder, toy.package, out, SHORT, workers=2)
    with scores.open(newline="", encoding="utf-8") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert {name: row["review"] for name, row in rows.items()} == {
        "ada": "seen before",
        "ben": "",
        "cleo": "",
    }
    assert {name: row["total"] for name, row in rows.items()} == {"ada": "10", "ben": "8", "cleo": "10"}
