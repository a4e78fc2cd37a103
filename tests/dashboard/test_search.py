"""The search line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.clock import DAY, HOUR
from gatepost.dashboard.search import parse_search
from gatepost.store.messages import Filter

NOW = 1_795_485_600_000  # 2026-11-24T02:00:00Z


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Filter()),
        ("to:Ann@Example.NET", Filter(address_key="ann@example.net")),
        ("status:bounced tag:order stream:codes", Filter(status="bounced", tag="order", stream="codes")),
        ("STATUS:Bounced", Filter(status="bounced")),
        ("from:shop subject:receipt lamp", Filter(sender="shop", subject="receipt", text="lamp")),
        ('tag:"two words" subject:"your order"', Filter(tag="two words", subject="your order")),
        ("order 42", Filter(text="order 42")),
        ('"order 42"', Filter(text="order 42")),
        ("since:6h", Filter(since=NOW - 6 * HOUR)),
        ("since:7d until:2026-11-24", Filter(since=NOW - 7 * DAY, until=1_795_478_400_000)),
        ("until:2026-11-24T01:00:00+01:00", Filter(until=1_795_478_400_000)),
        ("to:ann@", Filter(text="ann@")),
        ("re:invoice", Filter(text="re:invoice")),
        ("http://x.example", Filter(text="http://x.example")),
        ("status:bouncd", Filter(status="bounced")),
    ],
)
def test_a_search_line_means_what_it_says(text: str, wanted: Filter) -> None:
    """Each filter, alone and together, becomes the filter of the store."""
    assert parse_search(text, NOW).wanted == wanted


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("stauts:bounced", "Did you mean status:?"),
        ("status:bouncd", "bounced was taken"),
        ("status:nonsense", "it is one of"),
        ("since:yesterday", "is no time"),
        ("to:ann@", "not a whole address"),
        ('tag:""', "needs a value"),
    ],
)
def test_what_was_not_understood_is_hinted_at(text: str, hint: str) -> None:
    """A slip is never silent: the page says what was made of it."""
    assert any(hint in one for one in parse_search(text, NOW).hints)


def test_a_chip_changes_only_the_status() -> None:
    """The chips above the list keep the rest of the search."""
    search = parse_search('tag:"a b" status:bounced lamp', NOW)
    assert search.with_status("deferred") == 'tag:"a b" lamp status:deferred'
    assert search.with_status(None) == 'tag:"a b" lamp'


@given(st.text(max_size=600))
def test_no_search_line_is_an_error(text: str) -> None:
    """Whatever is typed, the list is shown."""
    parse_search(text, NOW)
