"""The mail log: one event is one JSON line, whatever is in it (THREATS 56)."""

import json

import pytest

from gatepost.observe import maillog


@pytest.fixture
def lines(capsys):
    maillog.configure(level="info", mask_addresses=True, process="test")

    def read():
        return capsys.readouterr().err.splitlines()

    yield read
    maillog.configure(level="warning", mask_addresses=True, process="test")


@pytest.mark.parametrize("hostile", ["a\r\nb", "a\nb", "\x1b[31mred", '{"level": "error"}', "\u2028", "\ud800", "\x00"], ids=ascii)
def test_hostile_values_stay_inside_their_line(lines, hostile):
    """Line breaks, escapes, JSON and lone surrogates from a client cannot forge an event."""
    maillog.refused(source="smtp", code="validation_failed", peer=hostile)
    (line,) = lines()
    assert json.loads(line)["peer"] == {"\ud800": "?", "\x00": "\ufffd"}.get(hostile, hostile)  # what no UTF-8, no PostgreSQL text holds
    assert line.isascii()
    assert "\x1b" not in line


def test_addresses_are_masked_unless_the_operator_wants_them(lines):
    """The domain stays: it is what one looks for."""
    maillog.attempted([{"address": "ann.example@example.net", "status": "delivered"}])
    assert json.loads(lines()[0])["address"] == "a***@example.net"
    maillog.configure(level="info", mask_addresses=False, process="test")
    maillog.attempted([{"address": "ann.example@example.net", "status": "delivered"}])
    assert json.loads(lines()[0])["address"] == "ann.example@example.net"


def test_a_crash_is_told_by_place_not_by_value(lines):
    """An exception's text may hold content or secrets: it is not written."""

    def fail(secret):
        raise ValueError(f"bad key {secret}")

    try:
        fail("gp_live_secret")
    except ValueError as error:
        maillog.crashed("test", error)
    (line,) = lines()
    assert "gp_live_secret" not in line
    assert json.loads(line)["error"] == "ValueError"
    assert any("fail" in place for place in json.loads(line)["trace"])


def test_attempts_that_are_told_together_have_the_lines_that_each_would_have_alone(lines):
    """However many there are, each is one whole line, masked like any other."""
    attempts = [{"address": f"ann.{n}@example.net", "status": "delivered", "host": "mx.example.net", "n": n} for n in range(100)]
    for one in attempts:
        maillog.attempted([one])
    alone = [json.loads(line) for line in lines()]
    maillog.attempted(attempts)
    together = [json.loads(line) for line in lines()]
    assert [{**line, "at": ""} for line in together] == [{**line, "at": ""} for line in alone]
    maillog.attempted([])
    assert lines() == []
