"""`gatepost doctor` about domains, addresses and relays, against a DNS server and a relay on loopback."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gatepost.cli import main
from gatepost.testing.fake_dns import SERVFAIL, DnsServer
from gatepost.testing.scripted_peer import ScriptedPeer
from tests.watch.loopback import in_a_thread
from tests.watch.zones import ADDRESS, HOSTNAME

OPTIONS = ["--set", f"egress.hostname={HOSTNAME}", "--set", "egress.default_route=mx", "--set", f'watch.addresses=["{ADDRESS}"]']


def run(data: Path, *arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(main, [*arguments, "--data", str(data), "--json"])
    assert result.exit_code == code, result.output + repr(result.exception)
    return json.loads(result.stdout)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def zone_of(view: dict[str, Any]) -> dict[str, Any]:
    dkim = {one["name"]: {"TXT": [_quoted(one["value"])]} for one in view["records"] if one["purpose"] == "dkim"}
    return {
        "acme.test": {"TXT": [f'"v=spf1 ip4:{ADDRESS} -all"'], "MX": ["10 mx.acme.test"]},
        "_dmarc.acme.test": {"TXT": ['"v=DMARC1; p=reject; rua=mailto:d@acme.test"']},
        "10.2.0.192.in-addr.arpa": {"PTR": [HOSTNAME + "."]}, HOSTNAME: {"A": [ADDRESS]},
        "10.2.0.192.zen.spamhaus.org": {"A": ["127.0.0.4"]}, **dkim,
    }  # fmt: skip


def _quoted(text: str) -> str:
    return " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))


def test_doctor_looks_at_a_domain_with_real_questions(data: Path) -> None:
    """Every record comes over the wire; a blocklist's answer fails, and the next step is said."""
    view = run(data, "domain", "add", "acme.test")
    with in_a_thread(DnsServer(zone_of(view))) as server:
        found = run(data, "doctor", "--domain", "acme.test", *OPTIONS, "--set", f"dns.server={server.address}", code=1)
        assert (found["domain"], found["status"], found["state"], found["ok"]) == ("acme.test", "verified", "ok", False)
        statuses = {one["check"]: one["status"] for one in found["checks"]}
        assert statuses == {
            "dkim": "ok", "spf": "ok", "spf_lookups": "ok", "spf_senders": "ok", "dmarc": "ok", "dmarc_policy": "ok", "dmarc_reports": "ok",
            "dmarc_alignment": "ok", "mx": "ok", "mta_sts": "not_applicable", "tls_rpt": "not_applicable",
        }  # fmt: skip
        of_address = {one["check"]: one["status"] for one in found["sources"][0]["checks"]}
        assert of_address == {"source_ptr": "ok", "source_ehlo": "ok", "source_listing": "failed"}
        assert found["compliance"]["score"] == 100
        assert all(rule["url"].startswith("https://") for rule in found["compliance"]["rules"])
        asked = {kind for _, kind in server.asked}
        assert asked >= {"TXT", "MX", "A", "PTR"}
        told = run(data, "doctor", *OPTIONS, "--set", f"dns.server={server.address}", code=1)
        checks = {one["check"]: one for one in told["checks"]}
        assert checks["sources"]["status"] == "failed"
        assert "zen.spamhaus.org" in checks["sources"]["detail"]
        assert "removal" in checks["sources"]["advice"]
        assert checks["domains"]["status"] == "ok"


def test_doctor_says_when_dns_does_not_answer(data: Path) -> None:
    """Nothing is called wrong that nobody could look at."""
    run(data, "domain", "add", "acme.test")
    zone: dict[str, Any] = dict.fromkeys(["acme.test", "_dmarc.acme.test", "_mta-sts.acme.test", "_smtp._tls.acme.test"], SERVFAIL)
    with in_a_thread(DnsServer(zone)) as server:
        found = run(data, "doctor", "--domain", "acme.test", "--set", f"dns.server={server.address}", code=1)
        statuses = {one["check"]: one["status"] for one in found["checks"]}
        assert {statuses[one] for one in ("spf", "dmarc", "mx", "mta_sts", "tls_rpt")} == {"unknown"}


def test_doctor_tries_relays_without_sending(data: Path) -> None:
    """A relay that answers is well; one that nobody listens at fails when mail goes there, and warns when not."""
    with in_a_thread(ScriptedPeer()) as peer:
        relay = ["--set", f"relays.main.url=smtp://127.0.0.1:{peer.port}", "--set", "relays.spare.url=smtp://127.0.0.1:1"]
        found = {one["check"]: one for one in run(data, "doctor", *relay, "--set", "egress.default_route=main")["checks"]}
        assert (found["relay main"]["status"], found["relay spare"]["status"]) == ("ok", "warning")
        assert found["relay spare"]["advice"]
        run(data, "doctor", *relay, "--set", "egress.default_route=spare", code=1)
        assert peer.messages == []


def test_doctor_asks_for_the_addresses_that_it_cannot_know(data: Path) -> None:
    """With mail going straight out and no address named, the next step names the setting."""
    found = run(data, "doctor", "--set", "egress.default_route=mx", "--set", "egress.hostname=mail.gate.test", "--set", "dns.server=127.0.0.1:1", "--set", "dns.timeout_s=0.2", code=1)  # fmt: skip
    told = next(one for one in found["checks"] if one["check"] == "sources")
    assert told["status"] == "warning"
    assert "watch.addresses" in told["advice"]


def test_doctor_about_a_domain_that_is_not_there(data: Path) -> None:
    """The same refusal as everywhere."""
    assert run(data, "doctor", "--domain", "acme.test", code=1)["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ('watch.addresses=["mail.gate.test"]', "watch.addresses"),
        ('watch.blocklists=["Not A Zone"]', "watch.blocklists"),
        ("relays.main.status_url=http://status.example.com", "relays.main.status_url"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(data: Path, option: str, word: str) -> None:
    """Not at the first look, an hour later."""
    found = run(data, "doctor", "--set", "relays.main.url=smtp://127.0.0.1:1", "--set", option, code=1)
    told = next(one for one in found["checks"] if one["check"] == "settings")
    assert told["status"] == "failed"
    assert word in told["detail"]
