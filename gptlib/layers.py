"""The small pieces that a GPT is put together from: matrix products and rotated positions.

Shapes: B batch, T time (tokens), C channels, nh heads, H head size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_ROWS = 32  # up to here, splitting the weights was seen to be faster
SHORT = 32  # tokens: up to here, plain products are faster on a CPU than torch's fused kernel


class Linear(nn.Linear):
    """x W^T + b, with all threads at work also where x is a token or a few, as in sampling on a CPU.

    A product of a large matrix with few rows is not shared among threads by the libraries beneath
    torch. Cut into as many parts as there are threads, it is: about 1.8 times as fast on two.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        rows = x.numel() // self.in_features
        if x.device.type != "cpu" or not 0 < rows <= FEW_ROWS or torch.compiler.is_compiling():
            return super().forward(x)
        parts = torch.get_num_threads()
        if parts == 1 or self.out_features < parts:
            return super().forward(x)
        even = self.out_features // parts * parts
        weight = self.weight[:even].view(parts, -1, self.in_features)  # (parts, out / parts, in)
        product = x.reshape(1, rows, -1).expand(parts, -1, -1) @ weight.mT  # (parts, rows, out / parts)
        y = product.transpose(0, 1).reshape(*x.shape[:-1], even)  # (..., out), but for a remainder
        if even < self.out_features:
            y = torch.cat([y, F.linear(x, self.weight[even:])], -1)  # (..., out)
        return y if self.bias is None else y + self.bias


def causal_attention(q: Tensor, k: Tensor, v: Tensor, whole: bool, dropout: float = 0.0) -> Tensor:
    """Mix values by how queries fit keys: (B, nh, T, H), twice (B, n_kv_head, S, H) -> (B, nh, T, H).

    The T queries are those of the last of S positions, of all if `whole`, and none reads what comes after it
    (Vaswani et al. 2017, equation 1, masked). Fewer heads of keys than of queries are shared by groups.
    """
    T, S = q.shape[-2], k.shape[-2]
    shared = q.shape[1] != k.shape[1]
    # What is compiled or exported is for any length, and must not depend on this one.
    plain = q.device.type == "cpu" and not (shared or dropout or torch.compiler.is_compiling())
    if plain and T > 1 and S <= SHORT:
        future = torch.full((T, S), -torch.inf, dtype=q.dtype).triu(1 + S - T)
        return ((q * q.shape[-1] ** -0.5) @ k.mT + future).softmax(-1) @ v
    mask = None if whole or T == 1 else torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=whole, enable_gqa=shared
    )


def rotation_table(T: int, H: int, base: float) -> Tensor:
    """Return the cosine and the signed sine of every position's angle for every channel: (2, T, H)."""
    frequency = base ** -(torch.arange(0, H, 2) / H)  # (H/2,)
    angle = torch.arange(T)[:, None] * frequency  # (T, H/2)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)])  # (2, T, H)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn each pair of channels by an angle proportional to the position: (B, nh, T, H) -> (B, nh, T, H).

    `table` (2, T, H) holds the cosines and sines of these positions. After it, the product of a
    query at i and a key at j depends on i - j alone (Su et al. 2021, equation 34; channel h is
    paired with h + H/2).
    """
    cos, sin = table.to(x.dtype)  # each (T, H)
    partner = x.roll(x.shape[-1] // 2, -1)  # (B, nh, T, H): h + H/2 in the place of h, and the reverse
    return x * cos + partner * sin
