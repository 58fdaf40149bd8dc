"""What this machine can do: its device, the dtype that suits it, and how much work to ask of it."""

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

Value = TypeVar("Value")


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
        outputs. Asking for ``gpu`` without a GPU is allowed, and slow.
        Raises ValueError when GPTLIB_BUDGET is neither ``cpu`` nor ``gpu``.
        """
        device = _best_device()
        # An Apple laptop's GPU (mps) is used, but it is nearer to two cores than to a T4.
        name = os.environ.get("GPTLIB_BUDGET") or ("gpu" if device.type == "cuda" else "cpu")
        if name == "cpu" and device.type == "cuda":
            device = torch.device("cpu")
        return cls(name, device, _best_dtype(device))

    def pick(self, *, cpu: Value, gpu: Value) -> Value:
        """Return the value meant for this budget."""
        return gpu if self.name == "gpu" else cpu

    def in_float32(self) -> "Budget":
        """Return the same, computing in float32: right where matrices are too small to gain from less."""
        return replace(self, dtype=torch.float32)

    def describe(self) -> str:
        """Say in one line which machine this is: it stands beside every measurement."""
        if self.device.type == "cuda":
            what = torch.cuda.get_device_name(self.device)
        else:
            what = f"{_cpu_name()}, {torch.get_num_threads()} threads"
            what = f"{what}, with its GPU (mps)" if self.device.type == "mps" else what
        return f"{what}, {str(self.dtype).removeprefix('torch.')}"


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
