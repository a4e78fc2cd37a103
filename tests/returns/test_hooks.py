"""Relays' hooks: who is believed, what their words come to, and that nothing is fetched or kept for anybody else."""

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from gatepost.domain.errors import Refused
from gatepost.returns.hooks.brevo import BrevoHook
from gatepost.returns.hooks.call import HookCall, NotBelieved
from gatepost.returns.hooks.desk import HookDesk, create_hooks
from gatepost.returns.hooks.mailgun import MailgunHook
from gatepost.returns.hooks.mailjet import MailjetHook
from gatepost.returns.hooks.postmark import PostmarkHook
from gatepost.returns.hooks.resend import ResendHook
from gatepost.returns.hooks.sendgrid import SendGridHook
from gatepost.returns.hooks.ses import SesHook
from gatepost.returns.loop import FeedbackLoop
from gatepost.settings import Relay, RelayHook
from gatepost.store import inbound
from gatepost.suppressing import Suppressing
from gatepost.wire import hook_signature
from tests.returns.test_reported import run
from tests.store.rows import NOW, put_message

NOW_S = NOW // 1000
TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-events"
CERT_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
BASIC = "Basic " + base64.b64encode(b"hook:s3cret").decode()
SVIX = hook_signature.make_secret()
EC_KEY = ec.generate_private_key(ec.SECP256R1())
EC_PUBLIC = base64.b64encode(
    EC_KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()


def call(body, **headers):
    return HookCall(headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body, now_s=NOW_S)


class Sns:
    """A topic's signing key, and the place where its certificate is got."""

    def __init__(self, days=1):
        self.key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = dt.datetime.fromtimestamp(NOW_S, dt.UTC)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key()).serial_number(1)
        made = made.not_valid_before(now - dt.timedelta(days=2)).not_valid_after(now + dt.timedelta(days=days))
        self.pem = made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        self.fetched = []

    async def fetch(self, url):
        self.fetched.append(url)
        return self.pem

    def notification(self, message, version="2", **changes):
        found = {
            "Type": "Notification", "MessageId": "n-1", "TopicArn": TOPIC, "Message": json.dumps(message) if isinstance(message, dict) else message,
            "Timestamp": dt.datetime.fromtimestamp(NOW_S, dt.UTC).isoformat().replace("+00:00", "Z"), "SignatureVersion": version, "SigningCertURL": CERT_URL,
        } | changes  # fmt: skip
        names = {"Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")}
        signed = names.get(found["Type"], ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"))
        text = "".join(f"{name}\n{found[name]}\n" for name in signed if name in found)
        kind = hashes.SHA1() if version == "1" else hashes.SHA256()
        return {**found, "Signature": base64.b64encode(self.key.sign(text.encode(), padding.PKCS1v15(), kind)).decode()}


SNS = Sns()
BOUNCE = {
    "eventType": "Bounce", "mail": {"messageId": "ses-1", "destination": ["user0@example.net"]},
    "bounce": {
        "bounceType": "Permanent", "bounceSubType": "General", "reportingMTA": "dns; mx.far.example",
        "bouncedRecipients": [{"emailAddress": "user0@example.net", "action": "failed", "status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 user unknown"}],
    },
}  # fmt: skip


def sent(body):
    return json.dumps(body).encode()


async def refused(hook, given):
    with pytest.raises(NotBelieved):
        await hook.verify(given)
    return True


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_signed_notification_of_our_topic_is_believed(version):
    """SignatureVersion 1 and 2; the certificate is fetched once."""
    sns = Sns()

    async def main():
        hook = SesHook(TOPIC, sns.fetch)
        for _ in range(2):
            await hook.verify(call(sent(sns.notification(BOUNCE, version))))
        assert sns.fetched == [CERT_URL]

    asyncio.run(main())


FOREIGN = [
    {"TopicArn": TOPIC.replace("123456789012", "999999999999")},
    {"TopicArn": TOPIC + "x"},
    *[
        {"SigningCertURL": url}
        for url in (
            "https://evil.example/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://sns.eu-west-1.amazonaws.com:444/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://sns.eu-west-1.amazonaws.com/evil.pem",
            "https://sns.eu-west-1.amazonaws.com/../SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://bucket.s3.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "https://[::1]/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem",
            "file:///etc/passwd",
            "",
        )
    ],
    {"SignatureVersion": "3"},
    {"Type": "Other"},
]


@pytest.mark.parametrize("change", FOREIGN, ids=str)
def test_nothing_is_fetched_for_a_foreign_notification(change):
    """THREATS 40: topic and certificate's place are checked before anything is fetched, whatever the signature says."""
    sns = Sns()
    assert asyncio.run(refused(SesHook(TOPIC, sns.fetch), call(sent(sns.notification(BOUNCE) | change))))
    assert asyncio.run(refused(SesHook(TOPIC, sns.fetch), call(sent(sns.notification(BOUNCE, **change)))))
    assert sns.fetched == []


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"\xff", b'{"Type": "Notification"}', b'{"Type": 1, "TopicArn": []}', b"[" * 100_000]
)
def test_noise_is_nobodys_notification(body):
    """Whatever comes: refused, nothing fetched."""
    sns = Sns()
    assert asyncio.run(refused(SesHook(TOPIC, sns.fetch), call(body)))
    assert sns.fetched == []


def test_an_unsigned_or_changed_or_old_notification_is_not_believed():
    """Every signed field counts; another key's signature, an old one, and one by a certificate that has ended, too."""
    good = SNS.notification(BOUNCE)
    for changed in (
        {"Message": "{}"},
        {"MessageId": "x"},
        {"Signature": ""},
        {"Signature": "!!"},
        {"Signature": good["Signature"][:-8] + "AAAAAAA="},
        {"Subject": "x"},
    ):
        assert asyncio.run(refused(SesHook(TOPIC, SNS.fetch), call(sent(good | changed))))
    assert asyncio.run(refused(SesHook(TOPIC, SNS.fetch), call(sent(Sns().notification(BOUNCE)))))
    assert asyncio.run(refused(SesHook(TOPIC, SNS.fetch), call(sent(SNS.notification(BOUNCE, Timestamp="2020-01-01T00:00:00.000Z")))))
    ended = Sns(days=-1)
    assert asyncio.run(refused(SesHook(TOPIC, ended.fetch), call(sent(ended.notification(BOUNCE)))))


def test_a_subscription_is_confirmed_for_our_topic_and_at_its_place_only():
    """The SubscribeURL is signed, and has to be at the topic's own SNS."""
    url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x&Token=y"

    async def main(subscribe):
        sns = Sns()
        hook = SesHook(TOPIC, sns.fetch)
        body = sns.notification("You have chosen to subscribe", Type="SubscriptionConfirmation", SubscribeURL=subscribe, Token="y")
        try:
            await hook.verify(call(sent(body)))
        except NotBelieved:
            return sns.fetched
        assert hook.read(sent(body), {}) == []
        return sns.fetched

    assert asyncio.run(main(url)) == [CERT_URL, url]
    assert asyncio.run(main("https://evil.example/?Action=ConfirmSubscription")) == [CERT_URL]
    assert asyncio.run(main("http://169.254.169.254/latest")) == [CERT_URL]


def mailgun_event(key="mg-key", timestamp=NOW_S, **event):
    token = "t0ken"
    signature = hmac.new(key.encode(), f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()
    return sent({"signature": {"timestamp": str(timestamp), "token": token, "signature": signature}, "event-data": event})


def sendgrid_headers(body, key=EC_KEY, timestamp=NOW_S):
    signature = key.sign(str(timestamp).encode() + body, ec.ECDSA(hashes.SHA256()))
    return {
        "x_twilio_email_event_webhook_signature": base64.b64encode(signature).decode(),
        "x_twilio_email_event_webhook_timestamp": str(timestamp),
    }


def svix_headers(body, secret=SVIX, timestamp=NOW_S):
    return {
        name.replace("webhook", "svix").replace("-", "_"): value
        for name, value in hook_signature.headers([secret], "evt-1", timestamp, body).items()
    }


BODY = b'[{"event":"delivered"}]'
CASES = [
    (SendGridHook(EC_PUBLIC), call(BODY, **sendgrid_headers(BODY)), [
        call(BODY), call(BODY + b" ", **sendgrid_headers(BODY)), call(BODY, **sendgrid_headers(BODY, timestamp=NOW_S - 4 * 86_400)),
        call(BODY, **sendgrid_headers(BODY, ec.generate_private_key(ec.SECP256R1()))),
        call(BODY, **{**sendgrid_headers(BODY), "x_twilio_email_event_webhook_timestamp": str(NOW_S + 1)}),
    ]),
    (MailgunHook("mg-key"), call(mailgun_event()), [call(mailgun_event("other")), call(mailgun_event(timestamp=NOW_S - 90_000)), call(b"{}"), call(b"\xff"), call(b"[]")]),
    (ResendHook(SVIX), call(BODY, **svix_headers(BODY)), [
        call(BODY), call(BODY + b" ", **svix_headers(BODY)), call(BODY, **svix_headers(BODY, timestamp=NOW_S - 600)), call(BODY, **svix_headers(BODY, hook_signature.make_secret())),
    ]),
    *[
        (hook("hook:s3cret"), call(BODY, authorization=BASIC), [
            call(BODY), call(BODY, authorization="Basic aG9vazp3cm9uZw=="), call(BODY, authorization="Basic !"), call(BODY, authorization="Digest x"), call(BODY, authorization="Bearer "),
        ])
        for hook in (PostmarkHook, MailjetHook, BrevoHook)
    ],
    (BrevoHook("t0ken"), call(BODY, authorization="Bearer t0ken"), [call(BODY, authorization="Bearer t0ke"), call(BODY, authorization="bearer")]),
]  # fmt: skip


@pytest.mark.parametrize(("hook", "good", "bad"), CASES, ids=lambda value: type(value).__name__)
def test_only_who_knows_the_secret_is_believed(hook, good, bad):
    """Unsigned, changed, old, or signed by somebody else: not believed."""
    asyncio.run(hook.verify(good))
    for one in bad:
        assert asyncio.run(refused(hook, one))


SENDGRID = {"sg_event_id": "e1", "sg_message_id": "sg-1.filter0001.1.A-0", "email": "a@x.example"}
POSTMARK = {"MessageID": "pm-1", "Recipient": "a@x.example"}
MAILJET = {"MessageID": 1152921504606846976, "email": "a@x.example", "time": 1}
BREVO = {"message-id": "<br-1@smtp-relay.example>", "email": "a@x.example", "ts_event": 1}
MAILGUN = {"id": "m1", "recipient": "a@x.example", "message": {"headers": {"message-id": "mg-1@x.example"}}}
RESEND = {"email_id": "re-1", "to": ["a@x.example"]}
EVENTS = [
    ("sendgrid", [SENDGRID | {"event": "delivered", "response": "250 OK"}], "delivered", None),
    (
        "sendgrid",
        [SENDGRID | {"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 no such user"}],
        "bounced",
        "invalid_recipient",
    ),
    ("sendgrid", [SENDGRID | {"event": "bounce", "type": "blocked", "reason": "something odd"}], "bounced", "undetermined"),
    ("sendgrid", [SENDGRID | {"event": "deferred", "response": "452 4.2.2 mailbox full"}], "deferred", "mailbox_full"),
    ("sendgrid", [SENDGRID | {"event": "dropped", "reason": "Bounced Address"}], "bounced", "suppressed"),
    ("sendgrid", [SENDGRID | {"event": "spamreport"}], "complained", "complaint"),
    ("sendgrid", [SENDGRID | {"event": "open", "sg_machine_open": True}], "opened", None),
    ("sendgrid", [SENDGRID | {"event": "group_unsubscribe"}], "unsubscribed", None),
    ("sendgrid", [SENDGRID | {"event": "processed"}], None, None),
    ("mailgun", {"event-data": MAILGUN | {"event": "delivered"}}, "delivered", None),
    (
        "mailgun",
        {
            "event-data": MAILGUN
            | {
                "event": "failed",
                "severity": "permanent",
                "delivery-status": {"code": 550, "message": "5.1.1 The email account that you tried to reach does not exist"},
            }
        },
        "bounced",
        "invalid_recipient",
    ),
    (
        "mailgun",
        {
            "event-data": MAILGUN
            | {
                "event": "failed",
                "severity": "permanent",
                "reason": "suppress-bounce",
                "delivery-status": {"code": 605, "message": "Not delivering to previously bounced address"},
            }
        },
        "bounced",
        "suppressed",
    ),
    (
        "mailgun",
        {
            "event-data": MAILGUN
            | {"event": "failed", "severity": "temporary", "delivery-status": {"code": 451, "message": "4.7.1 greylisted"}}
        },
        "deferred",
        "rate_limited",
    ),
    ("mailgun", {"event-data": MAILGUN | {"event": "complained"}}, "complained", "complaint"),
    ("mailgun", {"event-data": MAILGUN | {"event": "unsubscribed"}}, "unsubscribed", None),
    ("postmark", POSTMARK | {"RecordType": "Delivery"}, "delivered", None),
    (
        "postmark",
        {"RecordType": "Bounce", "Type": "HardBounce", "ID": 7, "MessageID": "pm-1", "Email": "a@x.example", "Details": "unknown reason"},
        "bounced",
        "invalid_recipient",
    ),
    (
        "postmark",
        {"RecordType": "Bounce", "Type": "SpamNotification", "ID": 7, "MessageID": "pm-1", "Email": "a@x.example"},
        "bounced",
        "spam_content",
    ),
    ("postmark", {"RecordType": "Bounce", "Type": "AutoResponder", "ID": 7, "MessageID": "pm-1", "Email": "a@x.example"}, None, None),
    ("postmark", {"RecordType": "SpamComplaint", "MessageID": "pm-1", "Email": "a@x.example"}, "complained", "complaint"),
    (
        "postmark",
        POSTMARK
        | {"RecordType": "SubscriptionChange", "SuppressSending": True, "Origin": "Recipient", "SuppressionReason": "ManualSuppression"},
        "unsubscribed",
        None,
    ),
    (
        "postmark",
        POSTMARK
        | {"RecordType": "SubscriptionChange", "SuppressSending": True, "Origin": "Customer", "SuppressionReason": "ManualSuppression"},
        None,
        None,
    ),
    ("resend", {"type": "email.delivered", "data": RESEND}, "delivered", None),
    (
        "resend",
        {"type": "email.bounced", "data": RESEND | {"bounce": {"type": "Permanent", "subType": "General", "message": "it is gone"}}},
        "bounced",
        "invalid_recipient",
    ),
    (
        "resend",
        {"type": "email.bounced", "data": RESEND | {"bounce": {"type": "Permanent", "subType": "Suppressed", "message": "user unknown"}}},
        "bounced",
        "suppressed",
    ),
    ("resend", {"type": "email.complained", "data": RESEND}, "complained", "complaint"),
    ("resend", {"type": "contact.created", "data": {}}, None, None),
    ("mailjet", [MAILJET | {"event": "sent"}], "delivered", None),
    ("mailjet", MAILJET | {"event": "bounce", "hard_bounce": True, "error": "user unknown", "comment": ""}, "bounced", "invalid_recipient"),
    ("mailjet", MAILJET | {"event": "blocked", "error": "preblocked"}, "bounced", "suppressed"),
    ("mailjet", MAILJET | {"event": "spam"}, "complained", "complaint"),
    ("mailjet", MAILJET | {"event": "unsub"}, "unsubscribed", None),
    ("brevo", BREVO | {"event": "delivered"}, "delivered", None),
    ("brevo", BREVO | {"event": "hard_bounce", "reason": "something"}, "bounced", "invalid_recipient"),
    ("brevo", BREVO | {"event": "soft_bounce", "reason": "552 5.2.2 mailbox full"}, "bounced", "mailbox_full"),
    ("brevo", BREVO | {"event": "blocked", "reason": "blocked : due to blacklist user"}, "bounced", "suppressed"),
    ("brevo", BREVO | {"event": "proxy_open"}, "opened", None),
    ("brevo", BREVO | {"event": "request"}, None, None),
]
HOOKS = {
    "sendgrid": SendGridHook(EC_PUBLIC), "mailgun": MailgunHook("k"), "postmark": PostmarkHook("u:p"), "resend": ResendHook(SVIX),
    "mailjet": MailjetHook("u:p"), "brevo": BrevoHook("t"),
}  # fmt: skip
IDS = {
    "sendgrid": "sg-1",
    "mailgun": "mg-1@x.example",
    "postmark": "pm-1",
    "resend": "re-1",
    "mailjet": "1152921504606846976",
    "brevo": "br-1@smtp-relay.example",
}


@pytest.mark.parametrize(("provider", "body", "said", "category"), EVENTS)
def test_a_providers_words_come_to_the_same_vocabulary(provider, body, said, category):
    """Delivered, deferred, bounced with its category, complained, opened, clicked, unsubscribed; what is none of these is nothing."""
    found = HOOKS[provider].read(sent(body), {"id": "evt-1"})
    if said is None:
        assert list(found) == []
        return
    [one] = found
    assert (one.said, one.category, one.address, one.provider_ids[0]) == (said, category, "a@x.example", IDS[provider])


@pytest.mark.parametrize("provider", HOOKS)
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"[[]]", b"null", b'{"event": {"a": 1}}', b'{"event-data": 7}', b'{"type": [], "data": 1}', b"[" * 200_000]
)
def test_a_call_of_no_known_form_says_nothing(provider, body):
    """Nothing, or a ValueError; never another exception."""
    with contextlib.suppress(ValueError):
        assert list(HOOKS[provider].read(body, {})) == []


def test_ses_tells_of_each_recipient():
    """One notification may speak of several; delays, opt-outs and rejections are told apart."""
    hook = SesHook(TOPIC, SNS.fetch)
    [bounced] = hook.read(sent(SNS.notification(BOUNCE)), {})
    assert (bounced.said, bounced.category, bounced.provider_ids, bounced.host) == (
        "bounced",
        "invalid_recipient",
        ("ses-1",),
        "mx.far.example",
    )
    mail = {"messageId": "ses-1", "destination": ["a@x.example", "b@x.example"]}
    delivery = {"eventType": "Delivery", "mail": mail, "delivery": {"recipients": ["a@x.example", "b@x.example"]}}
    assert [(one.said, one.address) for one in hook.read(sent(SNS.notification(delivery)), {})] == [
        ("delivered", "a@x.example"),
        ("delivered", "b@x.example"),
    ]
    for kind, said in (("DeliveryDelay", "deferred"), ("Reject", "bounced"), ("Open", "opened"), ("Click", "clicked")):
        assert {one.said for one in hook.read(sent(SNS.notification({"eventType": kind, "mail": mail})), {})} == {said}
    complaint = {
        "eventType": "Complaint",
        "mail": mail,
        "complaint": {"complainedRecipients": [{"emailAddress": "a@x.example"}], "complaintFeedbackType": "not-spam"},
    }
    [spared] = hook.read(sent(SNS.notification(complaint)), {})
    assert (spared.said, spared.stated) == ("complained", "info")


@pytest.mark.parametrize(
    "relay",
    [
        Relay(url="smtp://relay.example", hook=RelayHook(secret="x")),
        Relay(url="ses://k:s@eu-west-1", hook=RelayHook(topic="arn:aws:sqs:eu-west-1:1:x")),
        Relay(url="sendgrid://:k@", hook=RelayHook(secret="never-a-key")),
        Relay(url="resend://:k@", hook=RelayHook(secret="whsec_%%%")),
    ],
)
def test_a_hook_that_cannot_work_is_told_at_the_start(relay):
    """The text names the option and does not show the secret."""
    with pytest.raises(ValueError, match=r"relays\.main\.hook") as error:
        create_hooks({"main": relay}, SNS.fetch)
    assert "never-a-key" not in str(error.value)


def test_a_hook_ends_a_recipient_once_and_waits_for_its_delivery(make_engine):
    """Believed, kept, then acted on: also when it overtakes our own commit; called again it changes nothing."""

    async def work(house):
        hooks = create_hooks({"main": Relay(url="resend://:k@", hook=RelayHook(secret=SVIX))}, SNS.fetch)
        desk = HookDesk(house.engine, house.clock, hooks)
        loop = FeedbackLoop(house.engine, house.clock, Suppressing(), {"hook": desk.read})

        async def called(kind, **data):
            body = sent({"type": kind, "data": {"email_id": "re-9", "to": ["user0@example.net"], **data}})
            headers = hook_signature.headers([SVIX], f"evt-{kind}", house.clock.now() // 1000, body)
            await desk.take("main", headers, body, "192.0.2.1")
            await loop.step()

        await called("email.delivered")
        assert await house.engine.read(inbound.counts) == {"waiting": 1}
        [row] = await house.delivered(final=False, provider_id="re-9", route="main", source=None)
        house.clock.advance(6)
        await loop.step()
        assert ((await house.state(row)).status, await house.engine.read(inbound.counts)) == ("delivered", {})
        for _ in range(2):
            await called("email.bounced", bounce={"type": "Permanent", "subType": "NoEmail", "message": "gone"})
        assert (await house.state(row)).status == "bounced"
        assert [one.type for one in await house.events(row)].count("recipient.bounced") == 1
        assert await house.suppressed() == [("user0@example.net", "", "invalid_recipient")]

    run(make_engine, work)


def test_a_call_that_is_not_believed_leaves_nothing(make_engine):
    """THREATS 40: 401, nothing kept; a relay without a hook is 404; what cannot be checked now is asked for again."""

    async def work(house):
        [row] = await house.engine.write(lambda conn: put_message(conn))

        async def away(_url):
            raise OSError

        relays = {
            "main": Relay(url="resend://:k@", hook=RelayHook(secret=SVIX)),
            "ses": Relay(url="ses://k:s@eu-west-1", hook=RelayHook(topic=TOPIC)),
            "mute": Relay(url="brevo://:k@"),
        }
        desk = HookDesk(house.engine, house.clock, create_hooks(relays, away))
        for relay, body, code in (
            ("main", b"{}", "authentication_failed"),
            ("mute", b"{}", "not_found"),
            ("none", b"{}", "not_found"),
            ("ses", sent(SNS.notification(BOUNCE)), "overloaded"),
        ):
            with pytest.raises(Refused) as refusal:
                await desk.take(relay, {}, body, "192.0.2.1")
            assert refusal.value.code == code
        assert await house.engine.read(inbound.counts) == {}
        assert (await house.state(row)).status == "queued"

    run(make_engine, work)


def test_unknown_messages_are_given_up_after_a_while(make_engine):
    """A provider's account may send other mail too: what nobody knows is looked at for a day, then put aside."""

    async def work(house):
        desk = HookDesk(house.engine, house.clock, create_hooks({"main": Relay(url="brevo://:k@", hook=RelayHook(secret="t"))}, SNS.fetch))
        loop = FeedbackLoop(house.engine, house.clock, Suppressing(), {"hook": desk.read})
        await desk.take("main", {"authorization": "Bearer t"}, sent(BREVO | {"event": "hard_bounce"}), "192.0.2.1")
        for _ in range(9):
            await loop.step()
            house.clock.advance(86_401)
        assert (await house.engine.read(inbound.counts), await house.suppressed()) == ({"unmatched": 1}, [])

    run(make_engine, work)
