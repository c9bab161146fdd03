"""Page of the robustness study: verdicts on the paper's claim, and the accuracies that they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.charts.robustness import accuracy_chart
from harness.pages.model import Blocks, Page, Table
from harness.records.words import bullets
from harness.seed_statistics import estimate
from harness.studies.robustness import DENSITY, LEARNING_RATES, SELECTION_SEEDS, CaseResult, RobustnessFile
from harness.studies.robustness_verdict import CLEAN_BAND, REFERENCE, ROBUST, listed, verdicts

BANNER = (
    "> **Synthetic: planted clusters, no video.** These numbers compare losses on pairs of which a known share is\n"
    "> wrong. They say nothing about how well a method localizes actions."
)
LIMITS = (
    "Linear embedding, noise uniform over classes, a bank that is never stale: not the method as a whole.",
    "`--temperature` sets tau of all parts but the last; lambda is the paper's.",
    "A learning rate chosen under noise, or fewer steps, could serve a loss better.",
    "Numbers of pairs and steps were cut for speed after first results. The last part was added after those at "
    "tau = 0.1 had been seen.",
)


def robustness_page(stored: RobustnessFile) -> Page:
    """Build the page from the stored numbers."""
    judged = verdicts(stored)
    claims = [
        f"{case.title}, tau = {case.layout.temperature:g}: the claim **{judged[case.name].outcome}**. "
        + " ".join(judged[case.name].reasons)
        for case in (result.case for result in stored.results)
    ]
    first = stored.results[0]
    blocks: Blocks = [
        "The paper's claim: its loss (Eq. 9) is robust to noise as q -> 1, and near q = 0, where it is InfoNCE, weighs "
        f"wrong pairs most. The paper uses q = 0.2 and lambda = {DENSITY:g}. Read here as: from no noise to the two "
        f"highest rates, {ROBUST} loses less accuracy than {REFERENCE}.",
        bullets(claims),
        accuracy_chart(first.accuracies, stored.seeds),
    ]
    for result in stored.results:
        case, name = result.case, f"robustness-{result.case.name}"
        blocks += [
            f"## {case.title}",
            case.about,
            _table(name, f"{case.title}: accuracy on clean held-out features", _accuracies(stored, result)),
            _table(f"{name}-lost", f"{case.title}: accuracy lost to noise", judged[case.name].table),
        ]
    environment = stored.environment
    blocks += [
        "## How it was measured",
        bullets(_facts(stored)),
        _table("robustness-learning-rates", "Learning rates of the robustness study", _learning_rates(stored)),
        "## Limits",
        bullets(LIMITS),
        f"Made by `wstal-bench paper robustness --seeds {stored.seeds} --temperature "
        f"{first.case.layout.temperature:g}`: "
        f"wstal-bench {environment['wstal-bench']}, Python {environment['python']}, torch {environment['torch']}, "
        f"numpy {environment['numpy']}; cpu ({environment['cpu']}), {environment['threads']} thread(s).",
    ]
    title = "Robustness of the contrastive loss to wrong pairs"
    return Page("robustness", title, blocks, synthetic=True, banner=BANNER, tab="Ablations")


def _table(name: str, caption: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    return Table(name, caption, rows, dict.fromkeys(list(rows[0])[1:], "measured"))


def _accuracies(stored: RobustnessFile, result: CaseResult) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"accuracy (%)": loss} | {f"noise {rate:g}": estimate(values, stored.seeds) for rate, values in by_rate.items()}
        for loss, by_rate in result.accuracies.items()
    ]
    rows.append({"accuracy (%)": "untrained embedding", "noise 0": estimate(stored.untrained, stored.seeds)})
    rows.append({"accuracy (%)": "chance", "noise 0": f"{100 / stored.problem.classes:.1f}"})
    return rows


def _learning_rates(stored: RobustnessFile) -> list[dict[str, Any]]:
    edges = (LEARNING_RATES[0], LEARNING_RATES[-1])
    return [
        {"negatives a row": str(layout.negatives), "tau": f"{layout.temperature:g}"}
        | {
            loss: f"{rate:g} ({accuracy:.1f} %{', edge of the grid' if rate in edges else ''})"
            for loss, (rate, accuracy) in chosen.items()
        }
        for layout, chosen in {result.case.layout: result.learning_rates for result in stored.results}.items()
    ]


def _facts(stored: RobustnessFile) -> list[str]:
    problem = stored.problem
    return [
        f"Clusters: {problem.classes} classes around random unit vectors of {problem.signal_columns} columns with "
        f"Gaussian noise of norm about {problem.spread:g}, beside {problem.distractor_columns} columns of pure noise "
        f"of norm about {problem.distractor_spread:g}; features have norm 1.",
        f"Training: a linear embedding to {problem.embedding} columns, {problem.steps} steps of Adam on all pairs of "
        f"{problem.anchors} anchors a class with a bank of {problem.slots} slots a class. Slots are embedded by the "
        "present weights and carry no gradient. Wrong pairs are drawn once a seed and stay.",
        f"Score: percent of {problem.held_out} clean held-out features a class that are nearest to their own "
        "class's centre, the mean of its embedded anchors.",
        f"Seeds: 0 to {stored.seeds - 1}, each with clusters, pairs and initial weights of its own, the same for every "
        "loss. Cells: mean ± half the 95 % Student-t interval over seeds. Differences are paired; told apart means "
        "that the interval excludes 0, uncorrected for their number.",
        f"Difficulty: the spread was set by the accuracy of {REFERENCE} without noise, to {CLEAN_BAND[0]:g} to "
        f"{CLEAN_BAND[1]:g} %; outside that range the claim cannot be told.",
        f"Learning rates: each loss has the one of {listed(LEARNING_RATES)} with the highest accuracy on clean "
        f"validation features after training without noise, the mean of {len(SELECTION_SEEDS)} seeds that are not "
        "reported:",
    ]
