"""Write a GPT as an ONNX file, which other runtimes read: a browser's, say. Needs the extra `demo`.

Shapes: T time (tokens), C channels (n_embd), V vocabulary, nh heads.
"""

import logging
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from gptlib.files import expanded
from gptlib.layers import Linear
from gptlib.model import GPT

LARGE = 1024  # numbers in a tensor that is worth halving
TOLERANCE = 1e-4  # largest difference from PyTorch, of a logit or an attention weight


class OpenGPT(nn.Module):
    """A GPT that also shows who reads whom."""

    def __init__(self, model: GPT):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(1, T) int64 -> logits of the next token (V,), attention weights (n_layer, nh, T, T)."""
        x, maps = self.model.embed(ids), []  # (1, T, C)
        for block in self.model.blocks:  # once for both: not every exporter merges two passes into one
            maps.append(block.attention.weights(block.norm1(x)))
            x = block(x)
        logits = self.model.head(self.model.norm(x[:, -1]))  # (1, V)
        return logits[0], torch.cat(maps)


def export_onnx(model: GPT, path: str | Path) -> float:
    """Write a model as ONNX, from `ids` to `logits` and `attention` as `OpenGPT` has them, for any T.

    Matrices whose numbers float16 holds exactly are stored so, and computed with in float32. Return the
    largest difference from PyTorch that `largest_difference` finds. Raises ValueError, and leaves no
    file, when that exceeds TOLERANCE.
    """
    path, was_training = expanded(path), model.training
    open_model = OpenGPT(model).eval()
    exported = _exported(open_model)
    _forget_origins(exported)
    _halve(exported.graph)
    onnx.checker.check_model(exported)
    onnx.save(exported, path)
    difference = largest_difference(open_model, path)
    model.train(was_training)
    if not difference <= TOLERANCE:  # nor NaN
        path.unlink()
        raise ValueError(
            f"the exported model differs from PyTorch's by {difference:.1e}, more than {TOLERANCE:.0e}: "
            "was an operation exported that this version of onnx computes differently?"
        )
    return difference


def largest_difference(model: OpenGPT, path: str | Path) -> float:
    """Return the largest difference of a logit or a weight between PyTorch and a file, over several T."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    config, generator, differences = model.model.config, torch.Generator().manual_seed(0), []
    for T in sorted({1, 2, config.context_length // 2 + 1, config.context_length}):
        ids = torch.randint(config.vocab_size, (1, T), generator=generator)
        with torch.no_grad():
            expected = model(ids)
        found = session.run(["logits", "attention"], {"ids": ids.numpy()})
        differences += [np.abs(a - b.numpy()).max() for a, b in zip(found, expected, strict=True)]
    return float(np.max(differences))


def _exported(model: OpenGPT) -> onnx.ModelProto:
    """Trace a model, T left open."""
    logger = logging.getLogger("torch.onnx")
    level, T = logger.level, model.model.context_length
    logger.setLevel(logging.ERROR)  # it tells of packages that it does without
    try:
        # Linear splits its work by the number of rows, which the trace must not settle.
        with patch.object(Linear, "forward", nn.Linear.forward), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own use of what it has deprecated
            return torch.onnx.export(
                model,
                (torch.zeros((1, T - 1), dtype=torch.long),),
                input_names=["ids"],
                output_names=["logits", "attention"],
                dynamic_shapes={"ids": {1: torch.export.Dim("T", min=1, max=T)}},
                dynamo=True,
                external_data=False,
                verbose=False,
            ).model_proto
    finally:
        logger.setLevel(level)


def _forget_origins(exported: onnx.ModelProto) -> None:
    """Drop what the exporter notes of each value, the lines of this machine's files among it."""
    graph = exported.graph
    parts = (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (exported, graph, *parts):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _halve(graph: onnx.GraphProto) -> None:
    """Store large tensors that float16 holds exactly as float16, with a cast behind each."""
    casts = []
    for tensor in graph.initializer:
        full = numpy_helper.to_array(tensor)
        if full.dtype != np.float32 or full.size < LARGE:
            continue
        with np.errstate(over="ignore"):  # what becomes infinite differs, and stays as it was
            half = full.astype(np.float16)
        if not np.array_equal(half, full):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = casts + list(graph.node)  # a value is made before it is used
    del graph.node[:]
    graph.node.extend(nodes)
