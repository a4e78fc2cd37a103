"""Options of tracking and unsubscription: where pixels, links and pages are, and who counts as a person."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gatepost.settings.section import Section

_Host = Annotated[
    str, Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+(:[0-9]{2,5})?)?$")
]  # fmt: skip


class Tracking(Section, frozen=True):
    """
    Pixels, links and one-click unsubscription, for streams and messages that ask for them: none does unless it is told to.

    Mail that really leaves needs a host of its own for it, which readers reach by https.
    """

    host: Annotated[
        _Host,
        Meta(
            description="host of pixels, links and pages in mail, such as t.acme.example, which leads to https.listen, or to a proxy before"
            " http.listen; [acme] gets it a certificate. Nothing else is served there"
        ),
    ] = ""
    hosts: Annotated[
        dict[str, _Host],
        Meta(description='another such host for the mail of a sender\'s domain: {"acme.example" = "t.acme.example"}'),
    ] = msgspec.field(default_factory=dict)
    days: Annotated[int, Meta(ge=30, le=3650, description="how long links and unsubscription pages in mail are good")] = 365
    counted: Annotated[
        list[Literal["human", "proxy", "prefetch", "bot"]],
        Meta(
            min_length=1,
            description="whom numbers about people include; proxy adds what Gmail and others fetch for readers, most of the time when they"
            " open",
        ),
    ] = msgspec.field(default_factory=lambda: ["human"])
    soon_s: Annotated[
        float, Meta(ge=0, le=600, description="what opens or clicks so shortly after the delivery is a machine; 0 lets time say nothing")
    ] = 2.0
    rules_file: Annotated[
        str, Meta(description="file (TOML) with rules that tell machines, asked before those that come with the gateway; empty for none")
    ] = ""
    requests_per_minute: Annotated[
        int, Meta(ge=10, description="requests from one address (IPv6: one /64) outside loopback, per process")
    ] = 3_000

    def base_of(self, sender: str) -> str:
        """Return scheme and host for the mail of a sender's domain; empty where there is none."""
        host = self.hosts.get(sender, self.host)
        return f"https://{host}" if host else ""

    @property
    def names(self) -> list[str]:
        """The hosts without ports, each once, the general one first."""
        return list(dict.fromkeys(host.partition(":")[0] for host in (self.host, *self.hosts.values()) if host))
