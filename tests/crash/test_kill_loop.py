"""The short version of `make test-crash`: processes are killed at random moments and no accepted message is lost."""

import random

import pytest

from tests.crash.killing import Plan, run


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("engine", "kills"), [("sqlite", 12), ("postgresql", 8)])
def test_no_accepted_message_is_lost_when_processes_are_killed(engine, kills):
    """Whatever got 202 or 250 is delivered, duplicates come from kills only and keep their Message-ID."""
    report = run(Plan(engine=engine, kills=kills, messages=kills * 60, seed=random.SystemRandom().randrange(1_000_000)))
    text = "\n".join(report.lines())
    print(text)
    assert not report.complaints, text
