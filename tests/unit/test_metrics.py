"""Metrics: counting many at once says the same as counting one by one."""

import prometheus_client
from prometheus_client import CollectorRegistry

from gatepost.observe import metric_files, metrics
from gatepost.observe.metrics import Histogram


def test_amounts_that_are_observed_together_count_as_those_observed_one_by_one():
    """A group's results are counted with one stroke: buckets, with their bounds, sum and number are the same."""
    amounts = [0.0, 0.001, 0.25, 0.25, 0.2500001, 3.5, 1e9]
    one_by_one, together = CollectorRegistry(), CollectorRegistry()
    alone = Histogram("took_seconds", "Time", ["route"], buckets=(0.001, 0.25, 1, 5), registry=one_by_one)
    for amount in amounts:
        alone.labels("mx").observe(amount)
    Histogram("took_seconds", "Time", ["route"], buckets=(0.001, 0.25, 1, 5), registry=together).labels("mx").observe_all(amounts)

    def samples(registry):
        return {
            (one.name, one.labels.get("le")): one.value
            for family in registry.collect()
            for one in family.samples
            if "created" not in one.name
        }

    assert samples(together) == samples(one_by_one)
    assert samples(together)["took_seconds_count", None] == len(amounts)


def test_room_is_taken_for_the_files_of_every_metric():
    """On a full disk the first write to a file that has no blocks yet ends the process (SIGBUS): each kind gets its blocks at the start."""
    found = set()
    for one in vars(metrics).values():
        if isinstance(one, prometheus_client.metrics.MetricWrapperBase):
            is_gauge = isinstance(one, prometheus_client.Gauge)
            found.add(f"gauge_{one._multiprocess_mode}" if is_gauge else one._type)
    assert found == set(metric_files._KINDS)
