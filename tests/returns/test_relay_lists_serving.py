"""The whole way: mail goes out by a relay, the provider's list names its recipient, the gateway suppresses it and says so; commands."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow.serving import Serving, prepare, until
from tests.relays.peer import Got, Says
from tests.relays.test_serving import gatepost, gatepost_json
from tests.returns.list_peer import ListPeer

SECRET = "sEcReTkEy"


class SesPeer(ListPeer):
    """Takes mail, too."""

    def answer(self, got: Got) -> Says:
        return Says(200, {"MessageId": f"m{len(self.got)}"}) if got.method == "POST" else super().answer(got)


@pytest.fixture
def ses() -> Iterator[SesPeer]:
    peer, loop = SesPeer(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(peer.__aenter__(), loop).result(5)
    yield peer
    asyncio.run_coroutine_threadsafe(peer.__aexit__(None, None, None), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


def settings(endpoint: str, more: str = "") -> str:
    return (
        f'[relays.main]\nurl = "ses://AKID:{SECRET}@us-east-1"\nendpoint = "{endpoint}"\n{more}\n[egress]\ndefault_route = "main"\n'
    )  # fmt: skip


def synced(data: Path) -> Any:
    """Read the list now, unless the gateway does so at this very moment."""
    done = gatepost(data, "relay", "suppressions", "sync", "main", "--full", "--json")
    return json.loads(done.stdout) if done.exit_code == 0 else None


def test_a_running_gateway_takes_the_list_and_refuses_the_next_mail(ses: SesPeer, tmp_path: Path):
    """Sent by the relay, then on its list: within a look the address is suppressed with `relay:main`; the key stands nowhere."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "gatepost.toml").write_text(settings(ses.url, "[relays.main.suppressions]\npull = true\n"))
    key = prepare(data)
    with Serving(data) as serving:
        first = serving.send(key, "ann@example.net")
        until(lambda: serving.status_of(key, first) == "sent")
        ses.add("ann@example.net", at=2_000_000_000_000)
        told = until(lambda: synced(data))
        assert (told["seen"], told["taken"], told["error"]) == (1, 1, None)
        (row,) = gatepost_json(data, "suppression", "list")
        assert (row["address"], row["reason"], row["source"]) == ("ann@example.net", "invalid_recipient", "relay:main")
        status, refused = serving.ask(
            "POST", "/v1/messages", key, {"from": "shop@acme.example", "to": ["ann@example.net"], "subject": "x", "text": "y"}
        )  # fmt: skip
        assert (status, refused["code"]) == (422, "all_recipients_suppressed")
        shown = gatepost_json(data, "relay", "suppressions", "status", "main")
        log = serving.log
    assert shown["last_full_round_at"] is not None
    assert gatepost_json(data, "audit", "list")[0]["action"] == "relay.suppressions_synced"
    assert SECRET not in log + json.dumps(shown) + json.dumps(told)


def test_the_commands_say_what_is_wrong(ses: SesPeer, tmp_path: Path):
    """An unknown relay, one without a list, a provider that refuses, a wish that it cannot fulfil: clear, with exit code 1."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "gatepost.toml").write_text(settings(ses.url, '[relays.jet]\nurl = "mailjet://k:s@"\n'))
    assert json.loads(gatepost(data, "relay", "suppressions", "sync", "none", "--json").stdout)["error"]["code"] == "not_found"
    assert "suppression list" in gatepost(data, "relay", "suppressions", "sync", "jet").output
    ses.refusals = [Says(403, {"message": "not authorized"})]
    failed = gatepost(data, "relay", "suppressions", "sync", "main", "--json")
    assert failed.exit_code == 1
    assert "not authorized" in json.loads(failed.stdout)["error"]
    (known,) = gatepost_json(data, "relay", "suppressions", "status")["relays"]
    assert known["failures"] == 1
    (data / "gatepost.toml").write_text(settings(ses.url, '[relays.main.suppressions]\npush = ["unsubscribes"]\n'))
    assert "bounces, complaints" in gatepost(data, "relay", "suppressions", "sync", "main").output
