"""A short storm: several times what the gateway can take, from other processes, over both doors."""

import pytest

from tests.overload import storm
from tests.overload.storm import ACCEPTED, SHED

# marks low enough that any machine is pressed by this much; no time is asserted, see `python -m tests.overload` for the goals
_FLAGS = ("admission.messages_soft=40", "admission.messages_hard=4000", "admission.lag_hard_s=20", "admission.commit_hard_s=20")


@pytest.mark.slow
def test_codes_come_through_a_storm_that_bulk_does_not():
    """The door stands with bounded memory, codes are accepted, bulk is shed, nothing accepted is lost, and it all goes on after."""
    report = storm.run(storm.Plan(seconds=4, calm_s=1.5, processes=1, connections=400, flags=_FLAGS))
    print("\n".join(report.lines()))
    assert not report.complaints()
    assert report.door_bytes < 600e6
    assert report.count("bulk", SHED) > 0
    assert report.count("codes", ACCEPTED) > 20 * report.count("codes", SHED)
    assert min(report.retry_after) >= 1
    assert max(report.retry_after) <= 45
    assert 1 <= len([line for line in report.troubles if "more comes than can be taken" in line]) <= 3  # told, but not at every request
    assert any('lane="bulk"' in line for line in report.metrics)
