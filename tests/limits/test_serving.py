"""Limits in a real `gatepost serve`, set by real commands: they hold within two seconds, and over a restart."""

import json
import smtplib
import time

from click.testing import CliRunner

from gatepost.cli import main
from tests.flow.serving import Serving


def gatepost(data, *arguments, code=0):
    """Run one command; return what it printed."""
    result = CliRunner().invoke(main, [*arguments, "--data", str(data)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout


def gatepost_json(data, *arguments, code=0):
    return json.loads(gatepost(data, *arguments, "--json", code=code))


def test_limits_set_by_commands_hold_at_both_doors_and_survive_a_restart(tmp_path):
    """Tenant, key and domain by command; quota over HTTP and SMTP together; kill; the quota is as used as before; then it is raised."""
    data = tmp_path / "data"
    tenant = gatepost_json(data, "tenant", "create", "team")["id"]
    key = gatepost_json(data, "key", "create", "--name", "k", "--tenant", tenant, "--limit", "messages=8/day")["key"]
    gatepost_json(data, "domain", "add", "acme.example", "--tenant", tenant, "--trust")
    set_ = gatepost_json(data, "tenant", "limit", tenant, "messages=5/day", "bytes=1000000/month")
    assert set_ == {"id": tenant, "limits": ["messages=5/day", "bytes=1000000/month"]}

    def send(serving, n):
        return serving.ask(
            "POST", "/v1/messages", key, {"from": "a@acme.example", "to": [f"r{n}@example.net"], "subject": "s", "text": "t"}
        )

    with Serving(data) as serving:
        assert [send(serving, n)[0] for n in range(4)] == [202] * 4
        host, _, port = serving.listening["smtp"].rpartition(":")
        with smtplib.SMTP(host, int(port)) as client:
            client.login("x", key)
            client.sendmail("a@acme.example", ["s@example.net"], "From: a@acme.example\r\nSubject: s\r\n\r\nx\r\n")
            try:
                client.sendmail("a@acme.example", ["s@example.net"], "From: a@acme.example\r\nSubject: s\r\n\r\nx\r\n")
                raise AssertionError("it passed")
            except smtplib.SMTPDataError as error:
                assert (error.smtp_code, error.smtp_error[:5]) == (452, b"4.7.1")
        status, problem = send(serving, 9)
        assert (status, problem["code"]) == (429, "quota_exceeded")
        assert "tenant messages=5/day" in problem["detail"]

    with Serving(data) as serving:
        assert send(serving, 10)[0] == 429
        gatepost_json(data, "tenant", "limit", "team", "messages=6/day")
        changed_at = time.monotonic()
        while (status := send(serving, 11)[0]) == 429:
            assert time.monotonic() - changed_at < 10
            time.sleep(0.05)
        assert status == 202
        assert send(serving, 12)[0] == 429

    assert gatepost_json(data, "tenant", "limit", tenant, "messages=off", "--remove", "bytes/month")["limits"] == []
    assert gatepost_json(data, "tenant", "limit", tenant) == {"id": tenant, "limits": []}
    (row,) = gatepost_json(data, "usage", "export", "--tenant", tenant)
    assert (row["tenant_id"], row["route"], row["messages"], row["recipients"]) == (tenant, "sandbox", 6, 6)
    text = gatepost(data, "usage", "export", "--csv")
    assert text.splitlines()[0] == "day,tenant_id,route,messages,recipients,bytes,cost"
    entries = gatepost_json(data, "audit", "list")
    actions = [one["action"] for one in (entries if isinstance(entries, list) else entries["data"])]
    assert actions.count("tenant.limits_changed") == 3
    assert actions.count("usage.exported") == 2


def test_balances_are_kept_by_command(tmp_path):
    """Top-ups add up, the price is shown as it was given, and a typo changes nothing."""
    data = tmp_path / "data"
    tenant = gatepost_json(data, "tenant", "create", "payer")["id"]
    assert gatepost_json(data, "tenant", "balance", tenant) == {"id": tenant, "balance": None, "price_per_1000": "0.00", "entries": []}
    gatepost_json(data, "tenant", "balance", tenant, "--add", "10.00", "--price", "0.28", "--note", "invoice 1")
    found = gatepost_json(data, "tenant", "balance", "payer", "--add", "-2.5")
    assert (found["balance"], found["price_per_1000"]) == ("7.50", "0.28")
    assert [(one["amount"], one["note"]) for one in found["entries"]] == [("-2.50", ""), ("10.00", "invoice 1")]
    assert gatepost_json(data, "tenant", "balance", tenant, "--add", "ten", code=1)["error"]["code"] == "validation_failed"
    gatepost(data, "tenant", "limit", tenant, "mails=5/day", code=2)
    gatepost(data, "tenant", "limit", "ten_nobody", "messages=5/day", code=1)
    assert gatepost_json(data, "tenant", "balance", tenant, "--end")["balance"] is None
