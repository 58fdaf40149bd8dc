"""What a step costs a T4: kernels launched, at some 30 microseconds each, and waits of the CPU for them."""

import pytest

pytestmark = pytest.mark.xdist_group("launches")

LAUNCHES = {  # a step, an update of PPO and GRPO, a position of generation: to within a tenth
    "bigram, by hand": 32,
    "one head, by hand": 87,
    "one block, by hand": 256,
    "GPT-2's choices, 4 layers": 252,
    "2 layers": 203,
    "6 layers": 387,
    "6 layers, dropout, tied": 414,
    "2 layers, float16": 292,
    "attention only, 2 layers": 129,
    "functions, 6 layers": 393,
    "arithmetic, 2 layers": 186,
    "running sums, 2 layers": 186,
    "running sums, three models as one": 387,
    "fine-tuning, 2 layers": 131,
    "fine-tuning with the language-model loss": 148,
    "reward model, 2 layers": 215,
    "PPO, an update": 306,
    "GRPO, an update": 192,
    "DPO, 2 layers": 390,
    "generation, 2 layers": 60,
    "generation, 4 layers": 96,
    "generation, 6 layers": 132,
}


@pytest.fixture(scope="module")
def counted(on_fake_gpu):
    return on_fake_gpu("count_launches.py")[0]


def test_a_step_launches_no_more_kernels_than_are_known(counted):
    assert list(counted["rows"]) == list(LAUNCHES)
    measured = {name: row["launches"] for name, row in counted["rows"].items()}
    off = {name: now for name, now in measured.items() if abs(now - LAUNCHES[name]) > LAUNCHES[name] / 10}
    assert not off, f"the table says otherwise: {off}"


def test_training_waits_for_a_gpu_only_to_read_losses_every_ten_steps(counted):
    waits = {name: counted["rows"][name]["waits"] for name in counted["training"]}
    assert not {name: n for name, n in waits.items() if n > counted["steps"] // 10}


def test_generation_waits_for_a_gpu_at_one_in_eight_positions_at_most(counted):
    generation = [row for name, row in counted["rows"].items() if name not in counted["training"]]
    assert generation and all(row["waits"] <= -(-counted["steps"] // 8) for row in generation)


def test_tokens_are_drawn_on_the_device(counted):
    """From a generator of the device too: the fake T4 refuses another, as CUDA does."""
    generation = [row for name, row in counted["rows"].items() if name not in counted["training"]]
    assert generation and all(row["draws"] == counted["steps"] for row in generation)
