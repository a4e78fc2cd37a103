"""Which roads a recipient's mail may take, in which order."""

import random

import pytest

from gatepost.domain.routing import Choice, Match, Rule, Strategy, parse_choices, write_choices
from gatepost.policy.routing import Sent, Standing, Table

CHANCE = random.Random(7)


def rule(name, roads, strategy=Strategy.ORDERED, is_chosen=True, **match):
    conditions = {key: tuple(value) if key in {"senders", "recipients"} else frozenset(value) for key, value in match.items()}
    return Rule(name=name, choices=parse_choices(roads), strategy=strategy, match=Match(**conditions), is_chosen=is_chosen)


def chosen(table, *domains, standing=None, systems=None, default=None, **sent):
    message = Sent(**{"tenant_id": "ten_1", "tenant_name": "acme", "stream": "transactional", "sender_domain": "acme.example", **sent})
    return table.routes(message, domains or ("example.net",), (systems or {}).get, standing or {}, CHANCE, default)


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("main", (Choice("main"),)),
        ("main, mx", (Choice("main"), Choice("mx"))),
        ("main:80,second:20", (Choice("main", 80), Choice("second", 20))),
        ("mx:warm,mx", (Choice("mx:warm"), Choice("mx"))),
        ("mx:warm:3", (Choice("mx:warm", 3),)),
        ("spare:0", (Choice("spare", 0),)),
    ],
)
def test_roads_are_written_with_commas_and_weights_with_colons(text, choices):
    """What people write is what is meant; a pool's name is no weight."""
    assert parse_choices(text) == choices
    assert parse_choices(write_choices(choices)) == choices


@pytest.mark.parametrize("text", ["", "a,,b", "a:99999", ","])
def test_what_is_no_list_of_roads_is_refused(text):
    """An empty place or a huge weight is a slip."""
    with pytest.raises(ValueError, match=r"empty place|weight"):
        parse_choices(text)


def test_the_first_rule_that_matches_counts():
    """Order decides; without a match it is the default."""
    table = Table([rule("codes", "fast,mx", streams=["codes"]), rule("acme", "cheap", tenants=["acme"]), rule("never", "x")], "mx")
    assert chosen(table, stream="codes") == {"example.net": "fast,mx"}
    assert chosen(table) == {"example.net": "cheap"}
    assert chosen(table, tenant_name="other", tenant_id="ten_2") == {"example.net": "x"}
    assert chosen(Table([], "main,mx")) == {"example.net": "main,mx"}
    assert chosen(Table([], "main,mx"), default="b") == {"example.net": "b"}


def test_each_recipient_may_have_a_route_of_its_own():
    """By domain, by everything below a domain, and by mail system once it is known."""
    table = Table(
        [
            rule("exact", "a", recipients=["one.example"]),
            rule("below", "b", recipients=["*.two.example"]),
            rule("big", "c", sites=["google"]),
        ],
        "mx",
    )
    assert chosen(table, "one.example", "x.one.example", "two.example", "y.two.example", "three.example", "four.example", systems={"three.example": "google"}) == {
        "one.example": "a", "x.one.example": "mx", "two.example": "mx", "y.two.example": "b", "three.example": "c", "four.example": "mx",
    }  # fmt: skip


def test_senders_tags_and_rules_that_are_only_named():
    """A tag is one of the message's; a rule that is only named is never chosen."""
    table = Table(
        [rule("named", "n", is_chosen=False), rule("sender", "s", senders=["news.acme.example"]), rule("tag", "t", tags=["invoice"])], "mx"
    )
    assert chosen(table, sender_domain="news.acme.example") == {"example.net": "s"}
    assert chosen(table, tags=("x", "invoice")) == {"example.net": "t"}
    assert chosen(table) == {"example.net": "mx"}


def test_weights_share_the_mail_and_keep_all_roads():
    """80 to 20, within chance; the others stay as the next roads."""
    table = Table([rule("split", "a:80,b:20,c:0", Strategy.WEIGHTED)], "mx")
    routes = [chosen(table)["example.net"] for _ in range(2000)]
    firsts = [route.split(",")[0] for route in routes]
    assert 0.76 < firsts.count("a") / 2000 < 0.84
    assert firsts.count("c") == 0
    assert {tuple(sorted(route.split(","))) for route in routes} == {("a", "b", "c")}
    both = chosen(table, "one.example", "two.example")
    assert both["one.example"] == both["two.example"], "recipients of one message share the draw"


def test_a_sick_road_gets_less_and_a_shut_one_comes_last():
    """Weights are lowered by the score; breakers and switches move a road to the end, in the default route too."""
    table = Table([rule("split", "a:50,b:50", Strategy.WEIGHTED, streams=["bulk"])], "a,b,mx")
    firsts = [chosen(table, stream="bulk", standing={"a": Standing(score=10)})["example.net"][0] for _ in range(1000)]
    assert firsts.count("a") < 180
    assert chosen(table, standing={"a": Standing(is_shut=True)}) == {"example.net": "b,mx,a"}
    assert {chosen(table, stream="bulk", standing={"a": Standing(is_shut=True)})["example.net"] for _ in range(50)} == {"b,a"}


def test_the_cheapest_road_comes_first():
    """By the price of 1,000; equal prices keep their order; mx costs nothing."""
    table = Table([rule("cheap", "a,b,mx", Strategy.CHEAPEST)], "mx", {"a": 1.0, "b": 0.1})
    assert chosen(table) == {"example.net": "mx,b,a"}
    assert chosen(table, standing={"mx": Standing(is_shut=True)}) == {"example.net": "b,a,mx"}
