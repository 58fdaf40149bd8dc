"""What the fields of a configuration must be, checked where it is made: a wrong one is named at once."""

import math
from dataclasses import fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import get_args, get_type_hints

KINDS = {int: Integral, float: Real, bool: bool, str: str, NoneType: NoneType}
WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", NoneType: "None"}


def check_types(config) -> None:
    """Raise ValueError when a field of a dataclass is no number, text, ... as its annotation says.

    A whole number is also a number, but True is none; of other annotations (a tuple, ...) nothing is checked.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        hint, value = hints[field.name], getattr(config, field.name)
        options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        known = all(option in KINDS for option in options)
        fits = isinstance(value, tuple(KINDS.get(option, object) for option in options))
        if known and not (fits and (bool in options or not isinstance(value, bool))):
            should = " or ".join(WORDS[option] for option in options)
            raise ValueError(f"{field.name} must be {should}, not {value!r}")


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError when a value is none of the choices."""
    if value not in choices:
        raise ValueError(f"{field} must be one of {', '.join(choices)}, not {value!r}")


def check_least(config, least: float, *names: str) -> None:
    """Raise ValueError when one of these fields is below `least`, infinite or not a number; None passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not least <= value < math.inf:
            raise ValueError(f"{name} must be at least {least}, and finite, not {value}")
