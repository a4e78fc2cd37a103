"""
Sending reports on TLS from a door process, which is where messages are accepted.

Not here: what is sent, and when (upkeep.tls_reports).
"""

import hashlib

from gatepost.accept import Acceptor
from gatepost.accept.answers import Idempotency
from gatepost.app.base import Base
from gatepost.clock import HOUR
from gatepost.domain.message import RawSubmission, Source
from gatepost.domain.tenant import Caller
from gatepost.ids import new
from gatepost.net.dns import DnsResolver
from gatepost.settings import InvalidSettings
from gatepost.upkeep.tls_reports import STEP_S, TlsReports


def send_tls_reports(base: Base, acceptor: Acceptor, resolver: DnsResolver) -> None:
    """
    Send reports from now on, where the settings name a sender.

    Raises:
        InvalidSettings: `tls_reports.sender` is no address.
    """
    if not base.settings.tls_reports.sender:
        return

    async def submit(caller: Caller, submission: RawSubmission, key: str) -> None:
        # the key alone stands for the request: a report that is written again has another date
        answered_as = Idempotency(key=key, request_hash=hashlib.sha256(key.encode()).digest())
        await acceptor.submit_finished(caller, submission, Source.HTTP, answered_as)

    try:
        reports = TlsReports(
            engine=base.engine, clock=base.clock, options=base.settings.tls_reports, directory=base.directory, resolver=resolver,
            submit=submit, owner=new("node"),
        )  # fmt: skip
    except ValueError as error:
        raise InvalidSettings(str(error)) from error
    base.repeat("tls reports", STEP_S, reports.step)
    base.repeat("tls reports of long ago", HOUR / 1000, reports.forget)
