"""What the courier's tests share: a certificate of our own."""

import pytest

from gatepost.testing.certificates import Certificates, make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make a certificate once per run."""
    return make_certificates(tmp_path_factory.mktemp("tls"))
