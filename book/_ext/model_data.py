"""The models of book/models.csv: read, computed with, and fitted by exponentials. Knows nothing of Sphinx."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np

LECTURE = date(2023, 3, 15)  # the lecture's own map shows March 2023
NUMBERS = ("params", "active_params", "tokens", "flops_published")
SOURCES = ("source", "params_source", "tokens_source", "flops_source")
DRAWS = 2000  # resamples of a bootstrap


@dataclass(frozen=True)
class Model:
    """A row of the table. What its makers did not publish is None."""

    name: str
    date: str  # YYYY-MM-DD, or YYYY-MM where the day is not known
    organisation: str
    openness: str  # closed, api, weights or open
    params: float | None
    active_params: float | None  # per token, of a mixture of experts
    tokens: float | None  # seen in training
    flops_published: float | None
    sources: tuple[str, ...]  # BibTeX keys, the main one first

    @property
    def day(self) -> date:
        """The date; the middle of the month where the day is not known."""
        return date.fromisoformat(self.date if len(self.date) == 10 else f"{self.date}-15")

    @property
    def year(self) -> float:
        """The date in years and fractions of them."""
        return self.day.year + (self.day.timetuple().tm_yday - 1) / 365.25

    @property
    def working(self) -> float | None:
        """The parameters that work on a token: the active ones, or all of them."""
        return self.active_params or self.params

    @property
    def per_param(self) -> float | None:
        """Training tokens for each parameter that works on a token."""
        return self.tokens / self.working if self.tokens and self.working else None

    @property
    def flops_6nd(self) -> float | None:
        """Training compute by the rule 6ND, N being the parameters that work on a token."""
        return 6 * self.working * self.tokens if self.tokens and self.working else None

    @property
    def flops(self) -> float | None:
        """The compute that figures and fits use: 6ND, or what was published where 6ND is not known."""
        return self.flops_6nd or self.flops_published


@cache
def read_models(path: Path, changed: float = 0.0) -> tuple[Model, ...]:
    """Read the table in the order of dates; `changed` is the file's time: a new version is read anew."""
    with path.open(encoding="utf-8", newline="") as file:
        models = [_model(row) for row in csv.DictReader(file)]
    return tuple(sorted(models, key=lambda model: model.day))


def _model(row: dict[str, str]) -> Model:
    numbers = {name: float(row[name]) if row[name] else None for name in NUMBERS}
    sources = tuple(dict.fromkeys(row[name] for name in SOURCES if row[name]))
    words = {name: row[name] for name in ("name", "date", "organisation", "openness")}
    return Model(**words, **numbers, sources=sources)


@dataclass(frozen=True)
class Growth:
    """An exponential fitted to compute against time."""

    count: int  # models it was fitted to
    slope: float  # doublings a year
    intercept: float  # log2 of the compute in year 0
    doubling: float  # months to double
    low: float  # the 95 % interval of these months, by bootstrap
    high: float

    def flops(self, year: float) -> float:
        """The compute on the line in a year."""
        return 2.0 ** (self.intercept + self.slope * year)


def record_holders(models: Sequence[Model]) -> list[Model]:
    """Return the models that used more compute than every earlier one, in the order of dates."""
    best, holders = 0.0, []
    for model in sorted(models, key=lambda model: model.day):
        if model.flops and model.flops > best:
            best = model.flops
            holders.append(model)
    return holders


def fit_growth(models: Sequence[Model], records: bool = False, seed: int = 0) -> Growth:
    """Fit log compute against date by least squares, over all models or over the record holders alone.

    The interval is a bootstrap's over models: each resample finds its own record holders. Raises ValueError
    where fewer than three models state their compute.
    """
    points = np.array(sorted((model.year, np.log2(model.flops)) for model in models if model.flops))
    if len(points) < 3:
        raise ValueError("a fit needs three models or more whose compute is known")
    pick = _records if records else np.asarray
    slope, intercept = _line(pick(points))
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(points), size=(DRAWS, len(points)))
    slopes = [_line(pick(points[np.sort(draw)]))[0] for draw in draws]
    low, high = np.nanpercentile(slopes, [2.5, 97.5])
    months = [12 / value if value > 0 else float("inf") for value in (slope, high, low)]
    return Growth(len(pick(points)), slope, intercept, *months)


def _records(points: np.ndarray) -> np.ndarray:
    before = np.concatenate([[-np.inf], np.maximum.accumulate(points[:, 1])[:-1]])
    return points[points[:, 1] > before]


def _line(points: np.ndarray) -> tuple[float, float]:
    x, y = points.T - points.mean(0)[:, None]
    slope = (x @ y) / (x @ x) if x.any() else float("nan")
    return slope, points[:, 1].mean() - slope * points[:, 0].mean()


@cache
def fits(models: tuple[Model, ...]) -> dict[str, Growth]:
    """Return the four fits of the page by name: all models or record holders, until now or the lecture."""
    early = [model for model in models if model.day < LECTURE]
    return {
        "all": fit_growth(models),
        "records": fit_growth(models, records=True),
        "all-early": fit_growth(early),
        "records-early": fit_growth(early, records=True),
    }


def si(value: float | None, digits: int = 3) -> str:
    """Write a count with M, B or T; nothing for None."""
    if value is None:
        return ""
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.{digits}g} {letter}"
    return f"{value:.{digits}g}"


def power(value: float | None) -> str:
    """Write a number as 3.1 × 10²³; nothing for None."""
    if value is None:
        return ""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(str.maketrans('0123456789-', '⁰¹²³⁴⁵⁶⁷⁸⁹⁻'))}"


def plain(value: float | None) -> str:
    """Write a ratio with as many digits as it deserves; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _span(low: float, high: float) -> str:
    return f"{low:.1f} to {high:.1f}" if high < float("inf") else f"{low:.1f} or more"


@cache
def numbers(models: tuple[Model, ...]) -> dict[str, str]:
    """Return every number that the page's prose names, written out."""
    early = [model for model in models if model.day < LECTURE]
    late = [model for model in models if model.day >= LECTURE]
    holders = record_holders(models)
    last, first_late = holders[-1], record_holders(early)[-1]
    end = models[-1]
    found = {
        "models": str(len(models)),
        "organisations": str(len({model.organisation for model in models})),
        "first": f"{models[0].name} ({models[0].day:%B %Y})",
        "last": f"{end.name} ({end.day:%B %Y})",
        "with-compute": str(sum(model.flops is not None for model in models)),
        "late": str(len(late)),
        "late-api": str(sum(model.openness == "api" for model in late)),
        "late-api-sized": str(sum(model.openness == "api" and model.params is not None for model in late)),
        "late-experts": str(sum(model.active_params is not None for model in late)),
        "early-experts": str(sum(model.active_params is not None for model in early)),
        "holders": ", ".join(model.name for model in holders),
        "last-holder": f"{last.name} ({last.day:%B %Y})",
        "early-holder": f"{first_late.name} ({first_late.day:%B %Y})",
        "since-record": str(round((end.day - last.day).days / 30.44)),
        "record-factor": plain(last.flops / first_late.flops),
        "end-line": power(fits(models)["records"].flops(end.year)),
        "last-flops": power(last.flops),
        "early-median": power(median(model.flops for model in early if model.flops)),
        "late-median": power(median(model.flops for model in late if model.flops)),
    }
    return found | _ratios(early, late) | _published(models) | _growths(models)


def _growths(models: tuple[Model, ...]) -> dict[str, str]:
    found = {}
    for name, growth in fits(models).items():
        found |= {
            f"{name}-count": str(growth.count),
            f"{name}-doubling": f"{growth.doubling:.1f}",
            f"{name}-interval": _span(growth.low, growth.high),
            f"{name}-yearly": plain(2**growth.slope),
        }
    return found


def _ratios(early: Sequence[Model], late: Sequence[Model]) -> dict[str, str]:
    known = {name: [m for m in group if m.per_param] for name, group in (("early", early), ("late", late))}
    found = {f"{name}-ratio": plain(median(m.per_param for m in group)) for name, group in known.items()}
    found |= {f"{name}-known": str(len(group)) for name, group in known.items()}
    found |= {f"{name}-above": str(sum(m.per_param > 20 for m in group)) for name, group in known.items()}
    top = max(known["late"], key=lambda model: model.per_param)
    low = min(known["early"], key=lambda model: model.per_param)
    return found | {
        "highest-ratio": f"{plain(top.per_param)} ({top.name})",
        "lowest-ratio": f"{plain(low.per_param)} ({low.name})",
    }


def _published(models: Sequence[Model]) -> dict[str, str]:
    both = [(m.flops_published / m.flops_6nd, m.name) for m in models if m.flops_published and m.flops_6nd]
    (low, lowest), (high, highest) = min(both), max(both)
    return {
        "both": str(len(both)),
        "both-median": f"{median(ratio for ratio, _ in both):.2f}",
        "both-low": f"{low:.2f} ({lowest})",
        "both-high": f"{high:.2f} ({highest})",
    }
