"""Page of looks between epochs: last against best, and pseudo labels against the main branch's scores."""

from __future__ import annotations

from typing import Any

import pytest

from harness.pages.formats import markdown_page
from harness.pages.model import Table
from harness.pages.observations import observations_page
from harness.records.schema import Observation, Record
from tests.helpers.records import as_record, make_record


def seeds_of(count: int) -> list[Record]:
    return [as_record(make_record(seed=seed)) for seed in range(count)]


def observed(
    record: Record, averages: list[float], labels: list[tuple[float, ...]] | None = None, taught: str = "auxiliary"
) -> Record:
    """Looks at epochs 10, 20, ... with mean mAPs, and (AP of A, AP of the labels that are taught)."""
    looks = []
    for number, value in enumerate(averages):
        test = record.scored.model_copy(update={"averages": dict.fromkeys(record.scored.averages, value)})
        pair = labels[number] if labels else ()
        quality = {kind: {"ap": ap, "auc": ap} for kind, ap in zip(("main", taught), pair, strict=False)}
        looks.append(
            Observation.model_construct(epoch=10 * (number + 1), test=test, pseudo_labels=quality, gradients={})
        )
    return record.model_copy(update={"observations": looks})


def table(page: Any, name: str) -> Table:
    return next(block for block in page.blocks if isinstance(block, Table) and name in str(block.name))


def test_no_looks_no_page() -> None:
    assert observations_page(seeds_of(3)) is None
    # the last checkpoint alone, as of a method that does not train, is no choice
    assert observations_page([observed(record, [20.0]) for record in seeds_of(3)]) is None


def test_the_best_look_is_beside_the_last() -> None:
    records = [observed(record, [20.0, 26.0, 24.0 + seed / 2]) for seed, record in enumerate(seeds_of(3))]
    page = observations_page(records)
    (row,) = table(page, "selection").rows
    assert row["looks"] == "3"
    assert row["last"].mean == pytest.approx(24.5)
    assert row["best of looks†"].mean == pytest.approx(26.0)
    assert (row["difference"].mean, row["difference"].signed) == (pytest.approx(1.5), True)
    assert "no estimate of how a method does on new video" in markdown_page(page)  # type: ignore[arg-type]


def test_real_data_have_the_same_of_public_logs_beside_them() -> None:
    records = [observed(record, [20.0, 26.0]) for record in seeds_of(3)]
    synthetic = [record.model_copy(update={"synthetic": True}) for record in records]
    real = [record.model_copy(update={"synthetic": False}) for record in records]
    assert "| +1.24" in markdown_page(observations_page(real))  # type: ignore[arg-type]
    assert "STCL-Net" not in markdown_page(observations_page(synthetic))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((5.0, 6.0, 5.5), "are better than"),
        ((-5.0, -6.0, -5.5), "are worse than"),
        ((5.0, -5.0, 1.0), "not told apart"),
    ],
)
def test_a_sentence_says_whether_pseudo_labels_are_better(gains: tuple[float, ...], words: str) -> None:
    records = [
        observed(record, [20.0, 21.0], [(40.0, 40.0), (50.0, 50.0 + gain)])
        for record, gain in zip(seeds_of(3), gains, strict=True)
    ]
    page = observations_page(records)
    assert words in markdown_page(page)  # type: ignore[arg-type]
    rows = table(page, "pseudo-labels").rows
    assert [row["epoch"] for row in rows] == [10, 20]
    assert rows[1]["AP gained"].mean == pytest.approx(sum(gains) / 3)


def test_seeds_without_an_auxiliary_branch_yet_have_no_mean() -> None:
    records = [observed(record, [20.0], [(40.0,)]) for record in seeds_of(2)]
    (row,) = table(observations_page(records), "pseudo-labels").rows
    assert row["AP of main"].mean == 40
    assert "AP of auxiliary" not in row
    assert row["AP gained"] is None


def test_consensus_labels_have_a_column_where_a_method_has_them() -> None:
    page = observations_page([observed(record, [20.0], [(40.0, 45.0)], "consensus") for record in seeds_of(2)])
    (row,) = table(page, "pseudo-labels").rows
    assert row["AP of consensus"].mean == 45
    assert row["AP gained"].mean == 5
    assert "are better than" in markdown_page(page)  # type: ignore[arg-type]


def looked(record: Record, gradients: list[dict[str, dict[str, float]]], error: float) -> Record:
    """Looks at epochs 10, 20, ... with gradients, and the calibration of A and A_hat."""
    quality = {"ap": 40.0, "auc": 40.0, "score": 30.0, "positive": 35.0, "error": error}
    looks = [
        Observation.model_construct(
            epoch=10 * number,
            test=record.scored,
            pseudo_labels={"main": quality, "auxiliary": quality | {"score": 60.0}},
            gradients=one,
        )
        for number, one in enumerate(gradients, 1)
    ]
    return record.model_copy(update={"observations": looks})


def test_gradients_and_calibration_have_tables() -> None:
    late = {"contrast": {"cosine": -0.5, "norm": 2.0}}
    first = looked(seeds_of(1)[0], [{}, late | {"auxiliary": {"cosine": 0.1, "norm": 0.5}}], 10.0)
    second = looked(seeds_of(2)[1], [{}, {"contrast": {"cosine": -0.3, "norm": 1.0}}], 12.0)
    page = observations_page([second, first])
    (row,) = table(page, "gradients").rows
    assert row["epoch"] == 20
    assert (row["cosine of contrast"], row["norm of contrast"]) == ("-0.40 ± 1.27", "1.50 ± 6.35")
    assert row["norm of auxiliary"] == ""  # a column, but no mean: one seed lacks the term
    main, auxiliary = table(page, "calibration").rows
    assert (main["scores"], main["calibration error"].mean, main["mean probability"].mean) == ("main", 11.0, 30.0)
    assert (auxiliary["mean probability"].mean, auxiliary["share that shows it"].mean) == (60.0, 35.0)


def test_looks_of_before_have_no_such_tables() -> None:
    page = observations_page([observed(record, [20.0], [(40.0, 45.0)]) for record in seeds_of(2)])
    assert "Gradients" not in markdown_page(page)  # type: ignore[arg-type]
    assert "Calibration" not in markdown_page(page)  # type: ignore[arg-type]
