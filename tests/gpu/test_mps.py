"""The calls that readers make run on Apple's GPUs, as far as devices, dtypes and generators go."""

import pytest

pytestmark = pytest.mark.xdist_group("mps")


@pytest.fixture(scope="module")
def found(on_fake_gpu):
    return on_fake_gpu("run_mps.py")[0]


def test_all_calls_run_on_a_mac(found):
    assert found["faults"] == dict.fromkeys(found["faults"], "") and len(found["faults"]) > 5


def test_two_devices_in_one_operation_are_seen(found):
    assert "at least two devices" in found["seen"]


def test_a_mac_computes_on_its_gpu_unless_told_otherwise(found):
    assert found["detected"] == ["cpu", "mps"]
    assert found["cpu"] == ["cpu", "cpu"]
