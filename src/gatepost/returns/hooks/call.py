"""
What every provider's hook has: a call, a refusal, and what the call says.

Not here: any provider's own form (one module each), keeping calls (desk).
"""

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

import msgspec

from gatepost.domain.outcome import Category, Reply
from gatepost.domain.severity import Severity
from gatepost.domain.statement import Said
from gatepost.policy.classify import NO_RULE, judge
from gatepost.policy.classify import Statement as Words

MOST_EVENTS: Final = 5_000
_DEEPEST: Final = 30


class NotBelieved(Exception):  # noqa: N818
    """A call is not the provider's; the text says why, and holds no secret."""


class NotNow(Exception):  # noqa: N818
    """Whether it is the provider's cannot be told now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCall:
    """
    A call.

    Attributes:
        headers: By name in lower case.
    """

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    now_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """
    One event of a provider, about one recipient.

    Attributes:
        event_id: The provider's, the same when it calls again.
        provider_ids: What the provider calls the message, the likeliest first.
        rule: What named the category.
    """

    event_id: str
    said: Said
    provider_ids: tuple[str, ...]
    address: str = field(default="", repr=False)
    category: Category | None = None
    rule: str = ""
    stated: Severity | None = None
    reply: Reply | None = field(default=None, repr=False)
    host: str = ""
    detail: dict[str, str] = field(default_factory=dict, repr=False)


class Hook(Protocol):
    """One relay's hook."""

    async def verify(self, call: HookCall) -> dict[str, str]:
        """
        Find out whether a call is the provider's, before anything of it counts; return what `read` needs beside the body.

        Raises:
            NotBelieved: It is not.
            NotNow: It cannot be told.
        """
        ...

    def read(self, body: bytes, details: Mapping[str, Any]) -> Sequence[Occurrence]:
        """
        Read a call that was believed.

        Raises:
            ValueError: It has no form that is known.
        """
        ...


def check_shared(secret: str, headers: Mapping[str, str]) -> None:
    """
    Check a secret that provider and gateway share: `Authorization: Basic` with user:password, or `Bearer`.

    Raises:
        NotBelieved: It is another one, or none.
    """
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    found = shown.strip().encode()
    if scheme.lower() == "basic":
        try:
            found = base64.b64decode(found, validate=True)
        except binascii.Error:
            raise NotBelieved("the Authorization header cannot be read") from None
    elif scheme.lower() != "bearer":
        raise NotBelieved("there is no Authorization header with the secret")
    if not hmac.compare_digest(found, secret.encode()):
        raise NotBelieved("the secret is another one")


def objects_of(body: bytes) -> list[dict[str, Any]]:
    """
    Read a body of one object, or a list of them.

    Raises:
        ValueError: It is neither.
    """
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"no JSON: {type(error).__name__}") from None
    listed = found if isinstance(found, list) else [found]
    if len(listed) > MOST_EVENTS or not all(isinstance(one, dict) for one in listed):
        raise ValueError("neither an object nor a list of some")
    return listed


def table(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object inside an object; an empty one where there is none."""
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def text(found: Mapping[str, Any], *names: str, most: int = 1_000) -> str:
    """Return the first of some values that is a text or a number."""
    for name in names:
        value = found.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            return str(value)[:most]
    return ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A refusal in a provider's words, understood."""

    category: Category
    rule: str
    reply: Reply | None


def judged(words: str, status: str = "", code: str = "", *, otherwise: Category = Category.UNDETERMINED, rule: str = "") -> Judged:
    """
    Name the reason of a refusal: by the one classifier, and by what the provider says where that knows none.

    Args:
        status: Enhanced status code.
        code: Reply code.
        otherwise: What the provider's own code means.
        rule: Names that code.
    """
    said = words if words[:3].isdigit() or not code.isdigit() else f"{code} {words}"
    found = judge([Words(text=said, status=status)])
    category, by = found.category, found.rule
    if category is Category.UNDETERMINED and otherwise is not Category.UNDETERMINED:
        category, by = otherwise, rule
    reply = Reply(code=found.smtp_code or 0, enhanced=found.enhanced_code, text=words[:1_000]) if words or found.smtp_code else None
    return Judged(category, "" if by == NO_RULE else by, reply)


class SharedSecretHook:
    """
    The hook of a provider that signs nothing and shows a secret instead.

    Attributes:
        wanted: What the secret is, and where it was given to the provider; for whoever left it out.
    """

    wanted: ClassVar[str]

    def __init__(self, secret: str) -> None:
        """
        Args:
            secret: A token, or user:password.

        Raises:
            ValueError: There is none.
        """
        if not secret:
            raise ValueError(f"hook.secret: give {self.wanted}")
        self._secret = secret

    async def verify(self, call: HookCall) -> dict[str, str]:
        """Check the secret."""
        check_shared(self._secret, call.headers)
        return {}

    def read(self, body: bytes, _details: Mapping[str, Any]) -> Sequence[Occurrence]:
        """Read one event or a list of them."""
        return [one for found in objects_of(body) if (one := self.occurrence(found)) is not None]

    def occurrence(self, found: dict[str, Any]) -> Occurrence | None:
        """Read one event; None for one that says nothing here."""
        raise NotImplementedError
