import dataclasses

import pandas as pd
import pytest
import torch

from gptlib import chain_of_thought, emergence
from gptlib import record as module
from gptlib.alignment import habits
from gptlib.in_context import WIDTHS
from gptlib.record import record, recorded
from gptlib.running_sums import WAYS
from gptlib.sweep import Run, chapter_grid

RUNS = [{"task": task, "n": n} for task in ("a", "b") for n in (1, 2)]


def test_rows_say_what_made_them(tmp_path):
    record(tmp_path / "x.csv", RUNS, lambda run: {"accuracy": run["n"] / 2})
    rows = recorded("x", tmp_path)
    assert rows.accuracy.tolist() == [0.5, 1.0, 0.5, 1.0]
    assert {"commit", "device", "torch", "python", "minutes"} <= set(rows.columns)
    assert rows.commit.notna().all() and rows.device.notna().all()


def test_a_number_is_read_as_it_was_recorded(tmp_path):
    """pandas before 3 reads some decimals a bit beside what was written, unless it is told not to."""
    losses = torch.rand(len(RUNS), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3
    loss = iter(losses.tolist())
    record(tmp_path / "x.csv", RUNS, lambda run: {"loss": next(loss)})
    assert recorded("x", tmp_path).loss.tolist() == losses.tolist()


def test_started_again_it_does_only_what_is_missing(tmp_path):
    made = []

    def result(run):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(run)
        return {"accuracy": 1.0}

    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "x.csv", RUNS, result)
    assert len(recorded("x", tmp_path)) == 2  # nothing finished is lost
    again = []
    record(tmp_path / "x.csv", RUNS, lambda run: again.append(run) or {"accuracy": 1.0})
    assert again == RUNS[2:]
    assert len(recorded("x", tmp_path)) == 4
    record(tmp_path / "x.csv", RUNS, lambda run: pytest.fail("nothing is missing"))


def test_what_was_never_recorded_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"gptlib\.record"):
        recorded("nothing", tmp_path)


def test_the_recorded_rows_of_chapter_2_are_whole():
    rows = recorded("finetuning-cpu")
    assert not rows.duplicated(["task", "method", "n", "seed"]).any()
    assert rows.accuracy.between(0, 1).all() and rows.groupby("task").seed.nunique().eq(3).all()
    for task, (most, answers) in {"classification": (1008, 8), "multiple_choice": (1527, 4)}.items():
        found = rows[(rows.task == task) & (rows.method == "pre-trained")].n.unique()
        assert sorted(found) == module.label_counts(most, answers)


def test_the_recorded_rows_of_chapter_3_are_whole():
    rows = recorded("scaling-cpu")
    given = [field.name for field in dataclasses.fields(Run)]
    assert not rows.duplicated(given).any()
    made = {tuple(row) for row in rows[given].itertuples(index=False)}
    wanted = pd.DataFrame(map(dataclasses.asdict, chapter_grid()))
    assert {tuple(row) for row in wanted[given].itertuples(index=False)} <= made
    assert rows.text.nunique() == 2 and rows.loss.between(0.5, 3).all()


def test_the_recorded_rows_of_chapter_4_are_whole():
    rows = recorded("in_context-cpu")
    made = sorted(zip(rows["copies"], rows["width"], rows["seed"], strict=True))
    kinds = [("arrowed", width) for width in WIDTHS] + [("none", 64), ("plain", 64)]
    assert made == sorted((*kind, seed) for kind in kinds for seed in range(3))
    assert rows.filter(like="@").stack().between(0, 1).all() and rows["steps"].eq(1200).all()
    rows = recorded("functions-cpu")
    made = sorted(zip(rows["d"], rows["noise"], rows["seed"], strict=True))
    assert made == [(d, noise, seed) for d in (2, 3, 5) for noise in (0.0, 0.5) for seed in range(3)]
    lengths = rows["transformer error"].str.split().map(len)
    assert (lengths == 2 * rows["d"] + 3).all()


def test_the_recorded_rows_of_chapter_5_are_whole():
    rows = recorded("emergence-cpu")
    family = [(width, 1.0, seed) for width in emergence.WIDTHS for seed in range(3)]
    others = [(width, rate, 0) for width in (16, 64) for rate in (0.5, 2.0)]
    assert sorted(zip(rows["width"], rows["rate"], rows["seed"], strict=True)) == sorted(family + others)
    assert rows.filter(like="exact").select_dtypes("number").stack().between(0, 1).all()
    assert (rows["* exact on the way"].str.split().map(len) == emergence.LOOKS).all()
    rows = recorded("emergence_digits-cpu")
    family = [
        (width, digits, seed) for width in emergence.WIDTHS[:6] for digits in (2, 4) for seed in range(3)
    ]
    assert sorted(zip(rows["width"], rows["digits"], rows["seed"], strict=True)) == sorted(family)
    assert rows.filter(regex="exact|digits|product").drop(columns="digits").stack().between(0, 1).all()


def test_the_recorded_rows_of_chapter_6_are_whole():
    rows = recorded("running_sums-cpu")
    problems = [(2, n) for n in (2, 4, 6, 8, 12, 16)] + [(10, n) for n in (2, 3, 4, 8)]
    made = sorted(zip(rows["base"], rows["n"], rows["way"], rows["seed"], strict=True))
    assert made == sorted((*problem, way, seed) for problem in problems for way in WAYS for seed in range(3))
    rows = recorded("chain_of_thought-cpu")
    made = sorted(zip(rows["width"], rows["worked"], rows["seed"], strict=True))
    kinds = [(width, 0.5) for width in chain_of_thought.WIDTHS] + [(64, 0.0)]
    assert made == sorted((*kind, seed) for kind in kinds for seed in range(3))
    shares = rows.filter(regex=".(direct|worked|of [0-9]+|follows|right)$")
    assert shares.shape[1] == 8 + 8 + 16 + 24 and shares.stack().between(0, 1).all()


def test_the_recorded_rows_of_chapter_7_are_whole():
    seeds = range(3)
    habits_of = recorded("habits-cpu")
    assert sorted(zip(habits_of.width, habits_of.seed, strict=True)) == [
        (w, s) for w in habits.WIDTHS for s in seeds
    ]
    policies = recorded("alignment-cpu")
    assert (policies.groupby(["method", "strength"]).seed.nunique() == 3).all() and len(policies) == 27
    assert policies[["win", "low", "high", "distinct"]].stack().between(0, 1).all()
    best = recorded("best_of_n-cpu")
    assert sorted(zip(best.n, best.seed, strict=True)) == sorted((2**i, s) for i in range(7) for s in seeds)
    models = recorded("reward_models-cpu")
    assert sorted(models.n_prompts) == [100] * 3 + [1000] * 3 + [3000] * 3
    assert models[["accuracy", "ceiling"]].stack().between(0.4, 1).all()
    verified = recorded("verifier-cpu")
    assert (
        sorted(verified.seed) == [*seeds]
        and verified[["start", "verifier", "people"]].stack().between(0, 1).all()
    )


def test_rows_of_other_columns_are_refused(tmp_path):
    record(tmp_path / "x.csv", RUNS[:1], lambda run: {"accuracy": 1})
    with pytest.raises(ValueError, match="take another folder"):
        record(tmp_path / "x.csv", RUNS, lambda run: {"loss": 1})


def test_the_command_records_a_chapter(tmp_path, monkeypatch):
    monkeypatch.setitem(
        module.CHAPTERS, "finetuning", lambda path, shard: record(path, RUNS, lambda run: {"y": 1})
    )
    monkeypatch.setattr("sys.argv", ["record", "finetuning", "--folder", str(tmp_path)])
    module.main()
    [made] = tmp_path.glob("finetuning-*.csv")
    assert len(pd.read_csv(made)) == 4


@pytest.mark.parametrize("shard", ["2/2", "-1/2", "half"])
def test_a_shard_that_is_none_is_refused(shard, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["record", "scaling", f"--shard={shard}"])
    with pytest.raises(SystemExit):
        module.main()
    assert "--shard" in capsys.readouterr().err
