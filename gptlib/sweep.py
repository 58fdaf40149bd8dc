"""Sweeps for scaling laws: many models of one family, trained for many lengths, a CSV row each.

A token is a character here, so that the smallest models are not all vocabulary.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from torch import Tensor

from gptlib.budget import Budget
from gptlib.checkpoints import all_in, step_of
from gptlib.checks import check_types
from gptlib.corpora import Corpus, cached, python_docs, python_source
from gptlib.history import History
from gptlib.model import GPT, GPTConfig
from gptlib.record import record
from gptlib.tokenizers import CharTokenizer, EncodedCorpus, encode_corpus
from gptlib.training import TrainConfig, evaluate, train

CHARACTERS = "\n" + "".join(map(chr, range(ord(" "), ord("~") + 1)))  # all that `corpora.plain` leaves
TEXTS: dict[str, Callable[[], Corpus]] = {"python_docs": python_docs, "python_source": python_source}
CONTEXT, LAYERS, HEAD_SIZE = 128, 3, 16  # the same at every size: only the width grows
SEEDS = (0, 1)  # of the recorded sweep
PIECES, PIECE = 16, 4096  # of the validation text, and characters in each


@dataclass(frozen=True)
class Run:
    """One training run of a sweep. The defaults are the rule: the same batch, rates and fall at every size.

    The rate is constant until it falls, so that runs which differ in tokens alone share most of their steps.
    """

    corpus: str  # a key of TEXTS
    width: int  # C, a multiple of HEAD_SIZE; the model has LAYERS blocks
    tokens: int  # D, read in training: whole steps, see `whole_steps`
    seed: int = 0  # of the weights and of the batches
    unique: int = 0  # the training text is cut to so many tokens, see `spread`; 0: it is not cut
    batch: int = 8  # windows of CONTEXT tokens a step
    rate: float = 0.5  # times TrainConfig's rates, which are made for a rate that falls most of the time
    fall: float = 0.2  # share of the steps, the last ones, over which the rate falls to 0

    def __post_init__(self):
        check_types(self)
        if self.corpus not in TEXTS:
            raise ValueError(f"corpus must be one of {', '.join(TEXTS)}, not {self.corpus!r}")
        if self.width < HEAD_SIZE or self.width % HEAD_SIZE:
            raise ValueError(f"width must be a multiple of {HEAD_SIZE}, not {self.width}")
        if self.unique % PIECE:
            raise ValueError(f"unique must be whole pieces of {PIECE}, not {self.unique}")
        if self.tokens < 1 or self.tokens % (self.batch * CONTEXT):
            raise ValueError(
                f"tokens must be whole steps of {self.batch} x {CONTEXT}, as whole_steps() rounds them, not "
                f"{self.tokens}"
            )

    @property
    def trunk(self) -> str:
        """The name that it has in common with the runs whose constant rate it shares."""
        return "-".join(str(value) for name, value in asdict(self).items() if name != "tokens")

    @property
    def model(self) -> GPTConfig:
        """The configuration of its model."""
        return family(self.width)

    @property
    def training(self) -> TrainConfig:
        """The configuration of its training."""
        rates = dict(lr=TrainConfig.lr * self.rate, muon_lr=TrainConfig.muon_lr * self.rate)
        steps = self.tokens // (self.batch * CONTEXT)
        return TrainConfig(steps, self.batch, decay_fraction=self.fall, eval_every=0, seed=self.seed, **rates)

    @property
    def steps_before_fall(self) -> int:
        """The steps at the constant rate, before it falls."""
        return self.training.steps - round(self.fall * self.training.steps)


def family(width: int) -> GPTConfig:
    """Return the model of a width: all else is the same at every size."""
    heads = width // HEAD_SIZE
    return GPTConfig.modern(
        len(CHARACTERS), context_length=CONTEXT, n_layer=LAYERS, n_embd=width, n_head=heads
    )


def flops_per_token(width: int) -> int:
    """Return what training a model of this width costs per token, in matrix products."""
    return 3 * family(width).flops_per_token()


def whole_steps(tokens: float, batch: int = Run.batch) -> int:
    """Round a number of tokens to whole steps, at least five."""
    return max(round(tokens / (batch * CONTEXT)), 5) * batch * CONTEXT


@cache
def characters(corpus: str) -> EncodedCorpus:
    """Return a text of TEXTS as characters, its validation text cut to PIECES pieces."""
    data = encode_corpus(TEXTS[corpus](), CharTokenizer(CHARACTERS))
    return replace(data, validation=spread(data.validation, PIECES))


def spread(ids: Tensor, pieces: int) -> Tensor:
    """Cut a text (N,) to evenly spaced pieces of PIECE tokens, so that little of it is like all of it."""
    step = (len(ids) - PIECE) // (pieces - 1)
    return ids.unfold(0, PIECE, step)[:pieces].flatten()  # (pieces x PIECE,)


def sweep(
    grid: Iterable[Run], path: Path, shard: tuple[int, int] = (0, 1), budget: Budget | None = None
) -> None:
    """Train each run that the CSV at `path` does not have yet; append its row at once.

    A row is the run and what is known of it: params, tokens, flops, the loss in nats per character, ...
    Runs that differ in tokens alone form a trunk with branches: the steps at the constant rate are made
    once, and kept in the user's cache (`cache_folder`); the falling ones are each run's own. The losses
    are those of runs made one by one, to the bit. `shard` (i, n), i from 0, does the i-th of n parts of
    like cost, and writes a file of its own beside `path`.
    """
    budget = budget or Budget.detect()
    runs = _share(list(dict.fromkeys(grid)), *shard)
    costs, before = [], {}
    for run in runs:
        new = run.tokens - (1 - run.fall) * before.get(run.trunk, 0)
        costs.append(new * flops_per_token(run.width))
        before[run.trunk] = run.tokens
    record(path, [asdict(run) for run in runs], lambda run: _result(Run(**run), budget), costs, shard)


def _share(grid: list[Run], i: int, n: int) -> list[Run]:
    """Deal trunks out in their order, each to the part that has least to do; return part i."""
    if not 0 <= i < n:
        raise ValueError(f"shard i/n counts from 0: i must be 0 to {n - 1}, not {i}")
    parts, costs = [[] for _ in range(n)], [0.0] * n
    for trunk in dict.fromkeys(run.trunk for run in grid):
        runs = sorted((run for run in grid if run.trunk == trunk), key=lambda run: run.tokens)
        least = costs.index(min(costs))
        parts[least] += runs
        costs[least] += runs[-1].tokens * flops_per_token(runs[0].width)
    return parts[i]


def _result(run: Run, budget: Budget) -> dict[str, str | float]:
    """Train one run; return its size, its cost, and its losses: on its own text and on the other."""
    model, history = _grown(run, budget)
    other = next(name for name in TEXTS if name != run.corpus)
    head_and_embeddings = 2 * run.model.vocab_size * run.width
    return {
        "params_without_embeddings": run.model.n_params - head_and_embeddings,
        "params": run.model.n_params,
        "flops": history.final.flops,
        "lr": run.training.lr,
        "muon_lr": run.training.muon_lr,
        "loss": history.final.loss,
        "loss_elsewhere": evaluate(model, characters(other).validation),
        "seconds": round(history.final.seconds, 2),
        "text": TEXTS[run.corpus]().fingerprint,
    }


def _grown(run: Run, budget: Budget) -> tuple[GPT, History]:
    """Train a run on from where its trunk ends; from the start, if the trunk has grown past it."""
    data, model, config = characters(run.corpus), GPT(run.model, run.seed), run.training
    if run.unique:
        data = replace(data, train=spread(data.train, run.unique // PIECE))
    trunk = f"{TEXTS[run.corpus]().fingerprint}-{run.trunk}-{budget.device.type}"
    with tempfile.TemporaryDirectory() as branch:
        with cached(f"scaling/{trunk}") as folder:
            grown = all_in(folder)
            if not grown or step_of(grown[-1]) <= run.steps_before_fall:
                constant = replace(config, steps=run.steps_before_fall, decay="constant")
                train(model, data, constant, budget, checkpoint_dir=folder, resume=True).finished()
                newest = all_in(folder)[-1]
                shutil.copytree(newest, Path(branch) / newest.name)
        every = config.steps  # a branch is short, and needs no checkpoint on its way
        history = train(
            model, data, config, budget, checkpoint_dir=branch, checkpoint_every=every, resume=True
        )
    return model, history.finished()


def chapter_grid() -> list[Run]:
    """Return the runs of chapter 3, those that cost most first within each seed.

    Sizes are trained for token counts that double, and for those at which they meet the five compute
    budgets. Beside them: the documentation, the rule's alternatives, text that repeats; and last the wager,
    of a size between two others, with four times the compute of any.
    """
    widths = (160, 128, 96, 80, 64, 48, 32, 16)
    longest = 8e6  # the characters that there are of the text
    most = longest / 2 * flops_per_token(widths[2])
    budgets = [most / 2**i for i in range(5)]
    runs = []
    for seed in SEEDS:
        for width in widths:
            per_token = flops_per_token(width)
            lengths = [longest / 2**i for i in range(5)] + [flops / per_token for flops in budgets]
            fitting = [
                D for D in lengths if longest / 20 < D <= 1.05 * longest and D * per_token < 1.01 * most
            ]
            runs += [Run("python_source", width, whole_steps(D), seed) for D in fitting]
        runs += [Run("python_docs", width, whole_steps(longest / 2**i), seed)
                 for width in widths[-6:] for i in range(2, 5)]  # fmt: skip
        if seed == 0:
            runs += _checks_of_the_rule(widths, longest) + _repeated(widths[4], longest)
    between = (widths[0] + widths[1]) // 2
    enough = whole_steps(4.05 * most / flops_per_token(between))
    return runs + [Run("python_source", between, enough, seed) for seed in SEEDS]


def _checks_of_the_rule(widths: tuple[int, ...], longest: float) -> list[Run]:
    """Other rates, other batches, and a rate that falls most of the time, at two sizes."""
    rule = dict(corpus="python_source", tokens=whole_steps(longest / 8, 16))
    others = [
        dict(rate=0.25),
        dict(rate=1.0),
        dict(batch=4),
        dict(batch=16),
        dict(fall=0.8),
        dict(fall=0.8, rate=1.0),
    ]
    return [Run(**rule, width=width, **other) for width in (widths[2], widths[6]) for other in others]


def _repeated(width: int, longest: float) -> list[Run]:
    """Text read again and again: a thirty-second and an eighth of what the longest run reads."""
    return [
        Run("python_source", width, whole_steps(longest / 2**i), unique=round(longest / 2**j / PIECE) * PIECE)
        for j in (3, 5)
        for i in range(j)
    ]
