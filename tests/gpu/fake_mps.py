"""Apple's GPU on a machine that has none: tensors without values, of which torch itself checks the devices.

Why it exists: readers have Macs, and the machines that test the book have none. Import this before torch.
Tensors on "mps" are torch's FakeTensors: they have shapes and dtypes, nothing is computed, and a number
that is read is 1, or true. Beside what torch checks, a generator must be of the device, and there is no
float64.
"""

import compiled

compiled.load("mps")

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from entering import enter_for  # noqa: E402
from torch import nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # noqa: E402
from torch.utils._pytree import tree_flatten  # noqa: E402


class Apple(FakeTensorMode):
    """Says of each operation what its result would look like."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            return {torch.bool: True, torch.long: 1}.get(args[0].dtype, 1.0)
        out = super().__torch_dispatch__(func, types, args, kwargs)
        made = [t for t in tree_flatten(out)[0] if isinstance(t, FakeTensor) and t.device.type == "mps"]
        generator = (kwargs or {}).get("generator")
        if generator is not None and made and generator.device.type != "mps":
            raise RuntimeError(f"[mps] {func}: Expected a 'mps' device type for generator")
        if any(t.dtype == torch.float64 for t in made):
            raise TypeError(f"[mps] {func}: the MPS framework doesn't support float64")
        return out


APPLE = Apple(allow_non_fake_inputs=True)  # one for all: its tensors know it
_apply, _sdpa = nn.Module._apply, F.scaled_dot_product_attention


def apply(self: nn.Module, fn, recurse: bool = True) -> nn.Module:
    """Move a module; leave it as it is where it is there already, as torch cannot exchange fakes in place."""
    there = all(fn(parameter) is parameter for parameter in self.parameters())
    return self if there else _apply(self, fn, recurse)


def attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Attend by products: torch asks for a kernel for MPS where there is none to ask."""
    if q.device.type != "mps":
        return _sdpa(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    groups = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(groups, dim=1) if enable_gqa else t for t in (k, v))
    scores = q @ k.mT  # (B, nh, T, S)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return scores.softmax(-1) @ v  # (B, nh, T, H)


torch.backends.mps.is_available = lambda: True
nn.Module._apply, F.scaled_dot_product_attention = apply, attention
enter_for("mps", lambda: APPLE)
