"""A smaller version of `python -m tests.webhooks`: kills of the delivering process, and a consumer that is down for an hour."""

import json
import subprocess
import sys

import pytest

from tests.flow.serving import ROOT, environment


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_nothing_is_lost_whoever_is_killed(engine, request):
    """RELIABILITY R11: every event comes, each message's in order, each with an id of its own, signed."""
    url = request.getfixturevalue("postgres_url") if engine == "postgresql" else ""
    command = [sys.executable, "-m", "tests.webhooks", "--events", "400", "--kills", "4", "--seed", "3", "--database-url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=ROOT, env=environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["lost"], report["out_of_order"], report["unknown"]) == (0, 0, 0)
    assert report["refused"] > 0
    assert report["kills"] == 4
