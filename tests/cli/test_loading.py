"""What commands and processes load: start-up time and memory are made of that."""

import subprocess
import sys

import pytest
from tests.flow.serving import environment

_WEB = {"litestar", "uvicorn", "jinja2", "yaml", "gatepost.http.app", "gatepost.dashboard.pages"}
_RARE = {"alembic", "aiohttp", "authlib", "acme", "josepy", "asyncpg", "sqlalchemy.orm", "imapclient", "webauthn", "requests", "rich"}

_NURSERY = """
import importlib, threading
from gatepost.serve.forking import SHARED
for name in SHARED:
    importlib.import_module(name)
assert threading.active_count() == 1
"""
"""What is loaded before a child's number is known, which prometheus_client must see; and forking needs a process without threads."""


@pytest.mark.parametrize(
    ("loading", "never"),
    [
        (
            "from gatepost.cli import main; main(['--help'], standalone_mode=False)",
            {"sqlalchemy", "cryptography", "dns", "asyncio", "rich", *_WEB},
        ),
        ("import gatepost.cli.key", {"prometheus_client", "dns", *_WEB, *_RARE}),
        ("import gatepost.cli.explain", {"prometheus_client", "dns", *_WEB, *_RARE}),
        ("import gatepost.serve.supervisor", {"prometheus_client", "dns", *_WEB, *_RARE}),
        ("import gatepost.app.dispatch", {*_WEB, *_RARE}),
        ("import gatepost.app.door", _RARE),
        (_NURSERY, {"prometheus_client", "gatepost.observe.metrics", *_WEB, *_RARE}),
    ],
    ids=["help", "key", "explain", "supervisor", "dispatch", "door", "nursery"],
)
def test_nothing_is_loaded_that_is_not_needed(loading: str, never: set[str]) -> None:
    """A dispatch process knows no web framework, help needs no database, and what is rare waits until it is used."""
    code = f"{loading}\nimport sys\nprint('loaded:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=environment())
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert "gatepost" in loaded
    assert not loaded & never
