"""Leaderboards: hand-worked intervals, no partial means, the same bytes again, impossible records refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from harness.leaderboard import drifted, load_records, render, write
from harness.pages import estimate
from wstal.errors import UserError


def record(method: str = "acmnet", seed: int = 0, value: float = 20.0, **changes: Any) -> dict[str, Any]:
    metrics = {
        "mAP": {"0.1": value, "0.2": value - 5},
        "averages": {"0.1:0.2": value - 2.5},
        "videos": 2, "instances": 5, "detections": 9,
    }  # fmt: skip
    return {
        "schema": 1, "id": f"data-{method}-s{seed}-{value}", "method": method, "title": method.upper(), "seed": seed,
        "status": "done", "artefacts": {}, "training": {"diagnostics": {}},
        "synthetic": False, "recipe": {"train": {"epochs": 3}}, "schedule": {"train.epochs": 3},
        "ablation": None, "overrides": {},
        "headline": "anet", "metrics": {"anet": metrics},
        "data": {
            "name": "data", "title": "Data", "features": "RGB", "labels": "official",
            "train": {"list": "l", "videos": 4}, "test": {"list": "m", "videos": 2},
        },
        "environment": {
            "wstal-bench": "0", "python": "3", "packages": {"torch": "2"}, "device": "cpu", "cpu": "c", "threads": 1,
        },
        **changes,
    }  # fmt: skip


def test_cells() -> None:
    assert str(estimate([20.0, 22.0, 24.0], 3)) == "22.0 ± 5.0"
    assert str(estimate([20.04], 1)) == "20.0"
    assert estimate([20.0, 22.0], 3) is None
    assert estimate([], 0) is None


def test_seeds_of_one_recipe_share_a_row_and_others_do_not() -> None:
    records = [record(seed=seed, value=20.0 + seed) for seed in range(3)]
    records.append(record(seed=0, value=30.0, recipe={"train": {"epochs": 9}}, overrides={"train.epochs": 9}))
    page = render(records)["leaderboards/data.md"]
    assert "| ACMNET" in page
    assert "21.0 ± 2.5" in page
    assert "ACMNET (train.epochs=9)" in page
    assert "0, 1, 2" in page


def test_other_data_is_another_section_never_another_seed() -> None:
    other = record(seed=1)
    other["data"] = other["data"] | {"labels": "annotations"}
    page = render([record(seed=0), other])["leaderboards/data.md"]
    assert page.count("## Data ") == 2
    assert "20.0 ±" not in page


def test_synthetic_results_say_so() -> None:
    page = render([record(synthetic=True)])
    assert "Synthetic data" in page["leaderboards/data.md"]
    assert "synthetic" in page["leaderboards/README.md"]
    assert "ynthetic" not in render([record()])["leaderboards/data.md"]


def test_rendering_does_not_depend_on_file_order_and_drift_is_found(tmp_path: Path) -> None:
    records = [record(seed=seed, value=20.0 + seed) for seed in range(3)]
    for folder, order in ((tmp_path / "a", records), (tmp_path / "b", records[::-1])):
        folder.mkdir()
        for number, one in enumerate(order):
            (folder / f"{number}.json").write_text(json.dumps(one))
    pages = render(load_records(tmp_path / "a"))
    assert pages == render(load_records(tmp_path / "b"))
    write(pages, tmp_path / "pages")
    assert drifted(pages, tmp_path / "pages") == []
    (tmp_path / "pages" / "leaderboards" / "data.md").write_text("edited")
    (tmp_path / "pages" / "leaderboards" / "stale.md").write_text("of no record")
    assert drifted(pages, tmp_path / "pages") == ["leaderboards/data.md", "leaderboards/stale.md"]
    assert drifted(pages, tmp_path / "absent") == sorted(pages)
    write(pages, tmp_path / "pages")
    assert drifted(pages, tmp_path / "pages") == []
    assert not (tmp_path / "pages" / "leaderboards" / "stale.md").exists()


@pytest.mark.parametrize("value", [-1, 120, None, "20", float("nan")])
def test_an_impossible_map_is_refused_with_its_path(tmp_path: Path, value: object) -> None:
    bad = copy.deepcopy(record())
    bad["metrics"]["anet"]["mAP"]["0.1"] = value
    (tmp_path / "bad.json").write_text(json.dumps(bad))
    with pytest.raises(UserError, match=r"bad\.json: mAP"):
        load_records(tmp_path)


def test_one_run_stored_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(record()))
    with pytest.raises(UserError, match="stored twice"):
        load_records(tmp_path)


def test_no_records_give_an_index_alone(tmp_path: Path) -> None:
    assert list(render(load_records(tmp_path))) == ["leaderboards/README.md"]
