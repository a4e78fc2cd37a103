"""One Dovecot for all tests of a process; each test has users of its own."""

import itertools
from collections.abc import Iterator

import pytest

from tests.imap.dovecot import Dovecot

_numbers = itertools.count()


@pytest.fixture(scope="session")
def dovecot() -> Iterator[Dovecot]:
    """A real server with a folder of spam that is marked so."""
    server = Dovecot()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def user() -> str:
    """A user whose mailbox is empty."""
    return f"user{next(_numbers)}"
