"""Runs against runs: the same seeds, the same test videos, and the difference between them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.ablations import SEEDS_FOR_P, average
from harness.files import canonical_json
from harness.flags import RunFlags, flags_of
from harness.prose import changes, widest_average
from harness.record import PROSE, RECORD, read_record, without_average
from harness.statistics import (
    CONFIDENCE,
    SIGNIFICANCE,
    holm,
    mean_and_half_width,
    paired_t_p,
    sign_flip_p,
)
from wstal.errors import UserError
from wstal.evaluation import tiou_key
from wstal.evaluation.average_precision import RECALL_POINTS, Precision, hits_first
from wstal.evaluation.matching import Bools
from wstal.evaluation.result import AVERAGES
from wstal.evaluation.tiou import Floats
from wstal.types import IntArray

REPLICATES = 2_000
NO_VERDICT = "synthetic: no verdict"
Resampled = Callable[[RunFlags], Floats]


@dataclass(frozen=True)
class VideoBootstrap:
    """The difference of two systems over resampled test videos, in mAP points.

    It says how far the difference depends on which videos are in the test set, for these trained weights; how far it
    depends on the training's random draws is for the seeds to say.

    Args:
        tious: range of the averaged thresholds, such as `0.1:0.7`.
        difference: on the videos as they are.
        low: 2.5 % percentile of the replicates.
        high: 97.5 % percentile.
        share: of replicates in which the first system is not better.
    """

    tious: str
    difference: float
    low: float
    high: float
    share: float


def resampled_mean_ap(run: RunFlags, replicates: int = REPLICATES, seed: int = 0) -> Floats:
    """`[1 + B]` mean mAP in percent (widest range) on the videos as they are and on B resamples of them.

    The resamples depend on the evaluated videos and the seed alone. NaN for one that holds no instance.

    Raises:
        UserError: the thresholds cover no usual range.
    """
    videos, columns = run.evaluated, _widest_range(run.tious)[1]
    ap = weighted_average_precision(run, videos, _weights(len(videos), replicates, seed))[:, columns]
    present = ~np.isnan(ap[:, 0])
    total = 100 * np.where(present[:, None], ap, 0).mean(axis=1).sum(axis=0)
    mean: Floats = np.divide(total, present.sum(axis=0), out=np.full(len(total), np.nan), where=present.any(axis=0))
    return mean


@functools.lru_cache(maxsize=1)
def _weights(videos: int, replicates: int, seed: int) -> Floats:
    """`[V, 1 + B]` ones, then how often each video was drawn in each resample; every run of a comparison needs it."""
    weights = np.ones((videos, 1 + replicates))
    drawn = np.random.default_rng(seed).multinomial(videos, [1 / videos] * videos, size=replicates)
    weights[:, 1:] = drawn.T
    weights.flags.writeable = False
    return weights


def paired_bootstrap(
    a: Mapping[int, RunFlags], b: Mapping[int, RunFlags], resampled: Resampled = resampled_mean_ap
) -> VideoBootstrap:
    """Resample the test videos with replacement, the same for both systems, and weight the stored flags accordingly.

    No detection is matched again. Each replicate's difference is that of the mean mAP (widest range of tIoUs),
    averaged over the seeds that both systems have.

    Args:
        a: flags of the first system's runs, by seed.
        b: of the second's.
        resampled: `resampled_mean_ap`, or a form of it with other replicates or a memory of what it gave.

    Raises:
        UserError: no common seed, or flags of another protocol, thresholds, videos or instances.
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise UserError(f"The two systems share no seed: {sorted(a)} against {sorted(b)}. Run both with one.")
    reference = a[seeds[0]]
    for seed in seeds:
        _check_flags(reference, a[seed])
        _check_flags(reference, b[seed])
    observed, *rest = np.mean([resampled(a[seed]) - resampled(b[seed]) for seed in seeds], axis=0)
    differences = np.array([value for value in rest if np.isfinite(value)])
    low = high = share = math.nan
    if len(differences):
        tail = 50 * (1 - CONFIDENCE)
        low, high = map(float, np.percentile(differences, [tail, 100 - tail]))
        share = float(np.mean(differences <= 0))
    return VideoBootstrap(_widest_range(reference.tious)[0], float(observed), low, high, share)


def weighted_average_precision(run: RunFlags, videos: Sequence[str], weight: Floats) -> Floats:
    """AP of every class for many weightings of the videos at once.

    For each column of weights it is what `wstal.evaluation.class_average_precision` gives. Precision only matters at
    hits (it falls between them), so the rows between hits are only counted, by one matrix product a class.

    Args:
        run: flags of a run.
        videos: V names, all those that are evaluated.
        weight: `[V, B]` how often each video counts in each of B replicates.

    Returns:
        `[C, K, B]`, NaN for a class without (weight of) instances.
    """
    flags, classes, precision = run.flags, len(run.classes), run.protocol.precision
    row_of = {name: row for row, name in enumerate(videos)}
    # the last row is for what lies in no evaluated video and always counts once
    place = np.array([*(row_of.get(name, len(videos)) for name in run.videos), len(videos)], dtype=np.int64)
    # row by row in memory, as whole rows are gathered
    weight = np.vstack([np.ascontiguousarray(weight, dtype=np.float64), np.ones(weight.shape[1])])
    video, instance_video = place[flags.video], place[flags.instance_video]
    bounds = np.searchsorted(flags.label, np.arange(classes + 1))
    ap = np.full((classes, len(run.tious), weight.shape[1]), np.nan)
    for label in range(classes):
        positives = weight[instance_video[flags.instance_label == label]].sum(axis=0)
        here = slice(bounds[label], bounds[label + 1])
        hit, counted = flags.hit[here], np.ones(here.stop - here.start, dtype=bool)
        if precision == "eleven-point":
            for column in range(hit.shape[1]):
                order = hits_first(flags.score[here], hit[:, column])
                one = hit[order, column]
                counted = one | ~flags.excused[here][order]
                ap[label, column] = _replicated(one[:, None], counted, video[here][order], weight, positives, precision)
        else:
            ap[label] = _replicated(hit, counted, video[here], weight, positives, precision)
        ap[label][:, positives <= 0] = np.nan
    return ap


def compare_methods(frame: pd.DataFrame) -> pd.DataFrame:
    """All pairs of the methods of a table, paired by seed.

    Args:
        frame: columns `method`, `seed` and `value`; one row a run.

    Returns:
        One row a pair that shares a seed, in order of appearance: `a`, `b`, `seeds`, `difference` (a - b, mean),
        `half_width` (of the 95 % t-interval), `p` (sign-flip), `p_holm` (over all pairs of the table), `p_t_holm` (the
        paired t-test's, so too) and `verdict` on a by the last: `better`, `worse`, `not resolved`, or `too few seeds`
        below 6, as on the pages of ablations.

    Raises:
        UserError: a method has a seed twice.
    """
    twice = frame.duplicated(["method", "seed"])
    if twice.any():
        method, seed = frame.loc[twice, ["method", "seed"]].iloc[0]
        raise UserError(f"{method} has seed {seed} twice. Leave one run out.")
    values = {
        str(method): dict(zip(group["seed"], group["value"], strict=True))
        for method, group in frame.groupby("method", sort=False)
    }
    rows: list[dict[str, Any]] = []
    for (a, first), (b, second) in itertools.combinations(values.items(), 2):
        if pairs := [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]:
            mean, half = mean_and_half_width(pairs)
            rows.append({
                "a": a, "b": b, "seeds": len(pairs), "difference": mean, "half_width": half, "p": sign_flip_p(pairs),
                "p_t_holm": paired_t_p(pairs),
            })  # fmt: skip
    by_flips, by_t = (_holm_of_known([row[name] for row in rows]) for name in ("p", "p_t_holm"))
    for row, flip, t in zip(rows, by_flips, by_t, strict=True):
        row |= {"p_holm": flip, "p_t_holm": t, "verdict": _verdict(row["difference"], t, row["seeds"])}
    columns = ["a", "b", "seeds", "difference", "half_width", "p", "p_holm", "p_t_holm", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def compare_runs(
    runs: Sequence[Path], annotations: Path | None = None, replicates: int = REPLICATES, seed: int = 0
) -> pd.DataFrame:
    """Compare finished runs: those of one method and recipe are one system, with its seeds.

    Args:
        runs: folders of finished runs of two or more systems.
        annotations: ground truth, needed for runs that stored no flags.
        replicates: resamples of the test videos.
        seed: of the resampling.

    Returns:
        `compare_methods` over the systems, with `low`, `high` and `share` of `paired_bootstrap` for each pair,
        `tious`, the range that is averaged, and `synthetic`: on generated data there is no verdict.

    Raises:
        UserError: a folder holds no finished run or one without a usual average, there is one system only, two runs
            are of one seed, systems share no seed, or data, protocol or test list differ: says which.
        StoreError: a run's files are damaged, or its flags give other mAPs than its record.
    """
    records = {}
    for run in runs:
        if not (run / RECORD).exists():
            raise UserError(f"{run} holds no finished run ({RECORD} is not there). `wstal-bench ls runs` lists them.")
        records[run] = read_record(run / RECORD)
        if not records[run]["metrics"][records[run]["headline"]]["averages"]:
            raise UserError(f"{run}: {without_average(records[run])}, by which runs are compared.")
    first, *others = records
    for other in others:
        check_comparable(records[first], records[other])
    names = system_names(list(records.values()))
    systems: dict[str, dict[int, Path]] = {}
    for (run, record), name in zip(records.items(), names, strict=True):
        members = systems.setdefault(name, {})
        if record["seed"] in members:
            raise UserError(
                f"{run} and {members[record['seed']]} are both seed {record['seed']} of {name}. Leave one out."
            )
        members[record["seed"]] = run
    if len(systems) < 2:
        raise UserError(f"All {len(records)} runs are of one system, {names[0]}. Name runs of two or more to compare.")
    for (a, mine), (b, theirs) in itertools.combinations(systems.items(), 2):
        if not mine.keys() & theirs.keys():
            raise UserError(
                f"{a} (seeds {sorted(mine)}) and {b} (seeds {sorted(theirs)}) share no seed. Run both with one."
            )
    compared = compare_methods(
        pd.DataFrame(
            {"method": name, "seed": record["seed"], "value": average(record)}
            for record, name in zip(records.values(), names, strict=True)
        )
    )
    if records[first]["synthetic"]:
        compared["verdict"] = NO_VERDICT
    flags = {
        name: {one: flags_of(run, annotations) for one, run in members.items()} for name, members in systems.items()
    }
    resampled = functools.cache(functools.partial(resampled_mean_ap, replicates=replicates, seed=seed))
    pairs = [paired_bootstrap(flags[a], flags[b], resampled) for a, b in zip(compared["a"], compared["b"], strict=True)]
    return compared.assign(
        low=[pair.low for pair in pairs],
        high=[pair.high for pair in pairs],
        share=[pair.share for pair in pairs],
        tious=[pair.tious for pair in pairs],
        synthetic=records[first]["synthetic"],
    )


def comparison_table(compared: pd.DataFrame) -> pd.DataFrame:
    """What `compare_runs` gives, as text for a page, in mAP points; blank where there is no number."""

    def shown(value: float, form: str) -> str:
        return "" if math.isnan(value) else format(value, form)

    return pd.DataFrame(
        {
            "first": row["a"],
            "second": row["b"],
            "seeds": str(row["seeds"]),
            f"difference of mean mAP {row['tious']}": shown(row["difference"], "+.2f"),
            "± over seeds (95 %)": shown(row["half_width"], ".2f"),
            "over test videos (95 %)": f"{shown(row['low'], '+.2f')} to {shown(row['high'], '+.2f')}",
            "resamples without gain": shown(100 * row["share"], ".1f") + " %",
            "sign-flip p": shown(row["p"], ".3f"),
            "sign-flip p (Holm)": shown(row["p_holm"], ".3f"),
            "t-test p (Holm)": shown(row["p_t_holm"], ".3f"),
            "first is": row["verdict"],
        }
        for row in compared.to_dict("records")
    )


def system_names(records: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each record's method and recipe, the same for equal ones: its title and the options that were set."""
    keys = [canonical_json([record["method"], record["recipe"]]) for record in records]
    names: dict[bytes, str] = {}
    for key, record in zip(keys, records, strict=True):
        options = (record["ablation"] or {"row": {}})["row"] | record["overrides"]
        name = f"{record['title']}, {changes(options)}" if options else str(record["title"])
        if name in (name for other, name in names.items() if other != key):
            name = f"{name} ({record['id']})"
        names.setdefault(key, name)
    return [names[key] for key in keys]


def check_comparable(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Raise unless two records are of the same data, test list, protocol and thresholds.

    Raises:
        UserError: they are not; names every difference.
    """
    sides = [_identity(record) for record in (first, second)]
    different = [
        f"{name} ({sides[0].get(name)} against {sides[1].get(name)})"
        for name in dict.fromkeys([*sides[0], *sides[1]])
        if sides[0].get(name) != sides[1].get(name)
    ]
    if different:
        raise UserError(
            f"The runs {first['id']} and {second['id']} cannot be compared: they differ in {'; '.join(different)}. "
            "Compare runs of one data set under one protocol."
        )


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    parts = {"protocol": record["headline"], "tIoUs": " ".join(record["metrics"][record["headline"]]["mAP"])}
    for name, value in record["data"].items():
        if isinstance(value, dict):
            parts |= {f"data.{name}.{inner}": one for inner, one in value.items()}
        elif name not in PROSE:
            parts[f"data.{name}"] = value
    return parts


def _check_flags(first: RunFlags, second: RunFlags) -> None:
    if (first.protocol.name, first.tious) != (second.protocol.name, second.tious):
        raise UserError(
            f"Flags of {first.protocol.name} at {list(first.tious)} cannot be compared with those of "
            f"{second.protocol.name} at {list(second.tious)}."
        )
    if first.evaluated != second.evaluated or _instances(first) != _instances(second):
        raise UserError("The runs were scored on other test videos or other annotations, so they cannot be paired.")


def _instances(run: RunFlags) -> list[tuple[str, str]]:
    flags = run.flags
    pairs = zip(flags.instance_video.tolist(), flags.instance_label.tolist(), strict=True)
    return sorted((run.videos[video], run.classes[label]) for video, label in pairs)


def _widest_range(tious: tuple[float, ...]) -> tuple[str, list[int]]:
    """The widest of the usual ranges that the thresholds cover, and its columns."""
    keys = [tiou_key(tiou) for tiou in tious]
    covered = {name: 0.0 for name, wanted in AVERAGES.items() if set(wanted) <= set(keys)}
    if not covered:
        raise UserError(f"The tIoUs {', '.join(keys)} cover none of the usual ranges {', '.join(AVERAGES)}.")
    name = widest_average(covered)
    return name, [keys.index(key) for key in AVERAGES[name]]


def _replicated(
    hit: Bools, counted: Bools, video: IntArray, weight: Floats, positives: Floats, precision: Precision
) -> Floats:
    """`[K, B]` AP of one class: `average_precision` with B weightings.

    Args:
        hit: `[N, K]`, best score first.
        counted: `[N]` whether a detection is a hit or a miss, not excused.
        video: `[N]` row of `weight`.
        weight: `[V, B]`.
        positives: `[B]` weight of the instances; where it is 0 the result means nothing.
        precision: as of a protocol.
    """
    ap = np.zeros((hit.shape[1], weight.shape[1]))
    rows = np.flatnonzero(hit.any(axis=1))
    if not len(rows):
        return ap
    positives = np.where(positives > 0, positives, 1)
    # [hits, videos] counted detections of each video up to each hit, whose weights are what was seen there
    present, column = np.unique(video, return_inverse=True)
    first_hit = np.searchsorted(rows, np.flatnonzero(counted))
    cells = np.bincount(first_hit * len(present) + column[counted], minlength=(len(rows) + 1) * len(present))
    count = np.cumsum(cells.reshape(len(rows) + 1, len(present))[:-1], axis=0, dtype=np.float64)
    seen = count @ weight[present]
    seen[seen <= 0] = 1  # nothing was found there either
    for threshold in range(hit.shape[1]):
        at = np.flatnonzero(hit[rows, threshold])
        if not len(at):
            continue
        gained = weight[video[rows[at]]]
        found = _accumulated(np.add, gained.copy())
        curve = found / seen[at]
        if precision != "raw":
            _accumulated(np.maximum, curve[::-1])
        if precision != "eleven-point":
            ap[threshold] = (curve * gained).sum(axis=0) / positives
            continue
        recall = found / positives
        for point in RECALL_POINTS:
            reached = (recall < point).sum(axis=0)
            best = np.take_along_axis(curve, np.minimum(reached, len(at) - 1)[None], axis=0)[0]
            ap[threshold] += np.where(reached < len(at), best, 0) / len(RECALL_POINTS)
    return ap


def _accumulated(step: np.ufunc, rows: Floats) -> Floats:
    """`step.accumulate(rows, axis=0)` in place, 4 times as fast: numpy's goes down column by column."""
    for above, below in itertools.pairwise(rows):
        step(above, below, out=below)
    return rows


def _holm_of_known(p: Sequence[float]) -> list[float]:
    """Holm over those that are numbers; one pair has no t-test."""
    adjusted = iter(holm([value for value in p if not math.isnan(value)]))
    return [value if math.isnan(value) else next(adjusted) for value in p]


def _verdict(difference: float, adjusted: float, seeds: int) -> str:
    if seeds < SEEDS_FOR_P:
        return "too few seeds"
    if adjusted >= SIGNIFICANCE:
        return "not resolved"
    return "better" if difference > 0 else "worse"
