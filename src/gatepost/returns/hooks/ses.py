"""
Amazon SES, through an SNS topic.

Believed: a notification of the one topic in `hook.topic`, signed (SignatureVersion 1: SHA-1, 2: SHA-256) with the key of a
certificate from sns.REGION.amazonaws.com, the topic's region; topic and URL are checked before anything is fetched.
A SubscriptionConfirmation of that topic is answered by fetching its SubscribeURL, which has to be at the same host.
Source: Amazon SNS Developer Guide, "Verifying the signatures of Amazon SNS messages"; SES Developer Guide, "Event publishing".
"""

import base64
import binascii
import datetime as dt
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gatepost.domain.feedback import Action, Kind, Report
from gatepost.domain.outcome import Category, Reply
from gatepost.domain.statement import Said
from gatepost.feedback.provider_notices import report_of
from gatepost.returns.hooks.call import HookCall, NotBelieved, Occurrence, objects_of, table, text

Fetch = Callable[[str], Awaitable[bytes]]
"""Gets a URL that was judged already; raises OSError when it cannot."""

_HOST: Final = re.compile(r"sns\.([a-z0-9-]{3,30})\.amazonaws\.com(?:\.cn)?")
_CERTIFICATE: Final = re.compile(r"/SimpleNotificationService-[0-9a-zA-Z]{8,64}\.pem")
_TOPIC: Final = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):[0-9]{12}:[A-Za-z0-9_.-]{1,256}")
_SIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_OLDEST_S: Final = 7 * 86_400
_CERTIFICATES: Final = 8

_EVENTS: Final[Mapping[str, Said]] = {
    "DeliveryDelay": Said.DEFERRED,
    "Open": Said.OPENED,
    "Click": Said.CLICKED,
    "Subscription": Said.UNSUBSCRIBED,
    "Reject": Said.BOUNCED,
    "Rendering Failure": Said.BOUNCED,
}
"""Events of one form for all recipients; bounce, complaint and delivery name theirs."""
_KINDS: Final = {Kind.BOUNCE: Said.BOUNCED, Kind.COMPLAINT: Said.COMPLAINED, Kind.DELIVERED: Said.DELIVERED}


class SesHook:
    """The hook of one topic."""

    def __init__(self, topic: str, fetch: Fetch) -> None:
        """
        Args:
            topic: The ARN that is believed, and no other.

        Raises:
            ValueError: It is none.
        """
        found = _TOPIC.fullmatch(topic)
        if found is None:
            raise ValueError("hook.topic: give the ARN of the SNS topic, arn:aws:sns:REGION:ACCOUNT:NAME")
        self._topic = topic
        self._region = found[1]
        self._fetch = fetch
        self._keys: OrderedDict[str, x509.Certificate] = OrderedDict()

    async def verify(self, call: HookCall) -> dict[str, str]:
        """Check topic, place of the certificate, signature and age, in this order; confirm a subscription."""
        notification = _notification(call.body)
        if notification["TopicArn"] != self._topic:
            raise NotBelieved("it is of another topic")
        url, hash_of = notification.get("SigningCertURL", ""), _HASHES.get(notification.get("SignatureVersion", ""))
        if hash_of is None or not self._is_there(url, _CERTIFICATE):
            raise NotBelieved("its certificate is not from the topic's SNS")
        certificate = await self._certificate(url, call.now_s)
        key = certificate.public_key()
        try:
            signature = base64.b64decode(notification.get("Signature", ""), validate=True)
            if not isinstance(key, rsa.RSAPublicKey):
                raise NotBelieved("the key is of another kind")
            key.verify(signature, _signed_text(notification), padding.PKCS1v15(), hash_of())
        except (InvalidSignature, binascii.Error):
            raise NotBelieved("the signature is not right") from None
        if not abs(call.now_s - _seconds(notification.get("Timestamp", ""))) <= _OLDEST_S:
            raise NotBelieved("it is too old")
        if notification["Type"] == "SubscriptionConfirmation":
            await self._confirm(notification.get("SubscribeURL", ""))
        return {}

    def read(self, body: bytes, _details: Mapping[str, Any]) -> Sequence[Occurrence]:
        """Read the event inside a notification."""
        notification = _notification(body)
        if notification["Type"] != "Notification":
            return []
        message = notification.get("Message", "")
        if not message.lstrip().startswith("{"):
            return []  # SNS says in words that the topic works
        (found,) = objects_of(message.encode())
        return _occurrences(found, notification.get("MessageId", ""))

    def _is_there(self, url: str, path: re.Pattern[str] | None) -> bool:
        try:
            parsed = urlsplit(url)
            host, port = parsed.hostname or "", parsed.port
        except ValueError:
            return False
        place = _HOST.fullmatch(host)
        is_plain = parsed.scheme == "https" and parsed.netloc == host and port is None and not parsed.fragment
        if place is None or place[1] != self._region or not is_plain:
            return False
        return path is None or (path.fullmatch(parsed.path) is not None and not parsed.query)

    async def _certificate(self, url: str, now_s: int) -> x509.Certificate:
        certificate = self._keys.get(url)
        if certificate is None:
            try:
                certificate = x509.load_pem_x509_certificate(await self._fetch(url))
            except ValueError:
                raise NotBelieved("its certificate is none") from None
            self._keys[url] = certificate
            if len(self._keys) > _CERTIFICATES:
                self._keys.popitem(last=False)
        now = dt.datetime.fromtimestamp(now_s, dt.UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            self._keys.pop(url, None)
            raise NotBelieved("its certificate is not valid now")
        return certificate

    async def _confirm(self, url: str) -> None:
        if not self._is_there(url, None):
            raise NotBelieved("its SubscribeURL is not at the topic's SNS")
        await self._fetch(url)


_HASHES: Final[Mapping[str, type[hashes.HashAlgorithm]]] = {"1": hashes.SHA1, "2": hashes.SHA256}


def _notification(body: bytes) -> dict[str, str]:
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise NotBelieved("it is no notification") from None
    kept = {name: value for name, value in found.items() if isinstance(value, str)}
    if kept.get("Type") not in _SIGNED or "TopicArn" not in kept:
        raise NotBelieved("it is no notification")
    return kept


def _signed_text(notification: Mapping[str, str]) -> bytes:
    names = _SIGNED[notification["Type"]]
    return "".join(f"{name}\n{notification[name]}\n" for name in names if name in notification).encode()


def _seconds(timestamp: str) -> float:
    try:
        return dt.datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        raise NotBelieved("its time cannot be read") from None


def _occurrences(found: dict[str, Any], event_id: str) -> list[Occurrence]:
    mail = table(found, "mail")
    ids = tuple(one for one in (text(mail, "messageId"),) if one)
    report = report_of(found, None)
    if report is not None:
        return [one for recipient in range(len(report.recipients)) if (one := _reported(report, recipient, ids, event_id)) is not None]
    said = _EVENTS.get(text(found, "eventType", "notificationType"))
    if said is None:
        return []
    addresses = mail.get("destination")
    listed = [str(one)[:320] for one in addresses[:50] if isinstance(one, str)] if isinstance(addresses, list) else []
    category = Category.CONTENT_REJECTED if said is Said.BOUNCED else None
    words = text(table(found, "reject"), "reason") or text(table(found, "failure"), "errorMessage")
    reply = Reply(code=0, enhanced=None, text=words) if words else None
    detail = {"user_agent": agent} if (agent := text(table(found, said.value.removesuffix("ed")), "userAgent", most=300)) else {}
    return [
        Occurrence(
            event_id=f"{event_id}/{address}", said=said, provider_ids=ids, address=address, category=category,
            rule="ses.Reject" if category else "", reply=reply, detail=detail,
        )
        for address in listed
    ]  # fmt: skip


def _reported(report: Report, number: int, ids: tuple[str, ...], event_id: str) -> Occurrence | None:
    one = report.recipients[number]
    said = _KINDS[report.kind]
    if one.action is Action.DELAYED:
        said = Said.DEFERRED
    reply = Reply(code=one.smtp_code or 0, enhanced=one.enhanced_code, text=one.detail) if one.detail or one.smtp_code else None
    detail = {"feedback_type": report.feedback_type} if report.feedback_type else {}
    if report.kind is Kind.COMPLAINT and report.feedback_type == "opt-out":
        said = Said.UNSUBSCRIBED
    return Occurrence(
        event_id=f"{event_id}/{number}", said=said, provider_ids=ids, address=one.address, category=one.category, rule=one.rule,
        stated=one.severity_said, reply=reply, host=report.reporter.rpartition(";")[2].strip()[:255], detail=detail,
    )  # fmt: skip
