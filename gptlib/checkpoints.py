"""Save a training run so that nothing is lost when its process dies, and go on from there.

A checkpoint is a folder: tensors as safetensors, the rest as JSON. Nothing in it can run code, so it
may be shared. It is written under a temporary name, synced, and renamed: whatever the moment at
which the process dies, a checkpoint is there whole or not at all. The last two are kept.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor, nn

from gptlib.distributed import rank, wait_for_all
from gptlib.files import UNSUPPORTED, alone_in, delete, expanded, remedy
from gptlib.history import History
from gptlib.model import GPT, GPTConfig
from gptlib.packing import pack as pack  # weights in little space: offered here beside whole ones
from gptlib.packing import unpack as unpack
from gptlib.tokenizers import EncodedCorpus

FORMAT = "gptlib checkpoint 1"
KEPT = 2
SCHEDULE = {"steps", "warmup", "decay", "decay_fraction", "final_lr"}  # may change where past rates do not
ABOUT = "run.json"


def save(folder: str | Path, step: int, tensors: dict[str, dict[str, Tensor]], about: dict) -> Path:
    """Write the checkpoint of a step into `folder`, drop all but the last two, return its path.

    `tensors` maps file names to named tensors; `about` holds numbers, texts and lists. Raises OSError,
    saying that the earlier checkpoints are untouched and what helps, when it cannot be written (a full disk).
    """
    folder = expanded(folder)
    final = folder / f"step-{step:08d}"
    partial = folder / f".{final.name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _tidy(folder)
        partial.mkdir()
        sums = {}
        for name, group in tensors.items():
            path = partial / f"{name}.safetensors"
            save_file({key: value.detach().cpu().contiguous() for key, value in group.items()}, path)
            sums[path.name] = _sha256(path)
            _sync(path)
        text = _as_json({"format": FORMAT, "step": step, "sha256": sums, **about})
        (partial / ABOUT).write_text(text, encoding="utf-8")
        _sync(partial / ABOUT)
        _sync(partial)
        if final.exists():
            _remove(final)
        os.rename(partial, final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"the checkpoint of step {step} could not be written to {folder} ({error}); the earlier ones "
            f"are untouched: {remedy(error)}, or give another checkpoint_dir; train again with resume=True"
        ) from error
    finally:
        delete(partial)
    _tidy(folder)
    return final


def all_in(folder: str | Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first; none where there is no folder."""
    found = (path for path in expanded(folder).glob("step-*") if path.is_dir())
    return sorted((path for path in found if path.name[5:].isdecimal()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the updates done when a checkpoint was written, as its name tells them."""
    return int(checkpoint.name.removeprefix("step-"))


def load(path: str | Path) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """Read a checkpoint; return its tensors by file, and the rest.

    Raises ValueError, naming the file and what to do, when it is damaged or was not written by gptlib.
    """
    path = expanded(path)
    try:
        about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        sums = about["sha256"] if about["format"] == FORMAT else None
    except FileNotFoundError:
        raise _refusal(path, f"there is no {ABOUT} in it") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise _refusal(path, f"its {ABOUT} is damaged") from None
    if sums is None:
        raise _refusal(path, f"its {ABOUT} says {about['format']!r}, not {FORMAT!r}")
    tensors = {}
    for name, expected in sums.items():
        file = path / Path(name).name
        if not file.is_file():
            raise _refusal(path, f"{name} is missing")
        content = file.read_bytes()  # not mapped: Windows deletes no file that is, and some drives map none
        if hashlib.sha256(content).hexdigest() != expected:
            raise _refusal(path, f"{name} was cut short or altered")
        tensors[file.stem] = load_tensors(content)
    return tensors, about


@dataclass
class TrainingState:
    """All that changes while a model trains: what it takes to go on, bit for bit."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    scaler: torch.amp.GradScaler
    batches: torch.Generator  # draws the windows; dropout draws from torch's global generator
    history: History = field(default_factory=History)
    step: int = 0  # updates done
    seconds: float = 0.0  # spent in training

    def save(self, folder: str | Path, given: dict) -> Path:
        """Write a checkpoint of this moment; `given` is what the run was started with. See `save`.

        Raises ValueError when a weight is not finite: the checkpoint before is then the last good one.
        """
        if not all(parameter.isfinite().all() for parameter in self.model.parameters()):
            raise ValueError(
                f"a weight is not finite at step {self.step}, though the loss still was: lower the learning "
                "rate or warm up for longer; the checkpoints before this step are good"
            )
        random = {"batches": self.batches.get_state(), "dropout": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["dropout_cuda"] = torch.cuda.get_rng_state()
        optimizer = {
            f"{i}.{parameter}.{name}": torch.as_tensor(value)
            for i, each in enumerate(self.optimizers)
            for parameter, values in each.state_dict()["state"].items()
            for name, value in values.items()
        }
        about = {
            "given": given,
            "history": self.history.as_rows(),
            "seconds": self.seconds,
            "scaler": self.scaler.state_dict(),
        }
        tensors = {"model": weights(self.model), "optimizer": optimizer, "random": random}
        return save(folder, self.step, tensors, about)

    def load(self, path: Path, given: dict, lr_factor: Callable[[int], float]) -> None:
        """Become what `save` wrote. Raises ValueError when the run was started with other things.

        Its schedule may be another, a longer one say, if that gives the same rates to the steps done.
        """
        tensors, about = load(path)
        history, step = History.from_rows(about["history"]), about["step"]
        as_written = json.loads(json.dumps(given))
        changed = [name for name, value in as_written.items() if about["given"].get(name) != value]
        if step <= given["steps"] and all(past.lr_factor == lr_factor(past.step) for past in history.train):
            changed = [name for name in changed if name not in SCHEDULE]
        if changed:
            raise ValueError(
                f"the run in {path.parent} was started with another {', '.join(changed)}: go on with what it "
                "was started with, or give another checkpoint_dir"
            )
        set_weights(self.model, tensors["model"])
        for i, each in enumerate(self.optimizers):
            state = {}
            for key, value in tensors["optimizer"].items():
                which, parameter, name = key.split(".", 2)
                if int(which) == i:
                    state.setdefault(int(parameter), {})[name] = value
            each.load_state_dict({"state": state, "param_groups": each.state_dict()["param_groups"]})
        self.batches.set_state(tensors["random"]["batches"])
        torch.set_rng_state(tensors["random"]["dropout"])
        if torch.cuda.is_available() and "dropout_cuda" in tensors["random"]:
            torch.cuda.set_rng_state(tensors["random"]["dropout_cuda"])
        if self.scaler.is_enabled() and about["scaler"]:  # float16 alone scales: other dtypes keep {}
            self.scaler.load_state_dict(about["scaler"])
        self.history, self.step = history, step
        self.seconds = about["seconds"]


class Keeper:
    """Keeps the checkpoints of one training run in a folder; without a folder, it keeps nothing."""

    def __init__(self, folder: str | Path | None, every: int, resume: bool):
        if isinstance(every, bool) or every < 1 or every % 1:
            raise ValueError(f"checkpoint_every is a whole number of steps, at least 1, not {every}")
        if resume and folder is None:
            raise ValueError("resume needs the checkpoint_dir of the run to go on with")
        self.folder, self.every, self.resume = folder and expanded(folder), every, resume

    def alone(self) -> AbstractContextManager:
        """Hold the folder while the run lasts. Raises OSError when another run does, or it cannot be made."""
        return alone_in(self.folder) if self.folder and rank() == 0 else nullcontext()

    def take_up(
        self, state: TrainingState, config: dict, lr_factor: Callable[[int], float], data: EncodedCorpus
    ) -> None:
        """Bring a run that begins to where its newest checkpoint was written.

        Raises ValueError when that is damaged or another run's, or there is one and `resume` is not set.
        """
        if not self.folder:
            return
        model = asdict(state.model.config) if isinstance(state.model, GPT) else None
        text = hashlib.sha256(data.train.contiguous().numpy()).hexdigest()
        given = {**config, "model": model, "text": text}
        self.given = json.loads(_as_json(given))
        found = all_in(self.folder)
        if found and not self.resume:
            raise ValueError(
                f"{self.folder} holds the checkpoints of a run: train with resume=True to go on with it, or "
                "give another checkpoint_dir"
            )
        if found:
            state.load(found[-1], self.given, lr_factor)
            if rank() == 0:
                _tidy(self.folder)
            else:  # the first process has its own dropout back; what the others draw next is new
                torch.manual_seed(hash((config["seed"], rank(), state.step)))

    def due(self, step: int) -> bool:
        """Say whether a checkpoint is to be kept after this step."""
        return bool(self.folder) and step % self.every == 0

    def keep(self, state: TrainingState) -> None:
        """Let the first process write a checkpoint, and the others wait for it. Raises as `save` does."""
        if self.folder and rank() == 0:
            state.save(self.folder, self.given)
        wait_for_all()


def load_model(path: str | Path) -> GPT:
    """Return the GPT that a checkpoint holds; given a folder of checkpoints, that of the newest.

    Raises ValueError when there is none, when it is damaged, or when another kind of model was trained.
    """
    path = expanded(path)
    if not (path / ABOUT).exists():
        if not all_in(path):
            raise ValueError(f"there is no checkpoint in {path}: give the checkpoint_dir of a training run")
        path = all_in(path)[-1]
    tensors, about = load(path)
    if not about["given"].get("model"):
        raise ValueError(
            f"{path} holds no GPT: build your own model and train it with resume=True to read it"
        )
    model = GPT(GPTConfig(**about["given"]["model"]))
    set_weights(model, tensors["model"])
    return model


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Return what a model has learned, by name; a matrix with two names (tied embeddings) once."""
    names = {}
    for name, tensor in model.state_dict().items():
        names.setdefault(tensor.data_ptr(), (name, tensor))
    return dict(names.values())


def set_weights(model: nn.Module, saved: dict[str, Tensor]) -> None:
    """Give a model the weights that `weights` returned. Raises ValueError when they are another model's."""
    own = weights(model)
    wrong = sorted(
        name
        for name in own.keys() | saved.keys()
        if name not in own or name not in saved or own[name].shape != saved[name].shape
    )
    if wrong:
        raise ValueError(
            f"the checkpoint belongs to a model of another shape ({', '.join(wrong[:3])} ...): build the "
            "model as it was when the checkpoint was written, or give another checkpoint_dir"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def on_drive(name: str) -> Path:
    """Return a checkpoint_dir on Google Drive, which outlives a Colab session; asks to mount it first.

    Raises RuntimeError outside Colab, where any folder of yours will do.
    """
    try:
        from google.colab import drive
    except ImportError:
        raise RuntimeError(
            "Google Drive is there on Colab only: give checkpoint_dir any folder instead"
        ) from None
    mount = Path("/content/drive")
    drive.mount(str(mount))
    return mount / "MyDrive" / "gpt-measured" / name


def _refusal(path: Path, reason: str) -> ValueError:
    earlier = [other.name for other in all_in(path.parent) if step_of(other) < step_of(path)]
    remedy = f"the one before, {earlier[-1]}, is then taken" if earlier else "training then starts anew"
    return ValueError(f"the checkpoint {path} cannot be used: {reason}. Delete that folder; {remedy}")


def _remove(path: Path) -> None:
    """Take a checkpoint away: by a rename, so that no half of it ever looks like a whole."""
    doomed = path.with_name(f".{path.name}.deleted")
    os.rename(path, doomed)
    delete(doomed)


def _tidy(folder: Path) -> None:
    """Take away all but the last checkpoints, and what a process that was killed left half done.

    What cannot be deleted now, as another program has it open, is when the next checkpoint is written.
    """
    for pattern in (".step-*.partial", ".step-*.deleted"):
        for path in folder.glob(pattern):
            delete(path)
    for old in all_in(folder)[:-KEPT]:
        with suppress(OSError):
            _remove(old)


def _sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk.

    Windows has no such call for folders, nor have Google Drive, network drives and WSL: there the renaming is
    on the disk whenever the system writes it.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (is_folder and error.errno in UNSUPPORTED):
            raise
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _as_json(about: dict) -> str:
    return json.dumps(about, default=lambda number: number.item())  # numpy's are no numbers to JSON
