"""The one address parser: what it takes, what it refuses, and that there is one canonical form. THREATS 14, 15, 16, 29."""

import contextlib
import csv
import json
import time
from pathlib import Path

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatepost.domain.address import Address, InvalidAddress, Mailbox, domain_is_mixed_script, parse_address, parse_mailbox

CORPUS = Path(__file__).resolve().parents[2] / "../shared/corpora/isemail/EXPECTED.csv"


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("ann@example.net", "ann", "example.net"),
        ("Ann.O'Neil+tag@EXAMPLE.net", "Ann.O'Neil+tag", "example.net"),
        ("a%b@acme.example", "a%b", "acme.example"),
        ("a!b@acme.example", "a!b", "acme.example"),
        ("a@münchen.example", "a", "xn--mnchen-3ya.example"),
        ("a@mu\u0308nchen.example", "a", "xn--mnchen-3ya.example"),
        ("a@xn--mnchen-3ya.example", "a", "xn--mnchen-3ya.example"),
        ("a@XN--MNCHEN-3YA.Example", "a", "xn--mnchen-3ya.example"),
        ("a@example。net", "a", "example.net"),
        ("用户@例え.テスト", "用户", "xn--r8jz45g.xn--zckzah"),
        ("jo\u0308rg@sub.test", "j\u00f6rg", "sub.test"),
        ("Info@bücher.example", "Info", "xn--bcher-kva.example"),
        ("a@b.test", "a", "b.test"),
        ("a@b.invalid", "a", "b.invalid"),
        ("a@b.localhost", "a", "b.localhost"),
        ("ä@b.localhost", "ä", "b.localhost"),
        ("a@3com.4you", "a", "3com.4you"),
        ("a@" + "x" * 63 + ".example", "a", "x" * 63 + ".example"),
    ],
)
def test_an_address_has_one_canonical_form(text: str, local: str, domain: str) -> None:
    """The domain becomes lower-case A-labels, the local part NFC and otherwise stays as given."""
    assert parse_address(text) == Address(local, domain)


@pytest.mark.parametrize(
    "text",
    [
        "", "nope", "@", "a@", "@b.example", "a@b", "a@b.", "a@.b.example", "a..b@c.example", ".a@c.example", "a.@c.example",
        "a@-b.example", "a@b-.example", "a@b_c.example", "a@1.2.3.4", "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", '"a b"@c.example',
        '"a"@c.example', '"x@evil.example x"@acme.example', "<a@evil.example>@acme.example", "a@evil.example@acme.example",
        "@a.example,@b.example:c@d.example", "a,b@c.example", "a;b@c.example", "group:a@b.example;", "a(comment)@b.example",
        "a@b.example(comment)", "a @b.example", "a@ b.example", " a@b.example", "a@b.example ", "a\\@b@c.example",
        "=?utf-8?q?a=40evil.com=3e=00?=@acme.example", "=?x?q?a?=@acme.example", "a@b.example\r\nRCPT TO:<x@y.example>",
        "a@b.example\n", "a\0@b.example", "a\x0b@b.example", "a\x85@b.example", "a\u2028@b.example", "a\u202e@b.example",
        "a\ud800@b.example", "a@xn--a.example", "a@xn--.example", "a\uff20b.example", "x" * 65 + "@b.example", "é" * 33 + "@b.example",
        "a@" + "x" * 64 + ".example", "a@" + "x." * 130 + "example", "ann@example.net>", "Ann <ann@example.net>", "a@b.\u2488example",
    ],
)  # fmt: skip
def test_what_parsers_disagree_about_is_refused(text: str) -> None:
    """No literals, quotes, comments, groups, routes, lists, encoded words, control characters or over-long parts."""
    with pytest.raises(InvalidAddress) as refusal:
        parse_address(text)
    assert "\n" not in str(refusal.value) and "\0" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("ann@example.net", "", "ann@example.net"),
        (" ann@example.net ", "", "ann@example.net"),
        ("<ann@example.net>", "", "ann@example.net"),
        ("Ann Example <ann@example.net>", "Ann Example", "ann@example.net"),
        ("Ann<ann@example.net>", "Ann", "ann@example.net"),
        ("John Q. O'Neil Jr. <j@example.net>", "John Q. O'Neil Jr.", "j@example.net"),
        ('"Doe, \\"J\\" <x>" <a@example.net>', 'Doe, "J" <x>', "a@example.net"),
        ('"b@evil.example" <a@example.net>', "b@evil.example", "a@example.net"),
        ("Jörg 🎉 <a@münchen.example>", "Jörg 🎉", "a@xn--mnchen-3ya.example"),
    ],
)
def test_a_mailbox_is_a_name_and_an_address(text: str, name: str, address: str) -> None:
    """Quoted and plain names are read without quotes."""
    mailbox = parse_mailbox(text)
    assert mailbox == Mailbox(mailbox.address, name)
    assert str(mailbox.address) == address


@pytest.mark.parametrize(
    "text",
    [
        "a@b.example <c@d.example>", "Doe, J <a@b.example>", "Ann (x) <a@b.example>", "x: a@b.example;", "a@b.example, c@d.example",
        "A <a@b.example>, <c@d.example>", '"x <a@b.example>', "<a@evil.example>@acme.example", "A <a@b.example> x", "<<a@b.example>>",
        "A\r\nBcc: x@y.example <a@b.example>", "A\u2028 <a@b.example>", "A\x85 <a@b.example>", "A\0 <a@b.example>", "<>", "A <>", ">",
        "A <@r.example:a@b.example>", "N" * 501 + " <a@b.example>", "Ann", "Ann <ann>",
    ],
)  # fmt: skip
def test_a_mailbox_is_never_guessed(text: str) -> None:
    """Anything but exactly one mailbox is refused."""
    with pytest.raises(InvalidAddress):
        parse_mailbox(text)


def test_the_suppression_key_knows_every_spelling() -> None:
    """Case and the two spellings of a domain name give one key."""
    spellings = ["Ann@münchen.example", "ann@MÜNCHEN.example", "ANN@xn--mnchen-3ya.example", "ann@Xn--Mnchen-3ya.EXAMPLE"]
    assert {parse_address(text).key for text in spellings} == {"ann@xn--mnchen-3ya.example"}


def test_look_alike_domains_are_told_from_real_ones() -> None:
    """A Cyrillic letter in a Latin label is flagged; umlauts, Japanese and plain names are not."""
    assert domain_is_mixed_script(parse_address("a@p\u0430ypal.example").domain)
    assert not domain_is_mixed_script(parse_address("a@münchen.example").domain)
    assert not domain_is_mixed_script(parse_address("a@例えtestの.example").domain)
    assert not domain_is_mixed_script("example.net")


_ascii = st.text(st.sampled_from("abcXYZ019.-_+'@%=?!"), min_size=1, max_size=40)


@given(st.one_of(_ascii, st.builds("{}@{}".format, _ascii, _ascii), st.emails()))
@example("a@b.c")
@example("a@x--y.example")
@settings(max_examples=400, deadline=None)
def test_the_fast_path_agrees_with_the_library(text: str) -> None:
    """What we take, email-validator takes, with the same domain; what it takes and we do not is one of our stated refusals."""
    try:
        valid = validate_email(text, check_deliverability=False, strict=True, globally_deliverable=False)
    except EmailNotValidError:
        with pytest.raises(InvalidAddress):
            parse_address(text)
        return
    try:
        ours = parse_address(text)
    except InvalidAddress:
        tail = (valid.ascii_domain or "").rpartition(".")
        assert "=?" in text or not tail[1] or not any(c.isalpha() for c in tail[2])
        return
    assert ours.domain == valid.ascii_domain
    assert ours.local.lower() == valid.local_part.lower()


@pytest.mark.parametrize(
    "text",
    [
        "a@" * 50_000, "<" * 100_000, "a" * 100_000, "a@" + "a." * 50_000, '"' * 100_000, "a@" + "xn--" * 25_000, "a." * 500,
        "é" * 900 + "@x", "a@" + "\u0660" * 250, "a@xn--" + "a" * 240, '\\"' * 700 + " <a@b.example>", "x " * 800 + "<a@b.example>",
        "a@" + ("a" * 60 + ".") * 15 + "-", '"' + "\\" * 1_600 + " <a@b.example>", " " * 100_000,
    ],
)  # fmt: skip
def test_hostile_text_costs_little(text: str) -> None:
    """100 kB made to blow up a regular expression is answered within 100 ms."""
    for parse in (parse_address, parse_mailbox):
        started = time.thread_time()
        with contextlib.suppress(InvalidAddress):
            parse(text)
        assert time.thread_time() - started < 0.1


@pytest.mark.skipif(not CORPUS.exists(), reason="the shared corpora are not beside this checkout")
def test_the_isemail_corpus_is_read_as_its_authors_read_it() -> None:
    """No address with a syntax error is taken, and every plain one is."""
    ours_to_refuse = {"test@io", "!#$%&`*+/=?^`{|}~@iana.org"}  # no dot; looks like an encoded word
    with CORPUS.open(newline="") as rows:
        for row in csv.DictReader(rows):
            text = json.loads(row["address_json"])
            try:
                parse_address(text)
                is_taken = True
            except InvalidAddress:
                is_taken = False
            if row["category"] == "ISEMAIL_ERR":
                assert not is_taken, text
            if row["category"] == "ISEMAIL_VALID_CATEGORY" and text not in ours_to_refuse:
                assert is_taken, text
