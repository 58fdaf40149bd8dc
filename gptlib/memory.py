"""Memory: keep what is freed instead of asking the system for it again; send to a GPU without waiting."""

import ctypes
import platform

import torch
from torch import Tensor

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's names for them, in glibc's malloc.h
LIMIT = 2**30  # bytes


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks of up to 1 GiB for the next allocation; say whether it does.

    By default it gives large ones back, and each page is then cleared and mapped anew: thousands a step
    for a small model, an eighth of its time. Elsewhere than on Linux with glibc, nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(MMAP_THRESHOLD, LIMIT) and libc.mallopt(TRIM_THRESHOLD, LIMIT))


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a tensor to a device; to CUDA from pinned memory, else the CPU would wait for the GPU's work."""
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
