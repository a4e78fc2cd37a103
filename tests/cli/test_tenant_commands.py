"""`gatepost tenant`, `gatepost audit`, and `--tenant` of the other commands: what scripts and people rely on."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.cli.test_commands import run, run_json

from gatepost.store.sqlite import FILE_NAME


@pytest.fixture(autouse=True)
def _no_options_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GATEPOST_DATA", "GATEPOST_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def damage(data: Path, statement: str) -> None:
    """Do something to the database that the gateway would never do."""
    engine = sa.create_engine(f"sqlite:///{data / FILE_NAME}", module=__import__("pysqlite3"))
    with engine.begin() as conn:
        conn.execute(sa.text(statement))
    engine.dispose()


def actions(data: Path, *more: str) -> list[str]:
    return [one["action"] for one in run_json(data, "audit", "list", *more)]


def test_a_tenant_is_created_suspended_and_resumed(data: Path) -> None:
    """Other tools read `id`; a tenant is named by id or name; an unknown one is refused."""
    made = run_json(data, "tenant", "create", "team")
    assert made["id"].startswith("ten_")
    assert run_json(data, "tenant", "create", "team", code=1)["error"]["code"] == "conflict"
    assert run_json(data, "tenant", "suspend", made["id"])["suspended_at"] is not None
    assert run_json(data, "tenant", "show", "team")["suspended_at"] is not None
    assert run_json(data, "tenant", "resume", "team")["suspended_at"] is None
    assert [one["name"] for one in run_json(data, "tenant", "list")] == ["default", "team"]
    assert run_json(data, "tenant", "suspend", "nobody", code=1)["error"]["code"] == "not_found"
    assert actions(data, "--tenant", "team") == ["tenant.resumed", "tenant.suspended", "tenant.created"]


def test_commands_work_for_the_tenant_that_is_named(data: Path) -> None:
    """Domains, suppressions and messages are its own; without `--tenant` it is the default one; by id or by name."""
    team = run_json(data, "tenant", "create", "team")["id"]
    domain = run_json(data, "domain", "add", "team.example", "--tenant", team, "--trust")
    assert (domain["status"], domain["is_trusted"]) == ("verified", True)
    assert run_json(data, "domain", "list") == []
    assert [one["name"] for one in run_json(data, "domain", "list", "--tenant", "team")] == ["team.example"]
    run_json(data, "suppression", "add", "no@example.net", "--tenant", "team")
    assert run_json(data, "suppression", "list") == []
    mail = ("--from", "a@team.example", "--to", "ann@example.net", "--subject", "x", "--text", "y")
    assert run_json(data, "send", *mail, code=1)["error"]["code"] == "domain_not_verified"
    sent = run_json(data, "send", *mail, "--tenant", "team")
    assert run_json(data, "explain", sent["id"])["message_id"] == sent["id"]
    assert run_json(data, "explain", sent["id"], "--tenant", "team")["message_id"] == sent["id"]
    assert run_json(data, "explain", sent["id"], "--tenant", "default", code=1)["error"]["code"] == "not_found"
    assert run_json(data, "queue", "--tenant", "team")["total"] == 1
    assert run_json(data, "queue", "--tenant", "default")["total"] == 0
    assert run_json(data, "queue")["total"] == 1
    run(data, "tenant", "suspend", "team")
    assert run_json(data, "send", *mail, "--tenant", "team", code=1)["error"]["code"] == "tenant_suspended"
    assert "suspended" in run_json(data, "explain", sent["id"])["sentence"]


def test_every_change_by_a_command_is_in_the_log(data: Path) -> None:
    """With the user of the machine as who did it."""
    run(data, "domain", "add", "acme.example")
    run(data, "domain", "rotate", "acme.example")
    run(data, "domain", "verify", "acme.example", "--trust")
    run(data, "domain", "remove", "acme.example")
    run(data, "suppression", "add", "no@example.net")
    run(data, "suppression", "remove", "no@example.net")
    run(data, "queue", "pause", "example.net")
    run(data, "queue", "resume", "example.net")
    assert list(reversed(actions(data))) == [
        "tenant.created", "domain.added", "domain.keys_rotated", "domain.trusted", "domain.removed", "suppression.added",
        "suppression.removed", "site.paused", "site.resumed",
    ]  # fmt: skip
    newest = run_json(data, "audit", "list", "--limit", "1")[0]
    assert newest["actor"]["kind"] == "local"
    assert newest["actor"]["name"]
    assert actions(data, "--action", "domain.", "--since", "1h", "--object", run_json(data, "audit", "list")[5]["object_id"])
    assert actions(data, "--gateway") == ["site.resumed", "site.paused"]
    assert actions(data, "--until", "2020-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor_name = 'somebody else' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
        "UPDATE audit_head SET seq = seq - 1",
    ],
)
def test_verify_finds_what_was_done_to_the_log(data: Path, statement: str) -> None:
    """Exit code 0 for a whole log, 1 for one that is not, with the entry and the reason."""
    for name in ("a", "b", "c"):
        run(data, "tenant", "create", name)
    whole = run_json(data, "audit", "verify")
    assert (whole["ok"], whole["entries"], whole["bad_seq"]) == (True, 4, None)
    assert run_json(data, "audit", "verify", "--expect", f"4:{whole['head']}")["ok"]
    damage(data, statement)
    broken: dict[str, Any] = run_json(data, "audit", "verify", code=1)
    assert not broken["ok"]
    assert broken["bad_seq"] is not None
    assert broken["problem"]
    assert "not what it was" in run(data, "audit", "verify", code=1).output


def test_an_emptied_log_is_no_new_one(data: Path) -> None:
    """Opening the store again does not make good what was removed."""
    run(data, "tenant", "create", "a")
    damage(data, "DELETE FROM audit")
    damage(data, "UPDATE audit_head SET seq = 0, hash = zeroblob(32)")
    assert run_json(data, "audit", "verify", code=1)["problem"] == "every entry was removed"


def test_no_command_shows_a_secret_of_the_settings(data: Path) -> None:
    """`gatepost settings` masks by name and by form."""
    shown = run(
        data, "settings", "--set", "oidc.client_secret=hunter2-hunter2", "--set", "rates.valkey_url=valkey://u:hunter2@h", "--json"
    ).stdout
    assert "hunter2" not in shown
    assert json.loads(shown)
