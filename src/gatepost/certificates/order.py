"""
One certificate from an authority: account, order, challenge, finalisation.

Arrives: what `[acme]` says, and a host name. Leaves: a PEM with a fresh key and the chain.
It blocks, for up to two minutes: run it in a thread. The conversation is the `acme` package's.
Standards: RFC 8555, RFC 8737 (tls-alpn-01).
Not here: when to order (renewal), who answers the challenge (http, net.server_tls).
Bugs: the first chain that is offered is taken.
"""

import contextlib
import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import requests
from acme import challenges, client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC

from gatepost import __version__
from gatepost.certificates.shelf import Shelf
from gatepost.settings import Acme

_NONCE_TRIES: Final = 5
_PATIENCE_S: Final = 90
_ACME_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


class OrderFailed(Exception):  # noqa: N818
    """No certificate; the message says what the authority said."""


@challenges.Challenge.register
class _TlsAlpn(challenges.KeyAuthorizationChallenge):
    """The challenge tls-alpn-01, which the `acme` package no longer knows."""

    typ = "tls-alpn-01"

    class Response(challenges.KeyAuthorizationChallengeResponse):
        """The answer to it, which says nothing."""

        typ = "tls-alpn-01"

    response_cls = Response

    def validation(self, account_key: JWK, **_: Any) -> str:
        """Return what the certificate holds the hash of."""
        return self.key_authorization(account_key)


class _Network(client.ClientNetwork):
    """Asks again when a nonce was too old: authorities throw them away when they like (RFC 8555 §6.5)."""

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(_NONCE_TRIES):
            with contextlib.suppress(errors.BadNonce):
                try:
                    return super().post(*args, **kwargs)
                except messages.Error as error:
                    if error.code != "badNonce":
                        raise
        return super().post(*args, **kwargs)


class _Account(msgspec.Struct, frozen=True, kw_only=True):
    """The account as it is kept."""

    directory_url: str
    key_pem: str
    url: str = ""


def order(acme: Acme, name: str, shelf: Shelf) -> bytes:
    """
    Get a certificate for a name; return PEM: the key, the certificate, its chain.

    Raises:
        OrderFailed: The authority refuses, cannot reach us, or cannot be reached.
    """
    try:
        return _order(acme, name, shelf)
    except errors.ValidationError as error:
        raise OrderFailed(_words_of(error)) from error
    except messages.Error as error:
        raise OrderFailed(_short(error.detail or error.description or error.typ)) from error
    except errors.TimeoutError as error:
        raise OrderFailed(f"the authority did not decide within {_PATIENCE_S} s") from error
    except requests.RequestException as error:
        raise OrderFailed(f"{acme.directory_url} cannot be reached: {_short(error)}") from error
    except (errors.Error, JoseError, ValueError, KeyError, OSError) as error:
        raise OrderFailed(f"{type(error).__name__}: {_short(error)}") from error


def _order(acme: Acme, name: str, shelf: Shelf) -> bytes:
    authority, account_key = _sign_in(acme, shelf)
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = authority.new_order(_request(key, name))
    deadline = dt.datetime.now() + dt.timedelta(seconds=_PATIENCE_S)  # noqa: DTZ005 - the package compares it with such
    with contextlib.ExitStack() as answers:
        for authorization in wanted.authorizations:
            if authorization.body.status == messages.STATUS_PENDING:
                challenge = _pick(authorization, acme.challenge)
                answers.enter_context(_answering(challenge, account_key, name, shelf))
                authority.answer_challenge(challenge, challenge.chall.response(account_key))
        wanted = authority.poll_authorizations(wanted, deadline)
    chain = authority.finalize_order(wanted, deadline).fullchain_pem
    leaf = x509.load_pem_x509_certificate(chain.encode())
    if leaf.public_key() != key.public_key():
        raise OrderFailed("the authority answered with a certificate for another key")
    return _pem(key) + chain.encode()


def _sign_in(acme: Acme, shelf: Shelf) -> tuple[client.ClientV2, JWK]:
    """Open the account, making one where there is none, or where the authority forgot it."""
    path = shelf.account(acme.directory_url)
    account = _read_account(path) or _Account(
        directory_url=acme.directory_url, key_pem=_pem(ec.generate_private_key(ec.SECP256R1())).decode()
    )
    key = JWKEC.load(account.key_pem.encode())
    network = _Network(key, alg=ES256, verify_ssl=cast("bool", acme.ca_file or True), user_agent=f"gatepost/{__version__}")
    authority = client.ClientV2(client.ClientV2.get_directory(acme.directory_url, network), network)
    if account.url:
        network.account = messages.RegistrationResource(uri=account.url, body=messages.Registration())
        with contextlib.suppress(messages.Error):
            authority.query_registration(network.account)
            return authority, key
    shelf.write_json(path, msgspec.structs.replace(account, url=_register(acme, authority, key)))
    return authority, key


def _register(acme: Acme, authority: client.ClientV2, key: JWK) -> str:
    """Make an account, or find the one that this key has; return its URL."""
    network = authority.net
    network.account = None
    binding = None
    if acme.eab_kid:
        binding = messages.ExternalAccountBinding.from_data(key.public_key(), acme.eab_kid, acme.eab_key, authority.directory)
    elif authority.external_account_required():
        raise OrderFailed("the authority wants an external account: set acme.eab_kid and acme.eab_key")
    contact = tuple(one if ":" in one else f"mailto:{one}" for one in acme.contact)
    wanted = messages.NewRegistration.from_data(contact=contact, terms_of_service_agreed=True, external_account_binding=binding)
    try:
        return str(authority.new_account(wanted).uri)
    except errors.ConflictError as error:
        network.account = messages.RegistrationResource(uri=error.location, body=messages.Registration())
        return str(error.location)


def _read_account(path: Path) -> _Account | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Account)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise OrderFailed(f"{path} is damaged: put it back from a backup, or remove it to make a new account") from error


def _pick(authorization: messages.AuthorizationResource, kind: str) -> messages.ChallengeBody:
    found = {one.chall.typ: one for one in authorization.body.challenges}
    if kind not in found:
        raise OrderFailed(f"the authority does not offer {kind}, but {', '.join(sorted(map(str, found)))}")
    return found[kind]


@contextlib.contextmanager
def _answering(challenge: messages.ChallengeBody, account_key: JWK, name: str, shelf: Shelf) -> Iterator[None]:
    answer = challenge.chall.key_authorization(account_key)
    if challenge.chall.typ == _TlsAlpn.typ:
        path = shelf.put_certificate(name, _challenge_certificate(name, answer))
    else:
        path = shelf.put_answer(challenge.chall.encode("token"), answer)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _challenge_certificate(name: str, answer: str) -> bytes:
    """Make the self-signed certificate that holds the answer (RFC 8737 §3)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME challenge")])
    now = dt.datetime.now(dt.UTC)
    digest = b"\x04\x20" + hashlib.sha256(answer.encode()).digest()  # a DER OCTET STRING of 32 bytes
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_ACME_IDENTIFIER, digest), critical=True)
    )
    return _pem(key) + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _words_of(error: errors.ValidationError) -> str:
    told = [one.error.detail for authorization in error.failed_authzrs for one in authorization.body.challenges if one.error is not None]
    return _short("; ".join(str(one) for one in told) or error)


def _short(text: object) -> str:
    return " ".join(str(text).split())[:300]
