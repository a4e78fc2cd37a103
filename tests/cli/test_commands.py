"""The command line: what scripts and people rely on."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from gatepost import settings
from gatepost.cli import _COMMANDS, main
from gatepost.tenants.keys import looks_like_key


@pytest.fixture(autouse=True)
def _no_options_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GATEPOST_DATA", "GATEPOST_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run(data: Path | None, *arguments: str, code: int = 0, **options: Any) -> Result:
    result = CliRunner().invoke(main, [*arguments, *(["--data", str(data)] if data else [])], **options)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def run_json(data: Path | None, *arguments: str, code: int = 0, **options: Any) -> Any:
    """With --json standard output is one JSON document, whatever happens."""
    return json.loads(run(data, *arguments, "--json", code=code, **options).stdout)


def test_key_create_prints_id_and_key(data: Path) -> None:
    """Other tools read exactly this object, before the first `serve`."""
    made = run_json(data, "key", "create", "--name", "shop")
    assert set(made) == {"id", "key"}
    assert made["id"].startswith("key_")
    assert made["key"].startswith("gp_live_")
    assert looks_like_key(made["key"])


def test_a_test_key_and_trusted_networks_are_kept(data: Path) -> None:
    """`--test` and every `--trust-cidr` stand in the list; the secret does not."""
    made = run_json(data, "key", "create", "--name", "old app", "--test", "--trust-cidr", "10.0.0.0/8", "--trust-cidr", "::1/128")
    (listed,) = run_json(data, "key", "list")
    assert made["key"].startswith("gp_test_")
    assert (listed["id"], listed["name"], listed["mode"]) == (made["id"], "old app", "test")
    assert listed["trust_cidrs"] == ["10.0.0.0/8", "::1/128"]
    assert made["key"] not in json.dumps(listed)


def test_a_revoked_key_says_when(data: Path) -> None:
    """Revoking is seen in the list; an unknown key is refused."""
    made = run_json(data, "key", "create", "--name", "shop")
    run_json(data, "key", "revoke", made["id"])
    assert run_json(data, "key", "list")[0]["revoked_at"]
    assert run_json(data, "key", "revoke", "key_nope", code=1)["error"]["code"] == "not_found"


def test_domain_add_trust_prints_the_records(data: Path) -> None:
    """Other tools read this object; the records are there at once."""
    made = run_json(data, "domain", "add", "Acme.Example", "--trust")
    assert (made["name"], made["status"], made["is_trusted"]) == ("acme.example", "verified", True)
    assert [record["purpose"] for record in made["records"]] == ["dkim", "dkim", "spf", "dmarc"]
    assert all(set(record) == {"type", "name", "value", "purpose", "status"} for record in made["records"])
    assert run_json(data, "domain", "list")[0]["id"] == made["id"]
    assert run_json(data, "domain", "show", made["id"])["name"] == "acme.example"


def test_a_domain_has_its_whole_life_on_the_command_line(data: Path) -> None:
    """Add, rotate, trust, remove; the plain output names every record whole, so that it can be copied."""
    run(data, "domain", "add", "acme.example")
    shown = run(data, "domain", "show", "acme.example").output
    assert any(line.startswith('"v=DKIM1; k=rsa; h=sha256; p=') and len(line) > 400 for line in shown.splitlines())
    assert len(run_json(data, "domain", "rotate", "acme.example")["records"]) == 6
    assert run_json(data, "domain", "verify", "acme.example", "--trust")["status"] == "verified"
    run_json(data, "domain", "remove", "acme.example")
    assert run_json(data, "domain", "list") == []


def test_a_refusal_is_one_line_with_code_and_advice(data: Path) -> None:
    """People read code, reason and what to do on one line; exit code 1, no trace."""
    run(data, "domain", "add", "acme.example")
    result = run(data, "domain", "add", "acme.example", code=1)
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: conflict: the domain acme.example is there already.")
    assert result.stdout == ""


def test_a_refusal_in_json_has_the_places(data: Path) -> None:
    """Scripts read the same refusal as the API gives, on standard output."""
    run(data, "domain", "add", "acme.example", "--trust")
    error = run_json(data, "send", "--from", "shop@acme.example", "--to", "nope", "--subject", "x", "--text", "x", code=1)["error"]
    assert error["code"] == "validation_failed"
    assert error["errors"][0]["pointer"] == "/to/0"


def test_wrong_usage_is_exit_code_2(data: Path) -> None:
    """A wrong command line is told apart from a refusal."""
    run(data, "key", "create", code=2)
    run(data, "key", "create", "--name", "x", "--trust-cidr", "nonsense", code=2)
    run(data, "settings", "--set", "nonsense", code=2)


def test_send_explain_and_queue_work_without_serve(data: Path) -> None:
    """A message is stored, explained as waiting for a dispatcher, and counted."""
    run(data, "domain", "add", "acme.example", "--trust")
    sent = run_json(data, "send", "--from", "Shop <shop@acme.example>", "--to", "deliver@example.net", "--subject", "Hi", input="Hello")
    told = run_json(data, "explain", sent["id"])
    assert (told["message_id"], told["status"]) == (sent["id"], "queued")
    assert told["recipients"][0]["cause"] == "no_dispatcher"
    counted = run_json(data, "queue")
    assert (counted["total"], counted["sites"][0]["site"], counted["recipients"]) == (1, "sandbox", {"queued": 1})
    assert sent["id"] in run(data, "explain", sent["id"]).output


def test_a_message_that_is_not_there_is_said_so(data: Path) -> None:
    """`explain` of an unknown id is a refusal, not a trace."""
    assert run_json(data, "explain", "msg_nope", code=1)["error"]["code"] == "not_found"


def test_a_site_is_paused_and_resumed(data: Path) -> None:
    """A paused site is shown even when nothing waits for it; resuming twice is a conflict."""
    run(data, "queue", "pause", "Example.net")
    assert run_json(data, "queue")["sites"][0]["paused_since"]
    run(data, "queue", "resume", "example.net")
    assert run_json(data, "queue", "resume", "example.net", code=1)["error"]["code"] == "conflict"


def test_a_suppressed_address_gets_no_mail_until_it_is_lifted(data: Path) -> None:
    """The list is enforced at once, whatever the case of the address."""
    run(data, "domain", "add", "acme.example", "--trust")
    run(data, "suppression", "add", "Bob@Example.NET", "--note", "asked by phone")
    assert run_json(data, "suppression", "list")[0]["address"] == "bob@example.net"
    mail = ("send", "--from", "shop@acme.example", "--to", "bob@example.net", "--subject", "x", "--text", "x")
    assert run_json(data, *mail, code=1)["error"]["code"] == "all_recipients_suppressed"
    run(data, "suppression", "remove", "bob@example.net")
    assert run_json(data, *mail)["status"] == "queued"
    run(data, "suppression", "remove", "bob@example.net", code=1)


def test_migrate_is_safe_to_repeat(data: Path) -> None:
    """The first run makes the schema, the second changes nothing."""
    first, second = run_json(data, "migrate"), run_json(data, "migrate")
    assert (first["before"], first["after"]) == (None, second["after"])
    assert second["before"] == second["after"]


def test_settings_name_value_default_and_origin(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, environment and flag are told apart, and a flag wins."""
    data.mkdir()
    (data / "gatepost.toml").write_text('[http]\nlisten = "127.0.0.1:1"\n[smtp]\nlisten = "127.0.0.1:2"\n')
    monkeypatch.setenv("GATEPOST_SMTP__LISTEN", "127.0.0.1:3")
    found = {one["name"]: one for one in run_json(data, "settings", "--set", "egress.mx_port=2626")}
    assert (found["http.listen"]["value"], found["http.listen"]["origin"]) == ("127.0.0.1:1", str(data / "gatepost.toml"))
    assert (found["smtp.listen"]["value"], found["smtp.listen"]["origin"]) == ("127.0.0.1:3", "GATEPOST_SMTP__LISTEN")
    assert (found["egress.mx_port"]["value"], found["egress.mx_port"]["default"], found["egress.mx_port"]["origin"]) == (2626, 25, "flag")
    assert found["log.level"]["origin"] == "default"


@pytest.mark.parametrize("url", ["smtp://bob:s3cr3t@h:25", "smtps://bob:s3cr3t@x@h:465?tls=must"])
def test_passwords_are_masked(data: Path, url: str) -> None:
    """`settings` can be pasted into a bug report."""
    for flags in (("--json",), ()):
        output = run(data, "settings", "--set", f"relays.main.url={url}", *flags).output
        assert "s3cr3t" not in output
        assert "bob:***@" in output


def test_the_example_file_holds_every_option_and_its_default() -> None:
    """With every comment sign removed it is a file that changes nothing."""
    text = run(None, "settings", "--example").output
    options = {option.name for option in settings.options(settings.Loaded(settings=settings.Settings(), origins={}, data_dir=Path()))}
    lines = [line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line for line in text.splitlines()]
    parsed = tomllib.loads("\n".join(lines))
    assert set(_names(parsed, options)) == options
    assert msgspec.convert(parsed, settings.Settings) == settings.Settings()


def _names(table: dict[str, Any], options: set[str], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict) and value and prefix + name not in options:
            yield from _names(value, options, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_an_unknown_option_is_refused_everywhere(data: Path) -> None:
    """A typo in an option must not silently change how mail is sent."""
    assert run_json(data, "settings", "--set", "http.lisen=x", code=1)["error"]["code"] == "invalid_settings"
    assert run_json(data, "key", "list", "--set", "nope.x=1", code=1)["error"]["code"] == "invalid_settings"


def test_the_data_directory_comes_from_the_environment_too(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GATEPOST_DATA stands for --data."""
    monkeypatch.setenv("GATEPOST_DATA", str(data))
    run_json(None, "key", "create", "--name", "x")
    assert (data / "gatepost.db").exists()


def test_doctor_finds_what_is_wrong(data: Path, tmp_path: Path) -> None:
    """A broken certificate makes it fail, by name; a sound directory passes."""
    flags = (
        "--set",
        "http.listen=127.0.0.1:0",
        "--set",
        "smtp.listen=127.0.0.1:0",
        "--set",
        "dns.server=127.0.0.1:9",
        "--set",
        "dns.timeout_s=0.2",
    )
    run(data, "migrate")
    good = run_json(data, "doctor", *flags)
    assert good["ok"]
    assert {"sqlite", "database", "disk space", "disk write", "dns", "clock", "tls", "ports", "open files"} <= {
        one["check"] for one in good["checks"]
    }
    (tmp_path / "cert.pem").write_text("nonsense")
    bad = run_json(data, "doctor", *flags, "--set", f"tls.cert={tmp_path}/cert.pem", "--set", f"tls.key={tmp_path}/cert.pem", code=1)
    assert [one["check"] for one in bad["checks"] if one["status"] == "failed"] == ["tls"]


def test_postgresql_is_served_by_the_same_commands(data: Path, empty_postgres_url: str) -> None:
    """`migrate` first, said clearly when it is missing; then the rest works as on SQLite."""
    flags = ("--set", f"database.url={empty_postgres_url}")
    error = run_json(data, "key", "create", "--name", "x", *flags, code=1)["error"]
    assert error["code"] == "schema_outdated"
    assert "run gatepost migrate" in error["detail"]
    run(data, "migrate", *flags)
    run_json(data, "key", "create", "--name", "x", *flags)
    assert len(run_json(data, "key", "list", *flags)) == 1


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_command_has_help(command: str) -> None:
    """The list of commands and the commands themselves agree."""
    assert _COMMANDS[command]
    assert "Usage:" in run(None, command, "--help").output
    assert command in run(None, "--help").output
