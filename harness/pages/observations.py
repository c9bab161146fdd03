"""Page of looks between epochs: what choosing the checkpoint on the test set gives, how good and how calibrated pseudo
labels are, and how gradients of added terms lie to the base's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from harness.pages.model import Blocks, Page, Table
from harness.paper.tables import training_logs
from harness.records.grouping import by_method
from harness.records.schema import Record
from harness.records.words import seed_list, widest_average
from harness.seed_statistics import Estimate, estimate, mean_and_half_width

MAIN, AUXILIARY, CONSENSUS = "main", "auxiliary", "consensus"
KINDS = {
    MAIN: "A, the main branch's own scores (TSCN: its fused attention)",
    AUXILIARY: "A_hat, the auxiliary branch's pseudo labels",
    CONSENSUS: "TSCN's pseudo ground truth, on which its streams agree, 0 or 1 for all classes of a video alike",
}


def observations_page(records: Sequence[Record]) -> Page | None:
    """Build the page of one data set, or None where no run was looked at between epochs.

    Args:
        records: of the data set.
    """
    # the last checkpoint alone is no choice
    observed = [
        one for one in records if len(one.observations) > 1 or any(look.pseudo_labels for look in one.observations)
    ]
    if not observed:
        return None
    first, groups = observed[0], by_method(observed)
    name, synthetic = first.data.name, first.synthetic
    blocks: Blocks = [
        "Looks at runs between their epochs (`--observe`). Training sees none of this, and the result of a run is its "
        "last checkpoint.",
        "## What choosing the checkpoint on the test set gives",
        f"Mean mAP over {widest_average(first.scored.averages)}. `best of looks`† is the checkpoint that scores best "
        "on the test set: it is what papers report that select so, and no estimate of how a method does on new video.",
        Table(f"{name}-selection", f"{first.data.title}: last checkpoint and best of looks", _selection(groups)),
        *([] if synthetic else _public_logs()),
    ]
    if labels := _pseudo_labels(groups):
        blocks += [
            "## Pseudo labels against the ground truth of training videos",
            "Average precision and area under the ROC curve of snippets, in the videos that are labelled with the "
            "class, mean over classes. " + " ".join(f"`{kind}`: {words}." for kind, words in KINDS.items()),
            *_answers(groups),
            Table(f"{name}-pseudo-labels", f"{first.data.title}: quality of pseudo labels by epoch", labels),
        ]
    if calibrated := _calibration(groups):
        blocks += [
            "## Calibration",
            "Mean probability of the class and share of snippets that show it, in the videos that are labelled with "
            "it, and the expected calibration error (ten bins; Guo et al. 2017), in percent, means over classes.",
            Table(f"{name}-calibration", f"{first.data.title}: calibration at the last look", calibrated),
        ]
    if gradients := _gradients(groups):
        blocks += [
            "## Gradients of the added terms",
            "Each weighted term that a method adds to its base's loss, against the gradient of that loss on the "
            "parameters that it trains: cosine (below 0 the term undoes what the base learns) and norm in units of the "
            "base's. Means over up to four batches of training videos, with dropout.",
            Table(f"{name}-gradients", f"{first.data.title}: gradients of the added terms", gradients),
        ]
    title = f"{first.data.title}: looks between epochs"
    return Page(f"leaderboards/{name}-looks", title, blocks, synthetic=synthetic, tab="Harness")


def _public_logs() -> Blocks:
    """Return the same of other people's runs."""
    rows = [
        {
            "work": logs.work,
            "data": f"{logs.dataset}, I3D",
            "mean mAP over": logs.over,
            "runs": logs.runs,
            "median gain": f"{logs.median:+.2f}",
            "range": f"{logs.least:+.2f} to {logs.most:+.2f}",
            "logs": logs.repository,
        }
        for logs in training_logs()
    ]
    return [
        "The same in training logs that authors and others published, of runs with at least 40 evaluations: the best "
        "evaluation minus the mean of the last quarter. With so many looks the best is further from what a run gives "
        "when nobody looks.",
        Table(None, "Public training logs: best evaluation against the last quarter", rows),
    ]


def _selection(groups: dict[str, list[Record]]) -> list[dict[str, Any]]:
    rows = []
    for label, members in groups.items():
        averages = [_by_look(record) for record in members]
        last, best = [looks[-1] for looks in averages], [max(looks) for looks in averages]
        gain = estimate([high - end for high, end in zip(best, last, strict=True)], len(members))
        rows.append(
            {
                "method": label,
                "seeds": seed_list(members),
                "looks": ", ".join(sorted({str(len(looks)) for looks in averages})),
                "last": estimate(last, len(last)),
                "best of looks†": estimate(best, len(best)),
                "difference": gain and replace(gain, signed=True),
            }
        )
    return rows


def _by_look(record: Record) -> list[float]:
    """Return the mean mAP at each look."""
    name = widest_average(record.scored.averages)
    return [look.test.averages[name] for look in record.observations if look.test is not None]


def _pseudo_labels(groups: dict[str, list[Record]]) -> list[dict[str, Any]]:
    rows = []
    looks = [look for members in groups.values() for record in members for look in record.observations]
    kinds = [kind for kind in KINDS if any(kind in look.pseudo_labels for look in looks)]
    for label, members in groups.items():
        epochs = sorted({look.epoch for record in members for look in record.observations if look.pseudo_labels})
        for epoch in epochs:
            cells: dict[str, Any] = {"method": label, "epoch": epoch, "seeds": seed_list(members)}
            for key in ("ap", "auc"):
                for kind in kinds:
                    cells[f"{key.upper()} of {kind}"] = estimate(_values(members, epoch, kind, key), len(members))
            rows.append(cells | {"AP gained": _gain(members, epoch)})
    return rows


def _values(members: list[Record], epoch: int, kind: str, key: str) -> list[float]:
    looks = (look for record in members for look in record.observations if look.epoch == epoch)
    return [look.pseudo_labels[kind][key] for look in looks if key in look.pseudo_labels.get(kind, {})]


def _gain(members: list[Record], epoch: int) -> Estimate | None:
    """Return the AP of the labels that are taught above that of A, paired by seed; None unless all seeds have both."""
    taught = _values(members, epoch, AUXILIARY, "ap") or _values(members, epoch, CONSENSUS, "ap")
    if len(taught) < len(members):
        return None
    pairs = zip(taught, _values(members, epoch, MAIN, "ap"), strict=False)
    found = estimate([theirs - own for theirs, own in pairs], len(members))
    return found and replace(found, signed=True)


def _calibration(groups: dict[str, list[Record]]) -> list[dict[str, Any]]:
    rows = []
    for label, members in groups.items():
        last = _last(members)
        for kind in KINDS:
            if not (errors := _values(members, last, kind, "error")):
                continue
            names = {"mean probability": "score", "share that shows it": "positive"}
            cells = {name: estimate(_values(members, last, kind, key), len(members)) for name, key in names.items()}
            row = {"method": label, "scores": kind, "seeds": seed_list(members)} | cells
            rows.append(row | {"calibration error": estimate(errors, len(members))})
    return rows


def _gradients(groups: dict[str, list[Record]]) -> list[dict[str, Any]]:
    rows = []
    for label, members in groups.items():
        looks = [look for record in members for look in record.observations if look.gradients]
        for epoch in sorted({look.epoch for look in looks}):
            here = [look.gradients for look in looks if look.epoch == epoch]
            cells = {
                f"{key} of {name}": _hundredths([one[name][key] for one in here if name in one], len(here))
                for name in dict.fromkeys(name for one in here for name in one)
                for key in ("cosine", "norm")
            }
            rows.append({"method": label, "epoch": epoch, "seeds": seed_list(members)} | cells)
    return rows


def _hundredths(values: list[float], seeds: int) -> str:
    """Return a mean with half its 95 % interval to two digits, empty unless all seeds have a value."""
    if len(values) < seeds:
        return ""
    mean, half = mean_and_half_width(values)
    return f"{mean:.2f}" + (f" ± {half:.2f}" if seeds > 1 else "")


def _answers(groups: dict[str, list[Record]]) -> list[str]:
    """Return a sentence a method on whether its pseudo labels are better than its own scores at the end."""
    sentences = []
    for label, members in groups.items():
        if (gain := _gain(members, _last(members))) is None:
            continue
        if gain.seeds < 2 or abs(gain.mean) <= gain.half_width:
            outcome = "are not told apart from"
        else:
            outcome = "are better than" if gain.mean > 0 else "are worse than"
        own = fmean(_values(members, _last(members), MAIN, "ap"))
        sentences.append(f"**{label}**: pseudo labels {outcome} the main branch's own scores ({gain} of {own:.1f} AP).")
    return sentences


def _last(members: list[Record]) -> int:
    return max(look.epoch for record in members for look in record.observations)
