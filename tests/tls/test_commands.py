"""`gatepost certificate` and what `gatepost doctor` says of certificates."""

import datetime as dt
import json

import pytest
from click.testing import CliRunner

from gatepost import settings
from gatepost.cli import main
from gatepost.serve.checks import examine
from gatepost.settings import InvalidSettings


def run(data, *arguments: str, code: int = 0):
    done = CliRunner().invoke(main, [*arguments, "--data", str(data), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def findings(data, **flags):
    found = examine(data, {name.replace("__", "."): value for name, value in flags.items()})
    return {one.check: one for one in found if one.check in {"tls", "encryption"}}


def test_certificates_are_listed_with_what_they_are_good_for(authority, tmp_path):
    """Own files, further names, and what will be ordered."""
    cert, key = authority.issue("gate.example", "127.0.0.1").write(tmp_path)
    shop, shop_key = authority.issue("shop.example", ends=dt.timedelta(days=3)).write(tmp_path, "shop")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gatepost.toml").write_text(
        f'[tls]\ncert = "{cert}"\nkey = "{key}"\n[tls.certificates.shop]\ncert = "{shop}"\nkey = "{shop_key}"\n'
        '[acme]\ndirectory_url = "https://ca.example/dir"\nagree_to_terms = true\ndomains = ["new.example"]\n'
    )
    found = run(tmp_path / "data", "certificate", "list")["certificates"]
    assert [(one["name"], one["source"], one["status"]) for one in found] == [
        ("default", "file", "ok"),
        ("shop", "file", "warning"),
        ("new.example", "acme", "pending"),
    ]
    one = run(tmp_path / "data", "certificate", "show", "default")
    assert one["names"] == ["gate.example", "127.0.0.1"]
    assert one["issuer"] == "CN=Test CA"
    assert dt.datetime.fromisoformat(one["ends_at"]).tzinfo is not None
    assert run(tmp_path / "data", "certificate", "show", "other", code=1)["error"]["code"] == "not_found"
    assert run(tmp_path / "data", "certificate", "renew", "shop.example", code=1)["error"]["code"] == "not_found"
    table = CliRunner().invoke(main, ["certificate", "list", "--data", str(tmp_path / "data")]).stdout
    assert "shop.example" in table


def test_nothing_is_renewed_without_an_authority(tmp_path):
    """Certificates in files are their owner's to renew."""
    assert run(tmp_path, "certificate", "renew", code=1)["error"]["code"] == "no_authority"
    assert run(tmp_path, "certificate", "list") == {"certificates": []}


@pytest.mark.parametrize(
    ("starts", "ends", "status", "words"),
    [(-10, 60, "ok", "valid for"), (-10, 13, "warning", "valid for"), (-10, -1, "failed", "expired"), (1, 60, "failed", "not valid yet")],
)
def test_the_doctor_looks_at_dates(authority, tmp_path, starts, ends, status, words):
    """Fourteen days are time enough to act."""
    days = {"starts": dt.timedelta(days=starts), "ends": dt.timedelta(days=ends)}
    cert, key = authority.issue("gate.example", **days).write(tmp_path)
    found = findings(tmp_path / "data", tls__cert=str(cert), tls__key=str(key))["tls"]
    assert (found.status, words in found.detail) == (status, True), found


def test_the_doctor_finds_keys_that_others_can_read(authority, tmp_path):
    """The remedy is in the sentence."""
    cert, key = authority.issue("gate.example").write(tmp_path)
    key.chmod(0o640)
    found = findings(tmp_path / "data", tls__cert=str(cert), tls__key=str(key))["tls"]
    assert found.status == "warning"
    assert f"{key} can be read by other users: chmod 600 it" in found.detail


def test_the_doctor_finds_what_is_open_and_unencrypted(authority, tmp_path):
    """SMTP for the network without a certificate, HTTP for the network with keys in plain text."""
    cert, key = authority.issue("gate.example").write(tmp_path)
    assert findings(tmp_path)["encryption"].status == "ok"
    assert findings(tmp_path, smtp__listen="0.0.0.0:2525")["encryption"].status == "warning"
    assert findings(tmp_path, smtp__listen="[::]:2525", tls__cert=str(cert), tls__key=str(key))["encryption"].status == "ok"
    assert findings(tmp_path, http__listen="0.0.0.0:8025")["encryption"].status == "ok"
    assert findings(tmp_path, http__listen="0.0.0.0:8025", http__allow_plain=True)["encryption"].status == "warning"
    assert findings(tmp_path, https__listen="127.0.0.1:8443")["tls"].status == "failed"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"https.client_certificates": "required"}, "client_ca"),
        ({"https.client_ca": "ca.pem"}, "client_ca"),
        ({"http.redirect_to_https": True}, "https.listen"),
        ({"https.bound_keys": {"key_1": ["00"]}}, "client_certificates"),
        ({"https.client_certificates": "optional", "https.client_ca": "x", "https.bound_keys": {"key_1": ["00"]}}, "64"),
        ({"acme.directory_url": "http://ca.example/dir"}, "https://"),
        ({"acme.directory_url": "https://ca.example/dir"}, "agree_to_terms"),
        ({"acme.directory_url": "https://ca.example/dir", "acme.agree_to_terms": True}, "acme.domains"),
        ({"acme.directory_url": "https://ca.example/dir", "acme.agree_to_terms": True, "acme.domains": ["*.a.example"]}, "wildcards"),
        ({"acme.directory_url": "https://ca.example/dir", "acme.agree_to_terms": True, "acme.domains": ["../a"]}, "host name"),
        ({"acme.directory_url": "https://ca.example/d", "acme.agree_to_terms": True, "acme.domains": ["a.b"], "acme.eab_kid": "1"}, "eab"),
        ({"tls.certificates.default.cert": "a", "tls.certificates.default.key": "b"}, "not default"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(tmp_path, flags, words):
    """At the start, with the option's name, and not when the first client comes."""
    with pytest.raises(InvalidSettings, match=words):
        settings.load(tmp_path, environ={}, flags=flags)
