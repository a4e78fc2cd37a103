"""The mail log: one event is one JSON line, whatever is in it (THREATS 56)."""

import asyncio
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


def test_lines_of_one_round_are_written_together_and_in_order(lines, monkeypatch):
    """Few calls of the system for many messages; all else is told at once, behind what came before it."""
    writes = []
    monkeypatch.setattr(maillog, "_put", lambda together: writes.append([json.loads(line)["event"] for line in together]))

    async def work():
        for _ in range(3):
            maillog.accepted(message_id="msg_1")
        assert writes == []
        await asyncio.sleep(0)
        assert writes == [["accepted"] * 3]
        maillog.accepted(message_id="msg_2")
        maillog.trouble("the disk is full")
        assert writes[1:] == [["accepted", "trouble"]]
        maillog.accepted(message_id="msg_3")

    asyncio.run(work())
    assert writes[2:] == [["accepted"]]
    maillog.accepted(message_id="msg_4")
    assert len(writes) == 4


def test_a_loop_that_ended_early_keeps_no_later_line_back(lines):
    """What its round did not get to is written with the next line that is."""
    loop = asyncio.new_event_loop()

    async def work():
        maillog.accepted(message_id="msg_1")
        loop.stop()

    loop.run_until_complete(loop.create_task(work()))
    loop.close()

    async def later():
        maillog.accepted(message_id="msg_2")

    asyncio.run(later())
    assert [json.loads(line)["message_id"] for line in lines()] == ["msg_1", "msg_2"]


def test_a_full_write_is_no_longer_than_a_pipe_takes_whole(lines, monkeypatch):
    """Lines of several processes on one pipe do not come between each other."""
    sizes = []
    monkeypatch.setattr(maillog, "_put", lambda together: sizes.append(sum(len(line) + 1 for line in together)))

    async def work():
        for _ in range(200):
            maillog.accepted(message_id="m" * 50)

    asyncio.run(work())
    assert max(sizes) <= 4096
    assert len(sizes) < 20
