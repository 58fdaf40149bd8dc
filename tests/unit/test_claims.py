import pytest

from gptlib import claims
from gptlib.claims import MIMETYPE, claim


@pytest.fixture
def shown(monkeypatch):
    seen = []
    monkeypatch.setattr(claims, "display", lambda made: seen.append(made._repr_mimebundle_()))
    return seen


@pytest.mark.parametrize(
    "bound", [dict(at_least=0.5), dict(at_most=0.5), dict(equals=0.45, tolerance=0.06), dict(at_least=0.4)]
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
        (float("nan"), dict(at_most=1)),
        (float("inf"), dict(at_least=1)),
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


def test_text_is_escaped(shown):
    claim("x", "a < b", 1, at_least=0)
    assert "a &lt; b" in shown[0]["text/html"]
