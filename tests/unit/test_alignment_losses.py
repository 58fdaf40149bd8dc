"""The pure pieces of alignment, on numbers worked out by hand and by enumeration over a tiny vocabulary."""

import itertools
import math

import pytest
import torch

from gptlib.alignment.best_of_n import (
    best_of_n,
    best_of_n_bound,
    best_of_n_kl,
    fit_overoptimisation,
    overoptimisation,
)
from gptlib.alignment.dpo import dpo_loss, implicit_reward
from gptlib.alignment.grpo import group_advantages
from gptlib.alignment.ppo import clipped_loss, generalised_advantages, token_rewards, whitened
from gptlib.alignment.reward_model import bradley_terry_loss
from gptlib.alignment.rollouts import (
    Responses,
    answer_logits,
    answer_logps,
    check_finite,
    kl_estimates,
    kl_per_response,
    masked_mean,
    mean_entropy,
)
from gptlib.alignment.sft import response_loss
from gptlib.model import GPT, GPTConfig

EVERY = torch.ones(1, 3, dtype=torch.bool)


def tiny(seed=0, V=5):
    return GPT(GPTConfig.gpt2(V, context_length=12, n_layer=1, n_head=1, n_embd=8), seed).eval()


def test_mask_marks_the_tokens_of_answers_and_no_others():
    responses = Responses([[1, 2], [1, 2, 3]], [[4, 0], [4]])
    assert responses.ids.tolist() == [[1, 2, 4, 0], [1, 2, 3, 4]]
    assert responses.mask.tolist() == [[False, True, True], [False, False, True]]
    assert responses.last.tolist() == [3, 3]


def test_filling_changes_no_log_probability_and_no_loss():
    model = tiny()
    alone = Responses([[1, 2]], [[4, 0]])
    beside = Responses([[1, 2], [1, 2, 3, 4, 1]], [[4, 0], [2, 2, 2, 0]])
    mine = answer_logps(model, alone.ids, alone.mask)
    both = answer_logps(model, beside.ids, beside.mask)
    torch.testing.assert_close(both[0][beside.mask[0]], mine[0][alone.mask[0]])
    assert (both[~beside.mask] == 0).all()
    torch.testing.assert_close(response_loss(model, beside[[0]]), response_loss(model, alone))


def test_the_loss_of_answers_is_the_mean_of_their_tokens_alone():
    model, responses = tiny(), Responses([[1, 2]], [[4, 0]])
    logps = model(torch.tensor([[1, 2, 4]])).log_softmax(-1)[0]
    torch.testing.assert_close(response_loss(model, responses), -(logps[1, 4] + logps[2, 0]) / 2)


def test_kl_estimates_have_the_exact_mean_and_the_right_sign():
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    exact = (p * (p / q).log()).sum()
    first, second = kl_estimates(p.log(), q.log())  # one value per outcome
    torch.testing.assert_close((p * first).sum(), exact)
    torch.testing.assert_close((p * second).sum(), exact)
    assert (second >= 0).all() and (first < 0).any()


def test_kl_of_responses_is_the_exact_kl_by_enumeration():
    policy, reference = tiny(1), tiny(2)
    for model in (policy, reference):
        model.head.weight.data.mul_(20)  # far from uniform, so that they differ
    answers = [list(pair) for pair in itertools.product(range(5), repeat=2)]
    responses = Responses([[1]] * len(answers), answers)
    p = answer_logps(policy, responses.ids, responses.mask).sum(-1).exp()
    torch.testing.assert_close(p.sum(), torch.tensor(1.0))
    q = answer_logps(reference, responses.ids, responses.mask).sum(-1).exp()
    exact = (p * (p / q).log()).sum()
    assert exact > 0.1
    torch.testing.assert_close((p * kl_per_response(policy, reference, responses)).sum(), exact)


def test_entropy_is_that_of_the_predictions_of_answers():
    model = tiny()
    p = model(torch.tensor([[1, 2]])).softmax(-1)[0, 1]
    logits, written = answer_logits(model, torch.tensor([[1, 2, 3]]), torch.tensor([[False, True]]))
    assert logits.shape == (1, 5) and written.tolist() == [3]  # of one place, not of both
    found = mean_entropy(logits)
    torch.testing.assert_close(found, -(p * p.log()).sum())


def test_token_rewards_charge_every_token_and_pay_at_the_last():
    mask = torch.tensor([[False, True, True, False]])
    kl = torch.tensor([[9.0, 1.0, -2.0, 9.0]])
    rewards = token_rewards(torch.tensor([3.0]), kl, mask, kl_weight=0.5)
    torch.testing.assert_close(rewards, torch.tensor([[0.0, -0.5, 3.0 + 1.0, 0.0]]))


def test_generalised_advantages_by_hand():
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.2, 0.4]])
    # errors: 0.2 - 0.5, 0.4 - 0.2, 1 - 0.4; each adds half of what follows
    expected = torch.tensor([[-0.3 + 0.5 * 0.5, 0.2 + 0.5 * 0.6, 0.6]])
    torch.testing.assert_close(generalised_advantages(rewards, values, EVERY, 1.0, 0.5), expected)
    whole = generalised_advantages(rewards, values, EVERY, 1.0, 1.0)
    torch.testing.assert_close(whole, 1 - values)  # all that comes, less what was foreseen
    discounted = generalised_advantages(rewards, values, EVERY, 0.5, 0.0)
    torch.testing.assert_close(discounted, torch.tensor([[0.1 - 0.5, 0.2 - 0.2, 0.6]]))


def test_what_stands_after_an_answer_changes_no_advantage():
    mask = torch.tensor([[True, True, False]])
    rewards, values = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.5, 0.2, 77.0]])
    asked = torch.tensor([[False, True, True]])  # a prompt before it has none itself
    assert generalised_advantages(torch.ones(1, 3), torch.zeros(1, 3), asked, 1.0, 0.9)[0, 0] == 0
    short = generalised_advantages(rewards[:, :2], values[:, :2], mask[:, :2], 1.0, 0.9)
    torch.testing.assert_close(generalised_advantages(rewards, values, mask, 1.0, 0.9)[:, :2], short)


def test_clipped_loss_by_hand():
    ratios = torch.tensor([[1.5, 0.5, 0.9]])
    logps = ratios.log().requires_grad_()
    advantages = torch.tensor([[1.0, -1.0, 2.0]])
    loss, clipped = clipped_loss(logps, torch.zeros(1, 3), advantages, EVERY, 0.2)
    torch.testing.assert_close(loss, torch.tensor(-(1.2 - 0.8 + 1.8) / 3))
    torch.testing.assert_close(clipped, torch.tensor(2 / 3))
    loss.backward()
    torch.testing.assert_close(logps.grad, torch.tensor([[0.0, 0.0, -0.9 * 2 / 3]]))


def test_clipping_does_not_hold_back_what_went_the_wrong_way():
    logps = torch.tensor([[1.5]]).log().requires_grad_()
    loss, _ = clipped_loss(logps, torch.zeros(1, 1), torch.tensor([[-1.0]]), EVERY[:, :1], 0.2)
    loss.backward()
    assert logps.grad.item() == pytest.approx(1.5)


def test_policy_gradient_is_that_of_the_exact_expected_reward():
    p, rewards = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([1.0, 3.0, -2.0])
    logits = p.log().requires_grad_()
    (logits.softmax(-1) @ rewards).backward()
    exact, logits.grad = logits.grad, None
    drawn = torch.tensor([0, 0, 1, 2])  # as often as they are likely
    logps = logits.log_softmax(-1)[drawn][:, None]
    loss, _ = clipped_loss(logps, logps.detach(), rewards[drawn][:, None], torch.ones(4, 1), 0.2)
    loss.backward()
    torch.testing.assert_close(-logits.grad, exact)


def test_whitened_advantages_have_mean_0_and_deviation_1_over_answers():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    white = whitened(torch.tensor([[1.0, 2.0, 50.0], [6.0, 50.0, 50.0]]), mask)
    assert masked_mean(white, mask).item() == pytest.approx(0, abs=1e-6)
    assert masked_mean(white**2, mask).item() == pytest.approx(1, rel=1e-4)
    assert (white[~mask] == 0).all()


def test_bradley_terry_by_hand():
    loss = bradley_terry_loss(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]))
    assert loss.item() == pytest.approx((math.log(1 + math.exp(-1)) + math.log(2)) / 2)


def test_dpo_by_hand():
    chosen, rejected = torch.tensor([-2.0]), torch.tensor([-5.0])
    known = torch.tensor([-3.0]), torch.tensor([-4.0])
    assert implicit_reward(chosen, known[0], 0.5).item() == 0.5
    loss = dpo_loss(chosen, rejected, known, 0.5)  # rewards 0.5 and -0.5
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_dpos_optimum_is_the_tilted_reference():
    reference, rewards, beta = torch.tensor([0.6, 0.3, 0.1]).log(), torch.tensor([0.0, 1.0, 2.0]), 0.7
    logits = reference.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-12)

    def expected_loss():
        optimizer.zero_grad()
        logps, loss = logits.log_softmax(-1), 0.0
        for i, j in itertools.permutations(range(3), 2):  # each as often as Bradley and Terry have it
            share = torch.sigmoid(rewards[i] - rewards[j])
            known = reference[i : i + 1], reference[j : j + 1]
            loss = loss + share * dpo_loss(logps[i : i + 1], logps[j : j + 1], known, beta)
        loss.backward()
        return loss

    optimizer.step(expected_loss)
    tilted = (reference + rewards / beta).softmax(-1)
    torch.testing.assert_close(logits.detach().softmax(-1), tilted, atol=1e-4, rtol=1e-3)


def test_group_advantages_by_hand():
    found = group_advantages(torch.tensor([1.0, 3.0, 5.0, 5.0]), 2)
    torch.testing.assert_close(found, torch.tensor([-1.0, 1.0, 0.0, 0.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("score", [0.0, 0.1, 100.7, -100.7, 1 / 3, 1e-30, 1e8, 3e38, -7e-12])
@pytest.mark.parametrize("group", [2, 3, 7, 8, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_equal_scores_have_no_advantage_whatever_their_size(score, group, dtype):
    scores = torch.full((2 * group,), score, dtype=dtype)
    assert torch.equal(group_advantages(scores, group), torch.zeros_like(scores))
    every = torch.ones(2, group, dtype=torch.bool)
    assert torch.equal(whitened(scores.view(2, -1), every), torch.zeros(2, group, dtype=dtype))


def test_scores_that_differ_by_their_rounding_have_no_advantage():
    above = torch.nextafter(torch.tensor(100.7), torch.tensor(200.0)).item()
    scores = torch.tensor([100.7, above] * 4 + [1.0, 2.0] * 4)
    advantages = group_advantages(scores, 8)
    assert advantages[:8].tolist() == [0.0] * 8
    torch.testing.assert_close(advantages[8:], torch.tensor([-1.0, 1.0] * 4))


@pytest.mark.parametrize("size", [0.0, 1.0, 100.7, -1e4])
@pytest.mark.parametrize("apart", [1.0, 0.05])
def test_scores_that_differ_keep_their_advantage(size, apart):
    scores = size + apart * torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 1], dtype=torch.float64)
    right = (scores - scores.mean()) / scores.std(correction=0)
    found = group_advantages(scores.float(), 8)
    torch.testing.assert_close(found.double(), right, atol=0.03, rtol=0.03)  # of rounded scores
    mask = torch.tensor([[True] * 8 + [False]])
    padded = torch.cat([scores.float(), torch.tensor([9e9])])[None]
    torch.testing.assert_close(whitened(padded, mask)[0, :8].double(), right, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_best_of_n_is_the_mean_over_all_choices(n):
    proxy, gold = torch.tensor([[3.0, 1.0, 2.0, 0.5]]), torch.tensor([[0.0, 5.0, 1.0, 2.0]])
    choices = list(itertools.combinations(range(4), n))
    best = [max(choice, key=lambda i: proxy[0, i]) for choice in choices]
    expected = [sum(values[0, i].item() for i in best) / len(best) for values in (proxy, gold)]
    assert best_of_n(proxy, gold, n) == pytest.approx(expected)
    with pytest.raises(ValueError, match="there are 4"):
        best_of_n(proxy, gold, 5)


def test_best_of_ns_kl_is_exact_and_below_its_bound():
    scores = torch.tensor([[0.0, 1.0, 1.0, 2.0]])  # three outcomes of 1/4, 1/2, 1/4
    p = [0.25, 0.5, 0.25]
    best = [0.0, 0.0, 0.0]
    for pair in itertools.product(range(3), repeat=2):
        best[max(pair)] += p[pair[0]] * p[pair[1]]
    exact = sum(q * math.log(q / r) for q, r in zip(best, p, strict=True))
    assert best_of_n_kl(scores, 2) == pytest.approx(exact)
    assert exact < best_of_n_bound(2)
    many = torch.randn(3, 20_000, generator=torch.Generator().manual_seed(0))
    assert best_of_n_kl(many, 16) == pytest.approx(best_of_n_bound(16), rel=0.01)
    assert best_of_n_kl(many, 1) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("method", ["best_of_n", "rl"])
def test_overoptimisation_fits_find_their_constants(method):
    kl = [0.5, 1.0, 2.0, 5.0, 10.0]
    gain = overoptimisation(kl, 1.5, 0.3, method)
    d = math.sqrt(5)
    assert gain[3] == pytest.approx(d * (1.5 - 0.3 * (d if method == "best_of_n" else math.log(d))))
    assert fit_overoptimisation(kl, gain, method) == pytest.approx((1.5, 0.3))
    with pytest.raises(ValueError, match="at least three"):
        fit_overoptimisation(kl[:2], gain[:2], method)
    with pytest.raises(ValueError, match="not 'ppo'"):
        fit_overoptimisation(kl, gain, "ppo")


def test_what_is_not_finite_stops_the_run():
    check_finite(3, loss=1.0)
    with pytest.raises(ValueError, match="look at what gives the reward"):
        check_finite(3, reward=math.inf)
    with pytest.raises(ValueError, match="the KL is nan at step 3"):
        check_finite(3, loss=1.0, KL=math.nan)
