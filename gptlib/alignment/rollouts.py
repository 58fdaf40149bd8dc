"""Responses to prompts as tensors, and what all methods compute of them: log-probabilities and KL.

Shapes: S responses, T tokens of the longest prompt and response, V vocabulary, G responses a prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

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


def respond(
    policy: nn.Module,
    prompts: Sequence[list[int]],
    stop: int,
    max_tokens: int = MAX_RESPONSE,
    temperature: float = 1.0,
    seed: int = 0,
) -> Responses:
    """Draw a response to each prompt, side by side those of like length."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    how = dict(max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed)
    written = continuations(policy, [prompts[i] for i in order], AT_ONCE, **how)
    answers = [written[place] for place in sorted(range(len(order)), key=order.__getitem__)]
    return Responses(prompts, answers)


def token_logps(model: nn.Module, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p of each token after the first, and the entropies of these predictions, in nats.

    (S, T) -> (S, T - 1) twice. Gradients flow through the first.
    """
    ids = ids.to(next(model.parameters()).device)
    logps = model(ids[:, :-1]).float().log_softmax(-1)  # (S, T - 1, V)
    with torch.no_grad():
        entropies = -(logps.exp() * logps).sum(-1)  # (S, T - 1)
    return logps.gather(-1, ids[:, 1:, None])[..., 0], entropies


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the tokens of all answers: () from (S, T - 1) twice."""
    return (values * mask).sum() / mask.sum()


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
    logps, _ = token_logps(policy, responses.ids)
    reference_logps, _ = token_logps(reference, responses.ids)
    kl, _ = kl_estimates(logps, reference_logps)
    return (kl * responses.mask.to(kl.device)).sum(-1)


def check_finite(step: int, **values: Tensor) -> None:
    """Raise ValueError when a loss or a KL is not a finite number, naming it and the step."""
    for name, value in values.items():
        if not value.isfinite().all():
            raise ValueError(f"the {name} is {value.item()} at step {step}: lower the learning rate")
