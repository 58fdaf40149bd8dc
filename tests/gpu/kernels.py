"""What a T4's own kernels compute, in the CPU's: attention, norms, and products in float16.

Why it exists: a CPU has no such kernels, and where it has float16 it does not overflow where tensor cores do.
Shapes: B batch, nh heads, T queries, S keys, H head size.
"""

import torch
from torch import Tensor

PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "matmul", "linear"}


def compute(func, name: str, args: list, kwargs: dict):
    """Compute an operation on CPU tensors as a T4 does."""
    if name == "_scaled_dot_product_efficient_attention":
        return attention(*args, **kwargs)
    if name == "_scaled_dot_product_efficient_attention_backward":
        return attention_backward(*args, **kwargs)
    if name in ("_softmax_backward_data", "_log_softmax_backward_data") and args[3] == torch.float16:
        return func(args[0].float(), args[1].float(), args[2], torch.float32).half()
    if name in ("_softmax", "_log_softmax") and args[2]:  # from float16 to float32 in one kernel
        return func(args[0].float(), args[1], False)
    dtypes = {t.dtype for t in args if isinstance(t, Tensor)} if name in PRODUCTS else set()
    if torch.float16 not in dtypes:
        return func(*args, **kwargs)
    if len(dtypes) > 1:
        raise RuntimeError(f"[T4] {func}: expected both to have the same dtype, but got {dtypes}")
    return func(*(t.float() if isinstance(t, Tensor) else t for t in args), **kwargs).half()


def _scores(q: Tensor, k: Tensor, bias: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    """Return what softmax is taken of, in float32: (B, nh, T, S)."""
    scores = q.float() @ k.float().mT * scale
    if bias is not None:
        scores = scores + bias.float()
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return scores


def attention(q, k, v, bias, compute_log_sumexp, dropout_p=0.0, is_causal=False, scale=None):
    """Compute aten's memory-efficient attention: output, log-sum-exp, and two numbers for dropout."""
    scores = _scores(q, k, bias, is_causal, scale or q.shape[-1] ** -0.5)
    out = (scores.softmax(-1) @ v.float()).to(q.dtype)  # (B, nh, T, H)
    out = out.transpose(1, 2).contiguous().transpose(1, 2)  # laid out as the kernel does
    none = torch.zeros((), dtype=torch.long)
    return out, scores.logsumexp(-1), none, none


def attention_backward(
    grad, q, k, v, bias, out, lse, seed, offset, dropout_p, mask, is_causal=False, scale=None
):
    """Compute its gradients: of queries, keys, values; there is none of a bias here."""
    scale = scale or q.shape[-1] ** -0.5
    p, g = _scores(q, k, bias, is_causal, scale).softmax(-1), grad.float()
    dp = g @ v.float().mT
    ds = p * (dp - (dp * p).sum(-1, keepdim=True))  # (B, nh, T, S)
    grads = ds @ k.float() * scale, ds.mT @ q.float() * scale, p.mT @ g
    return *(each.to(q.dtype) for each in grads), None


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Normalise the last axis, in float32: the shape of x."""
    y = x.float() * (x.float().square().mean(-1, keepdim=True) + eps).rsqrt()
    return (y if weight is None else y * weight.float()).to(x.dtype)


def rms_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of x and of the weight."""
    wide, g = x.float(), grad.float()
    r = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    of_weight = None if weight is None else (g * wide * r).flatten(0, -2).sum(0).to(weight.dtype)
    g = g if weight is None else g * weight.float()
    of_x = r * (g - wide * r * r * (g * wide).mean(-1, keepdim=True))
    return of_x.to(x.dtype), of_weight
