import pytest
import torch

from gptlib import budget
from gptlib.budget import Budget


@pytest.mark.parametrize(
    ("vendor_id", "flags", "dtype"),
    [
        ("GenuineIntel", "sse avx2", "float32"),
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16", "bfloat16"),
        ("GenuineIntel", "avx512f avx512_bf16", "float32"),  # has it, at half the speed of float32
        ("AuthenticAMD", "avx512f avx512_bf16", "bfloat16"),
        ("AuthenticAMD", "avx2", "float32"),
        ("", "", "float32"),  # no Linux, nothing known
    ],
)
def test_a_machine_without_a_gpu_has_the_cpu_budget(monkeypatch, vendor_id, flags, dtype):
    monkeypatch.delenv("GPTLIB_BUDGET", raising=False)
    monkeypatch.setattr(budget, "_best_device", lambda: torch.device("cpu"))
    told = {"vendor_id": vendor_id, "flags": flags, "model name": "a processor"}
    monkeypatch.setattr(budget, "_cpu_line", told.get)
    detected = Budget.detect()
    assert (detected.name, detected.device.type, detected.dtype) == ("cpu", "cpu", getattr(torch, dtype))
    assert detected.pick(cpu=1, gpu=2) == 1
    assert dtype in detected.describe()


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_a_gpu_computes_in_the_half_precision_it_has(monkeypatch, capability, dtype):
    monkeypatch.delenv("GPTLIB_BUDGET", raising=False)
    monkeypatch.setattr(budget, "_best_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(budget, "computes_as_the_cpu", lambda device: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    detected = Budget.detect()
    assert (detected.name, detected.device.type, detected.dtype) == ("gpu", "cuda", dtype)
    assert detected.pick(cpu=1, gpu=2) == 2


def test_the_environment_overrides_the_machine(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    for gpu in ("cuda", "mps"):
        monkeypatch.setattr(budget, "_best_device", lambda gpu=gpu: torch.device(gpu))
        assert (Budget.detect().name, Budget.detect().device.type) == ("cpu", "cpu")
    monkeypatch.setattr(budget, "_best_device", lambda: torch.device("cpu"))
    monkeypatch.setenv("GPTLIB_BUDGET", "gpu")
    assert (Budget.detect().name, Budget.detect().device.type) == ("gpu", "cpu")


def test_an_unknown_budget_is_refused(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "tpu")
    with pytest.raises(ValueError, match="GPTLIB_BUDGET"):
        Budget.detect()


def test_a_device_that_computes_something_else_is_not_used(monkeypatch):
    """A device of ours, on which one function returns too much."""
    monkeypatch.delenv("GPTLIB_BUDGET", raising=False)
    assert budget.computes_as_the_cpu.__wrapped__(torch.device("cpu", 0))
    monkeypatch.setattr(budget, "_best_device", lambda: torch.device("mps"))
    there, calls = torch.nn.functional.relu, []

    def wrong(x):  # the first block is the CPU's, the second the device's
        calls.append(x)
        return there(x) if len(calls) == 1 else 1.01 * there(x)

    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *args: self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **named: self)
    assert budget.computes_as_the_cpu.__wrapped__(torch.device("mps"))
    monkeypatch.setattr(torch.nn.functional, "relu", wrong)
    budget.computes_as_the_cpu.cache_clear()
    with pytest.warns(UserWarning, match="mps computes something else than the CPU"):
        detected = Budget.detect()
    assert (detected.name, detected.device.type) == ("cpu", "cpu")
    budget.computes_as_the_cpu.cache_clear()


@pytest.mark.parametrize(("device", "width", "dtype"), [
    ("cuda", 128, torch.float32), ("cuda", 256, torch.float16), ("cpu", 128, torch.float16),
])  # fmt: skip
def test_narrow_models_are_computed_in_single_precision_on_a_gpu(device, width, dtype):
    model = torch.nn.Sequential(torch.nn.Embedding(999, width), torch.nn.Linear(width, 4 * width))
    assert Budget("gpu", torch.device(device), torch.float16).dtype_for(model) == dtype
