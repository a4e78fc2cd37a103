"""
Every option once: name, type, default and help, from which the example file, the documentation and
`gatepost settings` are made.

Sources, weakest first: the default, `DIR/gatepost.toml`, the environment (`GATEPOST_HTTP__LISTEN`; `…_FILE` names a file
that holds the value, for secrets), command-line flags. An unknown option is refused: a typo must not silently change
how mail is sent.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

_PREFIX = "GATEPOST_"


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of options."""


class Database(Section, frozen=True):
    """Where state is kept."""

    url: Annotated[str, Meta(description="postgresql://user:password@host/name, or empty for SQLite in the data directory")] = ""
    pool_size: Annotated[int, Meta(ge=2, le=100, description="PostgreSQL connections per process")] = 8


class Http(Section, frozen=True):
    """The HTTP door."""

    listen: Annotated[str, Meta(description="host:port of the API and the pages; empty switches the door off")] = "127.0.0.1:8025"
    max_connections: Annotated[int, Meta(ge=1, description="open connections at once")] = 2_000
    header_timeout_s: Annotated[int, Meta(ge=1, description="time a client has for its request, and between requests")] = 30
    show_content: Annotated[
        bool, Meta(description="let the pages show the content of mail that really was sent, not only of sandboxed mail")
    ] = False


class Smtp(Section, frozen=True):
    """The SMTP submission door, with STARTTLS."""

    listen: Annotated[str, Meta(description="host:port; empty switches the door off")] = "127.0.0.1:2525"
    hostname: Annotated[str, Meta(description="name in the greeting; empty is this machine's name")] = ""
    max_connections: Annotated[int, Meta(ge=1, description="open connections at once")] = 2_000
    max_connections_per_peer: Annotated[int, Meta(ge=1, description="open connections at once from one address outside loopback")] = 100
    command_timeout_s: Annotated[int, Meta(ge=1, description="time a client has for its next command (RFC 5321 §4.5.3.2.7)")] = 300
    data_timeout_s: Annotated[int, Meta(ge=1, description="time a client has to send a whole message")] = 600


class Smtps(Section, frozen=True):
    """The SMTP submission door with TLS from the first byte (RFC 8314)."""

    listen: Annotated[str, Meta(description="host:port; empty switches the door off")] = ""


class Tls(Section, frozen=True):
    """Certificate of the SMTP doors."""

    cert: Annotated[str, Meta(description="PEM file with the certificate chain; STARTTLS is offered when it is given")] = ""
    key: Annotated[str, Meta(description="PEM file with the private key")] = ""


class Egress(Section, frozen=True):
    """How mail leaves."""

    default_route: Annotated[str, Meta(description="sandbox (nothing leaves), mx (straight to recipients' servers), or a relay's name")] = (
        "sandbox"
    )
    hostname: Annotated[str, Meta(description="EHLO name and domain of Message-IDs; empty is this machine's name")] = ""
    source_address: Annotated[str, Meta(description="local address to connect from; empty lets the system choose")] = ""
    mx_port: Annotated[int, Meta(ge=1, le=65535, description="port of recipients' servers")] = 25
    connections_per_site: Annotated[int, Meta(ge=1, le=1000, description="connections at once to one site on route mx")] = 10
    connections_per_relay: Annotated[int, Meta(ge=1, le=1000, description="connections at once to one relay")] = 20
    messages_per_connection: Annotated[int, Meta(ge=1, description="messages after which a connection is closed")] = 1_000
    idle_connection_s: Annotated[int, Meta(ge=0, description="how long an idle connection is kept for the next message")] = 5
    connect_timeout_s: Annotated[int, Meta(ge=1, description="time for connecting to one address")] = 30
    timeout_scale: Annotated[float, Meta(gt=0, description="factor on the timeouts of RFC 5321 §4.5.3.2")] = 1.0
    use_ipv6: Annotated[bool, Meta(description="connect to IPv6 addresses too")] = False


class Relay(Section, frozen=True):
    """One SMTP smarthost."""

    url: Annotated[
        str,
        Meta(
            description="smtp://[user:password@]host:port, smtps:// for TLS from the first byte;"
            " ?tls=never|may|must (default: may, must with a password)"
        ),
    ]


class Dns(Section, frozen=True):
    """The resolver."""

    server: Annotated[str, Meta(description="host:port of the resolver; empty is the system's")] = ""
    timeout_s: Annotated[float, Meta(gt=0, description="time for one answer")] = 5.0


_SCHEDULE = [60, 300, 900, 1800, 3600, 7200, 10800, 14400]


class Retry(Section, frozen=True):
    """What happens after a refusal for now."""

    schedule: Annotated[
        list[int],
        Meta(min_length=1, max_length=100, description="seconds to wait after attempt 1, 2, …; the last one repeats until max_age_s"),
    ] = msgspec.field(default_factory=lambda: list(_SCHEDULE))
    max_age_s: Annotated[int, Meta(ge=60, description="give up this long after a message was due, unless it says otherwise itself")] = (
        72 * 3600
    )
    jitter: Annotated[float, Meta(ge=0, le=0.9, description="random share of each wait, so that retries do not come in waves")] = 0.1


class Limits(Section, frozen=True):
    """Bounds on what the doors take."""

    message_bytes: Annotated[int, Meta(ge=1024, description="size of a composed message")] = 25 * 1024 * 1024
    recipients: Annotated[int, Meta(ge=1, le=1000, description="recipients of one message")] = 50
    batch_messages: Annotated[int, Meta(ge=1, le=500, description="messages of one batch, personalizations included")] = 500
    attachments: Annotated[int, Meta(ge=0, description="attachments of one message")] = 50
    header_bytes: Annotated[int, Meta(ge=1024, description="size of all header fields together")] = 256 * 1024
    headers: Annotated[int, Meta(ge=1, description="number of header fields")] = 500
    line_bytes: Annotated[
        int, Meta(ge=998, description="length of one line of a raw message, without CRLF (RFC 5322 §2.1.1 asks for at most 998)")
    ] = 998
    mime_depth: Annotated[int, Meta(ge=1, le=100, description="nesting of MIME parts")] = 20
    mime_parts: Annotated[int, Meta(ge=1, le=10_000, description="number of MIME parts")] = 500
    schedule_ahead_s: Annotated[int, Meta(ge=0, description="how far ahead a message may be scheduled")] = 30 * 86400


class Log(Section, frozen=True):
    """The mail log: one JSON line per business event, on standard error."""

    level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")] = "info"
    mask_addresses: Annotated[bool, Meta(description="write a***@example.net instead of recipients' addresses")] = True


class Workers(Section, frozen=True):
    """Processes of `gatepost serve`."""

    dispatch: Annotated[int, Meta(ge=0, le=64, description="dispatch processes; 0 is one per core beyond the first, at least one")] = 0
    lease_s: Annotated[float, Meta(ge=1, description="a dispatch process that is silent for so long loses its shards")] = 15.0
    longest_pause_s: Annotated[
        float, Meta(ge=0.2, le=3600, description="longest wait before a process that keeps dying is started again; the first waits 0.2 s")
    ] = 30.0


class Settings(Section, frozen=True):
    """All options."""

    database: Database = Database()
    http: Http = Http()
    smtp: Smtp = Smtp()
    smtps: Smtps = Smtps()
    tls: Tls = Tls()
    egress: Egress = Egress()
    relays: dict[str, Relay] = msgspec.field(default_factory=dict)
    dns: Dns = Dns()
    retry: Retry = Retry()
    limits: Limits = Limits()
    log: Log = Log()
    workers: Workers = Workers()


class InvalidSettings(Exception):  # noqa: N818
    """An option is unknown or has no valid value; the message names it and its source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """
    One option with its value.

    Attributes:
        name: Dotted path such as `http.listen`.
        origin: `default`, the file's path, the variable's name, or `flag`.
    """

    name: str
    value: Any
    default: Any
    help: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings with where each option came from."""

    settings: Settings
    origins: Mapping[str, str]
    data_dir: Path


def load(data_dir: Path, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None) -> Loaded:
    """
    Read the settings of a data directory.

    Args:
        environ: The environment; None is the process's own.
        flags: Dotted option names with values, the strongest source.

    Raises:
        InvalidSettings: The file cannot be read, an option is unknown or its value is not valid.
    """
    environ = os.environ if environ is None else environ
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    path = data_dir / "gatepost.toml"
    if path.exists():
        _merge(tree, origins, _read_file(path), str(path))
    for name, (value, origin) in _from_environment(environ).items():
        _set(tree, name, value)
        origins[name] = origin
    for name, value in (flags or {}).items():
        _set(tree, name, value)
        origins[name] = "flag"
    return Loaded(settings=_convert(tree, origins), origins=origins, data_dir=data_dir)


def options(loaded: Loaded) -> list[Option]:
    """List every option with its value, its default and where the value came from."""
    found = []
    for section, kind in get_type_hints(Settings).items():
        group = getattr(loaded.settings, section)
        if section == "relays":
            found += [_option(loaded, f"relays.{name}", Relay, relay) for name, relay in group.items()]
        else:
            found.append(_option(loaded, section, kind, group))
    return [option for group_options in found for option in group_options]


def _option(loaded: Loaded, prefix: str, kind: type[Struct], group: Struct) -> list[Option]:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    return [
        Option(
            name=f"{prefix}.{name}",
            value=getattr(group, name),
            default=_default_of(field),
            help=_help_of(field.type),
            origin=loaded.origins.get(f"{prefix}.{name}", "default"),
        )
        for name, field in fields.items()
    ]


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else None


def _help_of(annotation: Any) -> str:
    metas = [arg for arg in get_args(annotation) if isinstance(arg, Meta)] if get_origin(annotation) is Annotated else []
    return next((meta.description for meta in metas if meta.description), "")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSettings(f"{path}: {error}") from error


def _merge(tree: dict[str, Any], origins: dict[str, str], values: dict[str, Any], origin: str, prefix: str = "") -> None:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            _merge(tree, origins, value, origin, f"{name}.")
        else:
            _set(tree, name, value)
            origins[name] = origin


def _set(tree: dict[str, Any], name: str, value: Any) -> None:
    *parents, leaf = name.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise InvalidSettings(f"{name}: {parent} is not a section")
    tree[leaf] = value


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Map `GATEPOST_A__B` to `a.b`; variables without `__` (such as GATEPOST_DATA) are not options."""
    found = {}
    for variable, text in environ.items():
        if not variable.startswith(_PREFIX) or "__" not in variable:
            continue
        name = variable.removeprefix(_PREFIX).lower().replace("__", ".")
        if name.endswith("_file") and not _is_option(name):
            found[name.removesuffix("_file")] = (parse_value(_read_secret(variable, text)), variable)
        else:
            found[name] = (parse_value(text), variable)
    return found


def _is_option(name: str) -> bool:
    section, _, leaf = name.partition(".")
    kind = get_type_hints(Settings).get(section)
    return isinstance(kind, type) and leaf in {field.name for field in msgspec.structs.fields(kind)}


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{variable}: {error}") from error


def parse_value(text: str) -> Any:
    """Read lists, numbers and booleans as TOML writes them; anything else is a string and needs no quotes."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _convert(tree: dict[str, Any], origins: Mapping[str, str]) -> Settings:
    try:
        # strict=False: a flag or a variable may hold "8025" where a number is meant, or 8025 where a string is.
        settings = msgspec.convert(_stringify(tree, Settings), Settings, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidSettings(_explain(str(error), origins)) from error
    _check(settings)
    return settings


def _stringify(tree: dict[str, Any], kind: Any) -> dict[str, Any]:
    """Turn scalars into text where the option is text: `parse_value` cannot know that a password of digits is no number."""
    hints = get_type_hints(kind)
    shaped: dict[str, Any] = {}
    for key, value in tree.items():
        hint = hints.get(key)
        if isinstance(value, dict) and isinstance(hint, type) and issubclass(hint, Struct):
            shaped[key] = _stringify(value, hint)
        elif isinstance(value, dict) and key == "relays" and kind is Settings:
            shaped[key] = {name: _stringify(relay, Relay) if isinstance(relay, dict) else relay for name, relay in value.items()}
        else:
            shaped[key] = str(value) if hint is str and isinstance(value, int | float) and not isinstance(value, bool) else value
    return shaped


def _explain(text: str, origins: Mapping[str, str]) -> str:
    what, _, place = text.partition(" - at `$.")
    name = place.rstrip("`")
    origin = origins.get(name)
    return f"{name or 'settings'}: {what}" + (f" (from {origin})" if origin else "")


def _check(settings: Settings) -> None:
    if any(seconds < 0 for seconds in settings.retry.schedule):
        raise InvalidSettings("retry.schedule: a wait cannot be negative")
    if bool(settings.tls.cert) != bool(settings.tls.key):
        raise InvalidSettings("tls.cert and tls.key: give both or neither")
    known = {"sandbox", "mx", *settings.relays}
    if settings.egress.default_route not in known:
        raise InvalidSettings(f"egress.default_route: {settings.egress.default_route!r} is none of {', '.join(sorted(known))}")
    for name in settings.relays:
        if name in {"sandbox", "mx"} or not name.replace("-", "").replace("_", "").isalnum():
            raise InvalidSettings(f"relays.{name}: a relay's name has letters, digits, - and _, and is not sandbox or mx")
