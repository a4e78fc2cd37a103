"""A server that takes the whole content and never says what became of it."""

import pytest

from tests.crash.clients import Load
from tests.crash.processes import Gateway, Sink, scratch, wait_until
from tests.crash.verdict import drained, judge


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_answer_to_the_final_dot_is_retried_and_counted():
    """The connection ends after the dot (RFC 1047): such an attempt counts as a possible duplicate. A 421 there is a plain refusal for now."""
    with scratch() as folder:
        silent = Sink(folder, arguments=("-q", "."))
        # the relay's breaker would open, and hold back what is to be counted here
        gateway = Gateway(folder, silent.port, ROUTING__BREAKER_FAILURES="1000", ROUTING__BREAKER_LEAST="100000")
        try:
            gateway.start()
            gateway.wait()
            with Load(gateway, 4, 1, 1, with_large=False) as ledger:
                ledger.wait_for(8, 30)
                ledger.allowed = 0
            count = sum(len(mail.recipients) for mail in ledger.accepted.values())
            wait_until("every attempt is counted", lambda: gateway.metric("gatepost_possible_duplicates_total") >= count, 20, every_s=0.2)
            silent.stop()
            closing = Sink(folder, port=silent.port, arguments=("-Q", "."))
            wait_until(
                "421 is heard",
                lambda: gateway.metric("gatepost_attempts_total") and gateway.logged('"smtp_code": 421') >= count,
                25,
                every_s=0.2,
            )
            counted = gateway.metric("gatepost_possible_duplicates_total")
            closing.stop()
            for file in closing.files():  # what the unwilling ones kept
                file.unlink()
            sink = Sink(folder, port=silent.port)
            assert drained(gateway, 30), gateway.tail()
            assert gateway.metric("gatepost_possible_duplicates_total") <= counted + count
            code, _ = gateway.terminate()
            verdict = judge(gateway, sink, ledger)
            sink.stop()
        finally:
            gateway.kill_all()
            silent.stop()
    assert code == 0
    assert not verdict.complaints() and verdict.duplicates == 0
