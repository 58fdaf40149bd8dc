"""Best of n: draw n responses, keep the one that a reward likes best. No training; and how far it can go.

What a proxy reward brings in truth, against the distance from the reference, follows two forms measured by
Gao et al. 2023, *Scaling Laws for Reward Model Overoptimization*.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def best_of_n(proxy: Tensor, gold: Tensor, n: int) -> tuple[float, float]:
    """Return the mean proxy and gold reward of the best of n by proxy, drawn from N responses a prompt.

    Both (prompts, N). It is exact over all choices of n among N: the i-th of N by proxy, from 0, is the best
    of n in C(i, n - 1) of C(N, n). Raises ValueError when n is not from 1 to N.
    """
    N = proxy.shape[1]
    if not 1 <= n <= N:
        raise ValueError(f"the best of {n} needs as many responses to a prompt; there are {N}")
    order = proxy.argsort(dim=1)
    weights = torch.tensor([math.comb(i, n - 1) / math.comb(N, n) for i in range(N)])  # (N,)
    best = [(values.cpu().gather(1, order.cpu()) * weights).sum(1).mean().item() for values in (proxy, gold)]
    return best[0], best[1]


def best_of_n_bound(n: int) -> float:
    """Return log n - (n - 1) / n, the KL of best-of-n from its reference in nats, if no two score alike."""
    return math.log(n) - (n - 1) / n


def best_of_n_kl(scores: Tensor, n: int) -> float:
    """Return the mean over prompts of KL(best of n || reference), in nats: scores (prompts, N).

    Among the N drawn, those that score s are the best of n with probability F^n - (F - p)^n, where p is their
    share and F that of scoring s or less. Responses that repeat keep this below `best_of_n_bound`.
    """
    kls = []
    for row in scores.cpu().double():
        p = row.unique(return_counts=True)[1].double() / len(row)  # from the worst to the best
        F = p.cumsum(0)
        q = F**n - (F - p).clamp(min=0) ** n
        kls.append(torch.special.xlogy(q, q / p).sum().item())
    return sum(kls) / len(kls)


def fit_overoptimisation(kl: Sequence[float], gain: Sequence[float], method: str) -> tuple[float, float]:
    """Fit gold gain against d = sqrt(KL), by least squares; return a and b.

    Of best-of-n it is d (a - b d), of reinforcement learning ("rl") d (a - b log d) (Gao 2023, section 3).
    Raises ValueError for another method, or fewer than three distances above 0.
    """
    d, gain = np.sqrt(np.asarray(kl, dtype=float)), np.asarray(gain, dtype=float)
    d, gain = d[d > 0], gain[d > 0]
    if len(d) < 3:
        raise ValueError(f"two constants need at least three distances above 0, not {len(d)}")
    if method not in ("best_of_n", "rl"):
        raise ValueError(f'method is "best_of_n" or "rl", not {method!r}')
    columns = np.stack([d, -d * (d if method == "best_of_n" else np.log(d))], axis=1)
    a, b = np.linalg.lstsq(columns, gain, rcond=None)[0]
    return float(a), float(b)


def overoptimisation(kl: Sequence[float], a: float, b: float, method: str) -> np.ndarray:
    """Return the gold gain that the fitted form gives at each KL: the same number of values."""
    d = np.sqrt(np.asarray(kl, dtype=float))
    return d * (a - b * (d if method == "best_of_n" else np.log(np.maximum(d, 1e-9))))
