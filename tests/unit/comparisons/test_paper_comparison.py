"""Published beside measured: which records may stand beside which row, and what is said of each cell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.comparisons.paper import OWN, JudgedCell, compare, first_choice, headline, main_version
from harness.data.descriptor import shipped_descriptors
from harness.pages.formats import markdown_page
from harness.pages.model import Table
from harness.pages.paper_tables import table_page
from harness.paper.tables import PublishedTable, find_table, published_tables
from harness.records.schema import Record
from harness.registry import method_entries
from harness.studies.released import Rescored, load_rescored
from tests.helpers.records import make_record, unchecked

RESULTS = Path(__file__).parents[3] / "results"
I3D = "I3D (Kinetics-400), RGB and TV-L1 flow"
TIOUS = [f"0.{tenth}" for tenth in range(1, 8)]


def run(method: str, seed: int, average: float, features: str = I3D, **changes: Any) -> dict[str, Any]:
    """A record on THUMOS14 whose mAP is the same at every tIoU."""
    values = dict.fromkeys(TIOUS, average)
    averages = dict.fromkeys(("0.1:0.5", "0.3:0.7", "0.1:0.7"), average)
    classes = list(shipped_descriptors()["thumos14"].classes or ())
    metrics = {"mAP": values, "averages": averages, "videos": 210, "instances": 3311}
    made = make_record(method, seed, average)
    return made | {
        "classes": classes,
        "data": made["data"] | {"features": features, "streams": ["rgb", "flow"], "width": 2048},
        "headline": "anet-210",
        "metrics": {"anet-210": metrics | {"detections": 9}},
        "schedule": {},
        **changes,
    }


def typed(records: list[dict[str, Any]]) -> list[Record]:
    return [unchecked(record) for record in records]


def lines_of(
    table: str, records: list[dict[str, Any]], rescored: list[Rescored] | None = None
) -> dict[str, list[JudgedCell]]:
    return {line[0].row.id: line for line in compare(find_table(table), typed(records), rescored or [])}


def looks(*averages: float) -> list[dict[str, Any]]:
    found = []
    for epoch, average in enumerate(averages, 1):
        mean_ap, ranges = dict.fromkeys(TIOUS, average), dict.fromkeys(("0.1:0.5", "0.3:0.7", "0.1:0.7"), average)
        counts = {"videos": 210, "instances": 3311, "detections": 9}
        found.append({"epoch": epoch, "test": {"mAP": mean_ap, "averages": ranges} | counts, "pseudo_labels": {}})
    return found


def test_a_row_that_was_chosen_on_the_test_set_is_judged_by_what_that_gained_here() -> None:
    seen = [looks(41.0, 43.0, 41.5), looks(42.0, 41.0), looks(41.2, 41.2), looks(50.0)]
    records = [run("acmnet", seed, 41.5 - seed / 2, observations=one) for seed, one in enumerate(seen)]
    records.append(run("acmnet", 4, 41.2))
    for record in records:
        scored = record["metrics"]["anet-210"] | {"videos": 212}
        record |= {"headline": "anet-212", "metrics": {"anet-212": scored}}
    cells = lines_of("IV", records)["baseline"]
    assert cells[-1].measurement is not None
    assert cells[-1].measurement.gained(cells[-1].column) == [1.5, 1.0, 0.0]  # one look tells nothing
    assert "the best of our looks at it is +0.8 above that (3 runs)" in cells[-1].verdict.reason


def test_every_row_is_there_and_none_without_a_reason() -> None:
    for table in published_tables().values():
        if not table.dataset:
            continue
        lines = compare(table, [], [])
        assert [line[0].row.id for line in lines] == [row.id for row in table.rows]
        for cell in (cell for line in lines for cell in line):
            assert cell.measured is None
            assert cell.verdict.kind in ("not run", "not implemented")
            assert cell.verdict.reason
    kinds = {name: headline(line).verdict.kind for name, line in lines_of("I", []).items()}
    assert kinds["rmgcl-gksa"] == "not run"
    assert kinds["ssn"] == "not run"


def test_a_row_of_a_method_that_is_not_registered_is_not_implemented(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {name: entry for name, entry in method_entries().items() if name != "ssn"}
    monkeypatch.setattr("harness.comparisons.paper.method_entries", lambda: others)
    lines = lines_of("I", [])
    assert {headline(lines[name]).verdict.kind for name in ("ssn", "bsn")} == {"not implemented", "not run"}
    assert lines["ssn"][0].source == ""
    (shown,) = (
        block.rows
        for block in table_page(find_table("I"), list(lines.values())).blocks
        if isinstance(block, Table) and "source" in block.columns
    )
    assert {row["Method"]: row["source"] for row in shown if not row["source"]} == {"SSN [27] (ICCV'17)": ""}


@pytest.mark.parametrize(
    ("averages", "verdict"),
    [
        ([46.7, 46.8, 46.9], "reproduced"),
        ([45.0, 46.8, 48.6], "consistent"),
        ([43.1, 43.2, 43.3], "below"),
        ([49.1, 49.2, 49.3], "above"),
        ([40.0, 45.0, 50.0], "inconclusive"),
        ([46.8, 46.8], "inconclusive"),
    ],
)
def test_ours_against_its_printed_average(averages: list[float], verdict: str) -> None:
    cell = headline(
        lines_of("I", [run("rmgcl-gksa", seed, value) for seed, value in enumerate(averages)])["rmgcl-gksa"]
    )
    assert (cell.column.name, cell.row.cells[cell.column.name]) == ("AVG (0.1:0.7)", "46.8")
    assert cell.verdict.kind == verdict, cell.verdict.reason
    assert cell.measured is not None
    assert cell.measured.mean == pytest.approx(sum(averages) / len(averages))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"features": "R(2+1)D-18 (Kinetics-400), RGB"}, "features: published I3D, measured R(2+1)D"),
        ({"features": "I3D (Kinetics-400), RGB, 160 x 160 crop", "streams": ["rgb"], "width": 1024}, "features"),
    ],
)
def test_other_features_are_shown_and_never_judged(changes: dict[str, Any], reason: str) -> None:
    records = [run("rmgcl-gksa", seed, 46.8) for seed in range(3)]
    for record in records:
        record["data"] |= changes
    cell = headline(lines_of("I", records)["rmgcl-gksa"])
    assert cell.verdict.kind == "not comparable"
    assert reason in cell.verdict.reason
    assert cell.measured is not None


def test_synthetic_held_out_other_data_and_changed_recipes_do_not_stand_beside_the_paper() -> None:
    synthetic = run("rmgcl-gksa", 0, 46.8, synthetic=True)
    held_out = run("rmgcl-gksa", 0, 46.8)
    held_out["data"] = held_out["data"] | {"name": "thumos14-held-out"}
    other_data = run("rmgcl-gksa", 0, 46.8, classes=["a", "b"])
    changed = run("rmgcl-gksa", 0, 46.8, overrides={"train.epochs": 3})
    ablation = run("rmgcl-gksa", 0, 46.8, ablation={"schedule": {}, "row": {"method.gks": False}})
    for record in (synthetic, held_out, other_data, changed, ablation):
        assert headline(lines_of("I", [record])["rmgcl-gksa"]).verdict.kind == "not run"


def test_the_protocol_of_the_rows_own_source_is_used_where_the_run_was_scored_by_it() -> None:
    record = run("acmnet", 0, 42.6)
    better = {name: value + 1 for name, value in record["metrics"]["anet-210"]["mAP"].items()}
    averages = dict.fromkeys(record["metrics"]["anet-210"]["averages"], 43.6)
    record["metrics"]["anet-212"] = record["metrics"]["anet-210"] | {"mAP": better, "averages": averages}
    baseline = lines_of("IV", [record])["baseline"]
    assert baseline[0].row.protocol == "anet-212"  # ACM-Net's own, by its sheet
    assert headline(baseline).measured is not None
    assert headline(baseline).measured.mean == 43.6
    rmgcl = lines_of("IV", [record])["rmgcl"]
    assert headline(rmgcl).verdict.kind == "not run"


def judged(records: list[dict[str, Any]], table: str = "I", row: str = "rmgcl-gksa") -> tuple[str, str]:
    cell = headline(lines_of(table, records)[row])
    return cell.verdict.kind, cell.verdict.reason


def test_a_part_of_the_test_videos_is_another_number() -> None:
    records = [run("rmgcl-gksa", seed, 46.8) for seed in range(3)]
    for record in records:
        record["metrics"]["anet-210"]["videos"] = 195
    assert judged(records) == ("not comparable", "videos: published 210, measured 195")
    # FAC-Net's own evaluation has 212 videos
    records = [run("facnet", seed, 42.2) for seed in range(3)]
    for record in records:
        record["metrics"]["segments-best"] = record["metrics"]["anet-210"]
    # stored before its form on 212 videos: shown under its evaluator, as another number
    assert judged(records, row="fac-net") == (
        "not comparable",
        "protocol: published segments-best-212, measured segments-best; videos: published 212, measured 210",
    )
    for record in records:
        record["metrics"]["segments-best-212"] = record["metrics"]["anet-210"] | {"videos": 212}
    assert judged(records, row="fac-net")[0] == "reproduced"
    del records[0]["metrics"]["segments-best-212"]
    assert judged(records, row="fac-net")[0] == "not comparable"


def test_another_schedule_is_another_number() -> None:
    records = [run("rmgcl-gksa", seed, 46.8, schedule={"train.epochs": 60}) for seed in range(3)]
    assert judged(records) == ("not comparable", f"recipe: published {OWN}, measured train.epochs=60")


def test_the_users_own_options_stand_in_no_table() -> None:
    ablation: dict[str, Any] = {"schedule": {}, "row": {}}
    records = [run("acmnet", seed, 42.6, overrides={"train.epochs": 1}, ablation=ablation) for seed in range(3)]
    assert judged(records, "IV", "baseline")[0] == "not run"


def test_where_the_source_names_no_evaluator_all_of_them_have_to_agree() -> None:
    records = [run("rmgcl-gksa", seed, 46.8 + 0.1 * seed) for seed in range(3)]
    for record in records:
        own = record["metrics"]["anet-210"]
        more = {name: value + 1.5 for name, value in own["averages"].items()}
        record["metrics"]["segments-best"] = own | {"averages": more}
        record["metrics"]["thumos14-kit-2014"] = own | {"averages": dict.fromkeys(more, 10.0)}
    kind, reason = judged(records)
    assert kind == "inconclusive"
    assert reason.endswith("they disagree: anet-210 reproduced, segments-best above")
    for record in records:
        del record["metrics"]["segments-best"]
    # the kit is no evaluator of weakly supervised work with released code
    assert judged(records)[0] == "reproduced"


def test_plain_runs_stand_in_the_rows_of_an_ablation_that_they_are() -> None:
    records = [run("acmnet", seed, 42.6 + 0.1 * seed) for seed in range(3)]
    assert judged(records, "IV", "baseline")[0] == "not comparable"  # scored on 210 videos, its source on 212
    for record in records:
        record["metrics"]["anet-212"] = record["metrics"]["anet-210"] | {"videos": 212}
    assert judged(records, "IV", "baseline")[0] == "reproduced"


def test_one_stream_or_another_network_is_not_the_literatures_i3d() -> None:
    for features, width in (("I3D ResNet-50, RGB", 2048), (I3D, 1024)):
        records = [run("rmgcl-gksa", seed, 46.8, features=features) for seed in range(3)]
        for record in records:
            record["data"] |= {"width": width, "streams": None}
        assert judged(records)[0] == "not comparable"


def test_the_measurement_with_most_seeds_and_the_newest_version_is_chosen() -> None:
    old = [run("rmgcl-gksa", seed, 40.0) for seed in range(3)]
    new = [run("rmgcl-gksa", seed, 46.8 + 0.1 * seed) for seed in range(3)]
    for records, version in ((old, "0.9.0"), (new, "0.10.0")):
        for record in records:
            record["environment"] = record["environment"] | {"wstal-bench": version}
    for order in (old + new, new + old):
        chosen = first_choice(compare(find_table("I"), typed(order), []))
        assert headline(chosen["rmgcl-gksa"]).verdict.kind == "reproduced"


def test_rows_that_are_not_judged_are_all_of_the_version_that_ran_most_of_them() -> None:
    """On other features nothing is judged, and a row of another schedule beside the rest would say what is not so."""
    other = {"features": "R(2+1)D-18, RGB"}
    whole = [run("rmgcl-gksa", seed, 22.0, **other) for seed in range(3)]
    parts = [run("hamnet", seed, 18.0, **other) for seed in range(3)]
    newest = [run("rmgcl-gksa", seed, 28.0, **other) for seed in range(6)]
    alone = [run("stpn", seed, 16.0, **other) for seed in range(6)]
    for records, version in ((whole + parts, "0.9.0"), (newest, "0.10.0"), (alone, "0.8.0")):
        for record in records:
            record["environment"] = record["environment"] | {"wstal-bench": version}
    lines = compare(find_table("I"), typed(newest + whole + parts + alone), [])
    chosen = {row: headline(line) for row, line in first_choice(lines).items()}
    assert main_version(lines) == "0.9.0"
    assert [measured.mean for row in ("rmgcl-gksa", "ham-net") if (measured := chosen[row].measured)] == [22.0, 18.0]
    assert (chosen["stpn"].measured, chosen["stpn"].verdict.kind) == (None, "not run")
    assert "version 0.9.0" in chosen["stpn"].verdict.reason


def test_released_detections_give_autolocs_row_to_the_digit() -> None:
    records, refused = load_rescored(RESULTS / "rescored")
    assert not refused
    line = lines_of("I", [], records)["autoloc"]
    judged = {cell.column.name: cell.verdict.kind for cell in line if cell.row.value(cell.column.name) is not None}
    assert judged == dict.fromkeys(["0.3", "0.4", "0.5", "0.6", "0.7", "AVG (0.3:0.7)"], "reproduced")
    assert headline(line).column.name == "AVG (0.3:0.7)"
    assert line[0].verdict.kind == "not comparable"  # the paper prints no number at 0.1


def test_a_page_has_every_printed_cell_and_all_judged_ones() -> None:
    table: PublishedTable = find_table("I")
    records = [run("rmgcl-gksa", seed, 46.8 + 0.1 * seed) for seed in range(3)]
    page = markdown_page(table_page(table, compare(table, typed(records), [])))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    for row in table.rows:
        assert [*row.labels.values(), *row.cells.values()] in cells
    assert "1 reproduced" in page
    ours = [line for line in cells if line[0] == "Ours"]
    # the row's own measured line, then one line a judged cell
    assert len(ours) == 1 + len(table.columns)
    assert all(line[-2] in ("reproduced", "below", "above", "consistent") for line in ours)


def test_published_and_measured_averages_stand_side_by_side_and_each_reason_once() -> None:
    table = find_table("I")
    records = [run("rmgcl-gksa", seed, 46.8 + 0.1 * seed) for seed in range(3)]
    page = table_page(table, compare(table, typed(records), []))
    answer, shown, reasons = page.blocks[:3]
    assert isinstance(answer, str)
    assert answer.startswith(f"Of {len(table.rows)} rows: ")
    assert isinstance(shown, Table)
    averages = ["AVG (0.1:0.5)", "AVG (0.3:0.7)", "AVG (0.1:0.7)"]
    sides = [f"{side} {name}" for name in averages for side in ("published", "measured")]
    assert shown.columns == ["Supervision", "Method", "Feature", *sides, "verdict", "reasons", "source"]
    row = next(row for row in shown.rows if str(row["Method"]) == "Ours")
    assert [str(row[side]) for side in sides] == ["57.2", "46.9 ± 0.2", "37.0", "46.9 ± 0.2", "46.8", "46.9 ± 0.2"]
    assert isinstance(reasons, str)
    letters = dict(re.findall(r"- \*\*(\w+)\*\* (.*)", reasons))
    assert len(set(letters.values())) == len(letters)
    used = {letter for line in shown.rows for letter in line["reasons"].split()}
    assert used <= letters.keys()
    absent = next(row for row in shown.rows if str(row["Method"]).startswith("DGAM"))
    assert letters[absent["reasons"]] == "no run of it by the method's own options is stored"


def test_rows_say_what_their_implementation_follows() -> None:
    table, records = find_table("I"), [run("rmgcl-gksa", seed, 46.8) for seed in range(3)]
    rescored, _ = load_rescored(RESULTS / "rescored")
    lines = compare(table, typed(records), [one for one in rescored if one.published == "table_I/autoloc"])
    page = table_page(table, lines)
    (shown,) = (block.rows for block in page.blocks if isinstance(block, Table) and "source" in block.columns)
    sources = {str(row["Method"]): row["source"] for row in shown}
    assert sources["Ours"] == "paper"
    assert sources["DGAM [76] (CVPR'20)"] == "released code"
    assert sources["SSN [27] (ICCV'17)"] == "released code"


def test_of_several_measurements_the_judged_one_stands_beside_the_row() -> None:
    records = [run("rmgcl-gksa", seed, 46.8 + 0.1 * seed) for seed in range(3)]
    other = [run("rmgcl-gksa", seed, 30.0, features="R(2+1)D") for seed in range(3)]
    for record in other:
        record["data"]["width"] = 512
    for order in (records + other, other + records):
        table = find_table("I")
        page = markdown_page(table_page(table, compare(table, typed(order), [])))
        row = next(line for line in page.splitlines() if line.startswith("| Weak") and "| [Ours]" in line)
        assert "| reproduced" in row
        assert "R(2+1)D" in page
