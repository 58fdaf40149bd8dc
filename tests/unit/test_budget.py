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
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    detected = Budget.detect()
    assert (detected.name, detected.device.type, detected.dtype) == ("gpu", "cuda", dtype)
    assert detected.pick(cpu=1, gpu=2) == 2


def test_the_environment_overrides_the_machine(monkeypatch):
    monkeypatch.setattr(budget, "_best_device", lambda: torch.device("cuda"))
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    assert (Budget.detect().name, Budget.detect().device.type) == ("cpu", "cpu")
    monkeypatch.setattr(budget, "_best_device", lambda: torch.device("cpu"))
    monkeypatch.setenv("GPTLIB_BUDGET", "gpu")
    assert (Budget.detect().name, Budget.detect().device.type) == ("gpu", "cpu")


def test_an_unknown_budget_is_refused(monkeypatch):
    monkeypatch.setenv("GPTLIB_BUDGET", "tpu")
    with pytest.raises(ValueError, match="GPTLIB_BUDGET"):
        Budget.detect()
