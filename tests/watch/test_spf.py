"""SPF: our own vectors, from RFC 7208."""

import pytest

from gatepost.wire.questions import Question, Reply, Walk, drive
from gatepost.wire.spf import SpfResult, check_host, survey

Zone = dict[str, dict[str, list[str]] | None]


def settle(walk: Walk, zone: Zone):
    asked: list[Question] = []

    def ask(question: Question) -> Reply:
        asked.append(question)
        assert len(asked) < 200
        records = zone.get(question.name.lower(), {})
        return None if records is None else records.get(question.kind, [])

    return drive(walk, ask)


def txt(text: str) -> dict[str, list[str]]:
    return {"TXT": [text]}


@pytest.mark.parametrize(
    ("record", "address", "result"),
    [
        ("v=spf1 ip4:192.0.2.0/24 -all", "192.0.2.9", "pass"),
        ("v=spf1 ip4:192.0.2.0/24 -all", "192.0.3.9", "fail"),
        ("v=spf1 ip4:192.0.2.0/24 ~all", "192.0.3.9", "softfail"),
        ("v=spf1 ip4:192.0.2.0/24", "192.0.3.9", "neutral"),
        ("v=spf1 ip4:192.0.2.1 -all", "::ffff:192.0.2.1", "pass"),
        ("v=spf1 ip6:2001:db8::/32 -all", "2001:db8:1::1", "pass"),
        ("v=spf1 a/24 -all", "198.51.100.77", "pass"),
        ("v=spf1 mx -all", "198.51.100.2", "pass"),
        ("v=spf1 mx:other.test -all", "198.51.100.2", "fail"),
        ("v=spf1 a:%{d1r}.acme.test -all", "198.51.100.3", "pass"),
        ("v=spf1 exists:%{ir}.list.acme.test -all", "192.0.2.5", "pass"),
        ("v=spf1 ptr -all", "198.51.100.2", "pass"),
        ("v=spf1 include:inner.test -all", "203.0.113.1", "pass"),
        ("v=spf1 include:inner.test -all", "203.0.113.2", "fail"),
        ("v=spf1 redirect=inner.test", "203.0.113.2", "fail"),
        ("v=spf1 redirect=none.test", "203.0.113.2", "permerror"),
        ("v=spf1 include:none.test -all", "203.0.113.2", "permerror"),
        ("v=spf1 include:broken.test -all", "203.0.113.2", "temperror"),
        ("v=spf1 ip4:192.0.2.300 -all", "192.0.2.1", "permerror"),
        ("v=spf1 a -all oops:acme.test", "198.51.100.1", "permerror"),
        ("v=spf10 -all", "192.0.2.1", "none"),
    ],
)
def test_a_record_says_who_may_send(record: str, address: str, result: str) -> None:
    """Each mechanism, qualifier and error of RFC 7208 §4 to §6."""
    zone: Zone = {
        "acme.test": {**txt(record), "A": ["198.51.100.1"], "MX": ["10 mx.acme.test."]},
        "mx.acme.test": {"A": ["198.51.100.2"]},
        "acme.acme.test": {"A": ["198.51.100.3"]},
        "5.2.0.192.list.acme.test": {"A": ["127.0.0.2"]},
        "2.100.51.198.in-addr.arpa": {"PTR": ["mx.acme.test."]},
        "inner.test": txt("v=spf1 ip4:203.0.113.1 -all"),
        "broken.test": None,
    }
    assert settle(check_host(address, "acme.test", sender="ann@acme.test"), zone).result == result


def test_eleven_terms_that_ask_are_an_error() -> None:
    """The tenth lookup counts, the eleventh ends it (RFC 7208 §4.6.4); so two records that include each other end, too."""
    zone: Zone = {f"a{n}.test": {"A": ["192.0.2.1"]} for n in range(11)}
    zone["ten.test"] = txt("v=spf1 " + " ".join(f"a:a{n}.test" for n in range(10)) + " +all")
    zone["eleven.test"] = txt("v=spf1 " + " ".join(f"a:a{n}.test" for n in range(11)) + " +all")
    zone["loop.test"] = txt("v=spf1 include:pool.test -all")
    zone["pool.test"] = txt("v=spf1 include:loop.test -all")
    assert settle(check_host("203.0.113.9", "ten.test"), zone).result is SpfResult.PASS
    over = settle(check_host("203.0.113.9", "eleven.test"), zone)
    assert over.result is SpfResult.PERMERROR
    assert "more than 10" in over.problem
    assert settle(check_host("203.0.113.9", "loop.test"), zone).result is SpfResult.PERMERROR


def test_three_questions_without_an_answer_are_an_error() -> None:
    """Two void lookups are forgiven (RFC 7208 §4.6.4)."""
    zone: Zone = {"two.test": txt("v=spf1 a:x.test a:y.test +all"), "three.test": txt("v=spf1 a:x.test a:y.test a:z.test +all")}
    assert settle(check_host("203.0.113.9", "two.test"), zone).result is SpfResult.PASS
    assert settle(check_host("203.0.113.9", "three.test"), zone).result is SpfResult.PERMERROR


def test_a_survey_counts_past_the_limits() -> None:
    """Whoever looks after a record wants to know that it needs fourteen lookups, not that ten are too few."""
    zone: Zone = {f"a{n}.test": {"A": ["192.0.2.1"]} for n in range(6)}
    inner = " ".join(f"a:a{n}.test" for n in range(6))
    zone["inner.test"] = txt(f"v=spf1 {inner} -all")
    zone["acme.test"] = txt("v=spf1 include:inner.test include:inner.test exists:%{i}.acme.test ~all")
    found = settle(survey("acme.test"), zone)
    assert (found.result, found.lookups, found.voids, found.ending) == (SpfResult.PASS, 15, 0, "softfail")
    zone["loop.test"] = txt("v=spf1 include:loop.test -all")
    assert settle(survey("loop.test"), zone).result is SpfResult.PERMERROR
    assert settle(survey("none.test"), zone).result is SpfResult.NONE


def test_a_survey_ends_however_much_a_record_asks_for() -> None:
    """Sixty terms with ten hosts each are not followed: who writes a record must not decide how much we ask."""
    zone: Zone = {f"m{n}.test": {"MX": [f"10 h{n}-{host}.test" for host in range(10)]} for n in range(50)}
    zone |= {f"h{n}-{host}.test": {"A": ["192.0.2.1"]} for n in range(50) for host in range(10)}
    zone["acme.test"] = txt("v=spf1 " + " ".join(f"mx:m{n}.test" for n in range(50)) + " -all")
    found = settle(survey("acme.test"), zone)
    assert found.result is SpfResult.PERMERROR
    assert "more than 150 questions" in found.problem


def test_two_records_are_none() -> None:
    """Which one counts would be a guess (RFC 7208 §4.5)."""
    zone: Zone = {"acme.test": {"TXT": ["v=spf1 -all", "v=spf1 +all", "other"]}}
    assert settle(check_host("192.0.2.1", "acme.test"), zone).result is SpfResult.PERMERROR
    assert "2 SPF records" in settle(survey("acme.test"), zone).problem
