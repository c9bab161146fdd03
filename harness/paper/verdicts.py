"""Verdict of a measured cell on the published one beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from harness.seed_statistics import SIGNIFICANCE, equivalence_p, expected_best, mean_and_half_width

VerdictKind = Literal[
    "reproduced", "consistent", "above", "below", "inconclusive", "not comparable", "not run", "not implemented"
]  # fmt: skip
UNSTATED, LAST, BEST_ON_TEST = "unstated", "last", "best_on_test"
LEAST_SEEDS = 3
# mAP points. Released code of this field has a standard deviation of about 0.5 over five seeds (DELU, 0.52 by its
# authors and 0.26 by a user), and its best of many looks at the test set is 1.0 above its last checkpoint (44.74
# against 43.72): a published number is not known better than to one point. Small numbers move less: FineAction's
# methods lie 0.5 apart at a mean of 4.
REPRODUCTION_TOLERANCE = 1.0
SHARE = 0.1
ROUNDING = 1e-9


@dataclass(frozen=True)
class Identity:
    """Facts that two numbers must share to be compared; None or `unstated` where they are not known.

    Both sides use one vocabulary: parts are compared as text.

    Args:
        data: family of the data set, such as `thumos14`.
        features: extractor and streams, such as `I3D`.
        protocol: name of the evaluation protocol.
        videos: how many test videos are scored.
        recipe: the method's own, or its changes.
    """

    data: str | None
    features: str | None
    protocol: str | None
    videos: str | None = None
    recipe: str | None = None


def tolerance(value: float) -> float:
    """Return the mAP points by which a measured mean may differ from a published value: one, or a tenth below ten."""
    return min(REPRODUCTION_TOLERANCE, SHARE * value)


@dataclass(frozen=True)
class Published:
    """Published cell.

    Args:
        value: mAP in percent; None where the source prints none.
        identity: data, protocol and recipe of the number.
        digits: printed after the point.
        selection: of its checkpoint: `last`, `best_on_test` or `unstated`.
        looks: number of times that the test set was scored to choose; None if unstated.
    """

    value: float | None
    identity: Identity
    digits: int = 1
    selection: str = UNSTATED
    looks: int | None = None


@dataclass(frozen=True)
class Measured:
    """Measured cell.

    Args:
        values: mAP in percent of the last checkpoint, one for each seed; the one value of detections scored again.
        identity: data, protocol and recipe of the numbers.
        trained: runs of the harness with seeds; False for detections by others, whose score has no spread.
        gained: what the best of a run's looks at the test set has above its last checkpoint, under the headline
            protocol, of each run that was looked at twice or more.
    """

    values: Sequence[float]
    identity: Identity
    trained: bool = True
    gained: Sequence[float] = ()


@dataclass(frozen=True)
class Verdict:
    """Judgement with its reason.

    Args:
        kind: `reproduced`: equivalence within the tolerance is shown. `consistent`: it is not, but nothing speaks
            against it. `above`, `below`: the measured mean differs, and equivalence is not shown. `inconclusive`: the
            runs do not tell. `not comparable`: another number.
        reason: one or more clauses for people.
    """

    kind: VerdictKind
    reason: str


def judge(
    published: Published, measured: Measured | None, within: float | None = None, implemented: bool = True
) -> Verdict:
    """Judge a measured cell beside a published one; synthetic data are never given here.

    Of trained runs it is `reproduced` where two one-sided t-tests at 5 % show the mean within the tolerance (the 90 %
    interval lies inside); else `above` or `below` where the published value lies outside the 95 % interval (and, where
    the source chose its checkpoint on the test set, is not below for what that gains alone); else
    `consistent` where the mean is within the tolerance; else `inconclusive`, as with fewer than 3 seeds. It judges the
    last checkpoint, whatever the source chose; the reason states what choosing on the test set would add.

    Detections scored again have no spread: they are `reproduced` where the printed digits agree.

    Args:
        published: the printed cell.
        measured: None where there is none.
        within: the tolerance in mAP points, above 0; by the value's size if absent.
        implemented: whether a method of that name is registered; decides between `not run` and `not implemented`.
    """
    if measured is None or not len(measured.values):
        if implemented:
            return Verdict("not run", "no run of it by the method's own options is stored")
        return Verdict("not implemented", "the method is not implemented here")
    if not all(map(math.isfinite, measured.values)):
        raise ValueError(f"measured values are not finite: {list(measured.values)}")
    if published.value is None:
        return Verdict("not comparable", "the source prints no value")
    different, unknown = _compare(published.identity, measured.identity)
    if different:
        return Verdict("not comparable", "; ".join(different))
    if measured.trained:
        verdict = _judge_seeds(published, measured, tolerance(published.value) if within is None else within)
        notes = [*unknown, *_selection(published, measured)]
    else:
        verdict = _judge_digits(published.value, published.digits, measured.values)
        notes = unknown
    return Verdict(verdict.kind, "; ".join([verdict.reason, *notes]))


def _compare(published: Identity, measured: Identity) -> tuple[list[str], list[str]]:
    """Return the parts that differ, and those that one side does not state."""
    different, unknown = [], []
    for field in fields(Identity):
        ours, theirs = getattr(measured, field.name), getattr(published, field.name)
        if theirs in (None, UNSTATED) or ours in (None, UNSTATED):
            if (theirs, ours) != (None, None):
                side = "the source" if theirs in (None, UNSTATED) else "the measurement"
                unknown.append(f"{field.name} of {side} unstated")
        elif ours != theirs:
            different.append(f"{field.name}: published {theirs}, measured {ours}")
    return different, unknown


def _judge_seeds(published: Published, measured: Measured, within: float) -> Verdict:
    target, values, count = published.value, measured.values, len(measured.values)
    assert target is not None
    if count < LEAST_SEEDS:
        return Verdict("inconclusive", f"too few seeds: {count} of at least {LEAST_SEEDS}")
    # differences first: a verdict must not depend on where the numbers lie
    differences = [value - target for value in values]
    mean, half = mean_and_half_width(differences)
    p = equivalence_p(differences, 0, within)
    distance = f"{mean:+.2f} ± {half:.2f} from {target:g} over {count} seeds"
    if p < SIGNIFICANCE:
        return Verdict("reproduced", f"{distance}: within ± {within:g} (TOST p = {p:.2g})")
    if abs(mean) > half + ROUNDING:
        if mean < 0 and (gain := _gain(published, measured)) is not None and mean + gain + half >= 0:
            return Verdict("inconclusive", f"{distance}: no more than choosing on the test set may have gained")
        return Verdict("above" if mean > 0 else "below", f"{distance}: the 95 % interval leaves it out")
    held = f"the interval holds it, but equivalence within ± {within:g} is not shown (TOST p = {p:.2g})"
    if abs(mean) <= within + ROUNDING:
        return Verdict("consistent", f"{distance}: {held}")
    return Verdict("inconclusive", f"{distance}: the interval holds it, but the mean is more than {within:g} away")


def _judge_digits(target: float, digits: int, values: Sequence[float]) -> Verdict:
    (value,) = values
    if abs(value - target) <= 0.5 * 10**-digits + ROUNDING:
        return Verdict("reproduced", f"{value:.{digits + 2}f} is {target:.{digits}f} as printed")
    return Verdict("above" if value > target else "below", f"{value - target:+.{digits + 1}f} from {target:.{digits}f}")


def _gain(published: Published, measured: Measured) -> float | None:
    """Return what choosing on the test set adds to a run; None if the source did not choose so or it is not known.

    It is the larger of what was measured, where enough runs were looked at, and what luck would give with as many
    independent looks as the source took.
    """
    if published.selection != BEST_ON_TEST:
        return None
    gains = [gain for gain in (_measured_gain(measured), _lucky_gain(published, measured)) if gain is not None]
    return max(gains, default=None)


def _measured_gain(measured: Measured) -> float | None:
    if len(measured.gained) < LEAST_SEEDS:
        return None
    return math.fsum(measured.gained) / len(measured.gained)


def _lucky_gain(published: Published, measured: Measured) -> float | None:
    values = measured.values
    if published.looks is None or len(values) < LEAST_SEEDS:
        return None
    return expected_best(values, published.looks) - math.fsum(values) / len(values)


def _selection(published: Published, measured: Measured) -> list[str]:
    if published.selection == LAST:
        return []
    if published.selection != BEST_ON_TEST:
        return ["how the source chose its checkpoint is unstated; judged is the last one"]
    notes = ["the source chose its checkpoint on the test set; judged is the last one"]
    if (gain := _measured_gain(measured)) is not None:
        notes.append(f"the best of our looks at it is {gain:+.1f} above that ({len(measured.gained)} runs)")
    if published.looks is None:
        notes.append("the number of looks is unstated")
    elif (gain := _lucky_gain(published, measured)) is None:
        notes.append(f"looks: {published.looks}")
    else:
        best = math.fsum(measured.values) / len(measured.values) + gain
        notes.append(f"the best of {published.looks} independent looks would by luck be about {best:.1f} ({gain:+.1f})")
    return notes
