"""Responses to prompts as tensors, and what all methods compute of them: log-probabilities and KL.

Shapes: S responses, T tokens of the longest prompt and response, V vocabulary, G responses a prompt.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.memory import send
from gptlib.model import GPT
from gptlib.sampling import continuations

MAX_PROMPT, MAX_RESPONSE = 40, 32  # tokens
AT_ONCE = 512  # responses written side by side: bounds the memory for the past


@dataclass(frozen=True)
class Responses:
    """Prompts and what was answered, as lists of ids; rows are filled up at their ends."""

    prompts: Sequence[list[int]]
    answers: Sequence[list[int]]  # with the stop token, unless one was cut off

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def ids(self) -> Tensor:
        """Prompt, answer, filling: (S, T)."""
        rows = [
            torch.tensor(prompt + answer) for prompt, answer in zip(self.prompts, self.answers, strict=True)
        ]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    @cached_property
    def mask(self) -> Tensor:
        """Whether the token that follows is one of the answer's: (S, T - 1)."""
        place = torch.arange(self.ids.shape[1] - 1)
        begins = torch.tensor([len(prompt) - 1 for prompt in self.prompts])[:, None]
        return (place >= begins) & (place <= self.last[:, None] - 1)

    @cached_property
    def last(self) -> Tensor:
        """Where each answer's last token is: (S,)."""
        return torch.tensor([len(p) + len(a) - 1 for p, a in zip(self.prompts, self.answers, strict=True)])

    def __getitem__(self, which: Sequence[int]) -> "Responses":
        return Responses([self.prompts[i] for i in which], [self.answers[i] for i in which])


Reward = Callable[[Responses], Tensor]  # (S,), of whole responses
Row = dict[str, float]


def respond(
    policy: nn.Module,
    prompts: Sequence[list[int]],
    stop: int,
    max_tokens: int = MAX_RESPONSE,
    temperature: float = 1.0,
    seed: int = 0,
) -> Responses:
    """Draw a response to each prompt, side by side those of like length."""
    how = dict(max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed)
    return Responses(prompts, continuations(policy, list(prompts), AT_ONCE, **how))


def answer_logits(model: nn.Module, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Score every token where an answer's are to come, nowhere else: logits (N, V), and those N tokens.

    ids (S, T) and mask (S, T - 1) on the CPU, N of it true. Of a GPT the head, which for a large vocabulary
    costs most, is not asked about prompts and filling.
    """
    device, places = next(model.parameters()).device, mask.flatten().nonzero()[:, 0]  # (N,)
    written = send(ids[:, 1:].flatten()[places], device)  # (N,)
    given, places = send(ids[:, :-1], device), send(places, device)
    if isinstance(model, GPT):
        return model.head(model.states(given).flatten(0, 1)[places]).float(), written
    return model(given).flatten(0, 1)[places].float(), written


def at_answers(values: Tensor, mask: Tensor) -> Tensor:
    """Put a value a token of answers to its place, 0 elsewhere: (N,), mask (S, T - 1) -> (S, T - 1)."""
    places = send(mask.flatten().nonzero()[:, 0], values.device)
    return values.new_zeros(mask.numel()).index_copy(0, places, values).view(mask.shape)


def answer_logps(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Return log p of the tokens of answers under a model, in nats, and 0 elsewhere: (S, T - 1).

    ids (S, T) and mask (S, T - 1) on the CPU.
    """
    return logps_of(*answer_logits(model, ids, mask), mask)


def logps_of(logits: Tensor, written: Tensor, mask: Tensor) -> Tensor:
    """Return log p of the tokens that `answer_logits` returned, in their places, 0 elsewhere: (S, T - 1)."""
    return at_answers(-F.cross_entropy(logits, written, reduction="none"), mask)


def mean_entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy of predictions, in nats: (N, V) -> ()."""
    logps = logits.log_softmax(-1)
    return -(logps.exp() * logps).sum(-1).mean()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the tokens of all answers: () from (S, T - 1) twice."""
    return (values * mask).sum() / mask.sum()


def alike(values: Tensor) -> Tensor:
    """Return whether values differ by no more than numbers of their size are rounded: (..., n) -> (..., 1).

    Whoever divides by their standard deviation would otherwise take the rounding for a signal.
    """
    low, high = values.aminmax(dim=-1, keepdim=True)
    size = torch.maximum(low.abs(), high.abs())
    return high - low <= 4 * torch.finfo(values.dtype).eps * size


def kl_estimates(logps: Tensor, reference_logps: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate KL(policy || reference), in nats, from tokens that the policy drew; same shape, twice.

    The first, log p - log q, has the right mean and both signs. The second, q / p - 1 - log(q / p), has the
    same mean, is never negative, and varies less where the two are close (Schulman 2020, k1 and k3).
    """
    difference = logps - reference_logps
    return difference, (-difference).exp() - 1 + difference


@torch.no_grad()
def kl_per_response(policy: nn.Module, reference: nn.Module, responses: Responses) -> Tensor:
    """Return the first estimate of KL(policy || reference) for each response, its tokens' sum: (S,)."""
    sums = []
    for some in torch.arange(len(responses)).split(64):  # bounds the memory for predictions
        ids, mask = responses.ids[some], responses.mask[some]
        kl, _ = kl_estimates(answer_logps(policy, ids, mask), answer_logps(reference, ids, mask))
        sums.append(kl.sum(-1))
    return torch.cat(sums)


@dataclass(frozen=True)
class Rollout:
    """What a policy wrote and what it earned, before it is updated; all but the responses on its device."""

    responses: Responses
    mask: Tensor  # (S, T - 1)
    logps: Tensor  # (S, T - 1) under the policy that wrote them
    reference_logps: Tensor  # (S, T - 1)
    kl: Tensor  # (S, T - 1), the first estimate
    scores: Tensor  # (S,)
    row: Row  # means of proxy reward, KL and length over responses, of entropy over tokens; what was watched


@torch.no_grad()
def roll_out(
    step: int,
    policy: nn.Module,
    reference: nn.Module,
    reward: Reward,
    prompts: Sequence[list[int]],
    stop: int,
    max_tokens: int = MAX_RESPONSE,
    seed: int = 0,
    watch: Callable[[Responses], Row] | None = None,
) -> Rollout:
    """Let a policy answer prompts and a reward score the answers: a step of PPO and GRPO begins with it.

    Raises ValueError when a reward or the KL is not finite.
    """
    responses = respond(policy, prompts, stop, max_tokens, seed=seed)
    logits, written = answer_logits(policy, responses.ids, responses.mask)
    logps = logps_of(logits, written, responses.mask)
    reference_logps = answer_logps(reference, responses.ids, responses.mask)
    mask = responses.mask.to(logps.device)
    scores = reward(responses).to(mask.device)
    kl, _ = kl_estimates(logps, reference_logps)
    means = dict(proxy=scores.mean(), kl=kl.sum(-1).mean(), entropy=mean_entropy(logits))
    means |= dict(length=mask.sum(-1).float().mean())
    row = dict(zip(means, torch.stack(list(means.values())).tolist(), strict=True))  # one wait for a GPU
    check_finite(step, reward=row["proxy"], KL=row["kl"])
    row = {"step": step} | row | (watch(responses) if watch else {})
    return Rollout(responses, mask, logps, reference_logps, kl, scores, row)


def draw_prompts(prompts: Sequence[list[int]], n: int, rng: random.Random) -> list[list[int]]:
    """Draw n different prompts. Raises ValueError when there are fewer."""
    if len(prompts) < n:
        raise ValueError(
            f"a step asks {n} prompts, there are {len(prompts)}: give more, or take fewer a step"
        )
    return rng.sample(list(prompts), n)


def check_finite(step: int, **values: float) -> None:
    """Raise ValueError when a reward, a loss or a KL is not a finite number, naming it and the step."""
    for name, value in values.items():
        if not math.isfinite(value):
            remedy = "look at what gives the reward" if name == "reward" else "lower the learning rate"
            raise ValueError(f"the {name} is {value} at step {step}: {remedy}")


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Follow a loss's gradient for one step, clipped to norm 1."""
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    optimizer.zero_grad()
