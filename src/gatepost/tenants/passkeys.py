"""
Passkeys: what a browser is asked, and whether its answer is right.

Arrives: a challenge, the address of the pages, the browser's JSON. Leaves: a passkey, or its next signature count.
The address is checked in the answer twice, as origin and as relying party: a page elsewhere gets nothing that is worth
anything here. Attestation is not asked for: which make an authenticator is of is the person's own business.
Standards: Web Authentication Level 3 §7.1, §7.2.
Not here: whose passkey it is and what it opens (sign_in), that a challenge counts once (sign_in_tickets).
"""

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from gatepost.clock import Instant
from gatepost.domain.errors import Refused
from gatepost.domain.person import Passkey, Person
from gatepost.store.people import bytes_of

_TIMEOUT_MS = 300_000
_MAX_JSON = 12_000
NAME = "Gatepost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """
    Where the pages are.

    Attributes:
        origin: Such as `https://gate.example.com`.
    """

    origin: str

    @property
    def host(self) -> str:
        """The relying party's id: the name alone."""
        return urlsplit(self.origin).hostname or ""

    @property
    def can_have_passkeys(self) -> bool:
        """True where browsers offer them: under a name, over TLS or on this machine."""
        is_secure = self.origin.startswith("https://") or self.host == "localhost" or self.host.endswith(".localhost")
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return is_secure and bool(self.host)
        return False


def make_challenge() -> str:
    """Make a challenge, base64url."""
    return secrets.token_urlsafe(32)


def registration_options(site: Site, person: Person, known: Sequence[Passkey], challenge: str) -> str:
    """Return what a browser is asked to make a passkey with, as JSON."""
    from webauthn import generate_registration_options, options_to_json  # noqa: PLC0415 - only who uses passkeys needs it
    from webauthn.helpers import structs  # noqa: PLC0415

    return options_to_json(
        generate_registration_options(
            rp_id=site.host,
            rp_name=NAME,
            user_id=person.id.encode(),
            user_name=person.email,
            user_display_name=person.name,
            challenge=bytes_of(challenge),
            timeout=_TIMEOUT_MS,
            authenticator_selection=structs.AuthenticatorSelectionCriteria(
                resident_key=structs.ResidentKeyRequirement.PREFERRED, user_verification=structs.UserVerificationRequirement.PREFERRED
            ),
            exclude_credentials=[structs.PublicKeyCredentialDescriptor(id=bytes_of(one.id)) for one in known],
        )
    )


def read_registration(site: Site, person: Person, answer: str, challenge: str, name: str, now: Instant) -> Passkey:
    """
    Check a browser's new passkey.

    Raises:
        Refused: authentication_failed.
    """
    from webauthn import verify_registration_response  # noqa: PLC0415
    from webauthn.helpers import bytes_to_base64url  # noqa: PLC0415

    try:
        found = verify_registration_response(
            credential=_object(answer), expected_challenge=bytes_of(challenge), expected_rp_id=site.host, expected_origin=site.origin
        )
    except Exception as error:  # the library has errors of its own, and lets others through for odd input
        raise _wrong() from error
    return Passkey(
        id=bytes_to_base64url(found.credential_id), person_id=person.id, name=name, public_key=found.credential_public_key,
        sign_count=found.sign_count, created_at=now,
    )  # fmt: skip


def authentication_options(site: Site, allowed: Sequence[Passkey], challenge: str) -> str:
    """
    Return what a browser is asked to sign with a passkey, as JSON.

    Args:
        allowed: The person's passkeys; with none, the browser offers those that it has for these pages, and its owner must
            unlock it, since the passkey is all that is asked for.
    """
    wanted = {
        "challenge": challenge,
        "timeout": _TIMEOUT_MS,
        "rpId": site.host,
        "allowCredentials": [{"type": "public-key", "id": one.id} for one in allowed],
        "userVerification": "preferred" if allowed else "required",
    }
    return msgspec.json.encode(wanted).decode()


def passkey_id_of(answer: str) -> str:
    """
    Return the id of the passkey that a browser's answer was signed with, before it is checked.

    Raises:
        Refused: authentication_failed.
    """
    found = _object(answer).get("id")
    if not isinstance(found, str) or not 1 <= len(found) <= 1400:
        raise _wrong()
    return found.rstrip("=")


def read_signature(site: Site, passkey: Passkey, answer: str, challenge: str, *, is_alone: bool) -> int:
    """
    Check what a browser signed; return the passkey's new count of signatures.

    Args:
        is_alone: No password was given: the authenticator must say that its owner unlocked it.

    Raises:
        Refused: authentication_failed.
    """
    from webauthn import verify_authentication_response  # noqa: PLC0415

    try:
        found = verify_authentication_response(
            credential=_object(answer), expected_challenge=bytes_of(challenge), expected_rp_id=site.host, expected_origin=site.origin,
            credential_public_key=passkey.public_key, credential_current_sign_count=passkey.sign_count, require_user_verification=is_alone,
        )  # fmt: skip
    except Exception as error:
        raise _wrong() from error
    return int(found.new_sign_count)


def _object(answer: str) -> dict[str, object]:
    if len(answer) > _MAX_JSON:
        raise _wrong()
    try:
        return msgspec.json.decode(answer, type=dict[str, object])
    except msgspec.DecodeError:
        raise _wrong() from None


def _wrong() -> Refused:
    return Refused("authentication_failed", "the passkey was not accepted: load the page again and repeat it")
