import dataclasses
import errno
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from gptlib import checkpoints
from gptlib.budget import Budget
from gptlib.model import GPT, GPTConfig
from gptlib.training import TrainConfig, train

RUN = TrainConfig(steps=12, batch_size=4, eval_every=5)


@pytest.fixture
def fresh(tokenizer):
    """Make the same untrained model again and again."""
    shape = dict(context_length=16, n_layer=1, n_head=2, n_embd=16, dropout=0.1)
    return lambda **other: GPT(GPTConfig.modern(tokenizer.vocab_size, **(shape | other)))


def records(history):
    return [
        [(r.step, r.tokens, r.flops, r.loss, r.lr_factor) for r in part]
        for part in (history.train, history.validation)
    ]


def stop_at(step, monkeypatch):
    """Let the machine lose its power as soon as the checkpoint after that of `step` is due."""
    save = checkpoints.save

    def dying(folder, at, *rest):
        if at > step:
            raise SystemError("no power")
        return save(folder, at, *rest)

    monkeypatch.setattr(checkpoints, "save", dying)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(fresh, data, cpu, tmp_path, monkeypatch, optimizer):
    config = dataclasses.replace(RUN, optimizer=optimizer, lr=0.005)
    whole = fresh()
    expected = train(whole, data, config, cpu)
    keep = dict(checkpoint_dir=tmp_path, checkpoint_every=3)
    with monkeypatch.context() as patch, pytest.raises(SystemError):
        stop_at(6, patch)
        train(fresh(), data, config, cpu, **keep)
    assert [path.name for path in checkpoints.all_in(tmp_path)] == ["step-00000003", "step-00000006"]
    resumed = fresh()
    history = train(resumed, data, config, cpu, **keep, resume=True)
    assert records(history) == records(expected)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["random", "writing"])
def test_a_run_killed_again_and_again_ends_as_one_left_alone(how):
    script = Path(__file__).with_name("killed.py")
    ran = subprocess.run([sys.executable, script, how, "20"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["killed"] == 20 and found["runs"] >= 3 and found["checkpoints"] >= 3
    assert found["same"], found


def test_a_run_that_has_ended_is_returned_without_another_step(fresh, data, cpu, tmp_path):
    expected = train(fresh(), data, RUN, cpu, checkpoint_dir=tmp_path)
    again = fresh()
    assert records(train(again, data, RUN, cpu, checkpoint_dir=tmp_path, resume=True)) == records(expected)
    with torch.no_grad():
        kept = checkpoints.load_model(tmp_path)
        assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), again.parameters(), strict=True))


def test_two_checkpoints_are_kept_and_none_of_them_is_a_pickle(fresh, data, cpu, tmp_path):
    train(fresh(), data, RUN, cpu, checkpoint_dir=tmp_path, checkpoint_every=1)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    parts = ["model.safetensors", "optimizer.safetensors", "random.safetensors", "run.json"]
    assert files == [f"step-{step:08d}/{part}" for step in (11, 12) for part in parts]


def test_tied_embeddings_are_saved_once_and_stay_tied(fresh, data, cpu, tmp_path):
    model = fresh(tie_embeddings=True)
    train(model, data, RUN, cpu, checkpoint_dir=tmp_path)
    kept = checkpoints.load_model(tmp_path)
    assert kept.head.weight is kept.tokens.weight
    assert torch.equal(kept.head.weight, model.head.weight)


def test_packed_weights_are_a_sixtieth_off_at_most_and_vectors_are_halves():
    matrix = (
        torch.randn(50, 400, generator=torch.Generator().manual_seed(0)) * torch.logspace(-4, 2, 50)[:, None]
    )
    matrix[3] = 0
    vector = torch.linspace(-2, 2, 7)
    packed = checkpoints.pack({"matrix": matrix, "vector": vector})
    found = checkpoints.unpack(packed)
    assert found.keys() == {"matrix", "vector"} and torch.equal(found["vector"], vector.half())
    off = (found["matrix"] - matrix).abs().amax(1)
    assert found["matrix"].dtype == torch.half and (off <= matrix.abs().amax(1) / 60).all()
    assert len(packed) < 4 * matrix.numel() / 5


def test_a_model_takes_its_packed_weights(fresh):
    model, other = fresh(), fresh()
    checkpoints.set_weights(other, checkpoints.unpack(checkpoints.pack(checkpoints.weights(model))))
    assert checkpoints.weights(other).keys() == checkpoints.weights(model).keys()


@pytest.mark.parametrize("content", [b"", b"something else", checkpoints.pack({"a": torch.ones(2, 3)})[:-9]])
def test_what_is_not_packed_is_refused(content):
    with pytest.raises(ValueError, match="not packed weights"):
        checkpoints.unpack(content)


@pytest.fixture
def trained(fresh, data, cpu, tmp_path):
    """A folder with the checkpoints of steps 6 and 12."""
    train(fresh(), data, RUN, cpu, checkpoint_dir=tmp_path, checkpoint_every=6)
    return tmp_path


def damage(kind, newest):
    tensors, about = newest / "model.safetensors", newest / "run.json"
    if kind == "truncated":
        tensors.write_bytes(tensors.read_bytes()[:-10])
    elif kind == "one bit":
        content = bytearray(tensors.read_bytes())
        content[-1] ^= 1
        tensors.write_bytes(content)
    elif kind == "missing":
        tensors.unlink()
    elif kind == "no json":
        about.unlink()
    elif kind == "half a json":
        about.write_text(about.read_text()[:50])
    elif kind == "foreign":
        about.write_text(json.dumps({"format": "somebody else's", "sha256": {}}))
    else:
        about.write_text("[1, 2]")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("truncated", "model.safetensors"),
        ("one bit", "model.safetensors"),
        ("missing", "model.safetensors"),
        ("no json", "run.json"),
        ("half a json", "run.json"),
        ("foreign", "somebody else's"),
        ("a list", "run.json"),
    ],
)
def test_a_bad_checkpoint_is_refused_and_the_one_before_offered(kind, names, trained, fresh, data, cpu):
    newest = trained / "step-00000012"
    damage(kind, newest)
    with pytest.raises(ValueError, match=names) as error:
        train(fresh(), data, RUN, cpu, checkpoint_dir=trained, resume=True)
    assert str(newest) in str(error.value) and "Delete that folder" in str(error.value)
    assert "step-00000006, is then taken" in str(error.value)
    for path in newest.iterdir():
        path.unlink()
    newest.rmdir()
    history = train(fresh(), data, RUN, cpu, checkpoint_dir=trained, resume=True)
    assert [r.step for r in history.train] == list(range(1, 13))


def test_nothing_is_taken_from_the_folder_above_a_checkpoint(trained):
    about = trained / "step-00000012" / "run.json"
    (trained / "model.safetensors").write_bytes(b"")
    told = json.loads(about.read_text())
    told["sha256"] = {"../model.safetensors": told["sha256"]["model.safetensors"]}
    about.write_text(json.dumps(told))
    tensors, _ = checkpoints.load(about.parent)
    assert tensors["model"]  # its own


def test_a_full_disk_leaves_the_old_checkpoints_and_says_so(trained, fresh, data, cpu, monkeypatch):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    save_file, calls = checkpoints.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_file(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", full)
    model = fresh()
    state = checkpoints.TrainingState(
        model, [], torch.amp.GradScaler("cpu", enabled=False), torch.Generator()
    )
    state.step = 13
    with pytest.raises(OSError, match=r"No space left on device.*earlier ones are untouched.*make room"):
        state.save(trained, {})
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("after", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("before", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_run_goes_on_in_any_other_number_format(before, after, fresh, data, tmp_path):
    """A CPU's checkpoint on a T4 (float16, with a scale for the loss) and back."""
    first, second = (Budget("cpu", torch.device("cpu"), dtype) for dtype in (before, after))
    flat = dataclasses.replace(RUN, decay="constant")
    begun = train(fresh(), data, dataclasses.replace(flat, steps=4), first, checkpoint_dir=tmp_path)
    history = train(fresh(), data, flat, second, checkpoint_dir=tmp_path, resume=True)
    assert history.train[:4] == begun.train and [r.step for r in history.train] == list(range(1, 13))
    scale = checkpoints.load(checkpoints.all_in(tmp_path)[-1])[1]["scaler"]
    # 12 of its own steps without an infinite gradient where both are float16, else the 8 that came after.
    grown = 12 if before == after else 8
    assert scale == {} if after != torch.float16 else scale["_growth_tracker"] == grown


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_sync_folders_keeps_checkpoints(
    number, fresh, data, cpu, tmp_path, monkeypatch
):
    refuse_to_sync(monkeypatch, os.path.isdir, number)
    train(fresh(), data, RUN, cpu, checkpoint_dir=tmp_path, checkpoint_every=6)
    assert [path.name for path in checkpoints.all_in(tmp_path)] == ["step-00000006", "step-00000012"]


@pytest.mark.parametrize(("what", "number"), [(os.path.isfile, errno.EINVAL), (os.path.isdir, errno.EIO)])
def test_what_may_not_be_on_the_disk_is_never_called_a_checkpoint(
    what, number, fresh, data, cpu, tmp_path, monkeypatch
):
    refuse_to_sync(monkeypatch, what, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        train(fresh(), data, RUN, cpu, checkpoint_dir=tmp_path)
    assert what is os.path.isdir or not any(tmp_path.iterdir())


def refuse_to_sync(monkeypatch, what, number):
    """Let fsync fail for the files, or for the folders."""
    fsync = os.fsync

    def refusing(descriptor):
        if what(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)


def test_a_drive_that_keeps_what_is_deleted_keeps_nothing_of_old_checkpoints(
    fresh, data, cpu, tmp_path, monkeypatch
):
    trash, folder = tmp_path / "trash", tmp_path / "run"
    trash.mkdir()
    monkeypatch.setattr(
        "shutil.rmtree",
        lambda path, **how: path.exists() and path.rename(trash / str(len(list(trash.iterdir())))),
    )
    train(fresh(), data, RUN, cpu, checkpoint_dir=folder, checkpoint_every=1)
    thrown = [path for path in trash.rglob("*") if path.is_file()]
    assert len(list(trash.iterdir())) == 10 and sum(path.stat().st_size for path in thrown) == 0
    assert len(checkpoints.all_in(folder)) == 2 and checkpoints.load_model(folder)


def test_two_runs_in_one_folder_are_told_apart_and_the_first_goes_on(fresh, data, cpu, tmp_path):
    def second(record):
        with pytest.raises(OSError, match=f"another process uses .*{tmp_path.name}.* of its own"):
            train(fresh(), data, RUN, cpu, checkpoint_dir=tmp_path, resume=True)
        seen.append(record.step)

    seen = []
    train(fresh(), data, RUN, cpu, second, checkpoint_dir=tmp_path, checkpoint_every=3)
    assert seen == [5, 10, 12]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_lock_that_a_killed_run_left_holds_nobody_up(fresh, data, cpu, tmp_path):
    (tmp_path / ".in-use").touch()
    train(fresh(), data, RUN, cpu, checkpoint_dir=tmp_path)
    with FileLock(tmp_path / ".in-use"), pytest.raises(OSError, match="another process"):
        train(fresh(), data, RUN, cpu, checkpoint_dir=tmp_path, resume=True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_warns_and_keeps_checkpoints(
    number, fresh, data, cpu, tmp_path, monkeypatch
):
    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.warns(UserWarning, match="no file locks .*checkpoint_dir of its own"):
        train(fresh(), data, RUN, cpu, checkpoint_dir=tmp_path)
    assert len(checkpoints.all_in(tmp_path)) == 1


@pytest.mark.parametrize(
    ("number", "helps"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EROFS, "allow this user to write"),
        (errno.EACCES, "allow this user to write"),
        (errno.ENOENT, "another process uses this folder"),
        (errno.EIO, "the disk is there"),
    ],
)
@pytest.mark.parametrize("call", ["mkdir", "rename", "save_file"])
def test_each_refusal_of_a_file_system_has_its_remedy(call, number, helps, trained, monkeypatch):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    where = {"mkdir": Path, "rename": os}.get(call, checkpoints)
    with monkeypatch.context() as patch, pytest.raises(OSError, match=helps) as error:
        patch.setattr(where, call, refuse)
        checkpoints.save(trained, 13, {"model": {"a": torch.ones(3)}}, {})
    assert "earlier ones are untouched" in str(error.value) and "checkpoint_dir" in str(error.value)
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_a_checkpoint_dir_that_is_a_file_is_refused_before_any_step(fresh, data, cpu, tmp_path, monkeypatch):
    (tmp_path / "x").touch()
    monkeypatch.setattr("gptlib.training._backward", lambda *_: pytest.fail("trained"))
    with pytest.raises(OSError, match=r"move away what has that name.*another checkpoint_dir"):
        train(fresh(), data, RUN, cpu, checkpoint_dir=tmp_path / "x")


def test_a_signal_in_the_midst_of_writing_leaves_the_checkpoints_before(
    fresh, data, cpu, tmp_path, monkeypatch
):
    def interrupted(path, real=checkpoints._sync):
        if "step-00000006" in str(path):
            raise KeyboardInterrupt
        real(path)

    monkeypatch.setattr(checkpoints, "_sync", interrupted)
    with pytest.warns(UserWarning, match="after step 6 of 12"):
        train(fresh(), data, RUN, cpu, checkpoint_dir=tmp_path, checkpoint_every=3)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_an_old_checkpoint_that_another_program_has_open_costs_no_training(
    fresh, data, cpu, tmp_path, monkeypatch
):
    """Windows renames and deletes no file that is open."""

    def rename(old, new, real=os.rename):
        if str(new).endswith("deleted") and not free:
            raise PermissionError(errno.EACCES, "it is open in another program")
        real(old, new)

    free = []
    monkeypatch.setattr(os, "rename", rename)
    keep = dict(checkpoint_dir=tmp_path, checkpoint_every=2)
    train(fresh(), data, RUN, cpu, lambda record: record.step == 10 and free.append(1), **keep)
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000010", "step-00000012"}


def test_a_copy_that_a_drive_made_is_no_checkpoint(trained):
    """Google Drive names a second folder of one name "step-00000012 (1)"."""
    (trained / "step-00000012 (1)").mkdir()
    (trained / "step-00000013").touch()
    assert [path.name for path in checkpoints.all_in(trained)] == ["step-00000006", "step-00000012"]
    assert checkpoints.load_model(trained)


def test_a_path_may_begin_at_home(fresh, data, cpu, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    train(fresh(), data, RUN, cpu, checkpoint_dir="~/runs/x")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert checkpoints.load_model("~/runs/x") and checkpoints.load_model("~/runs/x/step-00000012")
    [found] = checkpoints.all_in("~/runs/x")
    assert checkpoints.load("~/runs/x/step-00000012")[1]["step"] == checkpoints.step_of(found) == 12
    with pytest.raises(ValueError, match="not known here"):
        checkpoints.load_model("~nobody-of-this-name/x")


def test_a_folder_that_holds_a_run_is_not_written_over(trained, fresh, data, cpu):
    with pytest.raises(ValueError, match="resume=True"):
        train(fresh(), data, RUN, cpu, checkpoint_dir=trained)


@pytest.mark.parametrize(
    ("changed", "named"), [(dict(steps=13), "steps"), (dict(lr=0.001, seed=1), "lr, seed")]
)
def test_another_recipe_is_not_mistaken_for_the_same_run(changed, named, trained, fresh, data, cpu):
    with pytest.raises(ValueError, match=f"another {named}"):
        train(fresh(), data, dataclasses.replace(RUN, **changed), cpu, checkpoint_dir=trained, resume=True)


def test_a_longer_schedule_may_go_on_where_the_steps_done_keep_their_rates(fresh, data, cpu, tmp_path):
    fall = dataclasses.replace(RUN, steps=20, decay_fraction=0.4, eval_every=0)
    flat = dataclasses.replace(fall, steps=12, decay="constant")
    alone, branch = fresh(), fresh()
    expected = train(alone, data, fall, cpu)
    train(fresh(), data, flat, cpu, checkpoint_dir=tmp_path)
    gone_on = train(branch, data, fall, cpu, checkpoint_dir=tmp_path, resume=True)
    assert [r.loss for r in gone_on.train] == [r.loss for r in expected.train]
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), branch.parameters(), strict=True))


def test_a_run_that_is_past_the_last_step_asked_for_is_refused(fresh, data, cpu, tmp_path):
    flat = dataclasses.replace(RUN, steps=12, decay="constant")
    train(fresh(), data, flat, cpu, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="another steps"):
        train(fresh(), data, dataclasses.replace(flat, steps=8), cpu, checkpoint_dir=tmp_path, resume=True)


def test_another_text_is_not_mistaken_for_the_same_run(trained, fresh, data, cpu):
    other = dataclasses.replace(data, train=data.train.flip(0))
    with pytest.raises(ValueError, match="another text"):
        train(fresh(), other, RUN, cpu, checkpoint_dir=trained, resume=True)


@pytest.mark.parametrize("other", [dict(n_embd=32), dict(n_layer=2), dict(activation="gelu")])
def test_another_model_is_not_mistaken_for_the_same_run(other, trained, fresh, data, cpu):
    with pytest.raises(ValueError, match="another model"):
        train(fresh(**other), data, RUN, cpu, checkpoint_dir=trained, resume=True)


def test_resume_without_a_folder_is_refused(fresh, data, cpu):
    with pytest.raises(ValueError, match="checkpoint_dir"):
        train(fresh(), data, RUN, cpu, resume=True)


def test_a_folder_without_checkpoints_holds_no_model(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint"):
        checkpoints.load_model(tmp_path)


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(fresh, data, cpu, tmp_path, monkeypatch):
    def poison(record):
        if record.step == 10:
            with torch.no_grad():
                model.head.weight[0, 0] = torch.nan

    model = fresh()
    with pytest.raises(ValueError, match="at step 10"):
        train(model, data, RUN, cpu, poison, checkpoint_dir=tmp_path, checkpoint_every=2)
    assert [path.name for path in checkpoints.all_in(tmp_path)] == ["step-00000006", "step-00000008"]
    kept = checkpoints.load_model(tmp_path)
    assert all(parameter.isfinite().all() for parameter in kept.parameters())


def test_drive_is_asked_for_only_on_colab():
    with pytest.raises(RuntimeError, match="any folder"):
        checkpoints.on_drive("chapter-1")


def test_on_colab_one_argument_puts_checkpoints_on_drive(monkeypatch):
    mounted = []
    colab = types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert checkpoints.on_drive("one") == Path("/content/drive/MyDrive/gpt-measured/one")
    assert mounted == ["/content/drive"]
