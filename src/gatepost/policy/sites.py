"""
Which mail system takes a domain: the site whose budget its mail uses.

Arrives: a domain and what DNS says of its mail hosts. Leaves: the site's name: that of a known system (sites.toml, and an
operator's file over it), else the registrable name of the best mail host. A domain without mail hosts, or with its own address
for one, is its own system.
Why no public suffix list: 15,000 lines that age, for one question, and not the question that they answer: hosts of one
operator shall be together, whoever may register below a name. Country domains with well-known categories (co.uk, com.br) are
cut one label later. Where the rule is wrong it is mostly too narrow: then an operator's budget is kept in two parts.
Not here: asking DNS (net.dns), remembering answers (dispatch.resolving), what a site may get (shaping).
Bugs: below rare categories (city.tokyo.jp, lg.jp) strangers share a site; operators can name them in their file.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

_CATEGORIES = frozenset(
    [
        "ac", "adv", "art", "asn", "asso", "biz", "blog", "co", "com", "conf", "coop", "ed", "edu", "eng", "firm", "gen", "go", "gob",
        "gouv", "gov", "govt", "gr", "gv", "id", "ind", "inf", "info", "int", "k12", "lg", "ltd", "me", "med", "mil", "mobi", "museum",
        "name", "ne", "net", "ngo", "nhs", "nic", "nom", "or", "org", "plc", "police", "pp", "press", "priv", "pro", "psi", "pub", "rec",
        "sch", "school", "store", "tm", "travel", "tv", "web",
    ]
)  # fmt: skip
"""Second labels of country domains below which strangers register."""


class InvalidSites(Exception):  # noqa: N818
    """An operator's table of mail systems cannot be used; one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSystem:
    """
    One mail system.

    Attributes:
        site: Its key, such as `google`.
        name: For people.
        mx: Suffixes of its mail hosts' names.
        docs: Where it tells senders what it asks of them; may be empty.
    """

    site: str
    name: str
    mx: tuple[str, ...]
    docs: str = ""


class Sites:
    """
    The table of known systems.

    Attributes:
        systems: By site.
    """

    def __init__(self, systems: Mapping[str, KnownSystem]) -> None:
        self.systems = dict(systems)
        self._by_suffix = {suffix: one.site for one in self.systems.values() for suffix in one.mx}

    def of_domain(self, domain: str, hosts: Sequence[tuple[int, str]] = ()) -> str:
        """
        Name the site that takes a domain's mail.

        Args:
            domain: A-labels, lower case.
            hosts: Its mail hosts as (preference, name); none where its own address is meant, or where it takes no mail.
        """
        if not hosts:
            return domain
        best = min(preference for preference, _ in hosts)
        names = sorted(name for preference, name in hosts if preference == best)
        known = [site for name in names if (site := self.of_host(name)) is not None]
        return min(known) if known else min(registrable(name) for name in names)

    def of_host(self, host: str) -> str | None:
        """Name the known system that a mail host belongs to; None where there is none."""
        name = host
        while name:
            if (site := self._by_suffix.get(name)) is not None:
                return site
            name = name.partition(".")[2]
        return None

    def name_of(self, site: str) -> str:
        """Return a site's name for people."""
        known = self.systems.get(site)
        return known.name if known is not None else site


@lru_cache(maxsize=4096)
def registrable(host: str) -> str:
    """Return the part of a host's name that its operator registered; see the module about how well."""
    labels = host.rstrip(".").split(".")
    if labels[-1].isdigit():  # an IP address where a name should stand
        return host
    has_category = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _CATEGORIES
    return ".".join(labels[-3 if has_category else -2 :])


def load(extra: Path | None = None) -> Sites:
    """
    Read the table.

    Args:
        extra: An operator's file of the same form; its systems go before ours, and a host's suffix that both have is theirs.

    Raises:
        InvalidSites: The file cannot be read or has another form.
    """
    systems = _read(files("gatepost.policy").joinpath("sites.toml").read_text("utf-8"), "sites.toml")
    if extra is None:
        return Sites(systems)
    try:
        text = extra.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSites(f"{extra}: cannot be read: {error}") from error
    own = _read(text, str(extra))
    taken = {suffix for one in own.values() for suffix in one.mx}
    kept = {
        site: KnownSystem(site=site, name=one.name, mx=tuple(suffix for suffix in one.mx if suffix not in taken), docs=one.docs)
        for site, one in systems.items()
        if site not in own
    }
    return Sites(kept | own)


def _read(text: str, place: str) -> dict[str, KnownSystem]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSites(f"{place}: {error}") from error
    return {site: _system(site, table, place) for site, table in tables.items()}


def _system(site: str, table: Any, place: str) -> KnownSystem:
    is_table = isinstance(table, dict) and set(table) <= {"name", "mx", "docs"}
    mx = table.get("mx") if is_table else None
    if not isinstance(mx, list) or not mx or not all(isinstance(one, str) and "." in one for one in mx):
        raise InvalidSites(f"{place}: [{site}] needs mx, a list of suffixes of host names, and may have name and docs")
    if not site.replace("-", "").replace(".", "").isalnum() or not site.isascii() or site == "sandbox":
        raise InvalidSites(f"{place}: [{site}]: a site's name has letters, digits, - and dots, and is not sandbox")
    suffixes = tuple(one.lower().strip(".") for one in mx)
    return KnownSystem(site=site.lower(), name=str(table.get("name", site)), mx=suffixes, docs=str(table.get("docs", "")))
