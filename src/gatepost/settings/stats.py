"""Options of numbers: what is counted, and how long it is kept."""

from typing import Annotated

from msgspec import Meta

from gatepost.settings.section import Section


class Stats(Section, frozen=True):
    """Numbers of mail: counts, rates, times."""

    fold_every_s: Annotated[
        float, Meta(ge=0.1, le=60, description="how often counts are added up; they are exact in between, but slower to read")
    ] = 5.0
    keep_5m_days: Annotated[int, Meta(ge=2, le=400, description="how long counts by five minutes are kept")] = 10
    keep_hours_days: Annotated[int, Meta(ge=7, le=3650, description="how long counts by hours are kept; those by days stay longer")] = 100
    keep_days: Annotated[int, Meta(ge=400, le=36_500, description="how long counts by days and weeks are kept")] = 1_830
    max_sites: Annotated[
        int, Meta(ge=10, le=20_000, description="mail systems of a tenant's day that are counted by name; the others stand together")
    ] = 500
    max_tags: Annotated[
        int, Meta(ge=10, le=20_000, description="tags, and templates, of a tenant's day that are counted by name; others stand together")
    ] = 200
