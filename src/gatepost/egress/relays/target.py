"""
A relay as its settings describe it: which kind, where, with what credentials.

Arrives: the options of one relay. Leaves: a `Target`; or `InvalidSettings`, whose text never repeats a secret.
The URLs are read by hand: a SES secret has `/` and `+` in it as often as not, and nobody encodes them.
Not here: SMTP URLs (egress.smtp.plan), what is said to a provider (its own file).
"""

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gatepost.net.http_client import is_safe_url
from gatepost.settings import InvalidSettings, Relay

SMTP_KINDS: Final = frozenset({"smtp", "smtps"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """
    How a provider's URL is written.

    Attributes:
        hosts: Base URL by region; the empty region is the usual one. `{place}` is what stands after the `@`.
        place: What stands after the `@`, for the error; empty where nothing may.
        has_user: The key has two halves, the first of which is no secret.
        options: Names that may stand in the query.
    """

    title: str
    hosts: Mapping[str, str]
    shape: str
    place: str = ""
    has_user: bool = False
    options: frozenset[str] = frozenset()


FORMS: Final[Mapping[str, Form]] = {
    "ses": Form(
        title="Amazon SES", hosts={"": "https://email.{place}.amazonaws.com"}, shape="ses://KEY:SECRET@REGION", place="a region",
        has_user=True, options=frozenset({"configuration_set"}),
    ),
    "sendgrid": Form(
        title="SendGrid", hosts={"": "https://api.sendgrid.com", "us": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"},
        shape="sendgrid://:KEY@", options=frozenset({"region"}),
    ),
    "mailgun": Form(
        title="Mailgun", hosts={"": "https://api.mailgun.net", "us": "https://api.mailgun.net", "eu": "https://api.eu.mailgun.net"},
        shape="mailgun://:KEY@DOMAIN", place="the sending domain", options=frozenset({"region"}),
    ),
    "postmark": Form(
        title="Postmark", hosts={"": "https://api.postmarkapp.com"}, shape="postmark://:TOKEN@", options=frozenset({"stream"})
    ),
    "resend": Form(title="Resend", hosts={"": "https://api.resend.com"}, shape="resend://:KEY@"),
    "mailjet": Form(title="Mailjet", hosts={"": "https://api.mailjet.com"}, shape="mailjet://KEY:SECRET@", has_user=True),
    "brevo": Form(title="Brevo", hosts={"": "https://api.brevo.com"}, shape="brevo://:KEY@"),
}  # fmt: skip
"""By the URL's scheme."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    One provider's account.

    Attributes:
        kind: The URL's scheme.
        base: URL without its last slash.
        user: The half of the key that is no secret; empty where there is none.
        place: SES's region, Mailgun's domain.
    """

    name: str
    kind: str
    title: str
    base: str
    secret: str = field(repr=False)
    user: str = ""
    place: str = ""
    session_token: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Name of the host that is asked."""
        return urllib.parse.urlsplit(self.base).hostname or ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """All that must never be shown, the longest first."""
        return tuple(sorted((one for one in (self.secret, self.session_token) if one), key=len, reverse=True))


def kind_of(url: str) -> str:
    """Return a URL's scheme."""
    return url.partition("://")[0].lower()


def endpoint_host(relay: Relay) -> str:
    """Name the host that a relay leads to, without reading its secrets; empty where the URL is not valid."""
    try:
        if relay.endpoint:
            return urllib.parse.urlsplit(relay.endpoint).hostname or ""
        if kind_of(relay.url) in SMTP_KINDS:
            return urllib.parse.urlsplit(relay.url).hostname or ""
        return urllib.parse.urlsplit(_read(relay.url).base).hostname or ""
    except (ValueError, _Wrong):
        return ""


def secret_of(name: str, relay: Relay) -> str:
    """
    Return the secret that stands apart from the URL; empty where none does.

    Raises:
        InvalidSettings: Its file cannot be read, or both are given.
    """
    if not relay.secret_file:
        return relay.secret
    if relay.secret:
        raise InvalidSettings(f"relays.{name}.secret and relays.{name}.secret_file: give one of them")
    try:
        return Path(relay.secret_file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"relays.{name}.secret_file: {error}") from error


def parse_target(name: str, relay: Relay) -> Target:
    """
    Read a provider's options.

    Raises:
        InvalidSettings: They are not valid, or the secret is missing.
    """
    option = f"relays.{name}"
    try:
        found = _read(relay.url)
    except _Wrong as error:
        raise InvalidSettings(f"{option}.url: {error}") from None
    apart = secret_of(name, relay)
    if apart and found.secret:
        raise InvalidSettings(f"{option}: the secret stands in the URL and apart from it; give it once")
    if not (apart or found.secret):
        raise InvalidSettings(f"{option}.secret: missing; it may also stand in the URL: {FORMS[found.kind].shape}")
    if not _is_plain(apart or found.secret) or not _is_plain(found.user) or not _is_plain(relay.session_token):
        raise InvalidSettings(f"{option}.secret: it has characters that no key has")
    if relay.endpoint and (not is_safe_url(relay.endpoint) or "?" in relay.endpoint or "#" in relay.endpoint):
        raise InvalidSettings(f"{option}.endpoint: give an https:// URL without user and query; http:// is taken on this machine only")
    return Target(
        name=name, kind=found.kind, title=FORMS[found.kind].title, base=(relay.endpoint or found.base).rstrip("/"),
        secret=apart or found.secret, user=found.user, place=found.place, session_token=relay.session_token, options=found.options,
    )  # fmt: skip


class _Wrong(Exception):  # noqa: N818
    """A URL is not of its form; the text holds nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Url:
    kind: str
    base: str
    user: str
    secret: str = field(repr=False)
    place: str
    options: Mapping[str, str]


def _read(url: str) -> _Url:
    kind, sign, rest = url.partition("://")
    kind = kind.lower()
    form = FORMS.get(kind)
    if form is None or not sign:
        raise _Wrong(f"expected smtp://, smtps:// or one of {', '.join(f'{one}://' for one in FORMS)}")
    key, at, tail = rest.rpartition("@")
    if not at:
        key, tail = "", rest
    place, _, query = tail.partition("?")
    place = place.strip("/").lower()
    user, colon, secret = key.partition(":")
    if not form.has_user and not colon:
        user, secret = "", user
    if bool(place) != bool(form.place) or (user and not form.has_user):
        raise _Wrong(f"expected {form.shape}" + (f" with {form.place} after the @" if form.place else ""))
    if place and not all(c.isalnum() or c in ".-" for c in place):
        raise _Wrong(f"expected {form.place} after the @")
    options = _options(form, query)
    region = options.get("region", "")
    if region not in form.hosts:
        raise _Wrong(f"region is one of {', '.join(one for one in form.hosts if one)}")
    if form.has_user and not user:
        raise _Wrong(f"expected {form.shape}; the secret may be left out and given as relays.NAME.secret")
    return _Url(
        kind=kind, base=form.hosts[region].replace("{place}", place), user=urllib.parse.unquote(user),
        secret=urllib.parse.unquote(secret), place=place, options=options,
    )  # fmt: skip


def _options(form: Form, query: str) -> dict[str, str]:
    try:
        found = dict(urllib.parse.parse_qsl(query, strict_parsing=bool(query), max_num_fields=5))
    except ValueError:
        raise _Wrong("what stands after the ? is not name=value") from None
    if set(found) - form.options:
        raise _Wrong(f"after the ? may stand: {', '.join(sorted(form.options)) or 'nothing'}")
    return found


def _is_plain(text: str) -> bool:
    """Tell whether a text can stand in a header: printable ASCII, no line breaks."""
    return text.isascii() and text.isprintable()
