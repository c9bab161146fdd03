"""Verdict of the robustness study on the paper's claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.seed_statistics import Estimate, estimate, mean_and_half_width
from harness.studies.robustness import Accuracies, RobustnessFile

REFERENCE, PAPERS, ROBUST = "InfoNCE", "q = 0.2", "q = 1"
CLEAN_BAND = (85.0, 97.0)
# by the signs of what q = 1 is spared at the judged rates
OUTCOMES = {
    frozenset({1}): "holds",
    frozenset({1, 0}): "holds in part",
    frozenset({0}): "is not shown",
    frozenset({0, -1}): "is contradicted in part",
    frozenset({-1}): "is contradicted",
}
VARIES, CANNOT = "varies with the rate", "cannot be told"


@dataclass(frozen=True)
class RobustnessVerdict:
    """Verdict of one case on the paper's claim.

    Attributes:
        outcome: a value of `OUTCOMES`, `VARIES` or `CANNOT`: the claim's predicate.
        reasons: sentences.
        table: one row a judged rate: points lost, and the difference of InfoNCE and q = 1 over paired seeds.
    """

    outcome: str
    reasons: tuple[str, ...]
    table: tuple[dict[str, str | Estimate | None], ...]


def verdicts(stored: RobustnessFile) -> dict[str, RobustnessVerdict]:
    """Judge every case of the study, by its name."""
    return {result.case.name: judge(result.accuracies, result.case.judged) for result in stored.results}


def judge(accuracies: Accuracies, judged: Sequence[float]) -> RobustnessVerdict:
    """Judge if q = 1 loses less accuracy to noise than InfoNCE does, and where q = 0.2 stands.

    A difference over paired seeds counts where its 95 % Student-t interval excludes 0. Nothing can be told where
    InfoNCE without noise is outside `CLEAN_BAND`, or where no judged rate does it harm.

    Args:
        accuracies: of one case, at 0 and the judged rates.
        judged: rates of noise.
    """
    lost = {
        loss: {rate: _minus(accuracies[loss][0.0], accuracies[loss][rate]) for rate in judged}
        for loss in (REFERENCE, PAPERS, ROBUST)
    }
    spared = {rate: _minus(lost[REFERENCE][rate], lost[ROBUST][rate]) for rate in judged}
    ahead = {rate: _minus(accuracies[ROBUST][rate], accuracies[REFERENCE][rate]) for rate in (0.0, *judged)}
    clean, robust_clean = fmean(accuracies[REFERENCE][0.0]), fmean(accuracies[ROBUST][0.0])
    low, high = CLEAN_BAND
    signs = frozenset(map(_sign, spared.values()))
    outcome = OUTCOMES.get(signs, VARIES)
    reasons = []
    if not low <= clean <= high:
        outcome = CANNOT
        reasons.append(f"{REFERENCE} has {clean:.1f} % without noise, outside {low:g} to {high:g} %.")
    if all(_sign(values) < 1 for values in lost[REFERENCE].values()):
        outcome = CANNOT
        reasons.append(f"The noise does {REFERENCE} no harm that can be told.")
    for values, sign, text in (
        (spared, 1, f"{ROBUST} loses less than {REFERENCE} at noise"),
        (spared, -1, f"{ROBUST} loses more than {REFERENCE} at noise"),
        (spared, 0, f"What {ROBUST} and {REFERENCE} lose cannot be told apart at noise"),
        (ahead, 1, f"{ROBUST} is more accurate than {REFERENCE} at noise"),
        (ahead, -1, f"{ROBUST} is less accurate than {REFERENCE} at noise"),
    ):
        if rates := [rate for rate, differences in values.items() if _sign(differences) == sign]:
            reasons.append(f"{text} {listed(rates)}.")
    if robust_clean < low:
        reasons.append(f"{ROBUST} has less to lose: {robust_clean:.1f} % without noise, {REFERENCE} {clean:.1f} %.")
    reasons += [
        f"At noise {rate:g}, what {PAPERS} loses is "
        f"{_standing(lost[PAPERS][rate], {loss: lost[loss][rate] for loss in (REFERENCE, ROBUST)})}."
        for rate in judged
    ]
    seeds = len(accuracies[REFERENCE][0.0])
    columns = lost | {f"{REFERENCE} less {ROBUST}": spared}
    table = tuple(
        {"points lost": f"to noise {rate:g}"}
        | {name: estimate(by_rate[rate], seeds) for name, by_rate in columns.items()}
        for rate in judged
    )
    return RobustnessVerdict(outcome, tuple(reasons), table)


def _minus(first: Sequence[float], second: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(first, second, strict=True)]


def _sign(values: Sequence[float]) -> int:
    """Return 1 or -1 where the interval of the mean is above or below 0, else 0."""
    mean, half = mean_and_half_width(values)
    return int(mean - half > 0) - int(mean + half < 0)


def _standing(own: Sequence[float], others: dict[str, list[float]]) -> str:
    """Say where a loss of accuracy stands among two others, and from which it can be told apart."""
    means = [fmean(other) for other in others.values()]
    place = "less than" if fmean(own) < min(means) else "more than" if fmean(own) > max(means) else "between"
    apart = " and ".join(name for name, other in others.items() if _sign(_minus(own, other))) or "neither"
    return f"{place} both (told apart from {apart})"


def listed(rates: Sequence[float]) -> str:
    """Format rates for a sentence."""
    return ", ".join(f"{rate:g}" for rate in rates)
