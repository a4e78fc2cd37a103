"""
The record of an SMTP dialogue that customers see beside an attempt.

Arrives: commands and replies as they happen. Leaves: text, a line each: `C:` ours, `S:` the server's, `#` a remark.
Whoever writes a command here leaves content and secrets out; see `smtp_client`.
Bounded: of a long dialogue the beginning and the end are kept.
"""

from collections.abc import Sequence

LIMIT = 4_000
"""Characters kept."""


class Transcript:
    """A dialogue in the making."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: list[str] = []

    def command(self, line: str) -> None:
        """Add a line of ours."""
        self._lines.append("C: " + line)

    def commands(self, lines: Sequence[str]) -> None:
        """Add several lines of ours."""
        self._lines.append("C: " + "\nC: ".join(lines))

    def reply(self, code: int, lines: Sequence[str]) -> None:
        """Add a reply of the server's (RFC 5321 §4.2.1)."""
        if len(lines) == 1:
            self._lines.append(f"S: {code} {lines[0]}")
            return
        self._lines += [f"S: {code}-{line}" for line in lines[:-1]]
        self._lines.append(f"S: {code} {lines[-1] if lines else ''}")

    def note(self, text: str) -> None:
        """Add a remark of ours that was not on the wire."""
        self._lines.append("# " + text)

    def __str__(self) -> str:
        return shortened("\n".join(self._lines))


def shortened(text: str) -> str:
    """Cut a transcript to its beginning and its end when it is longer than `LIMIT`."""
    if len(text) <= LIMIT:
        return text
    head, tail = text[: LIMIT // 2].rpartition("\n")[0], text[-LIMIT // 2 :].partition("\n")[2]
    return f"{head}\n# {len(text) - len(head) - len(tail)} characters left out\n{tail}"
