"""Fixtures of the doors' tests."""

from collections.abc import Iterator

import httpx
import pytest
from tests.doors.http_rig import Rig, running_door


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A running HTTP door, shared by a module's tests."""
    with running_door(tmp_path_factory.mktemp("door")) as running:
        yield running


@pytest.fixture
def client(rig: Rig) -> Iterator[httpx.Client]:
    """A client with a live key of the default tenant."""
    with rig.client() as made:
        yield made


@pytest.fixture
def stranger(rig: Rig) -> Iterator[httpx.Client]:
    """A client with a live key of another tenant."""
    with rig.client(rig.other_key) as made:
        yield made
