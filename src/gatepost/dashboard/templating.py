"""
Templates and static files: loaded once, never fetched from outside.

Leaves: a Jinja2 environment that escapes everything, and the static files in memory under names that hold their hash, so
that browsers may keep them for good.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gatepost.clock import DAY, HOUR, MINUTE, SECOND, Instant, iso

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One static file."""

    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """All static files, by the name in their URL; `urls` maps a file's own name to that URL."""

    by_name: dict[str, Asset]
    urls: dict[str, str]


def load_assets() -> Assets:
    """Read the static files that come with the package."""
    by_name, urls = {}, {}
    folder = files(__package__).joinpath("static")
    for entry in [*folder.iterdir(), *folder.joinpath("vendor").iterdir()]:
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix not in _TYPES:
            continue
        content = entry.read_bytes()
        name = f"{hashlib.sha256(content).hexdigest()[:12]}-{entry.name}"
        by_name[name] = Asset(content_type=_TYPES[suffix], content=content)
        urls[entry.name] = f"/static/{name}"
    return Assets(by_name=by_name, urls=urls)


def make_environment(assets: Assets) -> Environment:
    """Make the environment; a name that a template uses and nobody gave is an error, not an empty string."""
    environment = Environment(
        loader=PackageLoader("gatepost.dashboard"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(iso=iso, exact=exact, ago=ago, size=size, took=took, plural=plural, browser=browser, span=span, share=share)
    environment.globals["asset"] = assets.urls
    return environment


def render(environment: Environment, name: str, **values: Any) -> str:
    """Render a template."""
    return environment.get_template(name).render(**values)


def exact(at: Instant) -> str:
    """Write an instant for people: `2026-11-24 02:00:00 UTC`."""
    return dt.datetime.fromtimestamp(at / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(at: Instant, now: Instant) -> str:
    """Write an instant as people say it: `3 min ago`, `in 2 h`, and the date when it is far away."""
    distance = abs(now - at)
    if distance < 5 * SECOND:
        return "now"
    if distance >= 7 * DAY:
        return dt.datetime.fromtimestamp(at / 1000, dt.UTC).strftime("%-d %b %Y")
    for unit, length in (("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND)):
        if distance >= length:
            text = f"{distance // length} {unit}"
            return f"in {text}" if at > now else f"{text} ago"
    return "now"


def size(count: int) -> str:
    """Write a number of bytes: `5.2 KB`."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} KB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def took(milliseconds: int) -> str:
    """Write how long something took: `240 ms`, `1.3 s`."""
    if milliseconds < SECOND:
        return f"{milliseconds} ms"
    return f"{milliseconds / SECOND:.1f} s" if milliseconds < MINUTE else f"{milliseconds / MINUTE:.1f} min"


def span(seconds: int) -> str:
    """Write a length of time that somebody set: `90 s`, `12 h`, `3 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def share(value: float | None) -> str:
    """Write a rate: `99.2 %`, more exactly where it is small; a dash for a rate of nothing."""
    if value is None:
        return "–"
    return f"{value:.3%}" if 0 < value < 0.001 else f"{value:.2%}" if value < 0.1 else f"{value:.1%}"


def plural(count: int, word: str) -> str:
    """Write a count with its noun: `1 recipient`, `3 recipients`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
_SYSTEMS = {"Android": "Android", "iPhone": "iPhone", "iPad": "iPad", "Windows": "Windows", "Mac OS": "macOS", "Linux": "Linux"}


def browser(agent: str) -> str:
    """Write a browser's name for itself as people know it: `Firefox on Linux`."""
    name = next((shown for part, shown in _BROWSERS.items() if f"{part}/" in agent), "unknown browser")
    system = next((shown for part, shown in _SYSTEMS.items() if part in agent), "")
    return f"{name} on {system}" if system else name
