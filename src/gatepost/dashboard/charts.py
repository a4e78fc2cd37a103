"""
Charts as numbers: what a template writes as SVG, without script and without style.

Arrives: values by step. Leaves: rectangles and lines in a field of 1000 by 100, which the page stretches; labels stay outside
of it, as text. Not here: colours (app.css), words (templates).
"""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 1000.0, 100.0
_GAP = 0.18
"""The part of a step that stays empty beside its bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    A rectangle.

    Attributes:
        kind: What it counts: the colour's name.
    """

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    A line of points as SVG writes them, broken where there is no value.

    Attributes:
        dots: Values that stand alone: no line would show them.
    """

    kind: str
    parts: tuple[str, ...]
    dots: tuple[str, ...] = ()


def top_of(values: Sequence[float]) -> float:
    """Return a round number that no value is above."""
    largest = max(values, default=0.0)
    if largest <= 0:
        return 1.0
    unit = 10.0 ** (len(str(int(largest))) - 1) if largest >= 1 else 1.0
    while unit > largest:
        unit /= 10
    return next(unit * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if unit * step >= largest)


def stacked(series: Sequence[tuple[str, Sequence[float]]], top: float) -> list[Bar]:
    """
    Stack bars of some series upon each other.

    Args:
        series: With their kinds, from the bottom up; all of one length.
        top: The value at the upper edge.
    """
    count = len(series[0][1]) if series else 0
    step = WIDTH / max(count, 1)
    bars = []
    for n in range(count):
        floor = HEIGHT
        for kind, values in series:
            height = HEIGHT * values[n] / top
            if height > 0:
                height = max(height, 0.6)  # something is never nothing to the eye
                floor = max(floor - height, 0.0)
                x, width = n * step + step * _GAP / 2, step * (1 - _GAP)
                bars.append(Bar(kind=kind, x=_short(x), y=_short(floor), width=_short(width), height=_short(height)))
    return bars


def line(kind: str, values: Sequence[float | None], top: float) -> Line:
    """Draw a line through the middles of steps."""
    step = WIDTH / max(len(values), 1)
    parts: list[list[str]] = [[]]
    for n, value in enumerate(values):
        if value is None:
            parts.append([])
        else:
            parts[-1].append(f"{_short(n * step + step / 2):g},{_short(HEIGHT - HEIGHT * min(value / top, 1.0)):g}")
    lines = tuple(" ".join(part) for part in parts if len(part) > 1)
    return Line(kind=kind, parts=lines, dots=tuple(_dot(part[0]) for part in parts if len(part) == 1))


def _dot(point: str) -> str:
    """Write a value that stands alone as a line of next to no length, whose round ends are seen."""
    x, _, y = point.partition(",")
    return f"{point} {float(x) + 0.01:g},{y}"


def _short(value: float) -> float:
    return round(value, 2)
