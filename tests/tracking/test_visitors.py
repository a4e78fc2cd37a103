"""Who is a person, who a proxy, a prefetch or a scanner."""

import pytest

from gatepost.domain.engagement import Visitor
from gatepost.domain.statement import Said
from gatepost.policy.visitors import InvalidRules, Visit, VisitorRules, load_rules

RULES = load_rules()
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
APPLE_MAIL = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.4.0"
OUTLOOK = (
    "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Win64; x64; Trident/7.0; Microsoft Outlook 16.0.17328; ms-office; MSOffice 16)"
)
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
GMAIL_PREFETCH = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
HOME = "203.0.113.5"


def classify(agent, said=Said.OPENED, peer=HOME, since=60_000, links=0, rules=RULES, **more):
    return rules.classify(Visit(said=said, agent=agent, peer=peer, **more), since, links)


@pytest.mark.parametrize("agent", [CHROME, IPHONE, APPLE_MAIL, THUNDERBIRD, OUTLOOK])
@pytest.mark.parametrize("said", [Said.OPENED, Said.CLICKED])
def test_mail_programs_and_browsers_are_persons(agent, said):
    """Who reads mail with an ordinary program from an ordinary network is counted."""
    assert classify(agent, said) == (Visitor.HUMAN, "")


@pytest.mark.parametrize(
    ("agent", "peer", "said", "visitor", "rule"),
    [
        ("Mozilla/5.0", HOME, Said.OPENED, Visitor.PREFETCH, "apple_mpp"),
        (IPHONE, "17.58.98.1", Said.OPENED, Visitor.PREFETCH, "apple_network"),
        (GMAIL, "66.249.93.1", Said.OPENED, Visitor.PROXY, "gmail_proxy"),
        (GMAIL_PREFETCH, "66.249.93.1", Said.OPENED, Visitor.PREFETCH, "gmail_prefetch"),
        (YAHOO, HOME, Said.OPENED, Visitor.PROXY, "yahoo_proxy"),
        (CHROME, "40.94.87.1", Said.OPENED, Visitor.PROXY, "microsoft_network_opened"),
        (CHROME, "40.94.87.1", Said.CLICKED, Visitor.BOT, "microsoft_network_clicked"),
        (CHROME, "::ffff:40.94.87.1", Said.CLICKED, Visitor.BOT, "microsoft_network_clicked"),
        (f"{CHROME} Microsoft Office Existence Discovery", HOME, Said.CLICKED, Visitor.BOT, "microsoft_scanner"),
        (CHROME, "64.235.150.9", Said.CLICKED, Visitor.BOT, "barracuda_network"),
        (CHROME, "67.231.152.9", Said.CLICKED, Visitor.BOT, "proofpoint_network"),
        ("Barracuda Sentinel (EE)", HOME, Said.CLICKED, Visitor.BOT, "security_scanner"),
        ("curl/8.4.0", HOME, Said.CLICKED, Visitor.BOT, "program"),
        ("python-requests/2.32", HOME, Said.OPENED, Visitor.BOT, "program"),
        ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", HOME, Said.CLICKED, Visitor.BOT, "crawler"),
        ("facebookexternalhit/1.1", HOME, Said.CLICKED, Visitor.BOT, "preview"),
        ("", HOME, Said.OPENED, Visitor.BOT, "no_agent"),
    ],
)  # fmt: skip
def test_machines_are_told_apart_with_the_rule_that_knows_them(agent, peer, said, visitor, rule):
    """Apple's and Gmail's prefetching, image proxies, scanners by name and by network."""
    assert classify(agent, said, peer) == (visitor, rule)


def test_an_apple_agent_that_clicks_is_a_person():
    """Prefetching loads images and follows no links."""
    assert classify(IPHONE, Said.CLICKED, "17.58.98.1")[0] is Visitor.HUMAN


def test_what_says_that_it_fetches_ahead_is_a_prefetch():
    """Sec-Purpose and its elder names."""
    assert classify(CHROME, Said.CLICKED, purpose="prefetch;prerender") == (Visitor.PREFETCH, "purpose")
    assert classify(CHROME, Said.CLICKED, purpose="preview") == (Visitor.PREFETCH, "purpose")


def test_who_asks_for_no_content_is_a_machine():
    """A mail program never sends HEAD."""
    assert classify(CHROME, Said.CLICKED, is_head=True) == (Visitor.BOT, "head_request")


@pytest.mark.parametrize("since", [None, -500, 0, 1_999])
def test_what_is_quicker_than_a_person_is_a_machine(since):
    """Before the delivery is written down, or within two seconds of it."""
    assert classify(CHROME, since=since) == (Visitor.BOT, "too_soon")
    assert classify(CHROME, since=since, rules=VisitorRules(soon_ms=0))[0] is Visitor.HUMAN


def test_all_links_at_once_is_a_machine():
    """Nobody follows three links of a mail in two seconds."""
    assert classify(CHROME, Said.CLICKED, links=1)[0] is Visitor.HUMAN
    assert classify(CHROME, Said.CLICKED, links=2) == (Visitor.BOT, "burst")


def test_an_operators_rules_come_first(tmp_path):
    """A company's own scanner has a network and a name that nobody else knows."""
    own = tmp_path / "own.toml"
    own.write_text('[[rule]]\nid = "ours"\nclass = "bot"\nnetworks = ["203.0.113.0/24"]\n')
    rules = load_rules(own)
    assert classify(CHROME, rules=rules) == (Visitor.BOT, "ours")
    assert classify(CHROME, peer="198.51.100.1", rules=rules)[0] is Visitor.HUMAN


@pytest.mark.parametrize(
    ("text", "words"),
    [("x = 1", "nothing else"), ('[[rule]]\nclass = "bot"\nagents = ["x"]', "needs an id"), ('[[rule]]\nid = "a"\nclass = "robot"\nagents = ["x"]', "its class"),
     ('[[rule]]\nid = "a"\nclass = "bot"', "everybody"), ('[[rule]]\nid = "a"\nclass = "bot"\nnetworks = ["300.0.0.0/8"]', "rule a"), ("[[rule", "Expected"),
     ('[[rule]]\nid = "a"\nclass = "bot"\nagents = [""]', "list of texts"), ('[[rule]]\nid = "a"\nclass = "bot"\nagent = ["x"]', "none of"),
     ('[[rule]]\nid = "a"\nclass = "bot"\nkind = "read"\nagents = ["x"]', "its kind")],
)  # fmt: skip
def test_a_faulty_rule_is_named(tmp_path, text, words):
    """A rule that would hold for everybody, or never, is a mistake that should be heard of at the start."""
    own = tmp_path / "own.toml"
    own.write_text(text)
    with pytest.raises(InvalidRules, match=words):
        load_rules(own)


def test_each_rule_has_an_id_of_its_own_and_says_how_it_is_known():
    """Ids stand in events: they must lead to one rule."""
    assert len({rule.id for rule in RULES.rules}) == len(RULES.rules) >= 15
