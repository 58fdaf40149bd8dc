"""A Tesla T4 on a machine that has none: tensors on "cuda:0", held on the CPU, that obey CUDA's rules.

Why it exists: readers run the book on Colab's GPU, and the machines that test it have none. Import this
before torch. Every operation is computed on the CPU, after what CUDA would refuse is refused: tensors of two
devices in one operation (but a CPU scalar in a pointwise one, indices, copies), another device's generator,
numpy, bfloat16 products on sm_75. Products in float16 round and overflow. Autocast, GradScaler, autograd and
fused AdamW are torch's own code for CUDA. `counts` has the kernels launched, `syncs` what waited for them.
"""

import sys
from collections import Counter

import compiled

compiled.load("cuda")

import kernels  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from entering import enter_for  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_map_only  # noqa: E402

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
CAPABILITY = (7, 5)
counts, syncs = Counter(), Counter()

MOVES_NOTHING = {  # beside views, which launch no kernel either
    "detach", "alias", "_unsafe_view", "empty", "empty_strided", "empty_like", "new_empty",
    "new_empty_strided", "lift_fresh", "is_pinned", "_pin_memory", "_reshape_alias", "set_",
}  # fmt: skip
BEYOND_THE_FIRST = {  # kernels of operations that launch several on CUDA
    "embedding_dense_backward": 4, "_fused_adamw_": 1, "index_put_": 3, "_index_put_impl_": 3,
    "native_layer_norm_backward": 1, "_fused_rms_norm_backward": 1, "multinomial": 4, "sort": 2, "topk": 1,
    "_scaled_dot_product_efficient_attention_backward": 2, "nonzero": 3, "_foreach_norm": 1,
}  # fmt: skip
TAKE_CPU_INDICES = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
COPIES = {"_to_copy", "copy_", "copy"}


class OnCuda(torch.Tensor):
    """A tensor that says it is on cuda:0; `inner` holds it."""

    @staticmethod
    def __new__(cls, inner):
        how = dict(strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype)
        how |= dict(layout=inner.layout, device=CUDA, requires_grad=False)
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, **how)

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self, **_):
        return f"{self.inner!r}[:-1], device='cuda:0')"

    def __format__(self, spec):
        return self.item().__format__(spec) if self.dim() == 0 else super().__format__(spec)

    def tolist(self):
        syncs["copy to the CPU"] += 1
        return self.inner.tolist()

    def numpy(self, **_):
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
            "memory first."
        )

    def __array__(self, *_, **__):
        return self.numpy()

    def data_ptr(self):
        return self.inner.data_ptr()

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            new = OnCuda(self.inner.clone())
            new.__dict__.update({key: value for key, value in self.__dict__.items() if key != "inner"})
            memo[id(self)] = new.requires_grad_(self.requires_grad)
        return memo[id(self)]

    def __getitem__(self, index):
        return super().__getitem__(_lists_as_tensors(index))

    def __setitem__(self, index, value):
        super().__setitem__(_lists_as_tensors(index), value)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


def _lists_as_tensors(index):
    """Make indices of lists here: torch would make them on CUDA, in C++, where nobody sees it."""
    if isinstance(index, tuple):
        return tuple(map(_lists_as_tensors, index))
    return torch.tensor(index) if isinstance(index, list) else index


class T4(TorchDispatchMode):
    """Within it also what is made on cuda:0, from nothing or from the CPU's, is seen."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


def refuse(func, why: str):
    """Raise as CUDA would."""
    raise RuntimeError(f"[T4] {func}: {why}")


def check(func, name: str, args, kwargs, on_cuda: list, on_cpu: list, made_there: bool) -> None:
    """Raise RuntimeError for what CUDA refuses."""
    generator = kwargs.get("generator")
    if generator is not None and (on_cuda or made_there) and generator.device.type != "cuda":
        refuse(func, f"Expected a 'cuda' device type for generator but found '{generator.device}'")
    if not on_cuda or name in COPIES:
        return
    if name in TAKE_CPU_INDICES:
        if not isinstance(args[0], OnCuda):
            refuse(func, "indices should be on the same device as the indexed tensor (cpu)")
        values = args[2] if len(args) > 2 else None
        if isinstance(values, torch.Tensor) and not isinstance(values, OnCuda) and values.dim():
            refuse(func, "values on cpu for a tensor on cuda")
        return
    foreach, fills = name.startswith("_foreach_"), name in ("where", "masked_fill", "masked_fill_", "fill_")
    may_be_scalar = foreach or fills or torch.Tag.pointwise in func.tags
    wrong = [tuple(t.shape) for t in on_cpu if t.dim() or not may_be_scalar]
    if wrong:
        refuse(func, f"Expected all tensors to be on the same device, found on cuda:0 and cpu: {wrong}")
    if name in kernels.PRODUCTS and any(t.dtype == torch.bfloat16 for t in on_cuda):
        refuse(func, "sm_75 has no bfloat16 products")


def count(func, name: str, args, kwargs, came: bool, left: bool) -> None:
    """Count the kernels that an operation launches, and whether the CPU waits for it.

    It does when it wants a number, or a size that depends on one; and when it copies, in either direction,
    and does not say non_blocking.
    """
    waits = kwargs.get("non_blocking") is not True and not (name == "copy_" and args[2:] == (True,))
    if name in COPIES and (came or left):
        if waits:
            syncs["copy to the CPU" if left else "copy to the GPU"] += 1
    elif name == "_local_scalar_dense":
        syncs["item"] += 1
    elif name == "nonzero" or (name in TAKE_CPU_INDICES and any(map(_is_mask, args[1]))):
        syncs["as many as are true"] += 1
    view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
    if not view and not left and name not in MOVES_NOTHING and name != "_local_scalar_dense":
        counts[name] += kernels_of(name)


def kernels_of(name: str) -> int:
    """Return how many kernels an operation launches."""
    return 1 + BEYOND_THE_FIRST.get(name, 0)


def _is_mask(index) -> bool:
    return index is not None and index.dtype == torch.bool


def dispatch(func, args, kwargs):
    """Check and count an operation on cuda:0, compute it on the CPU; leave all others alone."""
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    on_cuda = [t for t in tensors if isinstance(t, OnCuda)]
    device = kwargs.get("device")
    there = torch.device(device).type == "cuda" if device is not None else bool(on_cuda)
    if not on_cuda and not there:
        return func(*args, **kwargs)
    name = func._schema.name.split("::")[1]
    check(func, name, args, kwargs, on_cuda, [t for t in tensors if not isinstance(t, OnCuda)], there)
    lands_on_cpu = name == "copy_" and not isinstance(args[0], OnCuda)
    came = name in COPIES and not isinstance(args[1 if name == "copy_" else 0], OnCuda)
    count(func, name, args, kwargs, came, left=lands_on_cpu or not there)
    out = _on_cpu(func, name, args, kwargs)
    if lands_on_cpu:
        return args[0]
    if not there:
        return out
    if name.endswith("_") and isinstance(args[0], OnCuda) and not isinstance(out, tuple | list):
        return args[0]
    known = {id(t.inner): t for t in on_cuda}
    return tree_map_only(torch.Tensor, lambda t: known[id(t)] if id(t) in known else OnCuda(t), out)


def _on_cpu(func, name: str, args, kwargs):
    """Compute on the tensors within; a generator of CUDA's lends its state to one of the CPU's."""
    args, kwargs = tree_map_only(OnCuda, lambda t: t.inner, (list(args), dict(kwargs)))
    if kwargs.get("device") is not None:
        kwargs["device"] = CPU
    if not kwargs.get("pin_memory"):
        kwargs.pop("pin_memory", None)
    generator = kwargs.get("generator")
    if generator is None:
        return kernels.compute(func, name, args, kwargs)
    kwargs["generator"] = torch.Generator()
    kwargs["generator"].set_state(generator.get_state())
    out = kernels.compute(func, name, args, kwargs)
    generator.set_state(kwargs["generator"].get_state())
    return out


_sdpa, _rms_norm = F.scaled_dot_product_attention, F.rms_norm


def attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Attend as a T4 does: by the memory-efficient kernel (flash attention wants sm_80), or by products."""
    how = dict(scale=scale, enable_gqa=enable_gqa)
    if q.device.type != "cuda":
        return _sdpa(q, k, v, attn_mask, dropout_p, is_causal, **how)
    if torch.is_autocast_enabled("cuda"):
        q, k, v = (t.to(torch.get_autocast_dtype("cuda")) for t in (q, k, v))
    if len({q.dtype, k.dtype, v.dtype}) > 1:
        refuse("attention", f"query, key and value differ in dtype: {q.dtype}, {k.dtype}, {v.dtype}")
    if attn_mask is not None and is_causal:
        refuse("attention", "a mask is given, and is_causal is set")
    aligned = q.dtype != torch.float16 or q.shape[-1] % 8 == 0
    if not torch.backends.cuda.mem_efficient_sdp_enabled() or enable_gqa or not aligned:
        with T4():
            return _sdpa(q, k, v, attn_mask, dropout_p, is_causal, **how)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype).masked_fill(~attn_mask, -torch.inf)
        attn_mask = attn_mask.expand(q.shape[0], q.shape[1], -1, -1)
    grad = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v))
    fused = torch.ops.aten._scaled_dot_product_efficient_attention
    return fused(q, k, v, attn_mask, grad, dropout_p, is_causal, scale=scale)[0]


class FusedRMSNorm(torch.autograd.Function):
    """The kernel that CUDA has for it, and a CPU has not."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        counts["_fused_rms_norm"] += 1
        return OnCuda(kernels.rms_norm(x.inner, weight if weight is None else weight.inner, eps))

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        counts["_fused_rms_norm_backward"] += 2
        inner = weight if weight is None else weight.inner
        grads = kernels.rms_norm_backward(grad.inner, x.inner, inner, ctx.eps)
        return *(each if each is None else OnCuda(each) for each in grads), None


def rms_norm(x, normalized_shape, weight=None, eps=None):
    """Normalise with the fused kernel, where x and weight are of one dtype."""
    if not isinstance(x, OnCuda) or (weight is not None and weight.dtype != x.dtype):
        return _rms_norm(x, normalized_shape, weight, eps)
    if weight is not None and not isinstance(weight, OnCuda):
        refuse("rms_norm", "the weight is on the cpu, the input on cuda")
    return FusedRMSNorm.apply(x, weight, torch.finfo(torch.float32).eps if eps is None else eps)


def plug_in() -> None:
    """Let torch find a Tesla T4."""
    _tell_torch()
    enter_for("cuda", T4)
    torch.Tensor.cuda = lambda self, *_, **__: self.to(CUDA)
    torch.Tensor.pin_memory = lambda self, *_: self.clone()
    F.scaled_dot_product_attention, F.rms_norm = attention, rms_norm


def _tell_torch() -> None:
    """Answer what torch asks of CUDA in Python, and let it take these tensors for CUDA's."""
    state = torch.zeros(16, dtype=torch.uint8)
    answers = dict(
        is_available=True, is_initialized=True, device_count=1, current_device=0, get_device_name="Tesla T4",
        get_device_capability=CAPABILITY, is_bf16_supported=False, get_rng_state=state, _lazy_init=None,
        set_rng_state=None, manual_seed=None, manual_seed_all=None, synchronize=None, set_device=None,
        is_current_stream_capturing=False, _is_in_bad_fork=False,
    )  # fmt: skip
    for name, value in answers.items():
        setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    for module in (torch.cuda.amp.common, torch.amp.grad_scaler, torch.amp.autocast_mode):
        module.amp_definitely_not_available = lambda: False
    for module in (torch.utils._foreach_utils, sys.modules["torch.optim.optimizer"]):
        module._foreach_supported_types.append(OnCuda)
    torch._C._set_only_lift_cpu_tensors(True)
    torch.autograd.set_multithreading_enabled(False)  # the modes belong to this thread
    torch.__future__.set_swap_module_params_on_conversion(True)  # parameters stay the same objects, as there


plug_in()
