"""Settings: where a value comes from, and that a typo is refused."""

import pytest

from gatepost.settings import InvalidSettings, load, options


def test_sources_win_over_each_other_in_order(tmp_path):
    """Default < file < environment < flag; each option says where it came from."""
    (tmp_path / "gatepost.toml").write_text('[http]\nlisten = "127.0.0.1:1"\n[smtp]\nlisten = "127.0.0.1:2"\n[dns]\ntimeout_s = 1.5\n')
    loaded = load(
        tmp_path, {"GATEPOST_HTTP__LISTEN": "127.0.0.1:3", "GATEPOST_SMTP__LISTEN": "127.0.0.1:4"}, {"http.listen": "127.0.0.1:5"}
    )
    assert (loaded.settings.http.listen, loaded.settings.smtp.listen, loaded.settings.dns.timeout_s) == ("127.0.0.1:5", "127.0.0.1:4", 1.5)
    origins = {one.name: one.origin for one in options(loaded)}
    assert origins["http.listen"] == "flag"
    assert origins["smtp.listen"] == "GATEPOST_SMTP__LISTEN"
    assert origins["dns.timeout_s"].endswith("gatepost.toml")
    assert origins["egress.default_route"] == "default"


def test_lists_and_relays_can_stand_in_the_environment(tmp_path):
    """A list is written as in TOML; a relay is named by its variable."""
    environment = {
        "GATEPOST_RETRY__SCHEDULE": "[1, 5]",
        "GATEPOST_RELAYS__MAIN__URL": "smtp://127.0.0.1:2600?tls=never",
        "GATEPOST_EGRESS__DEFAULT_ROUTE": "main",
    }
    loaded = load(tmp_path, environment).settings
    assert loaded.retry.schedule == [1, 5]
    assert loaded.relays["main"].url == "smtp://127.0.0.1:2600?tls=never"


def test_a_secret_can_be_read_from_a_file(tmp_path):
    """`…_FILE` names it; its last line break does not count."""
    (tmp_path / "url").write_text("postgresql://u:p@h/d\n")
    assert load(tmp_path, {"GATEPOST_DATABASE__URL_FILE": str(tmp_path / "url")}).settings.database.url == "postgresql://u:p@h/d"
    with pytest.raises(InvalidSettings, match="GATEPOST_DATABASE__URL_FILE"):
        load(tmp_path, {"GATEPOST_DATABASE__URL_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"GATEPOST_HTTP__LISTNE": "x"}, "listne"),
        ({"GATEPOST_NOTHING__X": "1"}, "nothing"),
        ({"GATEPOST_EGRESS__MX_PORT": "x"}, r"egress.mx_port.*GATEPOST_EGRESS__MX_PORT"),
        ({"GATEPOST_EGRESS__MX_PORT": "99999"}, "egress.mx_port"),
        ({"GATEPOST_EGRESS__DEFAULT_ROUTE": "nowhere"}, "nowhere"),
        ({"GATEPOST_RETRY__SCHEDULE": "[]"}, "retry.schedule"),
        ({"GATEPOST_RETRY__SCHEDULE": "[-1]"}, "retry.schedule"),
        ({"GATEPOST_TLS__CERT": "a.pem"}, "tls.key"),
        ({"GATEPOST_RELAYS__MX__URL": "smtp://h"}, "relays.mx"),
        ({"GATEPOST_HTTP": "1", "GATEPOST_HTTP__X__Y": "1"}, "x"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path, environment, told):
    """The message names the option, so that it can be found."""
    with pytest.raises(InvalidSettings, match=f"(?s){told}"):
        load(tmp_path, environment)


def test_a_broken_file_is_refused_with_its_path(tmp_path):
    """Half-written TOML must not start a gateway with defaults."""
    (tmp_path / "gatepost.toml").write_text("[http\n")
    with pytest.raises(InvalidSettings, match=r"gatepost\.toml"):
        load(tmp_path, {})


def test_a_password_of_digits_stays_text(tmp_path):
    """Values look like numbers now and then; the option's type decides."""
    assert load(tmp_path, {"GATEPOST_EGRESS__HOSTNAME": "12345"}).settings.egress.hostname == "12345"
