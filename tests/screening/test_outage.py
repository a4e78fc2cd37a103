"""A gateway whose malware scanner is away and fails closed: mail is refused for now at every door, and taken when it is back."""

from pathlib import Path

from tests.flow.serving import Serving, prepare, until
from tests.screening.daemons import running_clamd
from tests.screening.mail import mime
from tests.screening.test_doors import Doors


def test_an_outage_loses_nothing_and_ends_by_itself(tmp_path: Path) -> None:
    """503 and 451 with Retry-After while it is away, one line in the log; afterwards mail goes, without a restart."""
    key = prepare(tmp_path / "data")
    with running_clamd() as clamd:
        flags = (
            f"scanning.clamd.address={clamd.address}",
            "scanning.clamd.on_failure=closed",
            "scanning.clamd.timeout_s=2.0",
            "scanning.pause_s=0.5",
        )
        with Serving(tmp_path / "data", *flags) as serving:
            doors = Doors(serving, key)
            assert doors.json()[0] == 202
            clamd.stop()
            for _ in range(5):
                status, answer = doors.json()
                assert (status, answer["code"]) == (503, "scanner_unavailable")
            reply, text = doors.smtp(mime())
            assert (reply, text.split()[0]) == (451, "4.7.1")
            assert [line["scanner"] for line in doors.lines("trouble")] == ["clamd"]
            assert 'gatepost_scanner_up{scanner="clamd"} 0.0' in serving.text("/metrics")
            clamd.start()
            until(lambda: doors.json()[0] == 202, 30)
            assert doors.lines("lifecycle")[-1]["what"] == "a scanner answers again"
            assert doors.smtp(mime())[0] == 250
