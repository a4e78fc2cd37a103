"""Options of what senders' teams are told: scores, unusual changes, reports by mail."""

from typing import Annotated

from msgspec import Meta

from gatepost.settings.section import Section


class Deliverability(Section, frozen=True):
    """The deliverability score of each sender's domain."""

    every_s: Annotated[
        int, Meta(ge=0, le=86_400, description="how often scores are written down, one row a day and domain; 0 never does")
    ] = 3600
    window_days: Annotated[int, Meta(ge=1, le=90, description="days whose mail makes up a score")] = 7
    keep_days: Annotated[int, Meta(ge=30, le=3650, description="how long the scores of days are kept")] = 400


class Unusual(Section, frozen=True):
    """Changes of rates against their own history."""

    every_s: Annotated[int, Meta(ge=0, le=86_400, description="how often it is looked for what is unusual; 0 never does")] = 300
    least_recipients: Annotated[int, Meta(ge=100, description="recipients in an hour, or in 24 hours, below which nothing is said")] = 100
    keep_days: Annotated[int, Meta(ge=7, le=3650, description="how long what is over is kept")] = 90


class Reports(Section, frozen=True):
    """Reports by mail to senders' teams: daily digests, a weekly report. Only who is subscribed gets any."""

    sender: Annotated[
        str,
        Meta(description="address that reports come from, at a verified domain of `reports.tenant`; empty sends none"),
    ] = ""
    sender_name: Annotated[str, Meta(max_length=100, description="name beside it")] = "Gatepost"
    tenant: Annotated[str, Meta(min_length=1, description="tenant that the reports are sent for: its name or id")] = "default"
    stream: Annotated[str, Meta(min_length=1, description="stream that they are sent in")] = "transactional"
    max_per_tenant: Annotated[int, Meta(ge=1, le=10_000, description="subscriptions of one tenant")] = 100
