"""Variables: names are names, links lead where they say, nothing becomes a template. THREATS 24, 25."""

import asyncio
import time

import pytest

from gatepost.domain.errors import Refused
from gatepost.policy.values import examine, is_name
from tests.screening.mail import check_fields, screener, submission


def codes(variables):
    return [finding.fault.code for finding in examine(variables)]


@pytest.mark.parametrize(
    "name",
    [
        "Ann", "Ann O'Neil", "Anne-Marie", "J.R.R. Tolkien", "Dr. No", "St. Clair", "María José", "Иван Петров", "김철수", "山田太郎", "ＡＢＣ",
        "Smith & Co.", "AT&T", "c/o Meyer", "Ann/Bob", "<3", "ann.lee", "ann@example.net", "O’Brien", "Ann 2.0", "10.5", "Mr. T", "Jean\u00adLuc", "",
    ],
)  # fmt: skip
def test_names_of_people_pass(name):
    """Dots, apostrophes, every script, an address instead of a name."""
    assert codes({"name": name}) == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("evil.com", "link_in_name"),
        ("Your account is locked, see evil.com", "link_in_name"),
        ("http://evil", "link_in_name"),
        ("www.evil", "link_in_name"),
        ("//evil.example", "link_in_name"),
        ("http:\\\\evil", "link_in_name"),
        ("evil。com", "link_in_name"),
        ("ｅｖｉｌ．ｃｏｍ", "link_in_name"),
        ("evil․com", "link_in_name"),
        ("пример.рф", "link_in_name"),
        ("javascript:alert(1)", "link_in_name"),
        ("mailto:x@y.example", "link_in_name"),
        ("Ann\nPay here", "line_break"),
        ("Ann\u2028Pay here", "line_break"),
        ("x" * 5000, "name_too_long"),
        ("Ann\u202eevil", "reordered_text"),
        ("Рaypal Support", "lookalike_name"),
        ("<b>Ann</b>", "markup"),
        ("&lt;b&gt;", "markup"),
    ],
)
def test_names_that_are_none_are_found(name, code):
    """Links in any spelling, line breaks, 5 kB, look-alike letters, HTML."""
    assert code in codes({"name": name})
    assert code in codes({"user": {"first_name": name}})
    assert code in codes({"people": [{"displayName": name}]})


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("name", True), ("firstName", True), ("last_name", True), ("customer-name", True), ("RecipientName", True), ("username", True),
        ("inviter", True), ("your.name", True), ("file_name", False), ("hostname", False), ("domain_name", False), ("company_name", False),
        ("product_name", False), ("code", False), ("link", False), ("renamed", False), ("host_port", False),
    ],
)  # fmt: skip
def test_what_counts_as_a_name_is_told_by_the_variable(key, expected):
    """Names of people; not of files, hosts, products and companies."""
    assert is_name(key) is expected


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("https://acme.example/reset?token=a/b", None),
        ("https://acme.example:8443/", None),
        ("https://münchen.example/", None),
        ("https://пример.рф/", None),
        ("data:image/png;base64,AAAA", None),
        ("12:30 // 14:00", None),
        ("note: data: see below", None),
        ("javascript:alert(1)", "unsafe_link"),
        ("JaVa\tScRiPt:alert(1)", "unsafe_link"),
        ("data:text/html,<script>", "unsafe_link"),
        ("https://acme.example@evil.example/", "deceptive_link"),
        ("https://user:password@evil.example/", "deceptive_link"),
        ("https://p\u0430ypal.com/", "lookalike_link"),
        ("https://xn--pypal-4ve.com/", "lookalike_link"),
        ("https://аррӏе.com/", "lookalike_link"),
        ("see https://ok.example and //p\u0430ypal.com", "lookalike_link"),
        ("https://xn--999999b/", "lookalike_link"),
    ],
)
def test_links_in_other_values_must_lead_where_they_say(value, code):
    """A reset link is what variables are for; a host that hides or imitates another is not."""
    assert codes({"link": value}) == ([] if code is None else [code])


def test_a_bad_value_refuses_and_points_to_it():
    """content_refused at the variable; warn and off as the tenant wants; HTML in a name is only told, since it is escaped."""

    async def work():
        given = submission(variables={"user": {"name": "evil.com"}, "a/b": {"name": "<b>Ann</b>"}})
        with pytest.raises(Refused) as caught:
            await check_fields(screener(), given)
        assert caught.value.code == "content_refused"
        assert [(fault.pointer, fault.code) for fault in caught.value.faults] == [("/variables/user/name", "link_in_name")]
        warned = await check_fields(screener(own={"variables_links": "warn"}), given)
        assert [(fault.pointer, fault.code) for fault in warned] == [
            ("/variables/user/name", "link_in_name"),
            ("/variables/a~1b/name", "markup"),
        ]
        assert list(await check_fields(screener(own={"variables_links": "off", "variables_markup": "off"}), given)) == []

    asyncio.run(work())


@pytest.mark.parametrize(
    "value",
    [
        "a." * 100_000,
        "a" * 200_000,
        "//" * 100_000,
        "x@" * 100_000,
        "<" * 200_000,
        "www." * 50_000,
        "а" * 200_000,
        "." * 200_000,
        "a-" * 100_000,
    ],
)
def test_hostile_values_cost_little(value):
    """No expression backtracks, whatever the key."""
    started = time.thread_time()
    examine({"name": value, "link": value, "list": [value] * 10})
    assert time.thread_time() - started < 0.1


def test_deep_and_wide_values_are_bounded():
    """No recursion; more than two thousand values are not looked at."""
    deep = {"name": "x"}
    for _ in range(50_000):
        deep = {"a": deep}
    examine(deep)
    examine({f"k{n}": "x" for n in range(100_000)})
    while deep.get("a"):  # taken apart by hand: the interpreter's own destructor may recurse
        deep = deep["a"]
