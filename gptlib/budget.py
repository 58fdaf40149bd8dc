"""What this machine can do: its device, the dtype that suits it, and how much work to ask of it."""

import functools
import os
import platform
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

Value = TypeVar("Value")
WIDE = 256  # channels: from here on a GPU gains from products in half precision; below it waits for launches


@dataclass(frozen=True)
class Budget:
    """How much a notebook may ask for, and where it runs.

    ``name`` is ``"cpu"`` (two cores, four minutes a notebook) or ``"gpu"`` (a Colab T4, five minutes).
    Both train the same models; where it costs little, ``gpu`` trains them with more seeds.
    """

    name: str
    device: torch.device
    dtype: torch.dtype  # what matrix products are computed in; weights stay float32

    def __post_init__(self):
        if self.name not in ("cpu", "gpu"):
            raise ValueError(
                f"a budget is 'cpu' or 'gpu', not {self.name!r}: set GPTLIB_BUDGET to one of these"
            )

    @classmethod
    def detect(cls) -> "Budget":
        """Read the budget off the machine; the environment variable GPTLIB_BUDGET overrides its name.

        Asking for ``cpu`` also computes on the CPU, so that a GPU machine can repeat the committed
        outputs. Asking for ``gpu`` without a GPU is allowed, and slow. A GPU that does not compute what
        the CPU computes is not used, and a warning says so.
        Raises ValueError when GPTLIB_BUDGET is neither ``cpu`` nor ``gpu``.
        """
        asked, device = os.environ.get("GPTLIB_BUDGET"), _best_device()
        if asked == "cpu" or not computes_as_the_cpu(device):
            device = torch.device("cpu")
        # An Apple laptop's GPU (mps) is used, but it is nearer to two cores than to a T4.
        return cls(asked or ("gpu" if device.type == "cuda" else "cpu"), device, _best_dtype(device))

    def pick(self, *, cpu: Value, gpu: Value) -> Value:
        """Return the value meant for this budget."""
        return gpu if self.name == "gpu" else cpu

    def in_float32(self) -> "Budget":
        """Return the same, computing in float32: right where matrices are too small to gain from less."""
        return replace(self, dtype=torch.float32)

    def dtype_for(self, model: nn.Module) -> torch.dtype:
        """Return what to compute a model's matrix products in: float32 on a GPU below WIDE channels.

        A model's channels are the smaller side of its largest matrix by that side. A CPU's dtype stays.
        """
        sides = [min(parameter.shape) for parameter in model.parameters() if parameter.ndim == 2]
        narrow = max(sides, default=0) < WIDE
        return torch.float32 if self.device.type != "cpu" and narrow else self.dtype

    def describe(self) -> str:
        """Say in one line which machine this is: it stands beside every measurement."""
        if self.device.type == "cuda":
            what = torch.cuda.get_device_name(self.device)
        else:
            what = f"{_cpu_name()}, {torch.get_num_threads()} threads"
            what = f"{what}, with its GPU (mps)" if self.device.type == "mps" else what
        return f"{what}, {str(self.dtype).removeprefix('torch.')}"


@functools.cache
def computes_as_the_cpu(device: torch.device) -> bool:
    """Say whether a device's results are the CPU's, for one block forward and backward, to 1e-3; warn if not.

    Some builds for Apple's GPUs are known to return wrong numbers without a word. Looked at once a process.
    """
    if device.type == "cpu":
        return True
    from gptlib.model import Block, GPTConfig  # here, since a budget is detected without a model too

    config = GPTConfig.modern(1, context_length=16, n_layer=1, n_head=4, n_embd=64, zero_init=False)
    generator = torch.Generator().manual_seed(0)
    found = []
    for where in (torch.device("cpu"), device):
        block = Block(config)
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.normal_(
                    1.0 if parameter.ndim == 1 else 0.0, 0.1, generator=generator.manual_seed(0)
                )
        block.to(where)
        x = torch.randn(2, 16, 64, generator=generator).to(where).requires_grad_()
        y = block(x)
        y.square().mean().backward()
        found.append([y.detach().cpu(), *(t.grad.cpu() for t in (x, *block.parameters()))])
    off = max(((ours - theirs).norm() / ours.norm()).item() for ours, theirs in zip(*found, strict=True))
    if off <= 1e-3:
        return True
    warnings.warn(
        f"{device} computes something else than the CPU (off by {off:.1e} of the result), so the CPU is "
        "used: install another version of torch, or set GPTLIB_BUDGET=cpu",
        stacklevel=3,
    )
    return False


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware gains from it, float16 on older GPUs such as a T4, float32 elsewhere.

    A processor with AMX gains, and AMD's with AVX-512; Intel's without AMX takes twice as long as in float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    flags = _cpu_line("flags").split() if device.type == "cpu" else ()
    amd = _cpu_line("vendor_id") == "AuthenticAMD"
    return torch.bfloat16 if "amx_bf16" in flags or (amd and "avx512_bf16" in flags) else torch.float32


def _cpu_name() -> str:
    return _cpu_line("model name") or platform.processor() or platform.machine()


def _cpu_line(name: str) -> str:
    """Return what Linux tells of the processor under a name; nothing elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return ""
