"""Keys and OAuth clients on the command line: the words that other tools rely on."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from joserfc.jwk import ECKey

from gatepost.cli import main


@pytest.fixture(autouse=True)
def _no_options_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GATEPOST_DATA", "GATEPOST_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run(data, *arguments, code=0):
    """Run a command with `--data DIR --json`; return the document that it prints, or the text of a wrong call."""
    result = CliRunner().invoke(main, [*arguments, "--data", str(data), "--json"])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output if code == 2 else json.loads(result.stdout)


WISHES = (
    "--scope", "messages:send", "--scope", "stats:read", "--cidr", "10.1.2.3/8", "--cidr", "2001:db8::/32", "--domain", "Acme.Example",
    "--stream", "codes", "--limit", "messages=10/minute", "--limit", "bytes=1000000/day", "--expires", "30d",
)  # fmt: skip


def check_wishes(listed):
    assert listed["scopes"] == ["messages:send", "stats:read"]
    assert listed["cidrs"] == ["10.0.0.0/8", "2001:db8::/32"]
    assert (listed["domains"], listed["streams"]) == (["acme.example"], ["codes"])
    assert listed["limits"] == ["messages=10/minute", "bytes=1000000/day"]
    assert listed["expires_at"] > listed["created_at"]


def test_a_key_has_what_its_options_say(data):
    """Every option of `key create` is kept; the answer is id and key."""
    made = run(data, "key", "create", "--name", "n", *WISHES)
    assert set(made) == {"id", "key"}
    (listed,) = run(data, "key", "list")
    check_wishes(listed)
    assert made["key"] not in json.dumps(listed)


def test_a_key_without_scopes_may_do_everything_in_its_tenant(data):
    """The default is admin, and never operator."""
    run(data, "key", "create", "--name", "n")
    assert run(data, "key", "list")[0]["scopes"] == ["admin"]


def test_keys_belong_to_the_tenant_that_is_named(data):
    """By id or by name; lists are apart; a key's id is enough to rotate or revoke it, unless another tenant is named."""
    tenant = run(data, "tenant", "create", "acme")["id"]
    mine = run(data, "key", "create", "--name", "mine")
    first = run(data, "key", "create", "--name", "a", "--tenant", tenant)
    second = run(data, "key", "create", "--name", "b", "--tenant", "acme")
    assert [one["id"] for one in run(data, "key", "list", "--tenant", "acme")] == [first["id"], second["id"]]
    assert [one["id"] for one in run(data, "key", "list")] == [mine["id"]]
    assert run(data, "key", "create", "--name", "x", "--tenant", "nope", code=1)["error"]["code"] == "not_found"
    assert run(data, "key", "revoke", first["id"], "--tenant", "default", code=1)["error"]["code"] == "not_found"
    assert run(data, "key", "revoke", first["id"]) == {"id": first["id"], "revoked": True}
    assert run(data, "key", "rotate", second["id"])["id"] == second["id"]


def test_a_key_is_rotated_with_an_overlap(data):
    """A new secret for the same id; an hour unless said otherwise."""
    made = run(data, "key", "create", "--name", "n")
    rotated = run(data, "key", "rotate", made["id"], "--overlap", "2h")
    assert set(rotated) == {"id", "key"}
    assert (rotated["id"], rotated["key"] != made["key"]) == (made["id"], True)
    assert run(data, "key", "list")[0]["old_secret_until"] > run(data, "key", "list")[0]["created_at"]
    run(data, "key", "rotate", made["id"], "--overlap", "0s")
    run(data, "key", "rotate", made["id"], "--overlap", "31d", code=2)


def test_only_the_default_tenants_keys_may_be_operators(data):
    """The scope above tenants is given here, or by an operator."""
    run(data, "tenant", "create", "acme")
    run(data, "key", "create", "--name", "op", "--scope", "operator")
    assert (
        run(data, "key", "create", "--name", "op", "--scope", "operator", "--tenant", "acme", code=1)["error"]["code"]
        == "permission_denied"
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [("--scope", "mail"), ("--cidr", "10.0.0.0/99"), ("--limit", "messages=10"), ("--limit", "mails=1/day"), ("--expires", "soon"),
     ("--expires", "0d"), ("--expires", "30")],
)  # fmt: skip
@pytest.mark.parametrize("command", ["key", "oauth-client"])
def test_an_option_that_cannot_be_read_is_wrong_usage(data, command, option, value):
    """Exit code 2, and nothing is made."""
    run(data, command, "create", "--name", "n", option, value, code=2)
    assert run(data, command, "list") == []


def test_an_oauth_client_has_its_whole_life_on_the_command_line(data, tmp_path):
    """Made, listed, rotated, revoked; made with public keys it has no secret."""
    run(data, "tenant", "create", "acme")
    made = run(data, "oauth-client", "create", "--name", "app", "--tenant", "acme", *WISHES)
    assert set(made) == {"client_id", "client_secret"}
    (listed,) = run(data, "oauth-client", "list", "--tenant", "acme")
    check_wishes(listed)
    assert made["client_secret"] not in json.dumps(listed)
    rotated = run(data, "oauth-client", "rotate-secret", made["client_id"])
    assert (rotated["client_id"], rotated["client_secret"] != made["client_secret"]) == (made["client_id"], True)
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [ECKey.generate_key("P-256").as_dict(private=False)]}))
    assert run(data, "oauth-client", "create", "--name", "signer", "--jwks", str(keys))["client_secret"] is None
    keys.write_text(json.dumps({"keys": [ECKey.generate_key("P-256").as_dict(private=True)]}))
    assert run(data, "oauth-client", "create", "--name", "signer", "--jwks", str(keys), code=1)["error"]["code"] == "validation_failed"
    run(data, "oauth-client", "revoke", made["client_id"])
    assert run(data, "oauth-client", "list", "--tenant", "acme")[0]["revoked_at"]
    assert run(data, "oauth-client", "revoke", "oac_nope", code=1)["error"]["code"] == "not_found"


def test_what_was_done_at_the_command_line_stands_in_the_audit_log(data):
    """With the user's name, and whole."""
    made = run(data, "key", "create", "--name", "n")
    run(data, "key", "rotate", made["id"])
    client = run(data, "oauth-client", "create", "--name", "app")
    run(data, "oauth-client", "revoke", client["client_id"])
    listed = CliRunner().invoke(main, ["audit", "list", "--data", str(data), "--json"])
    assert listed.exit_code == 0, listed.output
    for action in ("key.created", "key.rotated", "oauth_client.created", "oauth_client.revoked"):
        assert action in listed.stdout
    assert made["key"] not in listed.stdout
    assert client["client_secret"] not in listed.stdout
    assert CliRunner().invoke(main, ["audit", "verify", "--data", str(data)]).exit_code == 0
