"""The whole way: a message goes in over HTTP, leaves by a provider's API, and everybody who asks about relays is told the same."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gatepost.cli import main
from tests.flow.serving import Serving, prepare, until
from tests.relays.peer import Peer, Says

KEY = "re_donttell"


def gatepost(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(data)])


def gatepost_json(data: Path, *arguments: str) -> Any:
    done = gatepost(data, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def provider() -> Iterator[Peer]:
    """A provider that takes everything, in a thread of its own."""
    peer, loop = Peer(Says(200, {"id": "prov-1"})), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(peer.__aenter__(), loop).result(5)
    yield peer
    asyncio.run_coroutine_threadsafe(peer.__aexit__(None, None, None), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


def test_a_message_leaves_by_a_provider_and_is_counted(provider: Peer, tmp_path: Path):
    """Status `sent`, the provider's id in the attempt, the use of the relay in API and command line; the key nowhere."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "gatepost.toml").write_text(
        f'[relays.main]\nurl = "resend://"\nsecret = "{KEY}"\nendpoint = "{provider.url}"\n'
        f'rate = "100/second"\nquota = "1000/day"\nprice_per_1000 = 0.4\n[egress]\ndefault_route = "main"\n'
    )
    key = prepare(data)
    operator = gatepost_json(data, "key", "create", "--name", "op", "--scope", "operator")["key"]
    with Serving(data) as serving:
        ids = [serving.send(key, f"user{n}@example.net") for n in range(3)]
        until(lambda: all(serving.status_of(key, one) == "sent" for one in ids))
        _, attempts = serving.ask("GET", f"/v1/messages/{ids[0]}/attempts", key)
        relays = until(lambda: (found := serving.ask("GET", "/v1/relays", operator)[1])["data"][0]["used_today"] == 3 and found)
        status, refused = serving.ask("GET", "/v1/relays", key)
        log = serving.log
    mailed = [got.json["to"] for got in provider.got if got.method == "POST"]
    assert sorted(mailed) == [[f"user{n}@example.net"] for n in range(3)], "once each; what else came were probes"
    assert "prov-1" in json.dumps(attempts)
    assert (status, refused["code"]) == (403, "permission_denied")
    (relay,) = relays["data"]
    assert {**relay, "quota_left": 0} == {
        "object": "relay", "name": "main", "kind": "resend", "title": "Resend", "host": "127.0.0.1", "price_per_1000": 0.4,
        "rate": "100/second", "quota": "1000/day", "used_today": 3, "quota_left": 0,
    }  # fmt: skip
    assert 900 < relay["quota_left"] <= 997
    (listed,) = gatepost_json(data, "relay", "list")["relays"]
    assert (listed["name"], listed["host"], listed["used_today"]) == ("main", "127.0.0.1", 3)
    assert KEY not in log + json.dumps(relays) + json.dumps(listed) + json.dumps(attempts) + gatepost(data, "settings").stdout


def test_the_command_asks_a_relay_and_says_so_in_its_exit_code(provider: Peer, tmp_path: Path):
    """Good is 0; a refused key, and a name that is none, are 1 with one JSON object."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "gatepost.toml").write_text(f'[relays.main]\nurl = "resend://:{KEY}@"\nendpoint = "{provider.url}"\n')
    good = gatepost_json(data, "relay", "test", "main")
    assert (good["name"], good["kind"], good["is_good"], good["is_authenticated"]) == ("main", "resend", True, True)
    provider.answers[:] = [Says(403, {"name": "invalid_api_key", "message": "no"})]
    bad = gatepost(data, "relay", "test", "main", "--json")
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["is_authenticated"] is False
    missing = gatepost(data, "relay", "test", "other", "--json")
    assert (missing.exit_code, json.loads(missing.stdout)["error"]["code"]) == (1, "not_found")
    assert "reachable" in gatepost(data, "relay", "test", "main").stdout
    assert KEY not in bad.stdout + bad.stderr + json.dumps(good)
