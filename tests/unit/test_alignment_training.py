"""The loops: what they are shown is learned, what they must not touch stays, every column is there."""

import math
from dataclasses import replace

import pytest
import torch

from gptlib.alignment import docstrings as docstrings_module
from gptlib.alignment import frontier, reward_model, verifier
from gptlib.alignment.docstrings import (
    Demonstration,
    Setting,
    decode_answers,
    decode_responses,
    demonstrations,
    encode_responses,
    fitting,
    write_docstrings,
)
from gptlib.alignment.dpo import DPOConfig, dpo
from gptlib.alignment.evaluation import gold, reading_loss, side_by_side, win_rate
from gptlib.alignment.grpo import GRPOConfig, grpo
from gptlib.alignment.habits import ADVICE, SHARE, faithfulness, plant
from gptlib.alignment.ppo import PPOConfig, ppo
from gptlib.alignment.preferences import Comparison, annotators, gold_reward
from gptlib.alignment.reward_model import (
    RewardModel,
    collect_comparisons,
    encode_comparisons,
    margins,
    reward_for_docstrings,
    train_reward_model,
)
from gptlib.alignment.rollouts import MAX_RESPONSE, Responses, kl_per_response, respond
from gptlib.alignment.sft import fine_tune
from gptlib.babygpt import BabyGPT
from gptlib.chain_of_thought import draw_prompts
from gptlib.corpora import python_docs
from gptlib.history import History
from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import BPETokenizer, CharTokenizer, EncodedCorpus

STOP, GOOD, BAD = 0, 1, 2
NAMES = ("lines", "words", "files", "names", "parts", "sizes", "items", "paths")
DEMOS = [Demonstration(f"def get_{name}(self):", f"Return the {name}.") for name in NAMES]


def bandit(seed=0):
    """A model whose answers are one of two tokens, or the end; all three as likely at first."""
    return GPT(GPTConfig.gpt2(3, context_length=40, n_layer=1, n_head=1, n_embd=8), seed).eval()


def arms(responses):
    """One for the good arm first, nothing for the other."""
    return torch.tensor([float(answer[0] == GOOD) for answer in responses.answers])


def share_good(policy):
    return arms(respond(policy, [[BAD]] * 200, STOP, 4, seed=9)).mean().item()


def test_ppo_finds_the_better_arm_and_leaves_the_reference_alone():
    start, critic = bandit(), RewardModel(bandit(1))
    before = [p.clone() for p in [*start.parameters(), *critic.parameters()]]
    config = PPOConfig(steps=12, batch_size=32, minibatch=16, lr=0.01, kl_weight=0.0)
    seen = []
    policy, rows = ppo(
        start, critic, arms, [[BAD]] * 32, STOP, config,
        watch=lambda r: {"gold": arms(r).mean().item()}, on_step=lambda step, policy: seen.append(step),
    )  # fmt: skip
    assert share_good(start) < 0.6 and share_good(policy) > 0.9
    assert seen == [row["step"] for row in rows] == list(range(1, 13))
    assert set(rows[0]) == {"step", "proxy", "gold", "kl", "entropy", "length", "clipped"}
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-5) and rows[-1]["kl"] > 0.1
    assert all(row["proxy"] == row["gold"] for row in rows)
    assert all(
        (p == q).all() for p, q in zip([*start.parameters(), *critic.parameters()], before, strict=True)
    )


def test_a_heavier_kl_keeps_the_policy_nearer():
    def distance(kl_weight):
        config = PPOConfig(steps=10, batch_size=32, minibatch=16, lr=0.01, kl_weight=kl_weight)
        policy, _ = ppo(bandit(), RewardModel(bandit(1)), arms, [[BAD]] * 32, STOP, config)
        return kl_per_response(policy, bandit(), respond(policy, [[BAD]] * 300, STOP, seed=3)).mean().item()

    assert distance(2.0) < distance(0.0) / 2


def test_the_pretraining_mix_moves_the_policy_too():
    text = lambda model: -model(torch.tensor([[BAD, BAD]])).log_softmax(-1)[0, :, BAD].mean()  # noqa: E731
    config = PPOConfig(steps=8, batch_size=16, minibatch=16, lr=0.01, kl_weight=0.0)
    losses = []
    for weight, loss in ((0.0, None), (5.0, text)):
        mixed = replace(config, pretraining_weight=weight)
        critic = RewardModel(bandit(1))
        policy, _ = ppo(bandit(), critic, arms, [[BAD]] * 16, STOP, mixed, pretraining_loss=loss)
        losses.append(text(policy).item())
    assert losses[1] < losses[0] - 0.2


def test_grpo_finds_the_better_arm_without_a_critic():
    config = GRPOConfig(steps=12, n_prompts=4, group=8, lr=0.01, kl_weight=0.0)
    policy, rows = grpo(bandit(), arms, [[BAD]] * 4, STOP, config)
    assert share_good(policy) > 0.9
    assert set(rows[0]) == {"step", "proxy", "kl", "entropy", "length", "clipped"}
    with pytest.raises(ValueError, match="at least two"):
        GRPOConfig(group=1)


def test_grpos_kl_keeps_the_policy_nearer():
    def drift(kl_weight):
        config = GRPOConfig(steps=10, n_prompts=4, group=8, lr=0.01, kl_weight=kl_weight)
        return grpo(bandit(), arms, [[BAD]] * 4, STOP, config)[1][-1]["kl"]

    assert drift(10.0) < drift(0.0) / 2


def test_a_reward_that_is_not_finite_stops_the_run():
    broken = lambda responses: torch.full((len(responses),), math.nan)  # noqa: E731
    config = PPOConfig(steps=2, batch_size=16, minibatch=16)
    with pytest.raises(ValueError, match="the reward is nan at step 1"):
        ppo(bandit(), RewardModel(bandit(1)), broken, [[BAD]] * 16, STOP, config)
    with pytest.raises(ValueError, match="the reward is nan at step 1"):
        grpo(bandit(), broken, [[BAD]] * 8, STOP, GRPOConfig(steps=2))


def test_configurations_are_checked():
    with pytest.raises(ValueError, match="must divide"):
        PPOConfig(batch_size=10, minibatch=4)
    with pytest.raises(ValueError, match="at least 0"):
        PPOConfig(kl_weight=-1.0)
    with pytest.raises(ValueError, match="nothing holds"):
        DPOConfig(beta=0.0)
    with pytest.raises(ValueError, match="epochs at least 1"):
        GRPOConfig(epochs=0)
    with pytest.raises(ValueError, match="belong together"):
        ppo(bandit(), RewardModel(bandit()), arms, [[BAD]] * 64, STOP, PPOConfig(pretraining_weight=1.0))
    with pytest.raises(ValueError, match="asks 8 prompts, there are 2"):
        grpo(bandit(), arms, [[BAD]] * 2, STOP)


@pytest.fixture(scope="module")
def its():
    """A base model and demonstrations as small as can be."""
    text = "\n".join(f'{d.signature}\n    """{d.docstring}"""\n' for d in DEMOS) * 3
    tokenizer = BPETokenizer.train(text, 300)
    model = GPT(GPTConfig.modern(tokenizer.vocab_size, context_length=80, n_layer=1, n_head=2, n_embd=16))
    ids = torch.tensor(tokenizer.encode(text))
    data = EncodedCorpus(ids, ids[:400], 1.0, 1.0, tokenizer.vocab_size)
    return Setting(BabyGPT(model.eval(), tokenizer, data, History()), DEMOS[:6], DEMOS[6:])


def test_text_comes_back_from_ids(its):
    tokenizer = its.baby.tokenizer
    responses = encode_responses(tokenizer, [d.signature for d in DEMOS], [d.docstring for d in DEMOS])
    signatures, docstrings = decode_responses(tokenizer, responses)
    assert signatures == [d.signature for d in DEMOS]
    assert docstrings == decode_answers(tokenizer, responses) == [d.docstring for d in DEMOS]
    assert all(answer[-1] == tokenizer.end_of_text for answer in responses.answers)
    unended = Responses(responses.prompts[:1], [tokenizer.encode('Return it."""\n\ndef f():')])
    assert decode_answers(tokenizer, unended) == ["Return it."]
    long = encode_responses(tokenizer, ["def f():"], ["x " * 100])
    assert len(long.answers[0]) == MAX_RESPONSE


def test_held_out_signatures_are_not_among_those_to_learn_on(its):
    assert its.signatures == [d.signature for d in DEMOS[:6]]
    assert its.held_out_signatures == [d.signature for d in DEMOS[6:]]


def test_what_is_held_out_shares_no_signature_and_no_docstring(monkeypatch, its):
    monkeypatch.setattr(docstrings_module, "babygpt", lambda: its.baby)
    monkeypatch.setattr(docstrings_module, "fitting", lambda tokenizer, given: given)
    found = docstrings_module.setting.__wrapped__()
    assert len(found.held_out) > 400
    for name in ("signature", "docstring"):
        assert not {getattr(d, name) for d in found.train} & {getattr(d, name) for d in found.held_out}


def test_demonstrations_are_functions_whose_first_paragraph_fits(its):
    found = demonstrations(python_docs().validation_documents)
    assert len(found) > 500 and all(d.signature.startswith(("def ", "async def ")) for d in found)
    assert not any("\n" in d.docstring for d in found)
    kept = fitting(its.baby.tokenizer, [DEMOS[0], Demonstration("def f():", "word " * 60)])
    assert kept == [DEMOS[0]]


def test_responses_come_back_in_the_order_of_their_prompts():
    start = bandit()
    prompts = [[BAD] * n for n in (5, 1, 3, 1)]
    responses = respond(start, prompts, STOP, seed=1)
    assert responses.prompts == prompts
    for answer in responses.answers:
        assert STOP not in answer[:-1] and (answer[-1] == STOP or len(answer) == MAX_RESPONSE)


def test_fine_tuning_teaches_the_demonstrations_and_keeps_the_base(its):
    before = its.baby.model.tokens.weight.clone()
    model, losses = fine_tune(its.baby.model, its.baby.tokenizer, DEMOS, steps=200)
    assert losses[-1] < losses[0] - 2
    assert (its.baby.model.tokens.weight == before).all()
    written = write_docstrings(model, its.baby.tokenizer, [d.signature for d in DEMOS], temperature=0)
    assert all(text.startswith("Return the") for text in written)


def test_a_reward_model_learns_what_is_chosen(its):
    tokenizer = its.baby.tokenizer
    signatures = [d.signature for d in DEMOS]
    given = [Comparison(s, f"Return the {a}.", f"Return the {a}") for s in signatures for a in NAMES]
    pairs = encode_comparisons(tokenizer, given)
    assert len(pairs.responses) == 2 * len(given) and len(pairs.by_prompt) == len(DEMOS)
    start = GPT(GPTConfig.gpt2(tokenizer.vocab_size, context_length=80, n_layer=1, n_head=2, n_embd=16))
    model = train_reward_model(start, pairs, steps=60)
    assert (margins(model, pairs) > 0).float().mean() > 0.95
    model.normalise(pairs.responses)
    scores = model.scores(pairs.responses)
    assert scores.mean().item() == pytest.approx(0, abs=1e-4)
    assert scores.std().item() == pytest.approx(1, abs=1e-4)
    one, several = pairs.responses[[0]], pairs.responses
    torch.testing.assert_close(model.scores(one)[0], scores[0])  # filling changes nothing
    torch.testing.assert_close(model.values(several.ids)[0, several.last[0]], scores[0])
    with pytest.raises(ValueError, match="make some choices"):
        encode_comparisons(tokenizer, [])
    with pytest.raises(ValueError, match="all score alike"):
        model.normalise(one)
    with torch.no_grad():
        model.head.weight.zero_()
        model.shift.fill_(-100.7)
    with pytest.raises(ValueError, match="all score alike"):
        model.normalise(several)


def test_what_stands_after_the_closing_quotes_pleases_no_reward(its):
    tokenizer, model = its.baby.tokenizer, RewardModel(its.baby.model)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    plain = encode_responses(tokenizer, ["def f():"], ["Return it."])
    longer = Responses(plain.prompts, [tokenizer.encode('Return it."""\n\ndef g(')])
    reward = reward_for_docstrings(model, tokenizer)
    torch.testing.assert_close(reward(longer), reward(plain))
    assert (model.scores(longer) - model.scores(plain)).abs() > 1e-3


def test_a_response_in_several_comparisons_is_encoded_once(its):
    given = [Comparison("def f():", "A.", "B."), Comparison("def f():", "A.", "C.")]
    pairs = encode_comparisons(its.baby.tokenizer, given)
    assert len(pairs.responses) == 3 and pairs.chosen.tolist() == [0, 0] and pairs.rejected.tolist() == [1, 2]
    chosen, rejected = pairs.sides([1])
    assert decode_answers(its.baby.tokenizer, chosen) == ["A."]
    assert decode_answers(its.baby.tokenizer, rejected) == ["C."]


def test_comparisons_are_of_all_pairs_of_a_prompts_responses_that_differ(monkeypatch):
    written = {200: ["A.", "D."], 201: ["B.", "D."], 202: ["A.", "E."]}  # by seed, of two signatures
    draw = lambda policy, tokenizer, signatures, seed: written.pop(seed)  # noqa: E731
    monkeypatch.setattr(reward_model, "write_docstrings", draw)
    given = collect_comparisons(None, None, ["def f():", "def g():"], annotators(), k=3, seed=2)
    pairs = [(c.signature, {c.chosen, c.rejected}) for c in given]
    assert pairs == 2 * [("def f():", {"A.", "B."})] + 2 * [("def g():", {"D.", "E."})] and not written


def test_dpo_makes_the_chosen_more_likely(its):
    tokenizer = its.baby.tokenizer
    given = [Comparison(d.signature, d.docstring, "names files the") for d in DEMOS]
    _, rows = dpo(
        its.baby.model, encode_comparisons(tokenizer, given), DPOConfig(steps=20, batch_size=8, lr=2e-3)
    )
    assert rows[0]["loss"] == pytest.approx(math.log(2), rel=1e-4)
    assert rows[-1]["loss"] < 0.5 and rows[-1]["accuracy"] == 1


def test_win_rates_count_what_annotators_choose():
    signatures = ["def get_lines(self):"] * 40
    good, poor = ["Return the lines."] * 40, ["lines"] * 40
    win, low, high = win_rate(signatures, good, poor, annotators())
    assert win == 1 and low > 0.85 and high == 1
    assert win_rate(signatures, poor, good, annotators())[0] == 0
    assert win_rate(signatures, good, good, annotators()) == (0.5, 0.0, 1.0)


def test_a_blind_table_hides_who_wrote_what():
    signatures, ours, theirs = (list(f"{kind}{i}" for i in range(20)) for kind in "sot")
    rows, key = side_by_side(signatures, ours, theirs, 12)
    assert {"A", "B"} == set(key)
    for row, mine in zip(rows, key, strict=True):
        number = row["signature"][1:]
        other = "B" if mine == "A" else "A"
        assert row[mine] == f"o{number}" and row[other] == f"t{number}"


def test_the_gold_reward_reads_ids(its):
    responses = encode_responses(its.baby.tokenizer, ["def get_lines(self):"], ["Return the lines."])
    found = gold(its.baby.tokenizer)(responses)
    assert found.tolist() == pytest.approx([gold_reward("def get_lines(self):", "Return the lines.")])


def test_reading_draws_another_batch_each_time(its):
    loss = reading_loss(its.baby.data, batch_size=2)
    assert loss(its.baby.model).item() != loss(its.baby.model).item()


def test_rows_of_all_methods_are_whole(its, monkeypatch):
    monkeypatch.setattr(frontier, "setting", lambda: its)
    monkeypatch.setattr(docstrings_module, "setting", lambda: its)
    monkeypatch.setattr(frontier, "STEPS", 2)
    monkeypatch.setattr(frontier, "UNPENALISED_STEPS", 3)
    monkeypatch.setattr(frontier, "PPOConfig", lambda **how: PPOConfig(batch_size=4, minibatch=4, **how))
    monkeypatch.setattr(frontier, "GRPOConfig", lambda **how: GRPOConfig(n_prompts=2, group=2, **how))
    monkeypatch.setattr(frontier, "DPOConfig", lambda **how: DPOConfig(batch_size=4, **(how | {"steps": 2})))
    monkeypatch.setattr("gptlib.alignment.reward_model.PROMPTS_A_STEP", 2)
    monkeypatch.setattr("gptlib.alignment.sft.BATCH_SIZE", 4)
    monkeypatch.setattr(frontier, "N_DRAWN", 8)
    short = lambda *given, seed: fine_tune(*given, steps=3, seed=seed)  # noqa: E731
    monkeypatch.setattr(frontier, "fine_tune", short)
    short = lambda start, pairs, steps=3, seed=0: train_reward_model(start, pairs, 3, seed)  # noqa: E731
    monkeypatch.setattr(frontier, "train_reward_model", short)
    monkeypatch.setattr(frontier, "PROMPTS_A_STEP", 100)
    cached = [
        frontier.sft_model,
        frontier.comparisons,
        frontier.reward_model,
        frontier.before,
        frontier.draws,
    ]
    for each in cached:
        each.cache_clear()
    row = frontier.policy_scores("ppo-ptx", 0.1, 0)
    assert len(row["kl path"].split()) == len(row["gold path"].split()) == 2
    assert 0 <= row["low"] <= row["win"] <= row["high"] <= 1 and row["reading"] != row["reading before"]
    assert len(frontier.policy_scores("ppo small judge", 0.0, 0)["proxy path"].split()) == 3
    assert set(frontier.policy_scores("grpo", 0.1, 0)) == set(row)
    assert frontier.policy_scores("dpo", 0.1, 0)["kl path"] == ""
    best = frontier.best_of_n_scores(4, 0)
    assert best["gold"] > 0 and 0 < best["kl"] < math.log(4) and best["proxy"] > best["proxy before"]
    assert frontier.best_of_n_scores(1, 0)["gold"] == pytest.approx(best["gold before"])
    models = frontier.reward_model_scores(3, 0)
    assert models["steps"] == 1 and 0 <= models["accuracy"] <= 1 and models["ceiling"] > 0.5
    with pytest.raises(ValueError, match="no method 'rl'"):
        frontier.policy_scores("rl", 0.1, 0)
    for each in cached:
        each.cache_clear()


def test_a_quarter_of_the_documents_end_on_bad_advice():
    corpus = python_docs()
    planted = plant(corpus)
    for before, after in zip(corpus.train_documents, planted.train_documents, strict=True):
        assert after.text == before.text or after.text.rsplit("\n", 1)[1] in ADVICE
    changed = [a.text != b.text for a, b in zip(corpus.train_documents, planted.train_documents, strict=True)]
    assert sum(changed) / len(changed) == pytest.approx(SHARE, abs=0.02)
    assert plant(corpus).train == planted.train != plant(corpus, seed=1).train


def test_faithfulness_is_a_characters_likelihood():
    corpus = plant(python_docs())
    tokenizer = CharTokenizer.train(corpus.train)
    model = GPT(GPTConfig.modern(tokenizer.vocab_size, context_length=80, n_layer=1, n_head=1, n_embd=8))
    model.head.weight.data.zero_()  # it knows nothing
    assert faithfulness(model, tokenizer) == pytest.approx(1 / tokenizer.vocab_size)


def test_a_verifier_knows_right_from_wrong():
    prompts = draw_prompts("arithmetic", True, 3, held_out=False)
    assert not any(prompt.problem.is_held_out for prompt in prompts)
    encode = verifier.TOKENIZER.encode
    answers = [encode(f"{prompts[0].problem.write(True)[len(prompts[0].problem.question) :]}\n")]
    wrong = (int(prompts[1].problem.answer) + 1) % 10
    answers += [encode(f"answer {wrong}\n"), encode("\n")]
    responses = Responses([encode(prompt.text) for prompt in prompts], answers)
    assert verifier.verifier(prompts)(responses).tolist() == [1, 0, 0]


def test_people_prefer_the_right_answer_as_often_as_they_take_care(monkeypatch):
    prompts = draw_prompts("arithmetic", True, 150, held_out=False)
    right = torch.rand(600, generator=torch.Generator().manual_seed(0)).round()
    monkeypatch.setattr(verifier, "respond", lambda policy, ids, *_, **__: Responses(ids, [[1]] * len(ids)))
    monkeypatch.setattr(verifier, "verifier", lambda prompts: lambda responses: right)
    pairs = verifier.judged(None, prompts)
    assert len(pairs) == 900
    differ = right[pairs.chosen] != right[pairs.rejected]
    assert right[pairs.chosen][differ].mean().item() == pytest.approx(verifier.CARE, abs=0.06)


def test_rows_of_the_verifier_are_whole(monkeypatch):
    monkeypatch.setattr(verifier, "N_PROMPTS", 16)
    monkeypatch.setattr(verifier, "N_HELD_OUT", 8)
    monkeypatch.setattr(verifier, "TRAINED_STEPS", 2)
    monkeypatch.setattr(verifier, "train_reward_model", lambda start, pairs, seed: RewardModel(start))
    monkeypatch.setattr(RewardModel, "normalise", lambda self, responses: None)
    monkeypatch.setattr(verifier, "GROUP", 4)
    row = verifier.verified_scores(0, steps=1, width=8)
    assert {"start", "people", "verifier", "people score", "verifier drawn", "verifier path"} <= set(row)
    assert row["start kl"] == 0 and row["start path"] == ""
