"""The book's pre-trained model: a BabyGPT that has read the documentation of Python and of other packages.

It was trained once, by `python -m gptlib.record babygpt`, and its weights are package data.
"""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gptlib.base_text import PACKAGES, SHARE, BaseText, base_text, fingerprint, package, what_is_tested
from gptlib.budget import Budget
from gptlib.checkpoints import set_weights, weights
from gptlib.corpora import SEPARATOR, Corpus, cached, python_docs
from gptlib.history import History
from gptlib.labels import hold_out
from gptlib.model import GPT, GPTConfig
from gptlib.record import FOLDER, provenance
from gptlib.tokenizers import BPETokenizer, EncodedCorpus, encode_corpus
from gptlib.training import TrainConfig, draw_batch, train

WEIGHTS, FIRST, TOKENIZER, ABOUT = (
    f"babygpt{end}" for end in (".safetensors", "-first-steps.safetensors", "-tokenizer.json", ".json")
)

VOCAB_SIZE = 2048
TRAINING = TrainConfig(batch_size=16, weight_decay=0.1, decay="constant", eval_every=250)
LAST_DECAY = dict(decay="linear", decay_fraction=1.0)  # while the last part is read
LAST = 0.3  # of the other texts, the share that is in the last part
COPIES = 4  # of the documentation in the last part; with the one in the first, it is read five times
FIRST_STEPS = 60  # whose windows are kept, to be trained again


@dataclass(frozen=True)
class BabyGPT:
    """A trained model with all that goes with it."""

    model: GPT
    tokenizer: BPETokenizer
    data: EncodedCorpus  # the documentation of this Python that is not set aside, and its validation text
    history: History  # of its training, also where that was in an earlier session


def babygpt(budget: Budget | None = None, *, train_anew: bool = False) -> BabyGPT:
    """Return the book's model, of about a million parameters, on the budget's device.

    Its weights and its tokens are the same on every machine and every Python. Nothing that a chapter tests
    on was read, see gptlib.base_text. `train_anew` makes another, in an hour or two: that needs the packages
    that requirements.txt names, and gives another model where their versions are others.
    """
    budget = budget or Budget.detect()
    if train_anew:
        model, tokenizer, history = Reading.of(base_text(what_is_tested())).pretrain(budget)
    else:
        about = _about()
        tokenizer = BPETokenizer.load(FOLDER / TOKENIZER)
        model, history = GPT(GPTConfig(**about["config"])), History.from_rows(about["history"])
        set_weights(model, {name: tensor.float() for name, tensor in load_file(FOLDER / WEIGHTS).items()})
    data = encode_corpus(documentation_to_read(), tokenizer)
    return BabyGPT(model.to(budget.device).eval(), tokenizer, data, history)


def documentation_to_read() -> Corpus:
    """Return this Python's documentation without what chapter 2 sets aside for its tasks."""
    return hold_out(python_docs(), SHARE)[0]


def first_steps(baby: BabyGPT, budget: Budget | None = None, steps: int = FIRST_STEPS) -> History:
    """Train the first steps of the book's model again, on the windows that they read; return their losses.

    Raises ValueError when more steps are asked for than windows are kept.
    """
    if not 0 < steps <= FIRST_STEPS:
        raise ValueError(
            f"the windows of {FIRST_STEPS} steps are kept: ask for 1 to {FIRST_STEPS}, not {steps}"
        )
    windows = load_file(FOLDER / FIRST)["windows"].long()  # (FIRST_STEPS, B, T + 1)
    # The text that was read first, empty where these steps do not look.
    text = torch.zeros(_about()["first_text_tokens"], dtype=torch.long)
    text[_places(len(text), FIRST_STEPS, baby.model.context_length)] = windows
    how = replace(TRAINING, steps=steps, eval_every=0)
    return train(GPT(baby.model.config), replace(baby.data, train=text), how, budget)


def _about() -> dict:
    return json.loads((FOLDER / ABOUT).read_text(encoding="utf-8"))


def _places(length: int, steps: int, T: int) -> Tensor:
    """Return where the first steps' windows lie in a text of so many tokens: (steps, B, T + 1)."""
    generator, everywhere = torch.Generator().manual_seed(TRAINING.seed), torch.arange(length)
    batches = [draw_batch(everywhere, TRAINING.batch_size, T, generator) for _ in range(steps)]
    return torch.stack([torch.cat([inputs, targets[:, -1:]], dim=1) for inputs, targets in batches])


@dataclass(frozen=True)
class Reading:
    """What the model reads: first most of the other texts; then the rest, with the documentation."""

    tokenizer: BPETokenizer
    first: EncodedCorpus
    last: EncodedCorpus

    @classmethod
    def of(cls, text: BaseText) -> "Reading":
        """Encode a text, with tokens that the documentation in it decides."""
        tokenizer = BPETokenizer.train(SEPARATOR.join(text.documentation), VOCAB_SIZE)
        cut = int((1 - LAST) * len(text.others))
        parts = (text.others[:cut] + text.documentation, text.others[cut:] + text.documentation * COPIES)
        validation = [document.text for document in python_docs().validation_documents]
        return cls(tokenizer, *(_encoded(tokenizer, part, validation) for part in parts))

    def pretrain(
        self, budget: Budget | None = None, checkpoint_dir: Path | None = None
    ) -> tuple[GPT, BPETokenizer, History]:
        """Train a model on both parts, once each: at the full learning rate, then while it falls to 0.

        With a `checkpoint_dir`, a run that was stopped goes on. The last part begins with a new optimizer.
        """
        # Tied: the output's gradients then also teach the embeddings, from which fine-tuning starts.
        config = GPTConfig.modern(
            self.tokenizer.vocab_size, tie_embeddings=True, n_layer=4, n_head=4, n_embd=128
        )
        model, histories = GPT(config), []
        for name, data, decay in (("first", self.first, {}), ("last", self.last, LAST_DECAY)):
            steps = max(1, len(data.train) // (TRAINING.batch_size * config.context_length))
            folder = checkpoint_dir and checkpoint_dir / name
            how = replace(TRAINING, steps=steps, **decay)
            history = train(model, data, how, budget, checkpoint_dir=folder, resume=bool(folder))
            histories.append(history.finished())
        return model, self.tokenizer, histories[0].then(histories[1])


def _encoded(tokenizer: BPETokenizer, train_on: Sequence[str], validation: Sequence[str]) -> EncodedCorpus:
    """Encode both texts, a separator after each document."""
    texts = ["".join(text + SEPARATOR for text in part) for part in (train_on, validation)]
    ids = [torch.tensor(tokenizer.encode(text)) for text in texts]
    per_token = [len(text) / len(its) for text, its in zip(texts, ids, strict=True)]
    return EncodedCorpus(*ids, per_token[1], per_token[0], tokenizer.vocab_size)


def record_base(folder: Path, pythons: Sequence[str] = (), budget: Budget | None = None) -> None:
    """Make the files that `babygpt` loads, in a folder. Stopped and started again, it goes on.

    `pythons` are the executables of other versions, whose documentation will be tested on too.
    """
    budget, held_out = budget or Budget.detect(), what_is_tested(*pythons)
    text = base_text(held_out)
    reading = Reading.of(text)
    with cached("babygpt") as checkpoints:
        model, tokenizer, history = reading.pretrain(budget, checkpoints)
    first = reading.first.train
    windows = first[_places(len(first), FIRST_STEPS, model.context_length)].short()
    about = {
        "config": asdict(model.config),
        "first_text_tokens": len(first),
        "characters": {"documentation": _characters(text.documentation), "others": _characters(text.others)},
        "documentation_of": platform.python_version(),
        "packages": [package(name) for name in PACKAGES],
        "held_out_modules": sorted(held_out.modules),
        "held_out_documents": sorted(map(fingerprint, held_out.bodies)),
        "provenance": provenance(history.final.seconds / 60, budget),
        "history": replace(history, train=history.train[:100] + history.train[100::10]).as_rows(),
    }
    save_file({name: tensor.cpu().half() for name, tensor in weights(model).items()}, folder / WEIGHTS)
    save_file({"windows": windows}, folder / FIRST)
    tokenizer.save(folder / TOKENIZER)
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _characters(texts: Sequence[str]) -> int:
    return sum(map(len, texts))
