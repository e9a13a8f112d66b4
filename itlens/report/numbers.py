"""Numbers as a reader wants them: three decimals for scores, p-values that do not pretend, a sign for nothing."""

from __future__ import annotations

import math

NOTHING = "–"
_ROUNDING = 1e-12  # sizes below it are rounding errors of float64
_NEGLIGIBLE = 1e-6  # of the other end of an interval


def number(value: object, decimals: int = 3, *, sign: bool = False) -> str:
    """`value` with `decimals` decimals, a true minus, and a dash for a number that does not exist.

    A size below half of the last decimal keeps two significant digits instead of being printed as zero, but one that
    can only be a rounding error is zero.
    """
    x = _float(value)
    if x is None:
        return NOTHING
    x = 0.0 if abs(x) < _ROUNDING else x
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    small = x != 0 and abs(x) < 0.5 * 10**-decimals
    text = f"{x:.1e}" if small else f"{x:.{decimals}f}"
    if sign and x > 0:
        text = "+" + text
    return text.replace("-", "−")


def rounded(value: object, decimals: int = 1, *, sign: bool = False) -> str:
    """`value` with `decimals` decimals, also where that makes it zero: for counts and shares, not for effects."""
    x = _float(value)
    return NOTHING if x is None else number(round(x, decimals) + 0.0, decimals, sign=sign)


def percent(value: object, decimals: int = 1, *, sign: bool = False) -> str:
    """A share (0 to 1) in per cent, without the unit."""
    x = _float(value)
    return NOTHING if x is None else rounded(100 * x, decimals, sign=sign)


def percent_range(low: object, high: object) -> str:
    """An interval of differences of shares, in points: `[−1.7, +20.3]`, or a dash."""
    return rounded_range(*(100 * x if (x := _float(end)) is not None else None for end in (low, high)))


def rounded_range(low: object, high: object) -> str:
    """`[−0.4, +5.0]`, each end rounded to a decimal, or a dash."""
    ends = [_float(low), _float(high)]
    return NOTHING if None in ends else f"[{', '.join(rounded(end, sign=True) for end in ends)}]"


def p_value(value: object) -> str:
    """A p-value: `< 0.001`, three decimals below 0.1, else two; a dash when there was no test."""
    p = _float(value)
    if p is None:
        return NOTHING
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_equals(value: object) -> str:
    """A p-value with its sign: `= 0.012`, `< 0.001`; a dash when there was no test."""
    words = p_value(value)
    return words if words.startswith("<") or not is_number(value) else f"= {words}"


def interval(low: object, high: object, decimals: int = 3, *, sign: bool = True) -> str:
    """`[low, high]`, or a dash when the interval could not be computed; an end below a millionth of the other is 0."""
    ends = [x for x in map(_float, (low, high)) if x is not None]
    if len(ends) < 2:
        return NOTHING
    largest = max((abs(end) for end in ends if math.isfinite(end)), default=0.0)
    shown = [0.0 if abs(end) < _NEGLIGIBLE * largest else end for end in ends]
    return f"[{', '.join(number(end, decimals, sign=sign) for end in shown)}]"


def whole(value: object) -> str:
    """A count, with thin spaces between thousands."""
    x = _float(value)
    return NOTHING if x is None else f"{round(x):,}".replace(",", "\u202f")


def is_number(value: object) -> bool:
    """Whether `value` is a number that exists (not None, NaN or text)."""
    return _float(value) is not None


def stars(p: object) -> str:
    """The usual marks: * p < 0.05, ** p < 0.01, *** p < 0.001."""
    x = _float(p)
    return "" if x is None else "*" * sum(x < limit for limit in (0.05, 0.01, 0.001))


def _float(value: object) -> float | None:
    try:
        x = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return None if math.isnan(x) else x


def headline(
    value: object, low: object = None, high: object = None, p: object = None, unit: str = "", *, sign: bool = True
) -> str:
    """A number with its 95 % interval and its p, as one text: "+0.070 nats [+0.031, +0.110], p = 0.002".

    Three decimals where all are below 1, two below 10, else one. sign: write a plus, too.
    """
    sizes = [abs(x) for x in map(_float, (value, low, high)) if x is not None]
    largest = max(sizes, default=0.0)
    decimals = 3 if largest < 1 else 2 if largest < 10 else 1
    shown = number(value, decimals, sign=sign) + (f" {unit}" if unit and is_number(value) else "")
    span = f" {interval(low, high, decimals, sign=sign)}" if is_number(low) and is_number(high) else ""
    test = f", p {p_equals(p)}" if is_number(p) else ""
    return shown + span + test
