"""Metrics: counting many at once says the same as counting one by one."""

from prometheus_client import CollectorRegistry

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
