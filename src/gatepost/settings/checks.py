"""What no type can say of options: which belong together, which values make no sense beside others."""

import datetime as dt
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from gatepost.settings.delivery import SiteLimits, SourceAddress
from gatepost.settings.doors import Acme
from gatepost.settings.mailboxes import parse_imap_url
from gatepost.settings.sections import Admission, Issuer, Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_EHLO = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f.:IPv]{3,50}\]")
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
    for name, waits in settings.retry.classes.items():
        if not waits or any(seconds < 1 for seconds in waits):
            raise InvalidSettings(f"retry.classes.{name}: give waits of at least a second")
    if any(seconds < 0 for seconds in settings.webhooks.retry_schedule):
        raise InvalidSettings("webhooks.retry_schedule: a wait cannot be negative")
    _check_networks("webhooks.allow_networks", settings.webhooks.allow_networks)
    _check_marks(settings.admission)
    if settings.admission.body_bytes < settings.limits.message_bytes * 4 // 3 + 1024 * 1024:
        raise InvalidSettings("admission.body_bytes: the largest message has no room; lower limits.message_bytes, or give it more")
    for name, texts in (("http", settings.http.trusted_proxies), ("smtp", settings.smtp.trusted_proxies)):
        _check_networks(f"{name}.trusted_proxies", texts)
    if bool(settings.tls.cert) != bool(settings.tls.key):
        raise InvalidSettings("tls.cert and tls.key: give both or neither")
    if (settings.inbound.listen or settings.inbound.return_paths) and not settings.inbound.bounce_domain:
        raise InvalidSettings("inbound.bounce_domain: give the domain whose mail comes to this listener")
    _check_mailboxes(settings)
    _check_https(settings)
    _check_acme(settings.acme)
    _check_watch(settings)
    _check_pools(settings)
    check_route("egress.default_route", settings.egress.default_route, settings)
    _check_routes(settings)
    if settings.oidc.issuer and not settings.oidc.client_id:
        raise InvalidSettings("oidc.client_id: give the name under which the gateway is registered at oidc.issuer")
    if settings.oidc.issuer and not _is_safe_issuer(settings.oidc.issuer):
        raise InvalidSettings("oidc.issuer: give an https:// URL without query and fragment; http:// is taken on this machine only")
    for name, issuer in settings.oauth.issuers.items():
        _check_issuer(f"oauth.issuers.{name}", issuer)
    for name in settings.relays:
        if name in {"sandbox", "mx"} or not name.replace("-", "").replace("_", "").isalnum():
            raise InvalidSettings(f"relays.{name}: a relay's name has letters, digits, - and _, and is not sandbox or mx")


def check_route(name: str, route: str, settings: Settings) -> None:
    """
    Refuse a route whose roads do not exist, or that could let mail out of the sandbox.

    Args:
        name: The option, as the message shall name it.

    Raises:
        InvalidSettings: The message names option and road.
    """
    known = {"sandbox", "mx", *(f"mx:{pool}" for pool in settings.pools if pool != "default"), *settings.relays}
    roads = [road.strip() for road in route.split(",")]
    for road in roads:
        if road not in known:
            raise InvalidSettings(f"{name}: {road!r} is none of {', '.join(sorted(known))}")
    if len(set(roads)) < len(roads):
        raise InvalidSettings(f"{name}: a road stands there twice")
    if len(roads) > _MOST_ROADS:
        raise InvalidSettings(f"{name}: a route has at most {_MOST_ROADS} roads")
    if "sandbox" in roads and len(roads) > 1:
        raise InvalidSettings(f"{name}: sandbox stands alone, since its mail never leaves and other mail is never captured")


def _check_routes(settings: Settings) -> None:
    if settings.routing.breaker_longest_s < settings.routing.breaker_open_s:
        raise InvalidSettings("routing.breaker_longest_s: it is at least routing.breaker_open_s")
    for name, rule in settings.routes.items():
        if not _NAME.fullmatch(name) or name in {"sandbox", "mx", *settings.relays}:
            raise InvalidSettings(f"routes.{name}: a route's name has letters, digits, - and _, and is not a road's")
        roads = [_WEIGHT.sub("", road.strip()) for road in rule.roads.split(",")]
        check_route(f"routes.{name}.roads", ",".join(roads), settings)


_WEIGHT = re.compile(r":[0-9]{1,5}\Z")
_MOST_ROADS = 12


def _check_pools(settings: Settings) -> None:
    """A source in two pools would have two owners for a site, each with a budget of its own; so it stands in one."""
    for name, source in settings.sources.items():
        _check_source(f"sources.{name}", name, source, use_ipv6=settings.egress.use_ipv6)
        _check_shaping(f"sources.{name}.shaping", source.shaping)
    taken: dict[str, str] = {}
    for name, pool in settings.pools.items():
        if not _NAME.fullmatch(name):
            raise InvalidSettings(f"pools.{name}: a pool's name has letters, digits, - and _")
        for source_name in pool.sources:
            if source_name not in settings.sources:
                raise InvalidSettings(f"pools.{name}.sources: there is no [sources.{source_name}]")
            if source_name in taken:
                raise InvalidSettings(f"pools.{name}.sources: {source_name} is in the pool {taken[source_name]} already")
            taken[source_name] = name
        if strangers := set(pool.weights) - set(pool.sources):
            raise InvalidSettings(f"pools.{name}.weights: {', '.join(sorted(strangers))} is not among its sources")
        if not any(pool.weights.get(one, 1) for one in pool.sources):
            raise InvalidSettings(f"pools.{name}.weights: all of its sources rest")
        _check_shaping(f"pools.{name}.shaping", pool.shaping)
    _check_shaping("shaping", settings.shaping)


def _check_source(option: str, name: str, source: SourceAddress, *, use_ipv6: bool) -> None:
    if not _NAME.fullmatch(name) or name == "default":
        raise InvalidSettings(f"{option}: a source's name has letters, digits, - and _, and is not default")
    if source.address:
        try:
            ipaddress.ip_address(source.address)
        except ValueError as error:
            raise InvalidSettings(f"{option}.address: {error}") from error
        if ":" in source.address and not source.proxy and not use_ipv6:
            raise InvalidSettings(f"{option}.address: an IPv6 address needs egress.use_ipv6")
    if source.hostname and not _EHLO.fullmatch(source.hostname):
        raise InvalidSettings(f"{option}.hostname: {source.hostname!r} is no host name")
    if source.proxy:
        try:
            parsed = urlsplit(source.proxy)
            is_proxy = parsed.scheme == "socks5" and bool(parsed.hostname) and bool(parsed.port)
        except ValueError:
            is_proxy = False
        if not is_proxy:
            raise InvalidSettings(f"{option}.proxy: it is written socks5://[user:password@]host:port")


def _check_shaping(option: str, shaping: Mapping[str, SiteLimits]) -> None:
    for site, limits in shaping.items():
        check_limits(f'{option}."{site}"', limits)


def check_limits(option: str, limits: SiteLimits) -> None:
    """
    Refuse limits of a site that do not go together.

    Raises:
        InvalidSettings: The message names the option.
    """
    if bool(limits.warm_up_from) != bool(limits.warm_up):
        raise InvalidSettings(f"{option}: warm_up_from and warm_up belong together")
    if limits.warm_up_from:
        try:
            dt.date.fromisoformat(limits.warm_up_from)
        except ValueError as error:
            raise InvalidSettings(f"{option}.warm_up_from: {error}") from error


def _check_watch(settings: Settings) -> None:
    for text in settings.watch.addresses:
        try:
            ipaddress.ip_address(text)
        except ValueError as error:
            raise InvalidSettings(f"watch.addresses: {error}") from error
    for zone in settings.watch.blocklists:
        if not _HOST.fullmatch(zone):
            raise InvalidSettings(f"watch.blocklists: {zone!r} is no domain in lower case")
    for name, relay in settings.relays.items():
        if relay.status_url and not _is_safe_issuer(relay.status_url):
            raise InvalidSettings(f"relays.{name}.status_url: give an https:// URL; http:// is taken on this machine only")


def _check_mailboxes(settings: Settings) -> None:
    for table, entries in (("mailboxes", settings.mailboxes), ("seeds", settings.seeds)):
        for name, one in entries.items():
            if not _NAME.fullmatch(name):
                raise InvalidSettings(f"{table}.{name}: a name has letters, digits, - and _")
            try:
                url = parse_imap_url(one.url)
            except ValueError as error:
                raise InvalidSettings(f"{table}.{name}.url: {error}") from None
            if table == "seeds" and url.folder:
                raise InvalidSettings(f"seeds.{name}.url: it names no folder; see inbox and spam")
    for name, mailbox in settings.mailboxes.items():
        if (mailbox.when_read == "move") != bool(mailbox.move_to):
            raise InvalidSettings(f"mailboxes.{name}.move_to: it belongs to when_read = move")
        if mailbox.move_to.lower() == (parse_imap_url(mailbox.url).folder or "INBOX").lower():
            raise InvalidSettings(f"mailboxes.{name}.move_to: it is the folder that is read")
    if settings.mailboxes and not settings.inbound.bounce_domain:
        raise InvalidSettings("inbound.bounce_domain: without return paths of ours nothing that a mailbox holds could be believed")
    if settings.placement.daily and not settings.seeds:
        raise InvalidSettings("placement.daily: there is no seed: [seeds.NAME]")


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
