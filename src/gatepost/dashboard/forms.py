"""Reading the pages' forms, and what is shown beside a field that is not right."""

from collections.abc import Mapping
from urllib.parse import quote

from gatepost.dashboard.access import AnyRequest
from gatepost.domain.errors import Refused

_MAX_FIELD = 12_000


async def read_form(request: AnyRequest) -> dict[str, str]:
    """Return a form's fields; of one that is given twice the last, of files nothing."""
    form = await request.form()
    return {name: value[:_MAX_FIELD] for name, value in form.items() if isinstance(value, str)}


def faults_of(refusal: Refused) -> Mapping[str, str]:
    """Return what to say beside which field; under the empty name what belongs to none."""
    found = {fault.pointer.strip("/"): _sentence(fault.detail) for fault in refusal.faults}
    return found or {"": _sentence(refusal.detail or refusal.kind.title)}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?", "!")) else ".")


def own_path(target: str) -> str:
    """Return a path on this server: never another site's, whatever the link says."""
    is_own = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return quote(target, safe="/?&=:@%+,;~!*'()$-._") if is_own else "/"
