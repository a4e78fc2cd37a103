"""`gatepost tls-policy` asks what a delivery would ask, and what it fetched holds from then on."""

import asyncio
import json
import threading

from click.testing import CliRunner

from gatepost.cli import main
from tests.tls_policy.house import PolicyHost, policy_text, server_context


class Elsewhere:
    """A policy host on a loop of its own: commands have theirs."""

    def __init__(self, host: PolicyHost) -> None:
        self.host = host
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> PolicyHost:
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.host.__aenter__(), self.loop).result(10)
        return self.host

    def __exit__(self, *_) -> None:
        asyncio.run_coroutine_threadsafe(self.host.__aexit__(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


def run(data, zone, names, port: int, *arguments: str):
    options = {
        "GATEPOST_DNS__SERVER": zone.address, "GATEPOST_TLS_POLICY__CA_FILE": str(names.file), "GATEPOST_TLS_POLICY__HTTPS_PORT": str(port),
    }  # fmt: skip
    done = CliRunner().invoke(main, ["tls-policy", *arguments, "--data", str(data)], env=options)
    assert done.exit_code == 0, done.output
    return done.output


def test_show_tells_what_would_happen(tmp_path, zone, names):
    """DANE, MTA-STS, neither, and no way at all; the policy that was fetched is kept and listed."""
    host = PolicyHost(server_context(names.pairs["policies"], names.folder), policy_text("mx.both.test"))
    with Elsewhere(host):

        def show(domain: str):
            return json.loads(run(tmp_path, zone, names, host.port, "show", domain, "--json"))

        dane = show("good.test")
        assert dane["summary"] == "mail to good.test goes only over TLS that its TLSA records vouch for (DANE)"
        assert (dane["is_secure"], dane["mta_sts"]) == (True, None)
        assert dane["hosts"][0] | {"tlsa": 1} == {
            "host": "mx.good.test", "policy": "dane", "is_tls_required": True, "check": "tlsa", "tlsa": 1, "problem": None,
        }  # fmt: skip
        both = show("both.test")
        assert (both["mta_sts"]["mode"], both["mta_sts"]["hosts"], both["mta_sts"]["record_id"]) == ("enforce", ["mx.both.test"], "1")
        assert both["hosts"][0]["policy"] == "dane"
        assert show("plain.example")["summary"].endswith("goes over TLS where it is offered; nothing demands it")
        assert "DNS did not answer about the TLSA records of mx.bogus.test" in show("bogus.test")["summary"]
        assert "there is no domain nowhere.test" in show("nowhere.test")["problem"]
    listed = json.loads(run(tmp_path, zone, names, host.port, "list", "--json"))["policies"]
    assert [(one["domain"], one["mode"], one["error"]) for one in listed] == [("both.test", "enforce", None)]
    kept = json.loads(run(tmp_path, zone, names, host.port, "show", "both.test", "--json"))  # the host is gone now
    assert kept["mta_sts"]["mode"] == "enforce"
    assert "mx.both.test" in run(tmp_path, zone, names, host.port, "show", "both.test")
    assert "both.test" in run(tmp_path, zone, names, host.port, "list")
