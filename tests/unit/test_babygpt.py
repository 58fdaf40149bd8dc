import json
from dataclasses import replace
from importlib.metadata import distribution
from itertools import pairwise

import pytest
import torch

from gptlib import babygpt as module
from gptlib.babygpt import ABOUT, FIRST_STEPS, FOLDER, babygpt, first_steps, record_base
from gptlib.base_text import PACKAGES, BaseText, HeldOut, fingerprint, what_is_tested
from gptlib.budget import Budget
from gptlib.checkpoints import weights
from gptlib.corpora import Corpus, Document
from gptlib.history import Interrupted
from gptlib.training import evaluate

CPU = Budget("cpu", torch.device("cpu"), torch.float32)
TEXTS = [f"def read_{i}(self):\n    Return the file number {i}.\n" * 60 for i in range(12)]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a model that was recorded on a small text, for babygpt to load."""
    documents = [Document(text, "m", "text", "n", "", text) for text in TEXTS]
    corpus = Corpus("small", tuple(documents[:9]), tuple(documents[9:]))
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTLIB_CACHE", str(folder / "cache"))
        patch.setattr(module, "base_text", lambda held_out: BaseText(TEXTS[:2], TEXTS[2:9]))
        patch.setattr(
            module, "what_is_tested", lambda *pythons: HeldOut(frozenset(TEXTS[9:]), frozenset({"m"}))
        )
        patch.setattr(module, "package", lambda name: {"name": name})
        patch.setattr(module, "python_docs", lambda: corpus)
        patch.setattr(module, "documentation_to_read", lambda: corpus)
        patch.setattr(module, "FOLDER", folder)
        patch.setattr(module, "VOCAB_SIZE", 270)
        patch.setattr(module, "TRAINING", replace(module.TRAINING, batch_size=2))
        record_base(folder, budget=CPU)
        yield folder


def test_what_was_recorded_is_loaded_and_nothing_is_trained(small, monkeypatch):
    made = babygpt(CPU, train_anew=True)
    monkeypatch.setattr(module, "train", lambda *rest, **more: pytest.fail("trained again"))
    loaded = babygpt(CPU)
    assert not loaded.model.training and loaded.history.final.loss == made.history.final.loss
    for name, tensor in weights(loaded.model).items():
        torch.testing.assert_close(tensor, weights(made.model)[name], rtol=1e-3, atol=1e-6)  # from float16
    assert loaded.tokenizer.encode(TEXTS[0]) == made.tokenizer.encode(TEXTS[0])


def test_both_parts_are_read_and_the_rate_falls_in_the_last(small):
    history = babygpt(CPU).history
    steps, factors = zip(*((record.step, record.lr_factor) for record in history.train), strict=True)
    assert all(a < b for a, b in pairwise(steps))
    fall = next(i for i, factor in enumerate(factors) if factor < 1)
    assert factors[:fall] == (1.0,) * fall and factors[-1] < 0.1 and 0 < fall < len(factors)
    assert history.final.tokens == history.final.step * 2 * 128


def test_the_first_steps_are_those_of_the_record(small):
    baby = babygpt(CPU)
    again, recorded = first_steps(baby, CPU, 5), baby.history
    assert [r.loss for r in again.train] == pytest.approx([r.loss for r in recorded.train[:5]], abs=1e-5)


def test_more_first_steps_than_are_kept_are_refused(small):
    with pytest.raises(ValueError, match=str(FIRST_STEPS)):
        first_steps(babygpt(CPU), CPU, FIRST_STEPS + 1)


def test_a_recording_that_is_stopped_gives_no_files_and_is_finished_by_the_next_call(
    small, monkeypatch, tmp_path, stop_after
):
    monkeypatch.setenv("GPTLIB_CACHE", str(tmp_path / "cache"))
    stop_after(1)
    with pytest.warns(Interrupted), pytest.raises(KeyboardInterrupt, match="after step 1"):
        record_base(tmp_path, budget=CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    record_base(tmp_path, budget=CPU)
    for name in (module.WEIGHTS, module.FIRST, module.TOKENIZER):
        assert (tmp_path / name).read_bytes() == (small / name).read_bytes()


# -- what is shipped --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def about():
    return json.loads((FOLDER / ABOUT).read_text(encoding="utf-8"))


def test_what_this_python_tests_on_was_held_out_of_the_training_text(about):
    documents, modules = set(about["held_out_documents"]), set(about["held_out_modules"])
    here = what_is_tested()
    assert here.modules <= modules
    # A later patch of a Python may word a document of these modules anew.
    new = [body for body in here.bodies if fingerprint(body) not in documents]
    assert len(new) < 0.02 * len(here.bodies), new[:5]


def test_the_record_says_what_was_read_and_under_which_licences(about):
    assert [package["name"] for package in about["packages"]] == [
        distribution(n).metadata["Name"] for n in PACKAGES
    ]
    assert all(package["version"] and package["licence"] for package in about["packages"])
    assert about["characters"]["documentation"] > 1e6 and about["characters"]["others"] > 2e7
    assert about["provenance"].keys() >= {"device", "commit", "torch", "python", "minutes"}


def test_the_shipped_model_has_the_loss_that_its_history_ends_with():
    baby = babygpt(CPU)
    assert evaluate(baby.model, baby.data.validation, 20_000) == pytest.approx(
        baby.history.final.loss, abs=0.1
    )
    assert baby.history.final.loss < 3.2 and baby.model.n_params < 1.2e6
