"""`gatepost demo`: the newcomer's minute."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.flow.serving import environment

from gatepost.demo.report import Row
from gatepost.demo.samples import Sent


@pytest.mark.slow
def test_the_demo_runs_and_everything_is_as_it_should_be(tmp_path: Path) -> None:
    """`demo --once` sends through the real doors, checks all ends and signatures, and clears up after itself."""
    command = [sys.executable, "-m", "gatepost", "demo", "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment(TMPDIR=str(tmp_path)), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("deliver@example.net", "SMTP with TLS and AUTH", "bounced", "deferred", "valid: rsa, ed25519", "All 9 recipients"):
        assert word in done.stdout
    assert not list(tmp_path.glob("gatepost-demo-*"))


class _Api:
    """An API that answers what it is told to."""

    def __init__(self, message: dict[str, object], content: bytes = b"From: a@acme.example\r\n\r\nx\r\n") -> None:
        self._message, self._content = message, content

    def get(self, _path: str) -> dict[str, object]:
        return self._message

    def ask(self, *_: object) -> tuple[bytes, dict[str, str]]:
        return self._content, {}


class _House:
    def __init__(self) -> None:
        self.records = {"a": "x", "b": "y"}


def test_the_demo_says_what_is_not_as_it_should_be() -> None:
    """A wrong status and a missing signature are both found: the demo cannot pass by looking away."""
    from gatepost.demo.report import look

    recipient = {
        "id": "rcp_1",
        "address": "a@x.example",
        "status": "delivered",
        "attempts": 1,
        "final_at": "2026-11-24T02:00:01Z",
        "updated_at": None,
    }
    message = {"recipients": [recipient], "created_at": "2026-11-24T02:00:00Z", "scheduled_at": None}
    sent = [Sent(message_id="msg_1", via="test", expected={"a@x.example": "bounced", "b@x.example": "delivered"})]
    rows, faults = look(_House(), _Api(message), sent)
    assert [type(row) for row in rows] == [Row, Row]
    assert any("is delivered, should be bounced" in fault for fault in faults)
    assert any("0 DKIM signatures instead of 2" in fault for fault in faults)
    assert any("not among the recipients" in fault for fault in faults)
