"""A sweep's rows are those of runs made one by one; nothing is done twice, nothing is lost."""

import dataclasses
from threading import Thread

import pytest
import torch
from filelock import FileLock

from gptlib import sweep as module
from gptlib.budget import Budget
from gptlib.corpora import Corpus, Document
from gptlib.model import GPT
from gptlib.record import recorded
from gptlib.sweep import Run, chapter_grid, characters, flops_per_token, sweep, whole_steps
from gptlib.training import train, training_flops_per_token


@pytest.fixture(autouse=True)
def small_texts(monkeypatch, tmp_path):
    """Two small texts, and a cache of their own."""

    def corpus(name, word):
        parts = [Document(word * n, "", "text", name, "", word * n) for n in (4000, 1000)]
        return Corpus(name, (parts[0],), (parts[1],))

    texts = {
        "python_docs": lambda: corpus("a", "def f(): "),
        "python_source": lambda: corpus("b", "return x "),
    }
    monkeypatch.setattr(module, "TEXTS", texts)
    monkeypatch.setattr(module, "PIECE", 256)
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path / "cache"))
    characters.cache_clear()
    yield
    characters.cache_clear()


@pytest.fixture
def cpu(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    return Budget.detect()


def grid(*steps, **other):
    return [Run("python_docs", 16, whole_steps(n * 1024), **other) for n in steps]


def test_branches_of_a_trunk_are_the_runs_made_one_by_one(tmp_path, cpu):
    sweep(grid(8, 10, 20), tmp_path / "x.csv", budget=cpu)
    rows = recorded("x", tmp_path)
    for run, loss, flops in zip(grid(8, 10, 20), rows.loss, rows.flops, strict=True):
        model = GPT(run.model, run.seed)
        alone = train(model, characters(run.corpus), run.training, cpu).final
        assert (alone.loss, alone.flops) == (loss, flops)  # to the bit
        assert run.training.lr_factor(run.steps_before_fall) == 1 > run.training.lr_factor(run.training.steps)


def test_a_run_shorter_than_its_trunk_is_made_alone(tmp_path, cpu):
    sweep(grid(20), tmp_path / "long.csv", budget=cpu)
    sweep(grid(8), tmp_path / "short.csv", budget=cpu)
    model = GPT(grid(8)[0].model, 0)
    alone = train(model, characters("python_docs"), grid(8)[0].training, cpu)
    assert recorded("short", tmp_path).loss.tolist() == [alone.final.loss]


def test_a_row_says_what_the_run_was_and_cost(tmp_path, cpu):
    [run] = grid(6, seed=3, unique=5120)
    sweep([run], tmp_path / "x.csv", budget=cpu)
    [row] = recorded("x", tmp_path).to_dict("records")
    assert {key: row[key] for key in dataclasses.asdict(run)} == dataclasses.asdict(run)
    assert row["params"] == GPT(run.model).n_params
    assert row["params_without_embeddings"] == row["params"] - 2 * len(module.CHARACTERS) * 16
    assert row["flops"] == run.tokens * training_flops_per_token(GPT(run.model), 128)
    assert row["flops"] == run.tokens * flops_per_token(16)
    assert {"lr", "muon_lr", "loss", "loss_elsewhere", "seconds", "device", "commit", "text"} <= row.keys()


def test_a_cut_text_is_spread_over_the_whole():
    ids = torch.arange(20 * 256)
    cut = module.spread(ids, 5).reshape(5, 256)
    assert (cut.diff(dim=1) == 1).all() and cut[0, 0] == 0 and cut[-1, -1] > 19 * 256
    assert len(cut.unique()) == cut.numel()


def test_stopped_it_keeps_its_rows_and_goes_on(tmp_path, cpu, monkeypatch):
    calls, whole = [], module.train

    def stopped(model, data, config, *others, **named):
        calls.append(config.steps)
        history = whole(model, data, config, *others, **named)
        history.interrupted = len(calls) == 3  # in the trunk of the second run
        return history

    monkeypatch.setattr(module, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep(grid(8, 20), tmp_path / "x.csv", budget=cpu)
    assert len(recorded("x", tmp_path)) == 1
    sweep(grid(8, 20), tmp_path / "x.csv", budget=cpu)
    rows = recorded("x", tmp_path)
    assert calls == [6, 8, 16, 16, 20] and len(rows) == 2
    assert (
        rows.loss[1]
        == train(GPT(grid(20)[0].model, 0), characters("python_docs"), grid(20)[0].training, cpu).final.loss
    )


def test_shards_share_the_runs_and_are_read_as_one(tmp_path, cpu):
    runs = [*grid(6, 8), *grid(6, seed=1), *grid(6, seed=2)]
    for i in range(2):
        sweep(runs, tmp_path / "x.csv", shard=(i, 2), budget=cpu)
        assert (tmp_path / f"x.{i}of2.csv").exists()
    rows = recorded("x", tmp_path)
    assert sorted(zip(rows.seed, rows.tokens, strict=True)) == sorted((r.seed, r.tokens) for r in runs)
    before = rows.minutes.sum()
    sweep(runs, tmp_path / "x.csv", budget=cpu)  # in one piece: nothing is missing
    assert recorded("x", tmp_path).minutes.sum() == before


def test_runs_of_one_trunk_stay_in_one_shard():
    grid = chapter_grid()
    parts = [module._share(grid, i, 3) for i in range(3)]
    assert sorted(str(run) for part in parts for run in part) == sorted(map(str, grid))
    trunks = [{run.trunk for run in part} for part in parts]
    assert not (trunks[0] & trunks[1] or trunks[0] & trunks[2] or trunks[1] & trunks[2])


def test_other_settings_are_refused():
    for wrong, why in [
        (dict(corpus="novels"), "python_docs, python_source"),
        (dict(width=40), "multiple of 16"),
        (dict(tokens=1000), "whole steps"),
        (dict(unique=1000), "whole pieces"),
    ]:
        with pytest.raises(ValueError, match=why):
            Run(**(dict(corpus="python_docs", width=16, tokens=10240) | wrong))
    with pytest.raises(ValueError, match="i must be 0 to 1"):
        module._share(grid(8), 2, 2)


def test_two_sweeps_of_one_trunk_wait_for_each_other(tmp_path, cpu):
    """Each with a results file of its own, as two notebooks have them: the shared steps are one folder."""
    sweep(grid(8), tmp_path / "x.csv", budget=cpu)
    [folder] = (tmp_path / "cache" / "scaling").iterdir()
    other = Thread(target=sweep, args=(grid(20), tmp_path / "y.csv"), kwargs=dict(budget=cpu), daemon=True)
    with FileLock(folder / ".lock"):
        other.start()
        other.join(1)
        assert other.is_alive()
    other.join(60)
    assert not other.is_alive() and len(recorded("y", tmp_path)) == 1
