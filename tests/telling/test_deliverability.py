"""The score: what costs points, what is not known, and why it moved."""

import pytest

from gatepost.domain.placement import PlacementCounts
from gatepost.domain.stats import Counts
from gatepost.policy.deliverability import (
    WEIGHTS,
    Component,
    Direction,
    Standing,
    compare,
    direction_of,
    evaluate,
    least_rate,
)

WELL = Standing(score=100)


def counts(delivered: int = 10_000, **more) -> Counts:
    bounces = more.pop("bounces", {})
    attempted = more.pop("attempted", delivered + sum(bounces.values()))
    return Counts(accepted=attempted, attempted=attempted, delivered=delivered, bounced=sum(bounces.values()), bounces=bounces, **more)


def part(score, component: Component):
    return next(one for one in score.parts if one.component is component)


def test_clean_mail_has_all_points():
    """Nothing bounces, nobody complains, DNS is right: 100, and nothing to do."""
    found = evaluate(counts(), WELL, PlacementCounts(inbox=100))
    assert (found.score, found.next_step) == (100, "")
    assert all(one.cost == 0 for one in found.parts)


@pytest.mark.parametrize(
    ("component", "given"),
    [
        (Component.BOUNCES, {"bounces": {"invalid_recipient": 900}}),
        (Component.COMPLAINTS, {"complained": 60}),
        (Component.BLOCKS, {"bounces": {"reputation_block": 900}}),
        (Component.DEFERRALS, {"deferred_first": 8_000}),
        (Component.ENGAGEMENT, {"opened": 150}),
    ],
)
def test_each_trouble_costs_points_and_says_what_to_do(component, given):
    """One thing goes wrong: its component alone costs points, tells what was seen, and names a step."""
    found = evaluate(counts(**given), WELL)
    worst = part(found, component)
    assert worst.cost > 3
    assert found.score == round(100 - worst.cost)
    assert worst.reason
    assert found.next_step == worst.advice != ""


def test_placement_and_authentication_cost_too():
    """Mail in the spam folder and rules that are not kept to lower the score; the rules' own next step is told."""
    found = evaluate(counts(), Standing(score=40, next_step="publish the DMARC record"), PlacementCounts(inbox=50, spam=50))
    assert part(found, Component.PLACEMENT).cost > 5
    assert part(found, Component.AUTHENTICATION).advice == "publish the DMARC record"
    assert found.score is not None
    assert found.score < 85


def test_blocks_are_no_bounces_of_the_list():
    """A refusal for our own sake counts once, as a block."""
    found = evaluate(counts(bounces={"reputation_block": 500}), WELL)
    assert part(found, Component.BOUNCES).value == 100
    assert part(found, Component.BLOCKS).value < 60


def test_what_nobody_knows_neither_raises_nor_lowers():
    """Without opens and seeds the rest makes up the whole; without mail only DNS speaks; without anything there is no score."""
    assert evaluate(counts(), WELL).score == 100
    alone = evaluate(Counts(), Standing(score=60))
    assert (alone.score, alone.known) == (60, WEIGHTS[Component.AUTHENTICATION])
    nothing = evaluate(Counts(), Standing(score=None))
    assert (nothing.score, nothing.known, nothing.next_step) == (None, 0, "")


def test_few_recipients_prove_little():
    """The same rate costs less the fewer it was seen at, and below fifty recipients it is not judged."""
    values = [part(evaluate(counts(9 * n, bounces={"invalid_recipient": n}), WELL), Component.BOUNCES).value for n in (6, 30, 1_000)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]
    assert part(evaluate(counts(30, bounces={"invalid_recipient": 10}), WELL), Component.BOUNCES).value is None
    assert least_rate(1, 1_000) < 0.001 < least_rate(100, 10_000) < 0.01


def test_a_change_is_explained_by_the_components_that_moved():
    """The points of all changes are the difference; the worst comes first, with before and after."""
    before = evaluate(counts(), WELL)
    after = evaluate(counts(bounces={"invalid_recipient": 700}, complained=30), Standing(score=90, next_step="fix it"))
    changes = compare(before, after)
    assert {one.component for one in changes} == {Component.AUTHENTICATION, Component.BOUNCES, Component.COMPLAINTS}
    assert abs(sum(one.points for one in changes) - (after.score - before.score)) < 1.0
    assert [abs(one.points) for one in changes] == sorted((abs(one.points) for one in changes), reverse=True)
    assert all(one.points < 0 and one.before != one.after for one in changes)
    back = compare(after, before)
    assert all(one.points > 0 for one in back)
    assert compare(before, before) == ()
    assert compare(evaluate(Counts(), Standing(score=None)), after) == ()


def test_a_thing_that_becomes_known_and_is_well_moves_nothing():
    """Seeds that are set up and all in the inbox are no change of the others' points beyond a word."""
    before = evaluate(counts(), WELL)
    assert compare(before, evaluate(counts(), WELL, PlacementCounts(inbox=200))) == ()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([90, 90, 91], Direction.STEADY),
        ([90, 91, 80], Direction.FALLING),
        ([60, 62, 80], Direction.RISING),
        ([90], Direction.UNKNOWN),
        ([90, None], Direction.UNKNOWN),
        ([50, None, 90, 90, 90, 90, 90, 90, 91], Direction.STEADY),
    ],
)
def test_the_trend_is_against_the_middle_of_the_days_before(scores, expected):
    """One odd day does not make a trend."""
    assert direction_of(scores) is expected
