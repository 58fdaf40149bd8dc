"""Fine-tune a pre-trained GPT for a task, as GPT-1 did.

Every task becomes token sequences with a start, a delimiter and an extract token, and one linear layer
reads the state at the extract token (Radford et al. 2018, section 3.3 and figure 1).
Shapes: B examples, S sequences of them, T tokens, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.budget import Budget
from gptlib.checks import check_least, check_types
from gptlib.history import Watched
from gptlib.labels import Example
from gptlib.memory import keep_freed_memory, send
from gptlib.model import GPT
from gptlib.optim import schedule, update
from gptlib.tokenizers import Tokenizer

KINDS = ("classification", "entailment", "similarity", "multiple_choice")
BATCH = 64  # sequences read at once where nothing is learned


@dataclass(frozen=True)
class InputFormat:
    """GPT-1's input transformations: from the texts of an example to token sequences, lists of ids.

    The three new tokens follow the tokenizer's own. An example that is longer than `max_tokens`, the
    model's context, raises ValueError, or with `truncate` is cut: texts share the room equally and
    lose their ends, only a premise loses its beginning, since what meets at the delimiter matters. Raises
    ValueError when there is no room for any token of theirs.
    """

    tokenizer: Tokenizer
    max_tokens: int = 128  # of a sequence
    truncate: bool = False

    def __post_init__(self):
        check_types(self)
        check_least(self, 3, "max_tokens")  # start, one token, extract

    @property
    def start(self) -> int:
        """The id of the token that every sequence begins with."""
        return self.tokenizer.vocab_size

    @property
    def delimiter(self) -> int:
        """The id of the token between two texts."""
        return self.tokenizer.vocab_size + 1

    @property
    def extract(self) -> int:
        """The id of the last token, at whose state the answer is read."""
        return self.tokenizer.vocab_size + 2

    def sequences(self, kind: str, texts: Sequence[str]) -> list[list[int]]:
        """Return the sequences of one example: 1, for similarity 2, for multiple choice one an answer."""
        check_kind(kind)
        expected = {"classification": (1, 1), "multiple_choice": (3, 1000)}.get(kind, (2, 2))
        if not expected[0] <= len(texts) <= expected[1]:
            raise ValueError(
                f"an example of {kind} has {expected[0]} texts{' or more' * (kind == 'multiple_choice')}, "
                f"not {len(texts)}: choose the kind that fits your examples"
            )
        ids = [self.tokenizer.encode(text) for text in texts]
        if kind == "similarity":  # there is no first and second text: both orders are read
            return [self._sequence(ids), self._sequence(ids[::-1])]
        if kind == "multiple_choice":
            return [self._sequence([ids[0], answer]) for answer in ids[1:]]
        return [self._sequence(ids, keep_end_of_first=kind == "entailment")]

    def _sequence(self, texts: list[list[int]], keep_end_of_first: bool = False) -> list[int]:
        room, wanted = self.max_tokens - len(texts) - 1, sum(map(len, texts))
        first, *others = texts
        if wanted > room:
            if not self.truncate:
                raise ValueError(
                    f"an example takes {wanted + len(texts) + 1} tokens, a sequence holds {self.max_tokens}: "
                    "shorten its texts, or use InputFormat(..., truncate=True), which cuts off their ends "
                    "(of a premise, the beginning)"
                )
            if room < 1:
                raise ValueError(
                    f"of {self.max_tokens} tokens none is left for {len(texts)} texts, between which stand "
                    f"{len(texts) + 1}: max_tokens must be {len(texts) + 2} or more, better far more"
                )
            limit = max(room // len(texts), room - sum(map(len, others)))  # what others leave
            first = first[max(len(first) - limit, 0) :] if keep_end_of_first else first[:limit]
            others = [other[: room - len(first)] for other in others]
        joined = [token for other in others for token in (self.delimiter, *other)]
        return [self.start, *first, *joined, self.extract]


def check_kind(kind: str) -> None:
    """Raise ValueError when a task is not of one of GPT-1's four kinds."""
    if kind not in KINDS:
        raise ValueError(f"a task is one of {', '.join(KINDS)}, not {kind!r}")


def transfer(pretrained: GPT, n_layers: int | None = None, special: Sequence[int] = (), seed: int = 0) -> GPT:
    """Copy a GPT into one with room for three more tokens; the original stays as it is.

    `n_layers` copies the embeddings and that many blocks, counted from the input; the others, and with
    0 also the embeddings, start at random. `special` names three tokens whose embeddings the new ones
    start from; without it they start at random, as in GPT-1.
    Raises ValueError when there are fewer blocks, or special does not name three known tokens.
    """
    config, V = pretrained.config, pretrained.config.vocab_size
    n_layers = config.n_layer if n_layers is None else n_layers
    if not 0 <= n_layers <= config.n_layer:
        raise ValueError(f"the model has {config.n_layer} blocks to transfer, not {n_layers}")
    if special and (len(special) != 3 or not all(0 <= token < V for token in special)):
        raise ValueError(f"special names the tokens that start, delimiter and extract start from: {special}")
    model = GPT(replace(config, vocab_size=V + 3), seed)
    target = model.state_dict()  # its tensors are the model's own
    with torch.no_grad():
        for name, values in pretrained.state_dict().items() if n_layers else ():
            block = int(name.split(".")[1]) if name.startswith("blocks.") else 0
            if block < n_layers:
                target[name][: len(values)] = values
        if n_layers and special:
            model.tokens.weight[V:] = pretrained.tokens.weight[list(special)]
    return model


class TaskModel(nn.Module):
    """A GPT and one linear layer over its state at the extract token (Radford et al. 2018, equation 3)."""

    def __init__(self, gpt: GPT, kind: str, n_answers: int, seed: int = 0):
        super().__init__()
        check_kind(kind)
        if n_answers < 2:
            raise ValueError(f"a task has at least two answers to choose from, not {n_answers}")
        self.gpt, self.kind, self.n_answers = gpt, kind, n_answers
        # Of several answers each is scored alone, by the same weights.
        self.head = nn.Linear(gpt.config.n_embd, 1 if kind == "multiple_choice" else n_answers, bias=False)
        nn.init.normal_(self.head.weight, 0, 0.02, generator=torch.Generator().manual_seed(seed))

    def score(self, extracted: Tensor) -> Tensor:
        """Score the answers from the states at the extract tokens: (S, C) -> (B, answers)."""
        if self.kind == "similarity":  # both orders are added
            extracted = extracted.view(-1, 2, extracted.shape[-1]).sum(1)  # (B, C)
        return self.head(extracted).view(-1, self.n_answers)  # (B, answers)

    def forward(self, batch: "Batch") -> tuple[Tensor, Tensor]:
        """Return the scores (B, answers), and the states of all tokens (S, T, C)."""
        states = self.gpt.states(batch.ids)  # (S, T, C)
        return self.score(batch.extracted(states)), states


@dataclass(frozen=True)
class Batch:
    """Sequences side by side; those that end earlier are filled up, which no token before can see."""

    ids: Tensor  # (S, T)
    last: Tensor  # (S,) where each sequence's extract token is
    labels: Tensor  # (B,)

    def extracted(self, states: Tensor) -> Tensor:
        """Return the states at the extract tokens: (S, T, C) -> (S, C)."""
        return states[torch.arange(len(states), device=states.device), self.last]


@dataclass(frozen=True)
class Encoded:
    """Labelled examples as token sequences."""

    kind: str
    sequences: list[list[list[int]]]  # example, sequence, token
    labels: list[int]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, which: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Put some of the examples side by side."""
        rows = [torch.tensor(row) for i in which for row in self.sequences[i]]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (S, T)
        last = torch.tensor([len(row) - 1 for row in rows])  # (S,)
        labels = torch.tensor([self.labels[i] for i in which])  # (B,)
        return Batch(send(ids, device), send(last, device), send(labels, device))


def encode(kind: str, examples: Sequence[Example], n_answers: int, form: InputFormat) -> Encoded:
    """Transform labelled examples. Raises ValueError when a label or a text does not fit the task."""
    for example in examples:
        if not 0 <= example.label < n_answers:
            raise ValueError(
                f"labels run from 0 to {n_answers - 1}, one for each answer; found {example.label}: "
                "number them in that way, or give the task as many answers"
            )
        if kind == "multiple_choice" and len(example.texts) != n_answers + 1:
            raise ValueError(
                f"an example has {len(example.texts) - 1} answers, the task {n_answers}: make them equal"
            )
    return Encoded(kind, [form.sequences(kind, e.texts) for e in examples], [e.label for e in examples])


@dataclass(frozen=True)
class FinetuneConfig:
    """How a model is fine-tuned."""

    steps: int = 150  # updates of the weights
    batch_size: int = 16  # B, examples
    lr: float = 1e-3  # AdamW's peak rate, reached after a tenth of the steps, then linear to 0
    lm_weight: float = 0.0  # lambda, on the auxiliary language-model loss (Radford et al. 2018, equation 5)
    seed: int = 0  # of the order of the examples

    def __post_init__(self):
        check_types(self)


def finetune(
    model: TaskModel, data: Encoded, config: FinetuneConfig | None = None, budget: Budget | None = None
) -> list[float]:
    """Train all weights on labelled examples, in place; return the loss of each step, in nats.

    The model is left in evaluation mode.
    Raises ValueError when the examples are of another kind than the model's head, or the loss is not finite.
    """
    config, budget = config or FinetuneConfig(), budget or Budget.detect()
    check_same_kind(model, data)
    keep_freed_memory()
    model.to(budget.device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    optimizer.param_groups[0]["peak_lr"] = config.lr
    dtype, losses = budget.dtype_for(model), Watched()
    scaler = torch.amp.GradScaler(budget.device.type, enabled=dtype == torch.float16)
    generator, order = torch.Generator().manual_seed(config.seed), []
    for step in range(config.steps):
        while len(order) < config.batch_size:
            order += torch.randperm(len(data), generator=generator).tolist()
        batch = data.batch(order[: config.batch_size], budget.device)
        del order[: config.batch_size]
        with torch.autocast(budget.device.type, dtype, enabled=dtype != torch.float32):
            scores, states = model(batch)
            loss = F.cross_entropy(scores.float(), batch.labels)
            if config.lm_weight:
                loss = loss + config.lm_weight * language_model_loss(model.gpt, states, batch)
        losses.add(loss=loss)
        scaler.scale(loss).backward()
        factor = schedule(step, config.steps, config.steps // 10, "linear", 0.9, 0.0)
        update([model], [optimizer], factor, 1.0, scaler)
    model.eval()
    return [row["loss"] for row in losses.read()]


def language_model_loss(gpt: GPT, states: Tensor, batch: Batch) -> Tensor:
    """Return the mean over all tokens but the padding of -log p(next token), in nats: () from (S, T, C)."""
    real = torch.arange(batch.ids.shape[1] - 1, device=batch.ids.device) < batch.last[:, None]  # (S, T - 1)
    targets = batch.ids[:, 1:].masked_fill(~real, -100)  # which cross_entropy leaves out; to pick would wait
    return F.cross_entropy(gpt.head(states[:, :-1]).flatten(0, 1).float(), targets.flatten())


@torch.no_grad()
def extracted_states(model: TaskModel, data: Encoded) -> Tensor:
    """Return the states at the extract tokens of all examples: (S, C), on the CPU."""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    parts = []
    per_batch = max(1, BATCH // max(map(len, data.sequences)))
    for some in torch.arange(len(data)).split(per_batch):
        batch = data.batch(some.tolist(), device)
        parts.append(batch.extracted(model.gpt.states(batch.ids)).cpu())
    model.train(was_training)
    return torch.cat(parts)


def accuracy(model: TaskModel, data: Encoded) -> float:
    """Return the share of examples whose best-scored answer is the right one.

    Raises ValueError when the examples are of another kind than the model's head.
    """
    check_same_kind(model, data)
    with torch.no_grad():
        scores = model.score(extracted_states(model, data).to(model.head.weight.device))  # (B, answers)
    return (scores.argmax(-1).cpu() == torch.tensor(data.labels)).float().mean().item()


def check_same_kind(model: TaskModel, data: Encoded) -> None:
    """Raise ValueError when the examples are of another kind than the model's head."""
    if data.kind != model.kind:
        raise ValueError(
            f"this model has a head for {model.kind}, the examples are of {data.kind}: "
            f"make a TaskModel(gpt, {data.kind!r}, ...) for them"
        )
