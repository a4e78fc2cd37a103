"""How explain writes durations and counts."""

from gatepost.clock import DAY, HOUR, MINUTE, SECOND


def times(attempts: int) -> str:
    """Write how many attempts there were."""
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def span(milliseconds: int) -> str:
    """Write a duration with one unit, or two above an hour."""
    if milliseconds < SECOND:
        return f"{max(milliseconds, 0)} ms"
    if milliseconds < MINUTE:
        return f"{milliseconds / SECOND:.0f} s"
    if milliseconds < HOUR:
        return f"{milliseconds / MINUTE:.0f} min"
    hours, rest = divmod(milliseconds, HOUR)
    if milliseconds < 2 * DAY:
        return f"{hours} h {rest // MINUTE} min"
    return f"{milliseconds // DAY} days {hours % 24} h"
