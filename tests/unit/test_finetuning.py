import copy

import pytest
import torch

from gptlib.budget import Budget
from gptlib.finetuning import (
    FinetuneConfig,
    InputFormat,
    TaskModel,
    accuracy,
    encode,
    finetune,
    language_model_loss,
    transfer,
)
from gptlib.labels import Example
from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import CharTokenizer

TOKENIZER = CharTokenizer("abcdefgh")
V = TOKENIZER.vocab_size
START, DELIMITER, EXTRACT = V, V + 1, V + 2
FORM = InputFormat(TOKENIZER, max_tokens=16)
TEXTS = {
    "classification": ("abc",),
    "entailment": ("ab", "cd"),
    "similarity": ("ab", "cd"),
    "multiple_choice": ("ab", "c", "d", "ef"),
}
ANSWERS = {"classification": 3, "entailment": 2, "similarity": 2, "multiple_choice": 3}
CPU = Budget("cpu", torch.device("cpu"), torch.float32)


def small(tie=False, **choices):
    sizes = dict(context_length=16, n_layer=2, n_head=2, n_embd=16, zero_init=False, tie_embeddings=tie)
    return GPT(GPTConfig.modern(V, **(sizes | choices)))


def test_the_four_transformations_by_hand():
    a, b, c, d, e, f = range(6)
    assert FORM.sequences("classification", ("abc",)) == [[START, a, b, c, EXTRACT]]
    pair = [START, a, b, DELIMITER, c, d, EXTRACT]
    assert FORM.sequences("entailment", ("ab", "cd")) == [pair]
    assert FORM.sequences("similarity", ("ab", "cd")) == [pair, [START, c, d, DELIMITER, a, b, EXTRACT]]
    assert FORM.sequences("multiple_choice", ("ab", "c", "ef")) == [
        [START, a, b, DELIMITER, c, EXTRACT],
        [START, a, b, DELIMITER, e, f, EXTRACT],
    ]


def test_what_is_too_long_is_refused_or_cut_where_it_says():
    with pytest.raises(ValueError, match="truncate=True"):
        InputFormat(TOKENIZER, 7).sequences("classification", ("abcdefgh",))
    cut = InputFormat(TOKENIZER, 7, truncate=True)
    assert cut.sequences("classification", ("abcdefgh",)) == [[START, 0, 1, 2, 3, 4, EXTRACT]]
    # a premise keeps its end, everything else its beginning
    assert cut.sequences("entailment", ("abcdefgh", "efgh")) == [[START, 6, 7, DELIMITER, 4, 5, EXTRACT]]
    assert cut.sequences("similarity", ("abcd", "efgh"))[0] == [START, 0, 1, DELIMITER, 4, 5, EXTRACT]
    # what one text does not need, another has
    assert cut.sequences("similarity", ("a", "efgh"))[0] == [START, 0, DELIMITER, 4, 5, 6, EXTRACT]
    assert cut.sequences("similarity", ("abcdef", "e"))[0] == [START, 0, 1, 2, DELIMITER, 4, EXTRACT]


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("room", [-1, 0, 1, 2, 3])
def test_where_no_token_of_a_text_has_room_the_error_says_how_many_are_needed(kind, room):
    needed = 3 if kind == "classification" else 4
    if room < needed:
        with pytest.raises(ValueError, match=f"max_tokens must be .*{3 if room < 3 else needed}"):
            InputFormat(TOKENIZER, room, truncate=True).sequences(kind, ["abcdefgh"] * len(TEXTS[kind]))


@pytest.mark.parametrize(("field", "value"), [("max_tokens", 16.0), ("max_tokens", "16"), ("truncate", 1)])
def test_a_format_of_another_kind_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        InputFormat(TOKENIZER, **{field: value})


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("room", [4, 5, 6, 7, 8, 9])
def test_truncation_fills_the_room_and_never_exceeds_it(kind, room):
    cut, long = InputFormat(TOKENIZER, room, truncate=True), InputFormat(TOKENIZER, 99)
    for first in range(1, 20):
        for other in range(1, 20):
            texts = ["a" * first] + ["b" * other] * (len(TEXTS[kind]) - 1)
            for row, uncut in zip(cut.sequences(kind, texts), long.sequences(kind, texts), strict=True):
                assert row[0] == START and row[-1] == EXTRACT
                assert len(row) == min(room, len(uncut)), (texts, row)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [("classification", ("a", "b")), ("entailment", ("a",)), ("multiple_choice", ("a", "b"))],
)
def test_a_wrong_number_of_texts_is_refused(kind, texts):
    with pytest.raises(ValueError, match="choose the kind"):
        FORM.sequences(kind, texts)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="multiple_choice"):
        FORM.sequences("regression", ("a",))
    with pytest.raises(ValueError, match="multiple_choice"):
        TaskModel(transfer(small()), "regression", 2)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_without_an_answer_is_refused(label):
    with pytest.raises(ValueError, match="from 0 to 2"):
        encode("classification", [Example(("a",), label)], 3, FORM)


def test_answers_must_be_as_many_as_the_task_has():
    with pytest.raises(ValueError, match="make them equal"):
        encode("multiple_choice", [Example(("a", "b", "c"), 0)], 4, FORM)


def test_a_head_of_another_kind_is_refused():
    model = TaskModel(transfer(small()), "classification", 2)
    data = encode("entailment", [Example(("a", "b"), 0)], 2, FORM)
    for use in (lambda: finetune(model, data, budget=CPU), lambda: accuracy(model, data)):
        with pytest.raises(ValueError, match=r"TaskModel\(gpt, 'entailment'"):
            use()


@pytest.mark.parametrize("tie", [False, True])
def test_transfer_keeps_what_the_model_predicts(tie):
    base = small(tie)
    before = copy.deepcopy(base.state_dict())
    ids = torch.randint(V, (2, 10), generator=torch.Generator().manual_seed(0))
    wider = transfer(base)
    torch.testing.assert_close(wider(ids)[..., :V], base(ids))
    with torch.no_grad():
        wider.blocks[0].mlp.up.weight.zero_()
    assert all(torch.equal(before[name], value) for name, value in base.state_dict().items())


def test_transfer_of_some_blocks_copies_those():
    base = small()
    part = transfer(base, n_layers=1, seed=5)
    assert torch.equal(part.tokens.weight[:V], base.tokens.weight)
    assert torch.equal(part.blocks[0].mlp.up.weight, base.blocks[0].mlp.up.weight)
    assert not torch.equal(part.blocks[1].mlp.up.weight, base.blocks[1].mlp.up.weight)
    none = transfer(base, n_layers=0, seed=5)
    fresh = GPT(none.config, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(none.parameters(), fresh.parameters(), strict=True))


def test_special_tokens_start_from_what_they_are_told():
    base = small()
    wider = transfer(base, special=(1, 1, 4))
    assert torch.equal(wider.tokens.weight[V:], base.tokens.weight[[1, 1, 4]])


@pytest.mark.parametrize("wrong", [dict(n_layers=3), dict(special=(1, 2)), dict(special=(1, 2, V))])
def test_transfer_refuses_what_there_is_not(wrong):
    with pytest.raises(ValueError):
        transfer(small(), **wrong)


@pytest.mark.parametrize("kind", TEXTS)
def test_padding_changes_no_score(kind):
    model = TaskModel(transfer(small()), kind, ANSWERS[kind])
    longer = tuple(text * 2 for text in TEXTS[kind])
    data = encode(kind, [Example(TEXTS[kind], 0), Example(longer, 1)], ANSWERS[kind], FORM)
    alone, _ = model(data.batch([0]))
    beside, _ = model(data.batch([0, 1]))
    assert alone.shape == (1, ANSWERS[kind])
    torch.testing.assert_close(beside[:1], alone)


def test_similarity_is_the_same_in_both_orders():
    model = TaskModel(transfer(small()), "similarity", 2)
    data = encode("similarity", [Example(("abc", "d"), 0), Example(("d", "abc"), 0)], 2, FORM)
    scores, _ = model(data.batch([0, 1]))
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[0], model(data.batch([0]))[0][0])


def test_the_order_of_answers_moves_the_scores_along():
    model = TaskModel(transfer(small()), "multiple_choice", 3)
    data = encode("multiple_choice", [Example(("ab", *t), 0) for t in ("cde", "edc")], 3, FORM)
    scores, _ = model(data.batch([0, 1]))
    torch.testing.assert_close(scores[0], scores[1].flip(0))


def test_the_auxiliary_loss_reads_no_padding():
    gpt = transfer(small())
    data = encode("classification", [Example(("abcdefgh",), 0), Example(("a",), 0)], 2, FORM)
    losses = []
    for which in ([0], [1], [0, 1]):
        batch = data.batch(which)
        losses.append(language_model_loss(gpt, gpt.states(batch.ids), batch).item())
    tokens = [9, 2]  # predicted in each
    expected = (losses[0] * tokens[0] + losses[1] * tokens[1]) / sum(tokens)
    assert losses[2] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", TEXTS)
def test_a_tiny_model_learns_four_examples_by_heart(kind):
    generator = torch.Generator().manual_seed(0)

    def text():
        return "".join("abcdefgh"[i] for i in torch.randint(8, (4,), generator=generator))

    examples = [Example(tuple(text() for _ in TEXTS[kind]), i % ANSWERS[kind]) for i in range(4)]
    data = encode(kind, examples, ANSWERS[kind], FORM)
    model = TaskModel(transfer(small()), kind, ANSWERS[kind])
    losses = finetune(model, data, FinetuneConfig(steps=80, batch_size=4, lr=0.01), CPU)
    assert losses[-1] < 0.1 * losses[0]
    assert accuracy(model, data) == 1


def test_every_weight_moves_and_the_auxiliary_loss_moves_the_output_layer():
    data = encode("classification", [Example((t,), i) for i, t in enumerate(("abc", "def"))], 2, FORM)
    for weight in (0.0, 0.5):
        model = TaskModel(transfer(small()), "classification", 2)
        before = {name: p.clone() for name, p in model.named_parameters()}
        finetune(model, data, FinetuneConfig(steps=3, batch_size=2, lm_weight=weight), CPU)
        still = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
        assert still == (set() if weight else {"gpt.head.weight"})


def test_the_same_seed_gives_the_same_losses():
    data = encode("classification", [Example(("abcd"[i],), i % 2) for i in range(4)], 2, FORM)
    runs = []
    for seed in (0, 0, 1):
        model = TaskModel(transfer(small()), "classification", 2)
        runs.append(finetune(model, data, FinetuneConfig(steps=4, batch_size=3, seed=seed), CPU))
    assert runs[0] == runs[1] != runs[2]


def test_a_loss_that_is_not_finite_stops_the_run():
    data = encode("classification", [Example(("a",), 0)], 2, FORM)
    model = TaskModel(transfer(small()), "classification", 2)
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="learning rate"):
        finetune(model, data, budget=CPU)
