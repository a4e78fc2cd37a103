"""The whole gateway over a signed zone, a policy host and mail hosts of our own: what is accepted over HTTP meets TLS policies."""

import asyncio
import threading
from typing import Self

from gatepost.app.database import create_engine
from gatepost.clock import SystemClock
from gatepost.policy.quota import day_of
from gatepost.settings import load
from gatepost.store import tls_reports
from gatepost.testing.scripted_peer import ScriptedPeer
from tests.flow.serving import Serving, gatepost_json, prepare, until
from tests.tls_policy.house import PolicyHost, SignedZone, policy_text, server_context, tlsa


class Peers:
    """Mail host and policy host on a loop of their own."""

    def __init__(self, *servers) -> None:
        self.servers = servers
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def _do(self, work) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def __enter__(self) -> Self:
        self.thread.start()
        for server in self.servers:
            self._do(server.__aenter__())
        return self

    def __exit__(self, *_) -> None:
        for server in self.servers:
            self._do(server.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


def post(serving: Serving, key: str, to: str, **more) -> str:
    body = {"from": "shop@acme.example", "to": [to], "subject": "Hi", "text": "Hello", **more}
    status, answer = serving.ask("POST", "/v1/messages", key, body)
    assert status == 202, answer
    return answer["id"]


def attempt(serving: Serving, key: str, message_id: str) -> dict:
    def found():
        attempts = serving.ask("GET", f"/v1/messages/{message_id}/attempts", key)[1]["data"]
        return attempts[-1] if attempts else None

    return until(found)


def test_policies_are_heeded_from_the_api_to_the_wire(tmp_path, names):
    """DANE, a certificate that does not match, an enforced policy, and `require_tls`, each with its attempt and its sentence."""
    folder, good = names.folder, names.pairs["good"]
    mx = ScriptedPeer(tls=server_context(good, folder))
    host = PolicyHost(server_context(names.pairs["policies"], folder), policy_text("mx.sts.example"))
    with Peers(mx, host):
        right, wrong = tlsa(3, 1, 1, good.certificate), tlsa(3, 1, 1, names.pairs["stranger"].certificate)
        here = ["A 127.0.0.1"]
        records = {
            "good.test.": ["MX 10 mx.good.test."], "mx.good.test.": here, f"_{mx.port}._tcp.mx.good.test.": [f"TLSA {right}"],
            "wrong.test.": ["MX 10 mx.wrong.test."], "mx.wrong.test.": here, f"_{mx.port}._tcp.mx.wrong.test.": [f"TLSA {wrong}"],
            "sts.example.": ["MX 10 mx.sts.example."], "mx.sts.example.": here, "mta-sts.sts.example.": here,
            "_mta-sts.sts.example.": ['TXT "v=STSv1; id=7;"'],
            "free.example.": ["MX 10 mx.free.example."], "mx.free.example.": here,
        }  # fmt: skip
        zone = SignedZone(tmp_path / "zone", records)
        zone.start()
        try:
            _serve(tmp_path / "data", names, zone, mx, host)
        finally:
            zone.stop()


def _serve(data, names, zone, mx, host) -> None:
    key = prepare(data)
    flags = {
        "egress.default_route": "mx", "egress.mx_port": mx.port, "dns.server": zone.address, "tls_policy.ca_file": names.file,
        "tls_policy.https_port": host.port, "tls_reports.sender": "tls@acme.example", "tls_reports.flush_s": 0.2,
        "screening.recipient_domains": "off", "egress.timeout_scale": 0.1,
    }  # fmt: skip
    with Serving(data, *[f"{name}={value}" for name, value in flags.items()]) as serving:
        sent = {
            name: post(serving, key, to, **more)
            for name, to, more in (
                ("dane", "ann@good.test", {}), ("wrong", "ann@wrong.test", {}), ("sts", "ann@sts.example", {}),
                ("free", "ann@free.example", {}), ("required", "ann@free.example", {"require_tls": True}),
                ("optional", "ann@wrong.test", {"headers": {"TLS-Required": "No"}}),
            )
        }  # fmt: skip
        told = {name: attempt(serving, key, message_id) for name, message_id in sent.items()}
        assert {name: (one["outcome"], one["tls_policy"]) for name, one in told.items()} == {
            "dane": ("delivered", "dane"), "wrong": ("deferred", "dane"), "sts": ("delivered", "sts:enforce"),
            "free": ("delivered", "opportunistic"), "required": ("deferred", "required"), "optional": ("delivered", "opportunistic"),
        }, told  # fmt: skip
        explained = serving.ask("GET", f"/v1/messages/{sent['wrong']}/explain", key)[1]
        assert "DANE: the certificate matches no TLSA record" in str(explained)
        assert "verified TLS that the message requires" in str(serving.ask("GET", f"/v1/messages/{sent['required']}/explain", key)[1])
        until(lambda: _counted(data) == {"tlsa", "sts", "no-policy-found"})
        assert len(mx.messages) == 4
    [kept] = gatepost_json(data, "tls-policy", "list")["policies"]
    assert (kept["domain"], kept["record_id"], kept["mode"]) == ("sts.example", "7", "enforce")


def _counted(data) -> set[str]:
    async def run() -> set[str]:
        engine = create_engine(load(data, environ={}, flags={}))
        day = day_of(SystemClock().now())
        try:
            found = [one for domain in ("good.test", "sts.example", "free.example") for one in await _read(engine, day, domain)]
        finally:
            await engine.close()
        return {one.policy.kind.value for one in found}

    return asyncio.run(run())


async def _read(engine, day: str, domain: str):
    return await engine.read(lambda conn: tls_reports.of(conn, day, domain))
