"""How much better? Annotators compare blindly; the gold reward knows; the old text tells the price."""

import random
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from gptlib.alignment.docstrings import answer, decode_answers, decode_responses
from gptlib.alignment.preferences import Annotator, Comparison, compare_all, gold_reward, gold_terms
from gptlib.alignment.rollouts import Responses, Reward, kl_per_response
from gptlib.model import GPT
from gptlib.tokenizers import BPETokenizer, EncodedCorpus
from gptlib.training import draw_batch, next_token_loss


def gold(tokenizer: BPETokenizer) -> Reward:
    """Return the gold reward of responses as ids: what a learner never sees, and a verifier would know."""

    def reward(responses: Responses) -> Tensor:
        pairs = zip(*decode_responses(tokenizer, responses), strict=True)
        return torch.tensor([gold_reward(*pair) for pair in pairs])

    return reward


def win_rate(
    signatures: Sequence[str], ours: Sequence[str], theirs: Sequence[str], people: Sequence[Annotator]
) -> tuple[float, float, float]:
    """Return the share of annotators' choices that go to our response, with Wilson's 95 % interval.

    One annotator a signature, in turn. Equal responses are left out; where all are equal it is one half. Draw
    the two sides with different seeds: with one seed a policy near the other writes much the same.
    """
    pairs = [pair for pair in zip(signatures, ours, theirs, strict=True) if pair[1] != pair[2]]
    if not pairs:
        return 0.5, 0.0, 1.0
    choices = zip(pairs, compare_all(pairs, people), strict=True)
    wins = sum(choice.chosen == mine for (_, mine, _), choice in choices)
    interval = binomtest(wins, len(pairs)).proportion_ci(method="wilson")
    return wins / len(pairs), float(interval.low), float(interval.high)


def against(
    policy: GPT,
    reference: GPT,
    tokenizer: BPETokenizer,
    theirs: dict[str, str],
    people: Sequence[Annotator],
    seed: int,
) -> tuple[list[str], dict[str, float]]:
    """Let a policy answer the signatures that `theirs` has responses to; return its texts, and how it fares.

    The row has the win rate with its interval, the mean KL to `reference` in nats a response, the gold
    reward, and the share of different texts.
    """
    responses = answer(policy, tokenizer, theirs, seed=seed)
    texts = decode_answers(tokenizer, responses)
    win, low, high = win_rate(list(theirs), texts, list(theirs.values()), people)
    return texts, {
        "win": win,
        "low": low,
        "high": high,
        "kl": kl_per_response(policy, reference, responses).mean().item(),
        "gold": gold(tokenizer)(responses).mean().item(),
        "distinct": len(set(texts)) / len(texts),
    }


def prices(margin: Tensor, given: Sequence[Comparison]) -> dict[str, float]:
    """Return what a reward model pays for a unit of each gold term, by least squares over comparisons.

    `margin` (B,) is by how much it prefers what was chosen.
    """
    terms = [[list(gold_terms(c.signature, text).values()) for text in (c.chosen, c.rejected)] for c in given]
    chosen, rejected = torch.tensor(terms).unbind(1)  # (B, terms) each
    paid = torch.linalg.lstsq(chosen - rejected, margin[:, None].float()).solution[:, 0]  # (terms,)
    return dict(zip(gold_terms("", ""), paid.tolist(), strict=True))


def calibration(margin: Tensor, bins: int = 6) -> pd.DataFrame:
    """Return how sure a reward model is of its side, and how often that was chosen, in bins of like size."""
    found = pd.DataFrame({"sure": margin.abs().sigmoid(), "right": (margin > 0).float()})
    return found.groupby(pd.qcut(found.sure, bins), observed=True).mean()


def side_by_side(
    signatures: Sequence[str], ours: Sequence[str], theirs: Sequence[str], n: int, seed: int = 0
) -> tuple[list[dict[str, str]], list[str]]:
    """Return n rows to be judged blindly: signature, A and B in any order; and which of them is ours."""
    rng = random.Random(seed)
    rows, key = [], []
    for i in rng.sample(range(len(signatures)), min(n, len(signatures))):
        first = rng.random() < 0.5
        a, b = (ours[i], theirs[i]) if first else (theirs[i], ours[i])
        rows.append({"signature": signatures[i], "A": a, "B": b})
        key.append("A" if first else "B")
    return rows, key


def reading_loss(data: EncodedCorpus, batch_size: int = 16, seed: int = 0) -> Callable[[nn.Module], Tensor]:
    """Return the pre-training loss on a text, in nats per token, over a new batch at each call (PPO-ptx)."""
    generator = torch.Generator().manual_seed(10_000 + seed)  # pre-training drew from small seeds

    def loss(model: nn.Module) -> Tensor:
        ids, targets = draw_batch(data.train, batch_size, model.context_length, generator)
        device = next(model.parameters()).device
        return next_token_loss(model(ids.to(device)), targets.to(device))

    return loss
