"""An exported GPT computes what PyTorch does, and nothing else is let through."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from gptlib.model import GPT, GPTConfig
from gptlib.onnx_export import OpenGPT, export_onnx, largest_difference

pytestmark = pytest.mark.slow  # an export takes seconds


def trained(**choices):
    """A model whose every number counts: none at 0, all in float16."""
    model = GPT(GPTConfig(vocab_size=96, context_length=40, n_layer=2, n_head=4, n_embd=32, **choices))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) / 4)
            parameter.copy_(parameter.half())
    return model.eval()


MODERN = dict(positions="rope", norm="rmsnorm", qk_norm=True, activation="relu2", bias=False)


@pytest.fixture(scope="module")
def modern(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "modern.onnx"
    model = trained(**MODERN, tie_embeddings=False, scale_embeddings=True, n_kv_head=2)
    return model, path, export_onnx(model, path)


def test_every_length_gives_what_pytorch_gives(modern):
    model, path, difference = modern
    assert difference < 1e-4
    session = onnxruntime.InferenceSession(path)
    for T in (1, 2, 3, 31, 32, 33, 40):  # 32: where Linear changes its way
        ids = torch.arange(T)[None] * 7 % 96
        logits, attention = session.run(["logits", "attention"], {"ids": ids.numpy()})
        np.testing.assert_allclose(logits, model(ids)[0, -1].detach(), atol=1e-4)
        np.testing.assert_allclose(attention, model.attention_maps(ids)[:, 0], atol=1e-5)
        np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-5)


def test_gpt2s_choices_are_exported_too(tmp_path):
    assert export_onnx(trained(), tmp_path / "gpt2.onnx") < 1e-4


def test_matrices_are_stored_in_two_bytes_a_number(modern):
    model, path, _ = modern
    large = [tensor for tensor in onnx.load(path).graph.initializer if np.prod(tensor.dims) >= 1024]
    half = sum(np.prod(tensor.dims) for tensor in large if tensor.data_type == onnx.TensorProto.FLOAT16)
    assert half >= 0.95 * model.n_params


def test_the_file_names_no_file_of_this_machine(modern):
    _, path, _ = modern
    content = path.read_bytes()
    assert b"gptlib" not in content and b".py" not in content


def test_numbers_that_float16_does_not_hold_keep_four_bytes(tmp_path):
    model = trained(**MODERN)
    with torch.no_grad():
        model.blocks[0].mlp.up.weight[0, 0] = 1 / 3
    model.train()
    export_onnx(model, tmp_path / "third.onnx")
    assert model.training  # as it was
    whole = [
        tensor
        for tensor in onnx.load(tmp_path / "third.onnx").graph.initializer
        if tuple(tensor.dims) in ((128, 32), (32, 128)) and tensor.data_type == onnx.TensorProto.FLOAT
    ]
    assert len(whole) == 1


def test_a_file_that_differs_is_refused(tmp_path, monkeypatch):
    model, path = trained(**MODERN), tmp_path / "wrong.onnx"
    honest = largest_difference

    def of_another_model(open_model, path):
        with torch.no_grad():
            model.head.weight[5] += 0.01
        return honest(OpenGPT(model), path)

    monkeypatch.setattr("gptlib.onnx_export.largest_difference", of_another_model)
    with pytest.raises(ValueError, match="differs from PyTorch"):
        export_onnx(model, path)
    assert not path.exists()


def test_a_number_that_is_not_finite_is_refused(tmp_path):
    model = trained(**MODERN)
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    with pytest.raises(ValueError, match="differs from PyTorch"):
        export_onnx(model, tmp_path / "nan.onnx")
