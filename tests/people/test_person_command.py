"""`gatepost person`, and the link that a first start prints."""

import json
import re
import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner

from gatepost.cli import main
from tests.flow.serving import Serving, until
from tests.people.house import PASSWORD


def run(tmp_path, *arguments):
    """Run a command that prints JSON."""
    result = CliRunner().invoke(main, ["person", *arguments, "--data", str(tmp_path), "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_people_are_invited_listed_disabled_and_enabled(tmp_path):
    """Each command answers with one JSON document; links are whole addresses."""
    code, made = run(tmp_path, "setup-link")
    assert code == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:8025/setup/[\w-]{43}", made["link"])
    code, made = run(tmp_path, "invite", "bob@acme.example", "--role", "developer", "--tenant", "default")
    assert re.fullmatch(r"http://127\.0\.0\.1:8025/invitation/[\w-]{43}", made["link"])
    assert made["role"] == "developer"
    assert run(tmp_path, "list") == (0, [])
    for command in ("reset", "disable", "enable"):
        code, answer = run(tmp_path, command, "bob@acme.example")
        assert (code, answer["error"]["code"]) == (1, "not_found")
    code, answer = run(tmp_path, "invite", "no address")
    assert (code, answer["error"]["code"]) == (1, "validation_failed")
    code, answer = run(tmp_path, "invite", "a@b.example", "--tenant", "nowhere")
    assert (code, answer["error"]["code"]) == (1, "not_found")


@pytest.mark.slow
def test_a_first_start_prints_a_link_that_makes_the_first_person(tmp_path):
    """On standard output and in no line of the log; the next start prints none. The commands work beside it."""
    headers = {"Sec-Fetch-Site": "same-origin"}
    with Serving(tmp_path) as serving:
        (link,) = until(lambda: re.findall(r"Set up (http://\S+/setup/\S+) ", serving.log))
        assert not [line for line in serving.log.splitlines() if line.startswith("{") and link.rpartition("/")[2] in line]
        form = {"email": "ann@acme.example", "name": "Ann", "password": PASSWORD}
        assert httpx.post(link, headers=headers, data=form).status_code == 303
        code, people = run(tmp_path, "list")
        assert (people[0]["email"], people[0]["is_operator"], people[0]["roles"]) == ("ann@acme.example", True, {"default": "owner"})
        code, answer = run(tmp_path, "setup-link")
        assert (code, answer["error"]["code"]) == (1, "conflict")
        base = link.partition("/setup/")[0]
        session = httpx.Client(base_url=base, headers=headers)
        assert session.post("/login", data={"email": "ann@acme.example", "password": PASSWORD}).status_code == 303
        assert session.get("/account").status_code == 200
        assert run(tmp_path, "disable", "ann@acme.example") == (0, {"id": people[0]["id"], "email": "ann@acme.example", "disabled": True})
        assert session.get("/account").status_code == 303
        assert run(tmp_path, "enable", "ann@acme.example")[0] == 0
        assert run(tmp_path, "reset", "ann@acme.example")[1]["link"].startswith("http://")
    with Serving(tmp_path) as serving:
        until(lambda: serving.log.count("Gatepost is ready.") == 2)
        assert serving.log.count("Set up") == 1


def test_a_door_loads_no_library_for_signing_in_until_somebody_does():
    """Argon2, WebAuthn, OpenID and their like cost memory: a door that only takes mail has none of them."""
    wanted = ("argon2", "webauthn", "authlib", "aiohttp", "pyotp", "segno")
    code = f"import sys, gatepost.app.door; print([name for name in {wanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
