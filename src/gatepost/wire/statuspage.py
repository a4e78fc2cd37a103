"""
Status pages of providers, as those made with Statuspage tell them: `/api/v2/summary.json`.

Arrives: the answer's body. Leaves: a `ProviderStatus`, or that it is none.
Standards: Statuspage's "Status API", https://metastatuspage.com/api.
Not here: asking (watch.relays).
Bugs: none known.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

PATH: Final = "/api/v2/summary.json"
_INDICATORS: Final = frozenset({"none", "minor", "major", "critical", "maintenance"})
_SHOWN: Final = 5
_LONGEST: Final = 200


class NotAStatusPage(ValueError):  # noqa: N818
    """The answer has another form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """
    What a provider says of itself.

    Attributes:
        indicator: `none` (all is well), `minor`, `major`, `critical` or `maintenance`.
        description: One sentence of the provider's.
        incidents: Names of the incidents that are not over.
        components: Parts that do not work as they should, each with its state.
    """

    indicator: str
    description: str
    incidents: tuple[str, ...] = ()
    components: tuple[str, ...] = ()


class _Status(msgspec.Struct):
    indicator: str
    description: str = ""


class _Named(msgspec.Struct):
    name: str
    status: str = ""
    group: bool = False


class _Summary(msgspec.Struct):
    status: _Status
    incidents: list[_Named] = []
    components: list[_Named] = []


def parse_summary(body: bytes) -> ProviderStatus:
    """
    Read a summary; texts are cut and stripped of control characters, since they are a stranger's.

    Raises:
        NotAStatusPage: It has another form.
    """
    try:
        found = msgspec.json.decode(body, type=_Summary)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise NotAStatusPage(f"it is no summary of a status page: {str(error)[:_LONGEST]}") from None
    if found.status.indicator not in _INDICATORS:
        raise NotAStatusPage(f"{_shown(found.status.indicator)!r} is no indicator of a status page")
    incidents = [one.name for one in found.incidents if one.status not in {"resolved", "postmortem", "completed"}]
    troubled = [f"{one.name}: {one.status}" for one in found.components if one.status not in {"operational", ""} and not one.group]
    return ProviderStatus(
        indicator=found.status.indicator, description=_shown(found.status.description),
        incidents=tuple(map(_shown, incidents[:_SHOWN])), components=tuple(map(_shown, troubled[:_SHOWN])),
    )  # fmt: skip


def _shown(text: Any) -> str:
    return "".join(one if one.isprintable() else " " for one in str(text)[:_LONGEST])
