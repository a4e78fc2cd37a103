"""The judge of the kill loops: what it calls a duplicate, and what excuses one."""

import os
from pathlib import Path

import pytest

from tests.crash.verdict import Verdict, _explain, arrivals


def received(folder: Path, *copies: tuple[float, str]) -> Path:
    """Make the sink's files of one message; each copy came at a time, for some recipients."""
    for n, (at, recipients) in enumerate(copies):
        path = folder / f"{n}"
        head = "".join(f"X-Rcpt-Args: <{one}@sink.example>\n" for one in recipients)
        path.write_text(f"{head}Subject: Crash http-1-1\nMessage-ID: <one@acme.example>\n\nHello\n")
        os.utime(path, (at, at))
    return folder


@pytest.mark.parametrize(
    ("copies", "kills", "extra", "unexplained"),
    [
        ([(100.0, "abc")], [], 0, 0),
        ([(100.0, "a"), (103.0, "bc")], [], 0, 0),  # two transactions, nobody has it twice
        ([(100.0, "abc"), (102.0, "abc")], [100.2], 1, 0),
        ([(100.0, "abc"), (102.0, "abc")], [], 1, 1),
        ([(100.0, "abc"), (102.0, "abc")], [101.5], 1, 1),  # it had a second to be settled
        ([(100.0, "abc"), (102.0, "abc")], [99.0, 102.5], 1, 1),
        ([(100.0, "abc"), (102.0, "ab"), (104.0, "c")], [100.2], 1, 0),  # sent again in two parts
        ([(100.0, "a"), (102.0, "b"), (104.0, "a")], [102.5], 1, 1),  # what went to another one excuses nothing
        ([(100.0, "a"), (102.0, "a"), (104.0, "a")], [100.2], 2, 1),
    ],
)
def test_every_copy_that_somebody_has_twice_needs_a_kill_of_its_own(tmp_path, copies, kills, extra, unexplained):
    """Shortly after it came and before the next one to the same recipient."""
    (one,) = arrivals(sorted(received(tmp_path, *copies).iterdir())).values()
    verdict = Verdict(accepted=1, arrived=1)
    _explain("http-1-1", one, kills, 1.0, verdict)
    assert (one.extra, len(verdict.unexplained)) == (extra, unexplained)
