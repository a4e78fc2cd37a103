"""The courier to providers: what broken connections, silence and shared trouble come to; nobody is lost, nobody mailed twice."""

import asyncio
import socket

import pytest

from gatepost.domain.outcome import Category, Deferred, Delivered, Failed, Outcome, Unknown
from tests.relays.letters import SIMPLE, courier_to, letter_batch, simple_batch
from tests.relays.peer import BREAK, SILENCE, Peer, Says

RESEND, SENDGRID, POSTMARK = "resend://:re_secret@", "sendgrid://:SG.secret@", "postmark://:pm@"


def deliver(url: str, *answers: Says | str, batch=None, timeout_s: float = 5) -> tuple[dict[int, Outcome], Peer]:
    async def run() -> tuple[dict[int, Outcome], Peer]:
        async with Peer(*answers) as peer:
            courier = courier_to(url, peer.url, timeout_s=timeout_s)
            outcomes = await courier.deliver(batch or simple_batch())
            await courier.close()
        return dict(outcomes), peer

    return asyncio.run(run())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_refused_connection_is_the_network_and_nothing_more():
    """Nothing was sent, so nothing is unsure: deferred, another road may be taken."""

    async def run() -> Outcome:
        courier = courier_to(SENDGRID, f"http://127.0.0.1:{free_port()}")
        outcome = (await courier.deliver(simple_batch()))[0]
        await courier.close()
        return outcome

    outcome = asyncio.run(run())
    assert isinstance(outcome, Deferred)
    assert (outcome.category, outcome.counts) == (Category.NETWORK, True)


def test_a_provider_that_does_not_begin_to_speak_is_left_as_soon_as_the_mail_may_go_elsewhere():
    """Connected, but silent in the TLS handshake: nothing was sent, so the next road may have it after the patience that there is."""

    async def run() -> Outcome:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            courier = courier_to(SENDGRID, f"https://127.0.0.1:{silent.getsockname()[1]}", timeout_s=60)
            async with asyncio.timeout(10):
                outcome = (await courier.deliver(simple_batch(patience_s=0.2)))[0]
            await courier.close()
            return outcome

    outcome = asyncio.run(run())
    assert isinstance(outcome, Deferred)
    assert (outcome.category, outcome.counts) == (Category.NETWORK, True)


def test_a_connection_that_breaks_after_the_request_leaves_it_unknown():
    """The provider may have taken it: never silently another road."""
    outcomes, peer = deliver(SENDGRID, BREAK)
    assert isinstance(outcomes[0], Unknown)
    assert len(peer.got) == 1


def test_silence_after_the_request_leaves_it_unknown():
    """A timeout is no refusal, also where the provider knows keys: it may be busy with the first call."""
    for url in (SENDGRID, RESEND):
        outcomes, peer = deliver(url, SILENCE, timeout_s=0.3)
        assert isinstance(outcomes[0], Unknown)
        assert len(peer.got) == 1


def test_a_provider_that_knows_keys_is_asked_again_at_once():
    """The same key and the same content: the provider sends it once and answers twice."""
    outcomes, peer = deliver(RESEND, BREAK, Says(200, {"id": "x1"}))
    assert isinstance(outcomes[0], Delivered)
    assert outcomes[0].exchange.provider_id == "x1"
    assert peer.got[0].headers["idempotency-key"] == peer.got[1].headers["idempotency-key"]
    assert peer.got[0].body == peer.got[1].body


def test_the_key_is_the_same_at_every_attempt_and_another_for_everybody_else():
    """A retry after Unknown does not double; two recipients, or two messages, are never taken for one."""

    def key(n: int, attempt: int, message_id: str) -> str:
        batch = simple_batch(message_id=message_id)
        one = type(batch.recipients[0])(n=n, address="bob@acme.test", attempt=attempt)
        _, peer = deliver(RESEND, Says(200, {"id": "x"}), batch=simple_batch(message_id=message_id, recipients=(one,)))
        return peer.got[0].headers["idempotency-key"]

    first = key(0, 1, "msg_1")
    assert key(0, 7, "msg_1") == first
    assert len({first, key(1, 1, "msg_1"), key(0, 1, "msg_2")}) == 3


def test_one_bad_address_among_several_fails_only_itself():
    """The provider refuses the call as a whole, so nothing was sent; each recipient then gets a call of their own."""
    bad = Says(400, {"errors": [{"message": "Does not contain a valid address.", "field": "personalizations.0.to.1.email"}]})
    good = Says(202, "", {"X-Message-Id": "ok"})
    outcomes, peer = deliver(SENDGRID, bad, good, bad, good, good, batch=letter_batch())
    assert [type(outcomes[n]) for n in range(4)] == [Delivered, Failed, Delivered, Delivered]
    asked = [[one["email"] for one in got.json["personalizations"][0]["to"]] for got in peer.got[1:]]
    assert asked == [["bob@acme.test"], ["zoe@acme.test"], ["john@acme.test"], ["hidden@acme.test"]]
    assert all("cc" not in got.json["personalizations"][0] and "bcc" not in got.json["personalizations"][0] for got in peer.got[1:])


def test_postmark_names_whom_it_left_out():
    """A yes that leaves out recipients fails these, and only these."""
    words = "Message OK, but will not deliver to these inactive addresses: zoe@acme.test, hidden@acme.test."
    yes = Says(200, {"MessageID": "m", "ErrorCode": 0, "Message": words})
    outcomes, peer = deliver(POSTMARK, yes, batch=letter_batch())
    assert [type(outcomes[n]) for n in range(4)] == [Delivered, Failed, Delivered, Failed]
    assert isinstance(outcomes[1], Failed)
    assert outcomes[1].category is Category.MAILBOX_INACTIVE
    assert len(peer.got) == 1


def test_after_trouble_that_all_calls_share_the_rest_is_not_tried():
    """A bad key is said once, not for every recipient; who was not tried is not unsure."""
    refused = Says(403, {"name": "invalid_api_key", "message": "no"})
    outcomes, peer = deliver(RESEND, Says(200, {"id": "x"}), refused, batch=letter_batch())
    assert [type(outcomes[n]) for n in range(4)] == [Delivered, Deferred, Deferred, Deferred]
    assert len(peer.got) == 2
    outcomes, peer = deliver(RESEND, SILENCE, batch=letter_batch(), timeout_s=0.3)
    assert [type(outcomes[n]) for n in range(4)] == [Unknown, Deferred, Deferred, Deferred]
    assert len(peer.got) == 1


def test_a_redirect_is_not_followed():
    """Whoever can answer for the provider once must not get the mail sent somewhere else."""
    outcomes, peer = deliver(SENDGRID, Says(307, "", {"Location": "http://127.0.0.1:1/"}))
    assert isinstance(outcomes[0], Deferred)
    assert len(peer.got) == 1


def test_an_answer_without_end_is_cut():
    """Half a megabyte is read, no more; what was taken is then unknown."""
    outcomes, _ = deliver(SENDGRID, Says(202, "x" * 600_000))
    assert isinstance(outcomes[0], Unknown)


def test_a_secret_that_comes_back_is_not_shown():
    """Providers repeat what they were sent; transcripts and details hold no key."""
    outcomes, _ = deliver(RESEND, Says(403, {"name": "invalid_api_key", "message": "the key re_secret is not valid"}))
    outcome = outcomes[0]
    assert isinstance(outcome, Deferred)
    assert "re_secret" not in repr(outcome)
    assert "the key *** is not valid" in outcome.detail


def test_connections_are_used_again():
    """Ten messages, one connection."""

    async def run() -> int:
        async with Peer(Says(200, {"id": "x"})) as peer:
            courier = courier_to(RESEND, peer.url)
            for _ in range(10):
                await courier.deliver(simple_batch())
            await courier.close()
            return peer.connections

    assert asyncio.run(run()) == 1


def test_a_message_that_must_stay_encrypted_is_not_given_to_an_api():
    """No provider promises REQUIRETLS over its API (RFC 8689 §4.2.1)."""
    outcomes, peer = deliver(SENDGRID, Says(202), batch=simple_batch(needs_requiretls=True))
    assert isinstance(outcomes[0], Failed)
    assert peer.got == []


@pytest.mark.parametrize("content", [b"To: bob@acme.test\r\n\r\nno sender\r\n", b"no header at all"])
def test_a_message_that_cannot_be_taken_apart_fails_and_reaches_nobody(content: bytes):
    """Fields cannot be guessed."""
    outcomes, peer = deliver(SENDGRID, Says(202), batch=simple_batch(content=content))
    assert isinstance(outcomes[0], Failed)
    assert outcomes[0].category is Category.CONTENT_REJECTED
    assert peer.got == []


def test_a_fault_of_ours_loses_nobody():
    """A courier is total."""

    async def run() -> Outcome:
        courier = courier_to(SENDGRID, "http://127.0.0.1:1")
        courier._provider.calls = None  # type: ignore[method-assign, assignment]
        return (await courier.deliver(simple_batch()))[0]

    outcome = asyncio.run(run())
    assert isinstance(outcome, Deferred)
    assert outcome.counts is False


def test_a_message_of_a_file_only_has_a_body():
    """Providers refuse an empty text; a space is nearly nothing."""
    content = SIMPLE.replace(
        b"\r\n\r\nhow", b"\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nhow"
    )
    for url in (SENDGRID, POSTMARK, RESEND, "mailjet://a:b@", "brevo://:k@"):
        _, peer = deliver(url, Says(500), batch=simple_batch(content=content))
        assert b'" "' in peer.got[0].body
        assert b"a.pdf" in peer.got[0].body
