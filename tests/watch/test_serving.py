"""The loops in a real `gatepost serve`: a domain is verified by itself, a relay that dies is seen."""

import json
from pathlib import Path

from gatepost.testing.fake_dns import DnsServer
from gatepost.testing.scripted_peer import ScriptedPeer
from tests.flow.serving import Serving, prepare, until
from tests.watch.loopback import in_a_thread
from tests.watch.test_commands import run, zone_of


def test_the_gateway_looks_after_domains_and_relays_by_itself(tmp_path: Path) -> None:
    """Nobody asks for a verification; the probe of a relay that goes down fails within seconds, and both show in API and metrics."""
    data = tmp_path / "data"
    key = prepare(data)
    operator = run(data, "key", "create", "--name", "op", "--scope", "operator")["key"]
    view = run(data, "domain", "add", "acme.test")
    with in_a_thread(DnsServer(zone_of(view))) as dns, in_a_thread(ScriptedPeer()) as peer:
        flags = (f"dns.server={dns.address}", f"relays.main.url=smtp://127.0.0.1:{peer.port}", "watch.relays_every_s=1")
        with Serving(data, *flags) as serving:
            until(lambda: serving.ask("GET", "/v1/domains/acme.test", key)[1]["status"] == "verified")
            status, found = serving.ask("GET", "/v1/domains/acme.test/health", key)
            assert (status, found["state"], found["object"]) == (200, "ok", "domain_health")
            until(lambda: probe(serving, operator) == "ok")
            assert serving.ask("GET", "/v1/relays/main/health", key)[0] == 403
            assert serving.ask("GET", "/v1/relays/none/health", operator)[0] == 404
            peer.replies["GREETING"] = "421 4.3.2 going down"
            until(lambda: probe(serving, operator) == "failed")
            until(lambda: 'gatepost_relay_probe_up{relay="main"} 0' in serving.text("/metrics"))
            assert 'gatepost_domains{state="ok"} 1' in serving.text("/metrics")
            told = [json.loads(line) for line in serving.log.splitlines() if line.startswith("{")]
            assert [one["relay"] for one in told if one.get("what") == "a relay's probe fails"] == ["main"]


def probe(serving: Serving, key: str) -> str:
    """What the last probe came to."""
    found = serving.ask("GET", "/v1/relays/main/health", key)[1]
    return next(one["status"] for one in found["checks"] if one["id"] == "relay_probe")
