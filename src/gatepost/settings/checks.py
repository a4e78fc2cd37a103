"""What no type can say of options: which belong together, which values make no sense beside others."""

import ipaddress
import re
from urllib.parse import urlsplit

from gatepost.settings.sections import Acme, Admission, Issuer, Settings

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


class InvalidSettings(Exception):  # noqa: N818
    """An option is unknown or has no valid value; the message names it and its source."""


def check(settings: Settings) -> None:
    """
    Refuse settings that contradict each other.

    Raises:
        InvalidSettings: The message names the option.
    """
    if any(seconds < 0 for seconds in settings.retry.schedule):
        raise InvalidSettings("retry.schedule: a wait cannot be negative")
    _check_marks(settings.admission)
    if settings.admission.body_bytes < settings.limits.message_bytes * 4 // 3 + 1024 * 1024:
        raise InvalidSettings("admission.body_bytes: the largest message has no room; lower limits.message_bytes, or give it more")
    for name, texts in (("http", settings.http.trusted_proxies), ("smtp", settings.smtp.trusted_proxies)):
        _check_networks(f"{name}.trusted_proxies", texts)
    if bool(settings.tls.cert) != bool(settings.tls.key):
        raise InvalidSettings("tls.cert and tls.key: give both or neither")
    _check_https(settings)
    _check_acme(settings.acme)
    known = {"sandbox", "mx", *settings.relays}
    if settings.egress.default_route not in known:
        raise InvalidSettings(f"egress.default_route: {settings.egress.default_route!r} is none of {', '.join(sorted(known))}")
    if settings.oidc.issuer and not settings.oidc.client_id:
        raise InvalidSettings("oidc.client_id: give the name under which the gateway is registered at oidc.issuer")
    if settings.oidc.issuer and not _is_safe_issuer(settings.oidc.issuer):
        raise InvalidSettings("oidc.issuer: give an https:// URL without query and fragment; http:// is taken on this machine only")
    for name, issuer in settings.oauth.issuers.items():
        _check_issuer(f"oauth.issuers.{name}", issuer)
    for name in settings.relays:
        if name in {"sandbox", "mx"} or not name.replace("-", "").replace("_", "").isalnum():
            raise InvalidSettings(f"relays.{name}: a relay's name has letters, digits, - and _, and is not sandbox or mx")


def _check_https(settings: Settings) -> None:
    https = settings.https
    if (https.client_certificates == "off") == bool(https.client_ca):
        raise InvalidSettings("https.client_certificates and https.client_ca: give both or neither")
    if settings.http.redirect_to_https and not https.listen:
        raise InvalidSettings("http.redirect_to_https: needs https.listen")
    if https.bound_keys and https.client_certificates == "off":
        raise InvalidSettings("https.bound_keys: needs https.client_certificates, or these keys would never work")
    for key_id, prints in https.bound_keys.items():
        if not all(_FINGERPRINT.fullmatch(one.replace(":", "").lower()) for one in prints):
            raise InvalidSettings(f"https.bound_keys: {key_id} needs SHA-256 fingerprints of 64 hexadecimal digits")
    for name in settings.tls.certificates:
        if not name.replace("-", "").replace("_", "").isalnum() or name == "default":
            raise InvalidSettings(f"tls.certificates.{name}: a name has letters, digits, - and _, and is not default")


def _check_acme(acme: Acme) -> None:
    if not acme.directory_url:
        return
    if not acme.directory_url.startswith("https://"):
        raise InvalidSettings("acme.directory_url: it begins with https://")
    if not acme.agree_to_terms:
        raise InvalidSettings("acme.agree_to_terms: read the authority's terms of service and set it to true")
    if not acme.domains:
        raise InvalidSettings("acme.domains: name at least one host")
    if bool(acme.eab_kid) != bool(acme.eab_key):
        raise InvalidSettings("acme.eab_kid and acme.eab_key: give both or neither")
    for name in acme.domains:
        if not _HOST.fullmatch(name):
            raise InvalidSettings(f"acme.domains: {name!r} is no full host name in lower case (wildcards need DNS challenges)")


def _check_marks(admission: Admission) -> None:
    for name in ("messages", "memory", "commit", "wait", "lag"):
        unit = {"messages": "", "memory": "_mb"}.get(name, "_s")
        soft, hard = f"{name}_soft{unit}", f"{name}_hard{unit}"
        if getattr(admission, soft) > getattr(admission, hard):
            raise InvalidSettings(f"admission.{soft}: the soft mark is at or before admission.{hard}")
    if admission.disk_soft_mb < admission.disk_hard_mb:
        raise InvalidSettings("admission.disk_soft_mb: the soft mark is at or above admission.disk_hard_mb")


def _check_networks(option: str, texts: list[str]) -> None:
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise InvalidSettings(f"{option}: {error}") from error


def _check_issuer(option: str, issuer: Issuer) -> None:
    if bool(issuer.jwks_url) == bool(issuer.jwks_file):
        raise InvalidSettings(f"{option}: give either jwks_url or jwks_file")
    if issuer.jwks_url and not _is_safe_issuer(issuer.jwks_url.partition("?")[0]):
        raise InvalidSettings(f"{option}.jwks_url: give an https:// URL; http:// is taken on this machine only")
    _check_networks(f"{option}.networks", issuer.networks)


def _is_safe_issuer(url: str) -> bool:
    """Tell whether a URL can be an issuer (OpenID Connect Discovery 1.0 §3)."""
    parsed = urlsplit(url)
    schemes = {"https", "http"} if parsed.hostname in {"127.0.0.1", "::1", "localhost"} else {"https"}
    return parsed.scheme in schemes and bool(parsed.hostname) and not (parsed.query or parsed.fragment)
