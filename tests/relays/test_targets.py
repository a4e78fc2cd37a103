"""Relays as the settings describe them: every form of URL, secrets apart from it, and none of them ever shown."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gatepost import settings
from gatepost.app import parts
from gatepost.cli.settings import masked
from gatepost.clock import SystemClock
from gatepost.egress.relays.target import endpoint_host, parse_target
from gatepost.settings import InvalidSettings, Relay, RelayOAuth, Settings


@pytest.mark.parametrize(
    ("url", "base", "user", "secret", "place"),
    [
        ("ses://AKID:wJalr/x+y=@eu-west-1", "https://email.eu-west-1.amazonaws.com", "AKID", "wJalr/x+y=", "eu-west-1"),
        ("ses://AKID:wJalr%2Fx%2By@us-east-1", "https://email.us-east-1.amazonaws.com", "AKID", "wJalr/x+y", "us-east-1"),
        ("sendgrid://:SG.a-b_c@", "https://api.sendgrid.com", "", "SG.a-b_c", ""),
        ("sendgrid://SG.a-b_c@?region=eu", "https://api.eu.sendgrid.com", "", "SG.a-b_c", ""),
        ("mailgun://:k@mg.acme.example", "https://api.mailgun.net", "", "k", "mg.acme.example"),
        ("mailgun://:k@mg.acme.example?region=eu", "https://api.eu.mailgun.net", "", "k", "mg.acme.example"),
        ("postmark://:t@?stream=news", "https://api.postmarkapp.com", "", "t", ""),
        ("resend://:re_1@", "https://api.resend.com", "", "re_1", ""),
        ("mailjet://pub:priv@", "https://api.mailjet.com", "pub", "priv", ""),
        ("BREVO://:xkeysib-1@", "https://api.brevo.com", "", "xkeysib-1", ""),
    ],
)
def test_every_provider_has_its_form(url: str, base: str, user: str, secret: str, place: str):
    """As the settings page describes them."""
    target = parse_target("main", Relay(url=url))
    assert (target.base, target.user, target.secret, target.place) == (base, user, secret, place)
    assert endpoint_host(Relay(url=url)) == target.host == base.removeprefix("https://")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "sendgrid://"}, "secret: missing"),
        ({"url": "mailgun://:hush@"}, "mailgun://:KEY@DOMAIN"),
        ({"url": "mailgun://:hush@mg.example?region=mars"}, "region is one of us, eu"),
        ({"url": "ses://:hush@eu-west-1"}, "ses://KEY:SECRET@REGION"),
        ({"url": "ses://AKID:hush@"}, "a region"),
        ({"url": "resend://:hush@api.example"}, "resend://:KEY@"),
        ({"url": "resend://bob:hush@"}, "resend://:KEY@"),
        ({"url": "postmark://:hush@?color=red"}, "stream"),
        ({"url": "carrierpigeon://:hush@"}, "expected smtp://"),
        ({"url": "resend://:hush@", "secret": "hush"}, "give it once"),
        ({"url": "resend://", "secret": "hush\nx: y"}, "characters that no key has"),
        ({"url": "resend://:hush@", "endpoint": "http://api.example"}, "endpoint"),
        ({"url": "resend://:hush@", "endpoint": "https://u:p@api.example"}, "endpoint"),
        ({"url": "resend://:hush@", "session_token": "hush"}, "session_token: this kind of relay has no use"),
        ({"url": "smtp://relay.example", "endpoint": "https://api.example"}, "endpoint: this kind of relay has no use"),
        ({"url": "smtp://relay.example", "secret": "hush"}, "names the user"),
        ({"url": "smtp://bob:hush@relay.example", "secret": "hush"}, "names the user"),
        ({"url": "resend://:hush@", "oauth": RelayOAuth(client_id="x")}, "oauth: only for smtp"),
        ({"url": "smtp://bob@smtp.office365.com:587", "oauth": RelayOAuth(client_id="x", client_secret="hush")}, "tenant"),
        ({"url": "smtp://bob@smtp.gmail.com:587", "oauth": RelayOAuth(client_id="x")}, "give refresh_token"),
        ({"url": "smtp://smtp.gmail.com:587", "oauth": RelayOAuth(client_id="x", refresh_token="hush")}, "names the mailbox"),
        (
            {"url": "smtp://b@r.example", "oauth": RelayOAuth(client_id="x", client_secret="hush", token_url="http://x.example")},
            "token_url",
        ),
        ({"url": "resend://", "secret_file": "/nonexistent/hush"}, "secret_file"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_with_it(options: dict[str, Any], words: str):
    """The message names the option; it would stand in a log."""
    with pytest.raises(InvalidSettings) as refused:
        parts.create_couriers(parts.with_hostnames(Settings(relays={"main": Relay(**options)})), SystemClock())
    assert "relays.main" in str(refused.value)
    assert words in str(refused.value)
    assert "hush" not in str(refused.value).replace("/nonexistent/hush", "")


def test_secrets_stand_in_files_and_variables_too(tmp_path: Path):
    """secret, secret_file, and a variable that names a file."""
    file = tmp_path / "key"
    file.write_text("re_fromfile\n")
    (tmp_path / "gatepost.toml").write_text(f'[relays.a]\nurl = "resend://"\nsecret_file = "{file}"\n[relays.b]\nurl = "resend://"\n')
    environ = {"GATEPOST_RELAYS__B__SECRET": "re_env", "GATEPOST_RELAYS__C__URL": "mailjet://pub@"}
    environ |= {"GATEPOST_RELAYS__C__SECRET_FILE": str(file), "GATEPOST_RELAYS__D__URL": "smtp://u@r.example"}
    environ |= {"GATEPOST_RELAYS__D__OAUTH__CLIENT_ID": "x", "GATEPOST_RELAYS__D__OAUTH__CLIENT_SECRET_FILE": str(file)}
    environ |= {"GATEPOST_RELAYS__D__OAUTH__SERVICE_ACCOUNT_FILE": "/key.json"}
    found = settings.load(tmp_path, environ).settings.relays
    assert [parse_target(name, found[name]).secret for name in "abc"] == ["re_fromfile", "re_env", "re_fromfile"]
    assert (found["d"].oauth.client_secret, found["d"].oauth.service_account_file) == ("re_fromfile", "/key.json")


def test_the_settings_command_shows_no_key(tmp_path: Path):
    """Neither in URLs of any form, nor in options of their own."""
    keys = ["wJalr/hush1+x", "SG.hush2", "hush3", "hush4", "hush5", "hush6", "hush7", "hush8", "hush9"]
    text = f"""
[relays.a]
url = "ses://AKID:{keys[0]}@eu-west-1"
session_token = "{keys[4]}"
[relays.b]
url = "sendgrid://{keys[1]}@"
[relays.c]
url = "mailgun://:{keys[2]}@mg.acme.example"
[relays.d]
url = "mailjet://pub@"
secret = "{keys[3]}"
[relays.e]
url = "smtp://user:{keys[5]}@r.example"
[relays.f]
url = "smtp://user@r.example"
[relays.f.oauth]
client_id = "id"
client_secret = "{keys[6]}"
refresh_token = "{keys[7]}"
[relays.g]
url = "brevo://:{keys[8]}@"
"""
    (tmp_path / "gatepost.toml").write_text(text)
    shown = [(one.name, masked(one.value, one.name)) for one in settings.options(settings.load(tmp_path, {}))]
    assert not [one for one in shown if any(key in str(one[1]) for key in keys)]
    assert ("relays.a.url", "ses://AKID:***@eu-west-1") in shown
    assert ("relays.b.url", "sendgrid://***@") in shown


def test_aiohttp_is_not_loaded_before_the_first_call():
    """Start-up time and memory of a gateway without providers, and of one that has not sent yet."""
    code = (
        "import sys\nfrom gatepost.app import parts\nfrom gatepost.clock import SystemClock\nfrom gatepost.settings import Relay, Settings\n"
        "s = Settings(relays={'a': Relay(url='resend://:k@'), 'b': Relay(url='smtp://r.example')})\n"
        "parts.create_couriers(parts.with_hostnames(s), SystemClock())\nprint([m for m in ('aiohttp', 'joserfc') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_provider_without_its_file_is_not_loaded():
    """Each kind loads its own file only."""
    code = (
        "import sys, json\nfrom gatepost.egress.relays.courier import create_provider\nfrom gatepost.egress.relays.target import parse_target\n"
        "from gatepost.settings import Relay\ncreate_provider(parse_target('a', Relay(url='resend://:k@')))\n"
        "print(json.dumps([m for m in sys.modules if m.startswith('gatepost.egress.relays.')]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.rpartition(".")[2] for name in json.loads(done.stdout)}
    assert loaded == {"courier", "target", "verdict", "provider", "resend"}
