"""What was counted of TLS sessions goes from memory to the database, now and then."""

from gatepost.egress.smtp.tls_results import TlsResults
from gatepost.store import tls_reports
from gatepost.store.engine import Engine
from gatepost.store.errors import StorageUnavailable


async def write_results(engine: Engine, results: TlsResults) -> None:
    """
    Write down what was counted since the last time.

    Raises:
        StorageUnavailable: The database cannot be used now; what was counted is kept.
    """
    counted = results.take()
    if not counted:
        return
    try:
        await engine.write(lambda conn: tls_reports.add(conn, counted))
    except StorageUnavailable:
        results.give_back(counted)
        raise
