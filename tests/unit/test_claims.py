import pytest

from gptlib import claims
from gptlib.claims import MIMETYPE, claim


@pytest.fixture
def shown(monkeypatch):
    seen = []
    monkeypatch.setattr(claims, "display", lambda made: seen.append(made._repr_mimebundle_()))
    return seen


@pytest.mark.parametrize(
    "bound",
    [
        dict(at_least=0.5),
        dict(at_most=0.5),
        dict(equals=0.45, tolerance=0.06),
        dict(equals=0.75, tolerance=0.25),
        dict(equals=0.5, tolerance=0),
        dict(at_least=0.4),
    ],
)
def test_a_claim_that_holds_leaves_a_line_and_a_record(shown, bound):
    claim("half", "it is a half", 0.5, **bound, seeds=range(3), source="Nobody (1900): a half")
    (bundle,) = shown
    assert "it is a half" in bundle["text/plain"] and 'id="claim-half"' in bundle["text/html"]
    record = bundle[MIMETYPE]
    assert (record["id"], record["measured"], record["seeds"]) == ("half", 0.5, [0, 1, 2])
    assert record["bound"] == bound and record["device"] and record["recorded"] is False


@pytest.mark.parametrize(
    ("measured", "bound"),
    [
        (0.5, dict(at_least=0.51)),
        (0.5, dict(at_most=0.49)),
        (0.5, dict(equals=0.4, tolerance=0.05)),
        (0.5, dict(equals=0.6, tolerance=0.05)),
        (float("nan"), dict(at_most=1)),
        (float("inf"), dict(at_least=1)),
        (-float("inf"), dict(at_most=1)),
    ],
)
def test_a_claim_that_fails_raises_and_shows_nothing(shown, measured, bound):
    with pytest.raises(AssertionError, match="claim 'x' fails"):
        claim("x", "text", measured, **bound)
    assert not shown


@pytest.mark.parametrize(
    "bound",
    [{}, dict(at_least=0, at_most=1), dict(equals=1), dict(at_least=0, tolerance=0.1), dict(tolerance=0.1)],
)
def test_a_claim_has_exactly_one_bound(bound):
    with pytest.raises(ValueError, match="one bound"):
        claim("x", "text", 0.5, **bound)


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (dict(at_least=0.25), "at least 0.25"),
        (dict(at_most=1234), "at most 1234"),
        (dict(equals=0.5, tolerance=0.01), "should be 0.5 within 0.01"),
    ],
)
def test_the_line_names_number_unit_and_bound_and_the_record_all_that_was_given(shown, bound, words):
    claim("x", "it is", 0.501, **bound, unit="nats", source="Nobody (1900)", recorded=True)
    claim("y", "it is", 0.501, **bound)
    with_unit, without = shown
    assert with_unit["text/plain"] == f"\u2713 it is: measured 0.501 nats ({words})"
    assert without["text/plain"] == f"\u2713 it is: measured 0.501 ({words})"
    assert "<b>0.501 nats</b>" in with_unit["text/html"] and f"({words})" in with_unit["text/html"]
    kept = {key: with_unit[MIMETYPE][key] for key in ("text", "unit", "source", "seeds", "recorded")}
    assert kept == dict(text="it is", unit="nats", source="Nobody (1900)", seeds=None, recorded=True)


def test_text_id_and_unit_are_escaped(shown):
    claim('x"y', "a < b", 1, at_least=0, unit="<i>")
    told = shown[0]["text/html"]
    assert "a &lt; b" in told and 'id="claim-x&quot;y"' in told
    assert "<b>1 &lt;i&gt;</b>" in told and "<i>" not in told
