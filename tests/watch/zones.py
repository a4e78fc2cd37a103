"""A domain whose DNS is as it should be, to be broken by tests."""

from typing import Any

from gatepost.tenants.domains import DomainView

ADDRESS = "192.0.2.10"
HOSTNAME = "mail.gate.test"


def good_zone(view: DomainView, name: str = "acme.test") -> dict[str, Any]:
    """Make the zone of a domain that sends from ADDRESS."""
    zone: dict[str, Any] = {
        name: {"TXT": [f"v=spf1 ip4:{ADDRESS} ~all"], "MX": [f"10 mx.{name}"], "A": ["192.0.2.80"]},
        f"_dmarc.{name}": {"TXT": [f"v=DMARC1; p=quarantine; rua=mailto:dmarc@{name}"]},
        "10.2.0.192.in-addr.arpa": {"PTR": [HOSTNAME]},
        HOSTNAME: {"A": [ADDRESS]},
    }
    for record in view.records:
        if record.purpose == "dkim":
            zone[record.name] = {"TXT": [record.value]}
    return zone


def dkim_names(view: DomainView) -> list[str]:
    """The names of the domain's DKIM records, RSA first."""
    return [record.name for record in view.records if record.purpose == "dkim"]
