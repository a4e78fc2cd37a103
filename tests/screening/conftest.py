"""Fixtures of the tests of screening: the scanners, started once a session."""

from collections.abc import Iterator

import pytest

from tests.screening.daemons import Daemon, running_clamd, running_rspamd


@pytest.fixture(scope="session")
def rspamd() -> Iterator[Daemon]:
    """A real rspamd."""
    with running_rspamd() as running:
        yield running


@pytest.fixture(scope="session")
def clamd() -> Iterator[Daemon]:
    """A real clamd."""
    with running_clamd() as running:
        yield running
