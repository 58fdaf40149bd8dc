import dataclasses
import math

import numpy as np
import pytest
import torch

from gptlib import training
from gptlib.alignment.dpo import DPOConfig
from gptlib.alignment.grpo import GRPOConfig
from gptlib.alignment.ppo import PPOConfig
from gptlib.finetuning import FinetuneConfig
from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import EncodedCorpus
from gptlib.training import (
    TrainConfig,
    draw_batch,
    evaluate,
    next_token_loss,
    train,
    training_flops_per_token,
)

QUICK = TrainConfig(steps=20, batch_size=4, eval_every=10)


def losses(history):
    return [record.loss for record in history.train]


def test_targets_are_inputs_shifted_by_one():
    ids = torch.arange(100)
    inputs, targets = draw_batch(ids, 5, 8, torch.Generator().manual_seed(0))
    assert inputs.shape == targets.shape == (5, 8)
    torch.testing.assert_close(targets, inputs + 1)


def test_batches_reach_both_ends_of_the_text():
    inputs, targets = draw_batch(torch.arange(10), 500, 8, torch.Generator().manual_seed(0))
    assert inputs.min() == 0 and targets.max() == 9


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_tiny_model_overfits_one_batch(tiny, optimizer, cpu):
    ids = torch.randint(tiny.config.vocab_size, (17,), generator=torch.Generator().manual_seed(0))
    one_window = EncodedCorpus(ids, ids, 1.0, 1.0, tiny.config.vocab_size)
    config = TrainConfig(steps=150, batch_size=1, optimizer=optimizer, eval_every=0)
    assert train(tiny, one_window, config, cpu).final.loss < 0.05


def test_the_same_seed_gives_the_same_curve(tokenizer, data, cpu):
    def run(seed):
        shape = GPTConfig.modern(
            tokenizer.vocab_size, context_length=16, n_layer=1, n_head=2, n_embd=16, dropout=0.2
        )
        history = train(GPT(shape), data, dataclasses.replace(QUICK, seed=seed), cpu)
        return losses(history), [record.loss for record in history.validation]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_training_leaves_the_global_generator_alone(tiny, data, cpu):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(tiny, data, QUICK, cpu)
    assert torch.equal(torch.rand(1), expected)


def test_accumulation_adds_up_to_the_large_batch(tokenizer, data, cpu):
    def run(batch_size, accumulate):
        model = GPT(GPTConfig.gpt2(tokenizer.vocab_size, context_length=16, n_layer=1, n_head=2, n_embd=16))
        config = TrainConfig(
            steps=5, batch_size=batch_size, accumulate=accumulate, optimizer="adamw", lr=1e-3, eval_every=0
        )
        return losses(train(model, data, config, cpu))

    assert run(8, 1) == pytest.approx(run(4, 2), abs=1e-5)


def test_history_counts_tokens_flops_and_seconds(tiny, data, cpu):
    config = dataclasses.replace(QUICK, accumulate=2)
    history = train(tiny, data, config, cpu)
    last = history.train[-1]
    assert last.step == 20 and last.tokens == 20 * 4 * 2 * 16
    assert last.flops == last.tokens * 3 * tiny.config.flops_per_token()
    seconds = [record.seconds for record in history.train]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert [record.step for record in history.validation] == [10, 20]
    assert history.final.loss == pytest.approx(evaluate(tiny, data.validation))


def test_the_rate_of_the_record_is_the_schedule(tiny, data, cpu):
    config = dataclasses.replace(QUICK, warmup=4, decay="linear", decay_fraction=0.5)
    factors = [record.lr_factor for record in train(tiny, data, config, cpu).train]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factors[4:11] == [1.0] * 7
    assert factors[-1] == pytest.approx(0.1)


def test_flops_are_read_off_any_model():
    table = torch.nn.Sequential(torch.nn.Embedding(10, 4), torch.nn.Linear(4, 10))
    assert training_flops_per_token(table, 8) == 3 * 2 * 4 * 10


def test_evaluation_predicts_every_token_once(tiny, data):
    ids = data.validation[: 16 * 3 + 1]
    tiny.eval()
    with torch.no_grad():
        by_hand = [
            next_token_loss(tiny(ids[None, i : i + 16]), ids[None, i + 1 : i + 17]) for i in (0, 16, 32)
        ]
    assert evaluate(tiny, ids) == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-5)
    assert evaluate(tiny, ids, batch_size=2) == pytest.approx(evaluate(tiny, ids), rel=1e-5)


def test_next_token_loss_is_the_mean_of_minus_log_p():
    logits = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]).log()
    expected = -(math.log(0.5) + math.log(0.8)) / 2
    assert next_token_loss(logits, torch.tensor([[0, 2]])).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        (dict(lr=0), "lr must be above 0"),
        (dict(lr=float("nan")), "lr must be above 0"),
        (dict(muon_lr=-1), "muon_lr must be above 0"),
        (dict(steps=0), "steps must be above 0"),
        (dict(optimizer="sgd"), "'muon' or 'adamw'"),
        (dict(decay="step"), "'linear', 'cosine' or 'constant'"),
        (dict(decay_fraction=0), "share of the steps"),
        (dict(grad_clip=-1), "0 or more"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(wrong, remedy):
    with pytest.raises(ValueError, match=remedy):
        TrainConfig(**wrong)


@pytest.mark.parametrize("short", ["train", "validation"])
def test_a_corpus_shorter_than_one_context_is_refused(tiny, data, short, cpu):
    with pytest.raises(ValueError, match="take a longer text or a smaller context_length"):
        train(tiny, dataclasses.replace(data, **{short: data.train[:16]}), QUICK, cpu)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tiny, data, cpu):
    with torch.no_grad():
        tiny.head.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="nan at step 1: lower the learning rate"):
        train(tiny, data, QUICK, cpu)


def test_the_seed_draws_the_batches(tokenizer, data, cpu):
    def run(seed):
        model = GPT(GPTConfig.modern(tokenizer.vocab_size, context_length=16, n_layer=1, n_head=2, n_embd=16))
        return losses(train(model, data, dataclasses.replace(QUICK, seed=seed), cpu))

    assert run(1) != run(2)


def test_the_first_step_moves_by_the_rate_of_the_schedule(tokenizer, data, cpu):
    def moved(warmup):
        model = GPT(GPTConfig.modern(tokenizer.vocab_size, context_length=16, n_layer=1, n_head=2, n_embd=16))
        before = model.head.weight.clone()
        config = TrainConfig(steps=1, batch_size=4, lr=0.01, warmup=warmup, decay="constant")
        train(model, data, config, cpu)
        return (model.head.weight - before).abs().max().item()

    assert moved(warmup=0) == pytest.approx(0.01, rel=0.01)  # Adam's first step is the sign of the gradient
    assert moved(warmup=9) == pytest.approx(0.001, rel=0.01)


def test_the_gradient_is_clipped_to_its_largest_norm(tiny, data, cpu, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        norms.append(torch.cat([p.grad.flatten() for p in tiny.parameters()]).norm().item())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    train(tiny, data, TrainConfig(steps=3, batch_size=4, grad_clip=0.01), cpu)
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


def test_evaluation_is_without_dropout_and_leaves_the_model_as_it_was(tokenizer, data):
    model = GPT(GPTConfig.gpt2(tokenizer.vocab_size, context_length=16, n_layer=1, n_embd=16, dropout=0.5))
    assert evaluate(model.train(), data.validation) == evaluate(model.eval(), data.validation)
    for mode in (True, False):
        evaluate(model.train(mode), data.validation)
        assert model.training == mode


def test_a_trained_model_writes_without_dropout(tiny, data, cpu):
    train(tiny.train(), data, dataclasses.replace(QUICK, steps=1), cpu)
    assert not tiny.training


def run_of(tokenizer, data, budget, **changes):
    model = GPT(GPTConfig.modern(tokenizer.vocab_size, context_length=16, n_layer=1, n_head=2, n_embd=16))
    return losses(train(model, data, dataclasses.replace(QUICK, **changes), budget))


def test_half_precision_trains_as_single_does(tokenizer, data, cpu):
    half = dataclasses.replace(cpu, dtype=torch.bfloat16)
    single, mixed = run_of(tokenizer, data, cpu), run_of(tokenizer, data, half)
    assert mixed == pytest.approx(single, abs=0.05) and mixed != single


def test_the_backward_pass_holds_the_logits_once(tiny):
    ids = torch.zeros((3, 16), dtype=torch.long)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        next_token_loss(tiny(ids), ids)
    V = tiny.config.vocab_size
    assert len({t.data_ptr() for t in kept if t.numel() == 3 * 16 * V}) == 1


def test_training_on_a_cpu_reads_the_corpus_where_it_lies(tiny, data, cpu, monkeypatch):
    seen = []
    draw = training.draw_batch
    monkeypatch.setattr(training, "draw_batch", lambda ids, *rest: seen.append(ids) or draw(ids, *rest))
    train(tiny, data, dataclasses.replace(QUICK, steps=1), cpu)
    assert seen[0].data_ptr() == data.train.data_ptr()


@pytest.mark.parametrize("at", [0, 7])
def test_an_interrupted_run_returns_the_history_so_far(tiny, data, cpu, monkeypatch, at):
    """The interrupt comes in the midst of the step after `at`, whose loss is then not in the history."""
    update, calls = training.update, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) > at:
            raise KeyboardInterrupt
        update(*arguments)

    monkeypatch.setattr(training, "update", interrupted)
    with pytest.warns(UserWarning, match=f"interrupted after step {at} of 20"):
        history = train(tiny, data, QUICK, cpu)
    assert history.interrupted and [r.step for r in history.train] == list(range(1, at + 1))
    assert history.final.step == at
    assert history.final.loss == pytest.approx(evaluate(tiny, data.validation))


def test_losses_that_wait_for_a_gpu_are_all_told_and_named_by_their_steps(tiny, data, cpu, monkeypatch):
    expected = losses(train(GPT(tiny.config), data, QUICK, cpu))
    monkeypatch.setattr(training, "steps_between_looks", lambda device: 6)
    history = train(GPT(tiny.config), data, QUICK, cpu)
    assert losses(history) == expected
    assert [r.step for r in history.train] == list(range(1, 21))


@pytest.mark.parametrize(("windows", "processes"), [(1, 2), (3, 8), (5, 2)])
def test_more_processes_than_windows_evaluate_as_one(tiny, data, monkeypatch, windows, processes):
    """None may raise or wait for ever: one without windows adds nothing to the sum over all."""
    ids, shares = data.validation[: 16 * windows + 1], []
    whole = evaluate(tiny, ids)
    monkeypatch.setattr(training, "world_size", lambda: processes)
    for number in range(processes):
        monkeypatch.setattr(training, "rank", lambda number=number: number)
        monkeypatch.setattr(training, "mean_over_ranks", lambda total: total / processes)
        shares.append(evaluate(tiny, ids))
    assert sum(shares) == pytest.approx(whole)


@pytest.mark.parametrize("config", [TrainConfig, FinetuneConfig, DPOConfig, GRPOConfig, PPOConfig])
@pytest.mark.parametrize("wrong", [1e3, 2.5, True, "10", None, math.nan])
def test_a_count_that_is_no_whole_number_is_refused_at_the_door(config, wrong):
    for field in dataclasses.fields(config):
        if field.type in (int, "int"):
            with pytest.raises(ValueError, match=f"{field.name} must be a whole number, not {wrong!r}"):
                config(**{field.name: wrong})


def test_whole_numbers_of_numpy_are_kept_in_a_checkpoint(tiny, data, cpu, tmp_path):
    config = TrainConfig(steps=np.int64(2), batch_size=np.int32(2), lr=np.float32(0.001))
    train(tiny, data, config, cpu, checkpoint_dir=tmp_path)
    assert train(tiny, data, config, cpu, checkpoint_dir=tmp_path, resume=True).final.step == 2


@pytest.mark.parametrize("every", [0, 2.5, True])
def test_checkpoints_are_whole_steps_apart(tiny, data, cpu, tmp_path, every):
    with pytest.raises(ValueError, match="checkpoint_every is a whole number of steps"):
        train(tiny, data, QUICK, cpu, checkpoint_dir=tmp_path, checkpoint_every=every)
