"""Our losses against those of TRL, Hugging Face's library for them, on the same tensors."""

import warnings
from collections import defaultdict
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch

from gptlib.alignment.dpo import dpo_loss
from gptlib.alignment.grpo import group_advantages
from gptlib.alignment.ppo import clipped_loss
from gptlib.alignment.reward_model import bradley_terry_loss
from gptlib.alignment.rollouts import kl_estimates, masked_mean

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from trl import DPOTrainer, GRPOTrainer, RewardTrainer


def trainer(**settings):
    """What a trainer's loss reads of the trainer: its settings; all else is swallowed."""
    alone = MagicMock(gather=lambda x: x, gather_for_metrics=lambda x: x)  # one process
    metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    return MagicMock(accelerator=alone, _metrics=metrics, aux_loss_enabled=False, **settings)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_bradley_terry_is_trls():
    scores = normal(6)
    its = trainer(args=SimpleNamespace(center_rewards_coefficient=None))
    model = lambda **_: SimpleNamespace(logits=scores[:, None])  # noqa: E731
    theirs = RewardTrainer.compute_loss(its, model, {"attention_mask": torch.ones(6, 1)})
    torch.testing.assert_close(bradley_terry_loss(scores[:3], scores[3:]), theirs)


def test_dpo_is_trls():
    logps, known = -normal(4, 5).abs(), -normal(4, 5, seed=1).abs()  # two chosen, then two rejected
    its = trainer(
        beta=0.3, ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl",
        loss_types=["sigmoid"], loss_weights=[1.0], use_weighting=False,
    )  # fmt: skip
    inputs = {
        "input_ids": torch.zeros(4, 6, dtype=torch.long),
        "completion_mask": torch.ones(4, 6),
        "attention_mask": torch.ones(4, 6),
        "ref_chosen_logps": known[:2].sum(1),
        "ref_rejected_logps": known[2:].sum(1),
    }
    for_its_log = dict(entropy=torch.ones(4, 5), mean_logits=logps, is_top1=logps > 0)
    output = SimpleNamespace(log_probs=logps, **for_its_log)
    theirs = DPOTrainer._compute_loss(its, lambda **_: output, inputs, return_outputs=False)
    reference = known[:2].sum(1), known[2:].sum(1)
    torch.testing.assert_close(dpo_loss(logps[:2].sum(1), logps[2:].sum(1), reference, 0.3), theirs)


def test_grpos_loss_is_trls_where_all_tokens_count_alike():
    logps, old, known = (-normal(4, 5, seed=i).abs() for i in range(3))
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]])
    advantages = group_advantages(normal(4), 2)
    its = trainer(
        beta=0.1, epsilon_low=0.2, epsilon_high=0.2, loss_type="bnpo", importance_sampling_level="token",
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        _entropy_bonus_enabled=False,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False), model=SimpleNamespace(training=False),
    )  # fmt: skip
    its._get_per_token_logps_and_entropies.return_value = logps, torch.ones(4, 5), None
    ids = torch.zeros(4, 5, dtype=torch.long)
    inputs = {
        "prompt_ids": ids, "prompt_mask": mask, "completion_ids": ids, "completion_mask": mask,
        "advantages": advantages, "old_per_token_logps": old, "ref_per_token_logps": known,
    }  # fmt: skip
    theirs = GRPOTrainer._compute_loss(its, None, inputs)
    gain, _ = clipped_loss(logps, old, advantages[:, None], mask, 0.2)
    _, kl = kl_estimates(logps, known)
    torch.testing.assert_close(gain + 0.1 * masked_mean(kl, mask), theirs)
