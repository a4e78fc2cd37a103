"""
The one vocabulary of refusals.

Every refusal at every door is a `Refused` with a stable snake_case code from `CATALOGUE`; the HTTP door writes it as an
RFC 9457 problem, the SMTP door as a reply with an enhanced status code (RFC 3463). A code is never changed once released.
"""

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """
    One kind of refusal.

    Attributes:
        code: Stable name, snake_case.
        status: HTTP status.
        smtp: SMTP reply code and enhanced status, such as `"550 5.7.1"`.
        title: Short, the same for every occurrence.
        advice: What the caller can do about it.
    """

    code: str
    status: int
    smtp: str
    title: str
    advice: str


_ALL = (
    ErrorCode("validation_failed", 422, "554 5.6.0", "The request is not valid", "Correct the fields named in errors and send it again."),
    ErrorCode(
        "malformed_request", 400, "501 5.5.4", "The request cannot be read", "Send a well-formed body; detail says where reading stopped."
    ),
    ErrorCode(
        "authentication_required",
        401,
        "530 5.7.0",
        "Authentication is required",
        "Send a valid API key: as a Bearer token over HTTP, as the AUTH password over SMTP.",
    ),
    ErrorCode(
        "authentication_failed",
        401,
        "535 5.7.8",
        "The credentials are not valid",
        "Check that the key is complete and not revoked; make a new one with gatepost key create.",
    ),
    ErrorCode("permission_denied", 403, "550 5.7.1", "This key may not do that", "Use a key that is allowed to do it."),
    ErrorCode(
        "tenant_suspended",
        403,
        "550 5.7.1",
        "This tenant is suspended",
        "Ask the operator of the gateway; queued mail is kept and goes on when the tenant is resumed.",
    ),
    ErrorCode(
        "domain_not_verified",
        403,
        "550 5.7.1",
        "The sender's domain is not verified",
        "Add the domain and publish its DNS records, then verify it.",
    ),
    ErrorCode(
        "encryption_required",
        403,
        "538 5.7.11",
        "An encrypted connection is required",
        "Use TLS: STARTTLS or the TLS port over SMTP, https over HTTP.",
    ),
    ErrorCode("not_found", 404, "550 5.1.1", "There is no such thing", "Check the identifier."),
    ErrorCode("method_not_allowed", 405, "502 5.5.1", "This method is not allowed here", "Use one of the methods in the Allow header."),
    ErrorCode("conflict", 409, "550 5.7.0", "The current state does not allow that", "Read the object again and decide anew."),
    ErrorCode(
        "idempotency_in_progress",
        409,
        "451 4.7.0",
        "The first request with this idempotency key is still running",
        "Repeat the request after Retry-After seconds.",
    ),
    ErrorCode("payload_too_large", 413, "552 5.3.4", "The message is too large", "Send less: detail names the limit."),
    ErrorCode(
        "unsupported_media_type",
        415,
        "554 5.6.1",
        "This content type is not supported",
        "Send the content type that the documentation names, without Content-Encoding.",
    ),
    ErrorCode(
        "all_recipients_suppressed",
        422,
        "550 5.7.1",
        "Every recipient is suppressed",
        "Remove the addresses from your list, or lift the suppressions.",
    ),
    ErrorCode(
        "idempotency_key_reused", 422, "554 5.7.0", "This idempotency key was used for another request", "Use a new key for a new request."
    ),
    ErrorCode(
        "content_refused",
        422,
        "554 5.7.1",
        "The content is not allowed",
        "Change the part named in errors; detail says which rule refused it.",
    ),
    ErrorCode(
        "mail_loop",
        422,
        "554 5.4.6",
        "The message runs in a loop",
        "Find the forwarding rule or the auto-responder that sends it here again.",
    ),
    ErrorCode("too_many_recipients", 422, "452 4.5.3", "Too many recipients", "Split the message: detail names the limit."),
    ErrorCode("rate_limited", 429, "452 4.7.1", "Too many requests", "Wait Retry-After seconds."),
    ErrorCode("quota_exceeded", 429, "452 4.7.1", "The quota is used up", "Wait until the quota renews, or ask for a larger one."),
    ErrorCode(
        "insufficient_balance",
        402,
        "452 4.7.1",
        "The prepaid balance is used up",
        "Add to the balance and send the message again.",
    ),
    ErrorCode(
        "internal_error",
        500,
        "451 4.3.0",
        "Something went wrong here",
        "Nothing was accepted. Try again; report the request id if it stays.",
    ),
    ErrorCode("overloaded", 503, "451 4.3.2", "The gateway is busy", "Try again after Retry-After seconds."),
    ErrorCode(
        "scanner_unavailable",
        503,
        "451 4.7.1",
        "The content cannot be scanned now",
        "Nothing was accepted. Try again after Retry-After seconds; the operator can let mail pass meanwhile: on_failure.",
    ),
    ErrorCode(
        "storage_unavailable",
        503,
        "451 4.3.1",
        "The message cannot be stored now",
        "Nothing was accepted. Try again after Retry-After seconds.",
    ),
)

CATALOGUE: Final[dict[str, ErrorCode]] = {error.code: error for error in _ALL}


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One fault in a request; or what its sender is warned of.

    Attributes:
        pointer: JSON pointer (RFC 6901) to the place, such as `/to/0`; over SMTP the header or parameter name.
        code: Stable snake_case name of the kind of fault.
        detail: One sentence for a person; never contains secrets.
        hint: What may have been meant, where that is known: a value to put there.
    """

    pointer: str
    code: str
    detail: str
    hint: str = ""


@dataclass(eq=False)
class Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """
    A request is refused; nothing of it took effect.

    Attributes:
        code: A key of `CATALOGUE`.
        detail: One sentence about this occurrence.
        faults: The places, where there are any.
        retry_after_s: Seconds after which trying again makes sense.
    """

    code: str
    detail: str = ""
    faults: tuple[Fault, ...] = field(default=())
    retry_after_s: int | None = None

    def __post_init__(self) -> None:
        if self.code not in CATALOGUE:
            raise ValueError(f"unknown error code {self.code}")
        super().__init__(self.code, self.detail)

    @property
    def kind(self) -> ErrorCode:
        """The catalogue's entry for this refusal."""
        return CATALOGUE[self.code]

    def __str__(self) -> str:
        places = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in self.faults)
        return ": ".join(part for part in (self.code, self.detail, places) if part)


def invalid(*faults: Fault) -> Refused:
    """Build the refusal of a request with faulty fields."""
    count = "1 field is not valid" if len(faults) == 1 else f"{len(faults)} fields are not valid"
    return Refused("validation_failed", count, faults)
