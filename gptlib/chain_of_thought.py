"""Chain-of-thought prompting: worked or unworked examples before a question, to a model that is not updated.

One model a size reads documents of both kinds (Wei et al. 2022, *Chain-of-Thought Prompting*). What it
writes can be begun by someone else, sampled many times (Wang et al. 2023), and counted in tokens.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlib.budget import Budget
from gptlib.memory import send
from gptlib.minimising import Recipe, train_on_loss
from gptlib.model import GPT, GPTConfig
from gptlib.sampling import continuations
from gptlib.tokenizers import WordTokenizer
from gptlib.word_problems import PROBLEMS, VOCABULARY, Problem, draw, other_results, wrong_step

TOKENIZER = WordTokenizer(VOCABULARY)
LINE_END = TOKENIZER.encode("\n")[0]
SHOTS = 2  # examples before a question
WEIGHTS = {"arithmetic": 4, "coins": 2, "letters": 2, "facts": 2}  # of the kinds, in training
WIDTHS = (8, 16, 24, 32, 48, 64)  # of the recorded models, in channels
CONTEXT = 256  # tokens: three worked problems have up to 180
BATCH_SIZE, STEPS = 32, 1500
LR, MUON_LR = 0.006, 0.02
MOST_WRITTEN = 80  # tokens: the steps of eight people
AT_ONCE = 250  # prompts answered side by side: bounds the memory for the past
GROUPS = 3  # of rows by their length, each filled up to its own longest: a third of the work less than in one
VOTES = (1, 3, 5, 15)  # samples a majority is taken of
LENGTHS = (2, 3, 4, 5, 6, 8)  # people in a problem; training has 3 and 4, or 4 and 5
NOT_COUNTED = -100  # as a target: cross_entropy leaves it out


def training_batch(B: int, rng: random.Random, worked: float = 0.5) -> tuple[Tensor, Tensor]:
    """Return documents of SHOTS + 1 problems, and what they say after their questions.

    A share `worked` of the documents has all of its problems worked, the others none.
    Ids and targets, both (B, T): a target is the id at its place, or NOT_COUNTED in questions.
    """
    rows = []
    for kind in rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=B):
        reasoning, ids, targets = rng.random() < worked, [], []
        for problem in (draw(kind, rng) for _ in range(SHOTS + 1)):
            asked, line = TOKENIZER.encode(problem.question), TOKENIZER.encode(problem.write(reasoning))
            ids += line
            targets += [NOT_COUNTED] * len(asked) + line[len(asked) :]
        rows.append((torch.tensor(ids), torch.tensor(targets)))
    pad = torch.nn.utils.rnn.pad_sequence
    ids, targets = zip(*rows, strict=True)
    return pad(ids, batch_first=True, padding_value=LINE_END), pad(targets, True, NOT_COUNTED)


def by_length(ids: Tensor, targets: Tensor, groups: int) -> list[Tensor]:
    """Cut documents (B, T) into groups of like length, without the filling that a group does not need.

    Three tensors for each group of b documents, the longest of t tokens: what is read (b, t - 1), which of
    these b (t - 1) places are followed by a token that counts (n,), and that token (n,).
    """
    T, parts = ids.shape[1], []
    lengths = T - (targets != NOT_COUNTED).flip(1).int().argmax(1)  # (B,): a document's last token counts
    for rows in lengths.argsort(stable=True).tensor_split(groups):
        t = int(lengths[rows].max())
        following = targets[rows, 1:t].flatten()  # (b (t - 1),)
        places = (following != NOT_COUNTED).nonzero()[:, 0]  # (n,)
        parts += [ids[rows, : t - 1], places, following[places]]
    return parts


def steps_loss(model: GPT, *parts: Tensor) -> Tensor:
    """Return the mean loss, in nats, of the tokens that count in groups from `by_length`: ().

    The head is asked about these tokens alone.
    """
    states = [
        model.states(ids).flatten(0, 1)[places] for ids, places in zip(parts[::3], parts[1::3], strict=True)
    ]
    return F.cross_entropy(model.head(torch.cat(states)).float(), torch.cat(parts[2::3]))


def reasoning_model(width: int, seed: int = 0, steps: int = STEPS, worked: float = 0.5) -> GPT:
    """Return a GPT of two layers and `width` channels, trained on a share `worked` of worked documents.

    The loss is the mean over tokens after questions, of which unworked problems have few: some 13 % of
    them at one half.
    """
    device, rng = Budget.detect().device, random.Random(seed)
    config = GPTConfig.of_width(TOKENIZER.vocab_size, width, context_length=CONTEXT, n_layer=2)
    model = GPT(config, seed).to(device)

    groups = GROUPS if device.type == "cpu" else 1  # a GPU waits for launches, of which each group needs all

    def draw(generator: torch.Generator) -> list[Tensor]:
        batch = training_batch(BATCH_SIZE, rng, worked)
        return [send(part, device) for part in by_length(*batch, groups)]

    train_on_loss(model, draw, steps_loss, Recipe(steps, LR, MUON_LR), seed=seed)
    return model


@dataclass(frozen=True)
class Prompt:
    """A question after examples, all worked or none; `begun` is what its answer starts with."""

    problem: Problem
    examples: tuple[Problem, ...]
    reasoning: bool
    begun: str = ""

    @property
    def text(self) -> str:
        """The whole prompt: the examples, the question, and what was begun."""
        shown = "".join(example.write(self.reasoning) for example in self.examples)
        return f"{shown}{self.problem.question} {self.begun}".rstrip(" ")


def draw_prompts(
    kind: str,
    reasoning: bool,
    B: int,
    seed: int = 10_000,
    n: int | None = None,
    shots: int = SHOTS,
    held_out: bool = True,
) -> list[Prompt]:
    """Draw B problems of a kind, `n` people in each, after examples such as training has.

    They are held out from training, unless told otherwise.

    With and without reasoning the problems and the examples are the same.
    """
    rng, prompts = random.Random(f"{kind}, {seed}"), []
    for _ in range(B):
        examples = tuple(draw(kind, rng) for _ in range(shots))
        prompts.append(Prompt(draw(kind, rng, held_out=held_out, n=n), examples, reasoning))
    return prompts


def write(model: GPT, prompts: Sequence[Prompt], temperature: float = 0.0, seed: int = 0) -> list[str]:
    """Return what a model writes after each prompt, up to the line's end: steps, if any, and an answer.

    At temperature 0 it is the most probable token each time. `begun` is not repeated.
    """
    ids = [TOKENIZER.encode(prompt.text) for prompt in prompts]
    how = dict(max_tokens=MOST_WRITTEN, temperature=temperature, stop=LINE_END, seed=seed)
    return [TOKENIZER.decode(row).strip() for row in continuations(model, ids, AT_ONCE, **how)]


def answer_in(written: str) -> str:
    """Return what stands after the last "answer" in a text, or nothing."""
    _, found, answer = f" {written}".rpartition(" answer ")
    return answer if found else ""


def share_right(prompts: Sequence[Prompt], written: Sequence[str]) -> float:
    """Return the share of prompts whose answer, what is begun and then written, ends right.

    Of arithmetic a guess is right once in ten times, of coins and facts every other time.
    """
    pairs = zip(prompts, written, strict=True)
    hits = [answer_in(f"{prompt.begun} {text}") == prompt.problem.answer for prompt, text in pairs]
    return sum(hits) / len(hits)


def n_tokens(written: Sequence[str]) -> float:
    """Return the mean number of tokens of texts that a model wrote, with the line's end if it got there."""
    return sum(min(len(TOKENIZER.encode(text)) + 1, MOST_WRITTEN) for text in written) / len(written)


def evaluate(model: GPT, B: int = 200, seed: int = 10_000) -> list[dict[str, str | bool | float]]:
    """Return a row for each kind of problem, with and without reasoning: accuracy, tokens an answer."""
    rows = []
    for kind in PROBLEMS:
        for reasoning in (False, True):
            prompts = draw_prompts(kind, reasoning, B, seed)
            written = write(model, prompts)
            row = {"accuracy": share_right(prompts, written), "tokens": n_tokens(written)}
            rows.append({"kind": kind, "reasoning": reasoning} | row)
    return rows


def sample(
    model: GPT, prompts: Sequence[Prompt], k: int, temperature: float = 1.0, seed: int = 0
) -> list[list[str]]:
    """Return k texts drawn for each prompt."""
    written = write(model, [prompt for prompt in prompts for _ in range(k)], temperature, seed)
    return [written[start : start + k] for start in range(0, len(written), k)]


def majority(answers: Sequence[str]) -> str:
    """Return the most frequent answer; of several, the one that came first (Wang et al. 2023).

    A text without an answer, "", has no vote.
    """
    votes = Counter(answer for answer in answers if answer)
    return votes.most_common(1)[0][0] if votes else ""


def self_consistency(
    prompts: Sequence[Prompt], samples: Sequence[Sequence[str]], ks: Sequence[int]
) -> list[dict[str, float]]:
    """Return a row for each k: accuracy of a majority of k samples, share with a right one among k, tokens.

    Samples are used in as many groups of k as there are, so that a small k has no more noise than a large.
    Raises ValueError when there are fewer than k samples of a prompt.
    """
    if not 1 <= max(ks) <= min(map(len, samples)):
        raise ValueError(f"a majority of {max(ks)} needs as many samples; there are {min(map(len, samples))}")
    rows = []
    for k in ks:
        groups = [(prompt.problem.answer, [answer_in(text) for text in texts[start : start + k]])
                  for prompt, texts in zip(prompts, samples, strict=True)
                  for start in range(0, len(texts) - k + 1, k)]  # fmt: skip
        rows.append({
            "k": k,
            "majority": sum(majority(answers) == right for right, answers in groups) / len(groups),
            "any": sum(right in answers for right, answers in groups) / len(groups),
            "tokens": k * n_tokens([text for texts in samples for text in texts]),
        })  # fmt: skip
    return rows


def tampered(prompt: Prompt, how: str, rng: random.Random) -> tuple[Prompt, str] | None:
    """Begin the answer with its true steps, but one "wrong", all "shuffled", or some "cut" at the end.

    Return the prompt and the answer that follows from these steps; None when there is no such, or it is
    the right one. A wrong running result is never the last, which is only to be copied. After shuffled or
    cut steps the model is made to answer at once, and what follows is the last result said: for kinds whose
    steps keep a running result, arithmetic and coins. Raises ValueError when `how` is none of the three.
    """
    problem, steps = prompt.problem, list(prompt.problem.steps)
    if how == "wrong":
        places = [i for i in range(len(steps)) if other_results(problem, i)]
        running = [i for i in places if " makes " in steps[i]]
        places = running[:-1] if running else places
        if not places:
            return None
        i = rng.choice(places)
        begun, follows = wrong_step(problem, i, rng.choice(other_results(problem, i)))
    elif how in ("shuffled", "cut"):
        steps = rng.sample(steps, len(steps)) if how == "shuffled" else steps[: rng.randrange(len(steps))]
        begun = " ".join([*steps, "answer"])
        said = [after.split()[0] for after in begun.split("makes")[1:]]
        follows = said[-1] if said else problem.answer
    else:
        raise ValueError(f'how is "wrong", "shuffled" or "cut", not {how!r}')
    if follows == problem.answer:
        return None
    return replace(prompt, begun=begun), follows


def follow(model: GPT, prompts: Sequence[Prompt], how: str, seed: int = 0) -> dict[str, float]:
    """Tamper with the steps of prompts; return the shares of answers that follow them, and that are right.

    `n` counts the prompts left: those in which what follows is not right. A model that draws one of ten
    digits follows once in ten times, one that draws a side of a coin, or yes or no, every other time.
    Raises ValueError when no prompt is left.
    """
    rng = random.Random(seed)
    changed = [pair for pair in (tampered(prompt, how, rng) for prompt in prompts) if pair]
    if not changed:
        raise ValueError(f"no steps of these problems can be {how}: take arithmetic or coins")
    tried = [prompt for prompt, _ in changed]
    written = write(model, tried)
    follows = [
        answer_in(f"{prompt.begun} {text}") == expected
        for (prompt, expected), text in zip(changed, written, strict=True)
    ]
    return {"follows": sum(follows) / len(follows), "right": share_right(tried, written), "n": len(tried)}


def recorded_scores(width: int, worked: float, seed: int) -> dict[str, str | int | float]:
    """Train a model of one width; return all that chapter 6 measures of it.

    Problems of other lengths come after one example, so that no distance between words is new.
    """
    model = reasoning_model(width, seed, worked=worked)
    row: dict[str, str | int | float] = {"params": model.n_params}
    for each in evaluate(model, B=500):
        name = f"{each['kind']} {'worked' if each['reasoning'] else 'direct'}"
        row |= {name: each["accuracy"], f"{name} tokens": round(each["tokens"], 2)}
    prompts = draw_prompts("arithmetic", reasoning=True, B=200)
    for each in self_consistency(prompts, sample(model, prompts, k=15), VOTES):
        row |= {f"{name} of {each['k']}": round(each[name], 4) for name in ("majority", "any")}
    running = ("arithmetic", "coins")
    changes = [(kind, "wrong") for kind in PROBLEMS]
    changes += [(kind, how) for kind in running for how in ("shuffled", "cut")]
    for kind, how in changes:
        shares = follow(model, draw_prompts(kind, reasoning=True, B=300), how)
        row |= {f"{kind} {how} {name}": round(shares[name], 4) for name in ("follows", "right")}
    for kind in running:
        for n in LENGTHS:
            for reasoning, name in ((False, "direct"), (True, "worked")):
                longer = draw_prompts(kind, reasoning, B=200, n=n, shots=1)
                row[f"{kind} {name} of {n}"] = share_right(longer, write(model, longer))
    return row
