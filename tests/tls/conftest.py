"""What the tests of TLS share: an authority."""

import pytest

from tests.tls.authority import Authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Make an authority once per run."""
    return Authority()
