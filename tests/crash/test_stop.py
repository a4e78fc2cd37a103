"""A stop under load."""

import random

import pytest

from tests.crash.stopping import run


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_sigterm_under_load_loses_nothing_and_doubles_nothing():
    """Five stops in the midst of a crowd of clients: exit code 0 within 30 s, every accepted message goes out once."""
    result = run("sqlite", stops=5, seed=random.SystemRandom().randrange(1_000_000))
    text = "\n".join(result.lines())
    print(text)
    assert not result.complaints, text
