"""
Writes docs/reference/ from the code, so that no option, error, event or metric is missing there.

`python docs/generate.py` writes the pages; the tests compare them with what it would write.
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from gatepost.domain.errors import CATALOGUE
from gatepost.domain.event import EventType
from gatepost.domain.outcome import Category
from gatepost.domain.recipient import TERMINAL, TRANSITIONS, Status
from gatepost.egress.sandbox import BEHAVIOURS, Behaviour
from gatepost.http import problems
from gatepost.http.public import watch_metrics
from gatepost.observe import metrics
from gatepost.observe.maillog import SECURITY_EVENTS
from gatepost.settings import Loaded, Mailbox, Relay, Seed, Settings, SiteLimits, SourceAddress, SourcePool, options
from gatepost.smtpd.connection import words_of
from gatepost.wire.smtp_reply import format_reply

sys.path.insert(0, str(Path(__file__).parent))
from error_examples import EXAMPLES, FAULTS

HERE = Path(__file__).parent / "reference"

EVENTS = {
    EventType.ACCEPTED: "A message is stored; its sender has heard 202 or 250.",
    EventType.SCHEDULED: "A message is stored, or was moved, for a later time.",
    EventType.CANCELLED: "A recipient was cancelled before its delivery; `reason` is `superseded` where a newer code took its place.",
    EventType.RETRIED: "A person asked for another try.",
    EventType.DEFERRED: "An attempt failed for now; `next_attempt_at` says when the next one is, `next_road` and `cause` by which road and why.",
    EventType.SENT: "A relay took the message; what became of it there is the relay's to say.",
    EventType.DELIVERED: "The recipient's own mail server took the message.",
    EventType.BOUNCED: "The message was refused for good.",
    EventType.SUPPRESSED: "The address is on the suppression list; nothing was sent.",
    EventType.COMPLAINED: "The recipient, or their provider, called the message unwanted (spam).",
    EventType.OPENED: "A relay saw that the message was opened.",
    EventType.CLICKED: "A relay saw that a link was followed.",
    EventType.UNSUBSCRIBED: "The recipient does not want this stream's mail any more.",
    EventType.SENDING_BLOCKED: "Another mail system refuses our mail for our own sake: reputation, authentication or content; told once an hour"
    " for each system and category.",
    EventType.SENDING_UNUSUAL: "A rate, or how much is sent, left its own history: `metric`, `scope` and `name` say which, `expected` and `seen` how far.",
    EventType.SENDING_USUAL: "What was unusual is over; `change_id` is the same.",
    EventType.EXPIRED: "The message's time was over before it could be delivered.",
    EventType.NOTIFIED: "The sender is told by mail what became of the recipient: `action` and the report's `report_id`.",
    EventType.DOMAIN_VERIFIED: "A sender's domain has its DKIM record.",
    EventType.DOMAIN_FAILING: "A sender's domain was checked and has no valid DKIM record.",
    EventType.RELAY_UNHEALTHY: "A relay, or the road to MX hosts, failed so often that its breaker keeps mail away from it until `retry_at`.",
    EventType.RELAY_RECOVERED: "It takes mail again.",
    EventType.SUPPRESSION_ADDED: "An address was put on the suppression list.",
    EventType.SUPPRESSION_REMOVED: "An address was taken off the suppression list.",
    EventType.WEBHOOK_DISABLED: "A webhook was switched off, since it answered 410 or only failed; `reason` says which.",
    EventType.WEBHOOK_TEST: "Somebody tried a webhook; nobody but this webhook is told.",
}


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every option."""
    limits = {"SITE": SiteLimits()}
    example = Settings(
        relays={"NAME": Relay(url="")}, mailboxes={"NAME": Mailbox(url="")}, seeds={"NAME": Seed(url="", address="")}, shaping=limits,
        sources={"NAME": SourceAddress(shaping=limits)}, pools={"NAME": SourcePool(sources=[], shaping=limits)},
    )  # fmt: skip
    rows = [
        (f"`{option.name}`", "" if option.default in ("", None) else f"`{json.dumps(option.default)}`", option.help)
        for option in options(Loaded(settings=example, origins={}, data_dir=Path()))
    ]
    return (
        "# Settings\n\nSources, weakest first: the default, `DIR/gatepost.toml`, the environment (`http.listen` is `GATEPOST_HTTP__LISTEN`;"
        " `GATEPOST_DATABASE__URL_FILE` names a file that holds the value), `--set http.listen=…`. An unknown option is refused.\n"
        "`gatepost settings` shows each option with its value and where it came from.\n\n" + _table(("option", "default", "meaning"), rows)
    )


def errors_page() -> str:
    """Every error code with an example, every fault, every security event."""
    summary = [(f"[`{one.code}`](#{one.code})", one.status, f"`{one.smtp}`", one.title) for one in CATALOGUE.values()]
    return (
        "# Errors\n\nThe same refusal has the same code at every door. Over HTTP it is an RFC 9457 problem (`application/problem+json`) whose `errors` name\n"
        "each place by a JSON pointer; over SMTP a reply with an enhanced status code (RFC 3463). A code is never changed once released.\n\n"
        + _table(("code", "HTTP", "SMTP", "meaning"), summary)
        + "\n## The codes\n\n" + "\n".join(_error(name) for name in CATALOGUE)
        + "\n## Faults\n\nThe `code` of each entry in `errors`, and in `warnings` of a message that was taken.\n\n"
        + _table(("fault", "meaning"), [(f"`{name}`", meaning) for name, meaning in sorted(FAULTS.items())])
        + "\n## Security events\n\nWhat an attacker would cause stands in the log as an event `security`; `what` is one of these. The line names the peer, and where it is\n"
        "known the principal, the tenant and the request.\n\n"
        + _table(("what", "meaning"), [(f"`{name}`", meaning) for name, meaning in SECURITY_EVENTS.items()])
    )  # fmt: skip


def _error(name: str) -> str:
    """One code: what it means, what to do, and what it looks like at both doors."""
    kind, (when, path, refusal) = CATALOGUE[name], EXAMPLES[name]
    problem = json.dumps(json.loads(problems.body_of(refusal, path, "req_01m86eymxse00bynhmebgw8bxf")), indent=2, ensure_ascii=False)
    code, _, enhanced = kind.smtp.partition(" ")
    reply = format_reply(int(code), enhanced, words_of(refusal)).decode("ascii").replace("\r\n", "\n")
    wait = f" `Retry-After: {refusal.retry_after_s}` goes with it." if refusal.retry_after_s is not None else ""
    return (
        f"### {name}\n\n{kind.title}. {when}{wait}\n\nHTTP {kind.status}, SMTP `{kind.smtp}`. {kind.advice}\n\n"
        f"```json\n{problem}\n```\n\n```smtp\n{reply}```\n"
    )


def events_page() -> str:
    """Every event, status and category."""
    events = [(f"`{kind.value}`", EVENTS[kind]) for kind in EventType]
    statuses = [
        (
            f"`{status.value}`",
            "yes" if status in TERMINAL else "",
            ", ".join(f"`{one.value}`" for one in Status if one in TRANSITIONS[status]),
        )
        for status in Status
    ]
    categories = [(f"`{category.value}`",) for category in Category]
    return (
        "# Events and statuses\n\n" + _table(("event", "meaning"), events) + "\n## Statuses of a recipient\n\nA message's status is that of the recipient who"
        " most needs attention: `delivered` means every recipient.\n\n" + _table(("status", "final", "may become"), statuses)
        + "\n## Categories of deferrals and bounces\n\n" + _table(("category",), categories)
    )  # fmt: skip


def metrics_page() -> str:
    """Every metric."""
    found = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    rows = [
        (f"`{one._name}{'_total' if one._type == 'counter' else ''}`", one._type, ", ".join(one._labelnames), one._documentation)
        for one in found
    ]
    rows += [
        (
            "`gatepost_queue_recipients`",
            "gauge",
            "site, state",
            "Recipients in the queue, by site and whether they are due; counted every five seconds at most",
        ),
        ("`gatepost_queue_oldest_due_seconds`", "gauge", "site", "How long the longest due recipient of a site waits"),
        *((f"`{name}`", "gauge", label, f"{meaning}; read from the store") for name, (label, meaning) in watch_metrics.METRICS.items()),
    ]
    return (
        "# Metrics\n\n`GET /metrics` in Prometheus' text format, from the machine itself or with an API key. All processes' counters are added up.\n\n"
        + _table(("metric", "type", "labels", "meaning"), rows)
    )


def _behaves(behaviour: Behaviour) -> str:
    if behaviour.is_broken:
        what = "the connection breaks after the content was sent: delivered or not, nobody knows"
    elif behaviour.reply is None:
        what = "the server never answers"
    else:
        kind = {2: "delivered", 4: "deferred", 5: "bounced"}[behaviour.reply.code // 100]
        what = f"{kind}: {behaviour.reply}"
    late = f", after {behaviour.delay_s:g} s" if behaviour.delay_s else ""
    then = (
        f" at the first {'attempt' if behaviour.attempts == 1 else f'{behaviour.attempts} attempts'}, then delivered"
        if behaviour.attempts
        else ""
    )
    return what + late + then


def sandbox_page() -> str:
    """Every magic recipient."""
    rows = [(f"`{name}@…`", _behaves(behaviour)) for name, behaviour in BEHAVIOURS.items()]
    return (
        "# The sandbox\n\nMail that goes to the sandbox is captured and shown in the inbox. The local part of the address, up to a `+`, decides what becomes of it.\n"
        "Any other address is delivered.\n\n" + _table(("recipient", "behaves like this"), rows)
    )


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "events.md": events_page,
    "metrics.md": metrics_page,
    "sandbox.md": sandbox_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), "utf-8")
