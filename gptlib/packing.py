"""Weights in little space: of a model that is shown, and not trained any more."""

import lzma

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

LEVELS = 31  # of a packed number, to either side of 0


def pack(tensors: dict[str, Tensor]) -> bytes:
    """Return weights in about a sixth of the space of float32: for a model that is not trained any more.

    A matrix (rows, columns) is rounded to whole multiples, -31 to 31, of a scale for each row, a vector to
    float16; then all is compressed. A number of a matrix is off by a sixtieth of its row's largest at most.
    """
    kept = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            kept[name] = tensor.cpu().half()
            continue
        matrix = tensor.float().cpu()
        scale = (matrix.abs().amax(1, keepdim=True) / LEVELS).clamp(min=torch.finfo(torch.float).tiny)
        kept[name] = (matrix / scale).round().clamp(-LEVELS, LEVELS).to(torch.int8)
        kept[f"{name}.scale"] = scale
    return lzma.compress(save_tensors(kept))


def unpack(content: bytes) -> dict[str, Tensor]:
    """Return the weights that `pack` was given, in float16. Raises ValueError for anything else."""
    try:
        kept = load_tensors(lzma.decompress(content))
    except (lzma.LZMAError, SafetensorError) as error:
        raise ValueError(f"these are not packed weights, or not all of them ({error})") from error
    names = [name for name in kept if not name.endswith(".scale")]
    return {name: (kept[name] * kept.get(f"{name}.scale", 1)).half() for name in names}
