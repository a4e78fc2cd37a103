"""The whole gateway: a webhook made on the command line, mail sent over the API, and the documentation's own consumer that verifies."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gatepost.cli import main
from tests.flow.serving import ROOT, Serving, prepare, until


def gatepost(data: Path, *arguments: str) -> Any:
    """Run one command in this process."""
    return CliRunner().invoke(main, [*arguments, "--data", str(data)])


def gatepost_json(data: Path, *arguments: str) -> Any:
    """Run one command with `--json`; it must succeed."""
    done = gatepost(data, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def example(folder: Path) -> Path:
    """The consumer of the documentation, as it stands there."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/webhooks.md").read_text("utf-8"), re.DOTALL)
    path = folder / "consumer.py"
    path.write_text(code)
    return path


@pytest.mark.slow
def test_mail_is_told_to_the_consumer_of_the_documentation(tmp_path):
    """Made by command, delivered by `gatepost serve`, verified by the example, seen in log and CLI, polled the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = tmp_path / "data"
    key = prepare(data)
    (data / "gatepost.toml").write_text('[webhooks]\nallow_networks = ["127.0.0.1/32"]\n')
    made = gatepost_json(data, "webhook", "create", f"http://127.0.0.1:{port}/", "--event", "recipient.*", "--header", "X-API-Key: abc")
    refused = gatepost(data, "webhook", "create", "http://192.168.0.1/", "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["error"]["errors"][0]["code"] == "invalid_url"
    consumer = subprocess.Popen([sys.executable, str(example(tmp_path)), made["secret"], str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert consumer.stdout.readline().startswith("listening")
        with Serving(data) as serving:
            serving.send(key, to="deliver@example.net")
            assert consumer.stdout.readline() == "recipient.delivered deliver@example.net\n"
            status, answer = serving.ask("POST", "/v1/webhooks", key, {"url": f"http://127.0.0.1:{port}/other", "events": ["*"]})
            assert (status, answer["secret"][:6]) == (201, "whsec_")
            status, page = serving.ask("GET", "/v1/events?types=recipient.*", key)
            assert [one["type"] for one in page["data"]] == ["recipient.delivered"]
            event_id = page["data"][0]["id"]

            def is_logged():
                (row,) = gatepost_json(data, "webhook", "deliveries", made["id"])
                return (row["id"], row["status"], row["status_code"]) == (event_id, "delivered", 204)

            until(is_logged)
            assert gatepost_json(data, "webhook", "replay", made["id"], "--event", event_id) == {"count": 1}
            rotated = gatepost_json(data, "webhook", "rotate-secret", made["id"], "--overlap", "0s")
            assert rotated["secret"] != made["secret"]
            tried = gatepost_json(data, "webhook", "test", made["id"])["event_id"]

            def is_refused():
                rows = {row["id"]: row for row in gatepost_json(data, "webhook", "deliveries", made["id"])}
                return rows[tried]["status_code"] == 401  # the consumer has the old secret

            until(is_refused)
            assert gatepost_json(data, "webhook", "disable", made["id"])["enabled"] is False
            assert gatepost_json(data, "webhook", "enable", made["id"])["enabled"] is True
            assert gatepost_json(data, "webhook", "change", made["id"], "--description", "mine")["description"] == "mine"
            assert "mine" in gatepost(data, "webhook", "list").stdout
            assert made["id"] in gatepost(data, "webhook", "show", made["id"]).stdout
            assert gatepost_json(data, "webhook", "remove", made["id"])["removed"]
            assert [one["id"] for one in gatepost_json(data, "webhook", "list")] == [answer["id"]]
    finally:
        consumer.kill()
        consumer.wait()
        consumer.stdout.close()
