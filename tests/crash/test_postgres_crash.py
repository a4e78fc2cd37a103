"""PostgreSQL dies under load and comes back."""

import time

import pytest

from tests.crash.clients import Load
from tests.crash.processes import Gateway, Postgres, Sink, scratch
from tests.crash.verdict import drained, judge

_NOT_NOW = {"503", "451", "421", "409"}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_killed_postgresql_costs_no_message_and_no_restart():
    """Clients hear 503 and 451 meanwhile; the gateway finds the database again by itself, and delivers everything once."""
    with scratch() as folder:
        postgres, sink = Postgres(folder), Sink(folder)
        gateway = Gateway(folder, sink.port, database_url=postgres.url)
        try:
            gateway.start()
            gateway.wait()
            processes = {role: gateway.pids(role) for role in ("supervisor", "door", "dispatch")}
            recovered_s, during = [], []
            with Load(gateway, 3, 4, 4) as ledger:
                for _ in range(2):
                    ledger.wait_for(60, 30)
                    postgres.kill()
                    before = ledger.answers.copy()
                    time.sleep(2)
                    during.append(ledger.answers - before)
                    postgres.start()
                    recovered_s.append(ledger.wait_for(20, 20))
            assert drained(gateway, 60), gateway.tail()
            assert {role: gateway.pids(role) for role in processes} == processes, gateway.tail()
            code, _ = gateway.terminate()
            verdict = judge(gateway, sink, ledger)
        finally:
            gateway.kill_all()
            sink.stop()
            postgres.kill()
    print(f"while away: {[dict(one) for one in during]}; mail was taken again after {recovered_s} s; {verdict}")
    assert not verdict.complaints()
    assert not ledger.wrong
    assert code == 0
    assert all(one["503"] and one["451"] for one in during), during
    assert all(set(one) <= _NOT_NOW | {"202", "250"} for one in during)
    assert verdict.duplicates == 0
