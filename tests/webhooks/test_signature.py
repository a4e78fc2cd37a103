"""Who calls and what was said is proved by the signature: Standard Webhooks' own library agrees with ours (THREATS 39)."""

import base64
import time

import pytest
from standardwebhooks import Webhook as Reference
from standardwebhooks import WebhookVerificationError

from gatepost.wire import hook_signature
from gatepost.wire.hook_signature import WrongSignature, make_secret, verify

BODY = '{"type": "recipient.bounced", "data": {"subject": "Grüße 📬"}}'.encode()


def signed(*secrets: str, at: int | None = None, body: bytes = BODY) -> dict[str, str]:
    return hook_signature.headers(secrets, "evt_1", int(time.time()) if at is None else at, body)


def test_the_reference_library_believes_what_we_sign_and_we_what_it_signs():
    """Both ways, with a body that is not ASCII."""
    from datetime import UTC, datetime

    secret = make_secret()
    assert Reference(secret).verify(BODY, signed(secret))["type"] == "recipient.bounced"
    now = datetime.now(UTC)
    theirs = Reference(secret).sign("evt_1", now, BODY.decode())
    stamped = {"webhook-id": "evt_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": theirs}
    verify([secret], stamped, BODY, int(now.timestamp()))


def test_the_specifications_own_example_is_ours():
    """A value that was worked out elsewhere."""
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
    got = hook_signature.headers([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    from datetime import UTC, datetime

    expected = Reference(secret).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, UTC), '{"test": 2432232314}')
    assert got["webhook-signature"] == expected


@pytest.mark.parametrize("how", ["secret", "body", "id", "old", "ahead", "none", "no number"])
def test_what_was_changed_recorded_or_made_by_another_is_refused(how):
    """Wrong secret, other body, other id, a time that is too far away: by the reference library and by ours."""
    secret, now, body = make_secret(), int(time.time()), BODY
    given = signed(secret, at=now)
    match how:
        case "secret":
            given = signed(make_secret(), at=now)
        case "body":
            body = BODY + b" "
        case "id":
            given["webhook-id"] = "evt_2"
        case "old":
            given = signed(secret, at=now - 301)
        case "ahead":
            given = signed(secret, at=now + 302)
        case "none":
            del given["webhook-signature"]
        case "no number":
            given["webhook-timestamp"] = "soon"
    with pytest.raises(WrongSignature):
        verify([secret], given, body, now)
    with pytest.raises(WebhookVerificationError):
        Reference(secret).verify(body, given)


def test_either_secret_verifies_while_one_takes_the_place_of_the_other():
    """Two signatures in one header."""
    old, new = make_secret(), make_secret()
    given = signed(new, old)
    for secret in (old, new):
        Reference(secret).verify(BODY, given)
        verify([secret], given, BODY, int(time.time()))


def test_secrets_are_what_the_specification_asks_for():
    """whsec_, base64, 24 to 64 random bytes; none comes twice."""
    made = {make_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(one.startswith("whsec_") and 24 <= len(base64.b64decode(one[6:])) <= 64 for one in made)
    with pytest.raises(ValueError, match="whsec_"):
        hook_signature.headers(["whsec_%%%"], "evt_1", 0, b"")
