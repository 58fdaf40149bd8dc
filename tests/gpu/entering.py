"""Let a dispatch mode see what makes or moves tensors of one kind of device, and nothing else.

Why it exists: a tensor of a fake device brings its rules along, but one that is only being made has none
yet; and with a mode around everything, what stays on the CPU would be slow, or lose its values.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MAKE_TENSORS = (
    "tensor", "as_tensor", "zeros", "ones", "full", "empty", "arange", "linspace", "eye", "rand", "randn",
    "randint", "randperm", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like",
)  # fmt: skip


def enter_for(kind: str, mode: Callable[[], TorchDispatchMode]) -> None:
    """Change torch's functions so that those called for a device of this kind are called within the mode."""

    def of_kind(value) -> bool:
        if isinstance(value, str | torch.device):
            return torch.device(value).type == kind
        return isinstance(value, Tensor) and value.device.type == kind

    def within(function: Callable) -> Callable:
        def call(*args, **kwargs):
            if any(map(of_kind, (*args[:3], kwargs.get("device")))):
                with mode():
                    return function(*args, **kwargs)
            return function(*args, **kwargs)

        return call

    for name in MAKE_TENSORS:
        setattr(torch, name, within(getattr(torch, name)))
    for owner in (Tensor, torch):  # makes a scalar on the device, in C++
        owner.where = within(owner.where)
    Tensor.to = within(Tensor.to)
    backward = torch.autograd.backward

    def backward_within(tensors, *args, **kwargs):
        roots = [tensors] if isinstance(tensors, Tensor) else tensors
        if not any(map(of_kind, roots)):
            return backward(tensors, *args, **kwargs)
        with mode():
            return backward(tensors, *args, **kwargs)

    torch.autograd.backward = backward_within
    vmap = torch.func.vmap

    def vmap_within(function: Callable, *args, **kwargs) -> Callable:
        mapped = vmap(function, *args, **kwargs)

        def call(*inputs):
            if not any(map(of_kind, tree_leaves(inputs))):
                return mapped(*inputs)
            with mode():  # what maps an operation makes tensors too
                return mapped(*inputs)

        return call

    torch.func.vmap = vmap_within
