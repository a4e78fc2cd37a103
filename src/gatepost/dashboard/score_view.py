"""
A domain's score as its page shows it: a line through its days, what costs points, why it moved last.

Arrives: a trend. Leaves: numbers for the template: the line's points in a small picture, its description in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gatepost.policy.deliverability import Change
from gatepost.tenants.deliverability import Day, Trend

SHOWN_DAYS: Final = 30
_WIDTH: Final = 300
_HEIGHT: Final = 60
_EDGE: Final = 3
_MOST_MOVES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    A line through known days.

    Attributes:
        points: As SVG's `polyline` takes them; empty with fewer than two days.
        end: Where the last point is.
        words: For who does not see it.
    """

    points: str
    end: tuple[float, float]
    words: str
    width: int = _WIDTH
    height: int = _HEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreView:
    """What the page shows."""

    trend: Trend
    line: Line
    moves: tuple[tuple[str, Change], ...]


def view(trend: Trend) -> ScoreView:
    """Make the view; the newest changes first."""
    moves = [(one.day, change) for one in reversed(trend.days) for change in one.changes]
    return ScoreView(trend=trend, line=_line(trend.days), moves=tuple(moves[:_MOST_MOVES]))


def _line(days: Sequence[Day]) -> Line:
    """Place each known day by its date, 100 at the top and 0 at the bottom; days that nobody knows are passed over."""
    known = [(n, one) for n, one in enumerate(days) if one.score is not None]
    if not known:
        return Line(points="", end=(0, 0), words="No score is known yet.")
    step = (_WIDTH - 2 * _EDGE) / max(len(days) - 1, 1)
    places = [(round(_EDGE + n * step, 1), _y(one.score or 0)) for n, one in known]
    first, last = known[0][1], known[-1][1]
    lowest = min(one.score or 0 for _, one in known)
    words = f"From {first.score} on {first.day} to {last.score} on {last.day}; lowest {lowest}."
    points = " ".join(f"{x},{y}" for x, y in places) if len(places) > 1 else ""
    return Line(points=points, end=places[-1], words=words)


def _y(score: int) -> float:
    return round(_EDGE + (100 - score) * (_HEIGHT - 2 * _EDGE) / 100, 1)
