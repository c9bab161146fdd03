"""Leaderboards: hand-worked intervals, no partial means, the same bytes again, impossible records refused."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.pages.ranking import verdict
from harness.pages.site import drifted, read_results, write
from harness.registry import method_entries
from harness.runs.scoring import common_localizer
from harness.seed_statistics import estimate
from tests.helpers.pages import record, render
from tests.helpers.records import make_record

ROOT = Path(__file__).parents[3]


def test_cells() -> None:
    assert str(estimate([20.0, 22.0, 24.0], 3)) == "22.0 ± 5.0"
    assert str(estimate([20.04], 1)) == "20.0"
    assert estimate([20.0, 22.0], 3) is None
    assert estimate([], 0) is None


def test_seeds_of_one_recipe_share_a_row_and_others_do_not() -> None:
    records = [record(seed=seed, value=20.0 + seed) for seed in range(3)]
    records.append(record(seed=0, value=30.0, recipe={"train": {"epochs": 9}}, overrides={"train.epochs": 9}))
    page = render(records)["leaderboards/data.md"]
    assert "| [ACMNET](methods/acmnet.md)" in page
    assert "21.0 ± 2.5" in page
    assert "[ACMNET (epochs=9)](methods/acmnet.md)" in page
    assert "| 3 " in page


def test_a_method_with_other_options_alone_is_not_called_absent_and_no_schedule_is_cited_that_is_not_there() -> None:
    changed = record(value=30.0, recipe={"train": {"epochs": 9}}, overrides={"train.epochs": 9})
    page = render([changed, record("basnet")])["leaderboards/data.md"]
    absent, others = next(line for line in page.splitlines() if line.startswith("Not run here")).split(". Run here ")
    assert not {"ACM-Net", "BaS-Net"} & set(absent.removeprefix("Not run here, so not ranked: ").split(", "))
    assert others.startswith("with other options alone: ACM-Net. `wstal-bench reproduce`")
    assert "## Schedules\n\nWhere they differ from the methods' own papers:" in page
    assert "harness/shipped/schedules" not in page


def test_own_and_common_localizer_stand_side_by_side() -> None:
    own = {"train": {"epochs": 3}, "method": {}, "localizer": {"margin": 9}}
    records = []
    for seed, (value, common) in enumerate([(20.0, 14.0), (22.0, 18.0)]):
        made = record("basnet", seed, value, recipe=own)
        other = record("basnet", seed, common)["metrics"]
        records.append(made | {"common_localizer": other["anet"]})
    shared = common_localizer("thumos14").model_dump(mode="json")
    records += [record("acmnet", seed, 30.0, recipe=own | {"localizer": shared}) for seed in range(2)]
    # a run of before there was a common localizer
    records += [record("cola", seed, 25.0, recipe=own) for seed in range(2)]
    table = render(records)["leaderboards/data.md"].split("localized by the method's own settings")[1]
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()
             if line.startswith("|")}  # fmt: skip
    # 18.5 and 14.5 are the means over tIoU of 20 and 22 beside 14 and 18; 12.7 = t(.975, 1) sd / sqrt(2)
    assert cells["BASNET"] == ["18.5 ± 12.7", "13.5 ± 25.4", "+5.0 ± 12.7"]
    assert cells["ACMNET"] == ["27.5 ± 0.0", "27.5 ± 0.0", "+0.0 ± 0.0"]
    assert cells["COLA"] == ["22.5 ± 0.0", "", ""]


def test_other_data_is_another_section_never_another_seed() -> None:
    other = record(seed=1)
    other["data"] = other["data"] | {"labels": "annotations"}
    page = render([record(seed=0), other])["leaderboards/data.md"]
    assert page.count("## Data ") == 2
    assert "20.0 ±" not in page


def test_seeds_whose_data_differ_in_words_alone_share_a_row() -> None:
    other = record(seed=1, value=22.0)
    other["data"] = other["data"] | {"title": "The same data, titled anew", "features": "RGB, in other words"}
    page = render([record(seed=0), other])["leaderboards/data.md"]
    assert "## Data" not in page
    assert "| 2 " in page
    assert "21.0 ± 12.7" in page


def test_synthetic_results_say_so() -> None:
    page = render([record(synthetic=True)])
    assert "Synthetic data" in page["leaderboards/data.md"]
    assert "leads" not in page["leaderboards/README.md"]
    assert "ynthetic" not in render([record()])["leaderboards/data.md"]


def test_rendering_does_not_depend_on_file_order_and_drift_is_found(tmp_path: Path) -> None:
    records = [make_record(seed=seed, value=20.0 + seed) for seed in range(3)]
    for folder, order in ((tmp_path / "a" / "records", records), (tmp_path / "b" / "records", records[::-1])):
        folder.mkdir(parents=True)
        for number, one in enumerate(order):
            (folder / f"{number}.json").write_text(json.dumps(one))
    pages = render(read_results(tmp_path / "a"))
    assert pages == render(read_results(tmp_path / "b"))
    write(pages, tmp_path / "pages")
    assert drifted(pages, tmp_path / "pages") == []
    (tmp_path / "pages" / "leaderboards" / "data.md").write_text("edited")
    (tmp_path / "pages" / "leaderboards" / "stale.md").write_text("of no page")
    assert drifted(pages, tmp_path / "pages") == ["leaderboards/data.md", "leaderboards/stale.md"]
    assert drifted(pages, tmp_path / "absent") == sorted(pages)
    write(pages, tmp_path / "pages", keep_stale=True)
    assert drifted(pages, tmp_path / "pages") == ["leaderboards/stale.md"]
    write(pages, tmp_path / "pages")
    assert drifted(pages, tmp_path / "pages") == []
    assert not (tmp_path / "pages" / "leaderboards" / "stale.md").exists()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda text: text.replace("20.0", "NaN", 1), r"bad\.json"),
        (lambda text: text.replace("20.0", "120.0"), r"bad\.json.*120"),
        (lambda text: text.replace('"method": "acmnet"', '"method": "acmmet"'), r"bad\.json.*acmmet.*acmnet"),
        (lambda text: text.replace('"schema": 4', '"schema": 99'), r"bad\.json is of schema 99.*newer"),
        (lambda text: text[: len(text) // 2], r"bad\.json"),
    ],
)
def test_a_bad_record_is_refused_by_its_path_and_the_others_still_render(
    tmp_path: Path, spoil: Callable[[str], str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "bad.json").write_text(spoil(json.dumps(make_record(seed=0))))
    (folder / "good.json").write_text(json.dumps(make_record(seed=1, value=30.0)))
    (tmp_path / "leaderboards").mkdir()
    (tmp_path / "leaderboards" / "other.md").write_text("of the record that cannot be read, perhaps")
    assert main(["leaderboard", "--results", str(tmp_path)]) == 2
    assert re.search(complaint, capsys.readouterr().err)
    page = (tmp_path / "leaderboards" / "data.md").read_text()
    assert "30.0" in page
    assert "120" not in page
    assert (tmp_path / "leaderboards" / "other.md").exists()


def test_a_bad_rescored_file_and_a_bad_cost_file_are_refused_too(tmp_path: Path) -> None:
    (tmp_path / "rescored").mkdir()
    (tmp_path / "rescored" / "x.json").write_text('{"schema": 1}')
    (tmp_path / "cost.json").write_text("{}")
    results = read_results(tmp_path)
    assert [name for name in ("x.json", "cost.json") if any(name in message for message in results.refused)] == [
        "x.json", "cost.json",
    ]  # fmt: skip
    assert results.cost is None


def test_no_records_give_the_papers_tables_with_nothing_measured(tmp_path: Path) -> None:
    rendered = render(read_results(tmp_path))
    pages = {name for name in rendered if name.endswith(".md")}
    numerals = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
    methods = {f"leaderboards/methods/{name}.md" for name in ("README", *method_entries())}
    tables = {f"leaderboards/table_{name}.md" for name in numerals}
    assert pages == {"audit.md", "leaderboards/README.md"} | methods | tables
    assert "reproduced" not in rendered["leaderboards/table_I.md"].split("| Supervision")[1]


def test_the_entry_page_ranks_methods_by_their_own_options_on_real_test_videos() -> None:
    records = [record(seed=seed, value=20.0 + seed) for seed in range(3)]
    records.append(record(value=90.0, overrides={"train.epochs": 9}, recipe={"train": {"epochs": 9}}))
    held_out = record(value=91.0)
    held_out["data"] = held_out["data"] | {"name": "data-held-out"}
    generated = record(value=92.0, synthetic=True)
    generated["data"] = generated["data"] | {"name": "generated"}
    page = render([*records, held_out, generated])["leaderboards/README.md"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    leads = "**ACMNET** leads with 18.5 ± 2.5; no other method is ranked."
    assert rows[2:] == [["[Data](data.md)", "0", "anet, 0.1:0.2", "2", "1", "3", leads]]


def test_the_entry_page_ranks_runs_on_other_labels_and_of_another_version_apart() -> None:
    records = [record(seed=seed, value=20.0 + seed) for seed in range(3)]
    other = record(value=50.0)
    other["data"] = other["data"] | {"labels": "annotations"}
    newer = [record(method, value=30.0) for method in ("acmnet", "wtalc")]
    for made in newer:
        made["environment"] = made["environment"] | {"wstal-bench": "1"}
    page = render([*records, other, *newer, record("wtalc", value=12.0)])["leaderboards/README.md"]
    results = [line.split("|")[-2] for line in page.splitlines() if " leads with " in line]
    assert ["32.5" not in one and "27.5" in one for one in results if "47.5" not in one].count(True) == 1
    assert sum("47.5" in one for one in results) == 1
    assert len(results) == 3


def test_weak_methods_are_ranked_by_themselves() -> None:
    values = {"best": 30.0, "acmnet": 20.0, "counts": 50.0, "more": 60.0, "told": 90.0, "random": 95.0}
    given: dict[str, Any] = {"counts": "weak+count", "more": "weak+count", "told": "full"}
    records = [
        record(name, seed, value, supervision=given.get(name, "weak"))
        for name, value in values.items()
        for seed in range(3)
    ]
    page = render(records)["leaderboards/data.md"]
    assert [(row["rank"], row["method"], row["supervision"]) for row in ranking(page)] == [
        ("", "TOLD", "full"),
        ("1", "BEST", "weak"),
        ("2", "[ACMNET](methods/acmnet.md) [2021](https://arxiv.org/abs/2104.02967)", "weak"),
        ("", "MORE", "weak+count"),
        ("", "COUNTS", "weak+count"),
        ("", "*[RANDOM](methods/random.md)*", "weak"),
    ]


def ranking(page: str) -> list[dict[str, str]]:
    """The rows of a page's first table, by heading."""
    lines = page[page.index("| ") :].split("\n\n")[0].splitlines()
    heading, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(heading, row, strict=True)) for row in rows]


def test_average_and_tiou_of_a_half_come_first_then_the_others_and_the_schedule() -> None:
    made = [make_record(seed=seed, value=20.0 + seed) for seed in range(3)]
    for one in made:
        one["recipe"]["train"]["temporal_length"] = 64
    page = render(made)["leaderboards/data.md"]
    (row,) = ranking(page)
    assert list(row) == [
        "rank", "method", "avg 0.1:0.5", "mAP@0.5", "@0.1", "@0.2", "@0.3", "@0.4", "seeds", "supervision", "schedule",
    ]  # fmt: skip
    assert list(row.values())[2:5] == ["17.0 ± 2.5", "13.0 ± 2.5", "21.0 ± 2.5"]
    assert row["schedule"] == "3 epochs, T 64"


def test_a_rank_counts_the_methods_whose_interval_is_above_and_needs_three_seeds() -> None:
    values = {"a": (30, 31, 32), "b": (28, 30, 32), "c": (20, 21, 22), "d": (19, 20, 21), "e": (10, 30)}
    records = [record(name, seed, value) for name, seeds in values.items() for seed, value in enumerate(seeds)]
    page = render(records)["leaderboards/data.md"]
    # e has two seeds, whose interval of 127 points says nothing
    assert {row["method"]: row["rank"] for row in ranking(page)} == {"A": "1", "B": "1", "C": "3", "D": "3", "E": ""}
    assert "**A** leads with 28.5 ± 2.5; not separable from B; 1 method has fewer than 3 seeds." in page


def test_the_winner_is_named_with_what_is_known_of_it() -> None:
    def sentence(*records: dict[str, Any]) -> str:
        return render(records)["leaderboards/data.md"].splitlines()[2]

    apart = [record(name, seed, value + seed) for name, value in (("a", 50.0), ("b", 20.0)) for seed in range(3)]
    assert sentence(*apart) == "**A** leads with 48.5 ± 2.5; its interval is above those of all others."
    assert sentence(*apart[:3]) == "**A** leads with 48.5 ± 2.5; no other method is ranked."
    assert sentence(record("a")) == "**A** leads with 17.5 (1 seed: too few to be sure)."
    # a seed below is below by nothing that is known
    few = [*apart[:3], record("b", value=20.0), record("c", value=21.0)]
    assert sentence(*few) == "**A** leads with 48.5 ± 2.5; 2 methods have fewer than 3 seeds."
    # nor is one above the leader by anything that is known
    assert sentence(*few, record("d", value=60.0)) == (
        "**A** leads with 48.5 ± 2.5; 3 methods have fewer than 3 seeds, of which above it: D (57.5)."
    )
    many = [record(name, seed, 30.0 + seed) for name in "abcdefgh" for seed in range(3)]
    assert sentence(*many).endswith("not separable from B, C, D, E, F and 2 more.")
    noted = [record("b", seed, 30.0 + seed, title="B, of one stream") for seed in range(3)]
    assert sentence(*many[:3], *noted, *many[6:9]).endswith("not separable from B, of one stream; C.")


def test_older_versions_and_other_precisions_are_not_ranked_but_shown() -> None:
    older = record(value=40.0)
    older["environment"] = older["environment"] | {"wstal-bench": "0.0.9"}
    newer = record(value=30.0)
    newer["environment"] = newer["environment"] | {"wstal-bench": "0.1.0"}
    bits = {"train.precision": "bfloat16"}
    page = render([older, newer, record(value=35.0, overrides=bits, recipe={"train": bits})])["leaderboards/data.md"]
    assert [(row["avg 0.1:0.2"], row["rank"]) for row in ranking(page)] == [("27.5", "")]
    assert "| ACMNET (version 0.0.9) " in page
    assert "| ACMNET (precision=bfloat16, version 0) " in page


def of_version(version: str, *methods: str, value: float = 20.0) -> list[dict[str, Any]]:
    made = [record(method, value=value) for method in methods]
    for one in made:
        one["environment"] = one["environment"] | {"wstal-bench": version}
    return made


def test_versions_that_ran_several_methods_are_ranked_apart() -> None:
    old, new = of_version("0.1.0", "acmnet", "cola", "rskp"), of_version("0.2.0", "acmnet", "cola", value=40.0)
    pages = render([*old, *new])
    first, apart = pages["leaderboards/data.md"].split("## Version 0.2.0 of the harness")
    assert "Those of version 0.2.0, whose schedules may differ, are ranked apart" in first
    assert [row["avg 0.1:0.2"] for row in ranking(first)] == ["17.5"] * 3
    assert [row["avg 0.1:0.2"] for row in ranking(apart)] == ["37.5"] * 2
    # the newer version is the one that counts as soon as it has as many
    pages = render([*old, *new, *of_version("0.2.0", "rskp", value=30.0)])
    assert [row["avg 0.1:0.2"] for row in ranking(pages["leaderboards/data.md"].split("## Version 0.1.0")[0])][
        -1
    ] == "27.5"
    assert "37.5" in pages["leaderboards/README.md"]


def test_one_method_of_another_version_joins_the_ranking() -> None:
    page = render([*of_version("0.1.0", "acmnet", "cola"), *of_version("0.2.0", "rskp")])["leaderboards/data.md"]
    assert len(ranking(page)) == 3
    assert "## Version" not in page


def test_a_user_option_is_named_shortly_and_the_schedule_has_its_own_column() -> None:
    alone = {"train.epochs": 9, "method.contrast.q": 0.5}
    page = render([record(overrides=alone, recipe={"train": {"epochs": 9}})])["leaderboards/data.md"]
    assert [(row["method"].split("]")[0], row["schedule"]) for row in ranking(page)] == [
        ("[ACMNET (q=0.5)", "9 epochs")
    ]


def test_a_methods_page_has_paper_source_deviations_recipe_results_cost_and_bibtex() -> None:
    page = render([record("cola", seed, 30.0 + seed) for seed in range(3)])["leaderboards/methods/cola.md"]
    for part in (
        "# CoLA", "[CoLA: Weakly-Supervised", "](https://arxiv.org/abs/2103.16392), CVPR 2021; Can Zhang, Meng Cao",
        "supervision: weak", "source: released code", "published: 40.9 (AVG (0.1:0.7)) in [Table I](../table_I.md)",
        "Deviations:", "| [Data](../data.md) | 1", "28.5 ± 2.5", "train.epochs = ", "- Data: train.epochs=3",
        "wstal-bench paper cost --method cola", "@inproceedings{zhang2021cola,", "author = {Can Zhang and Meng Cao and",
    ):  # fmt: skip
        assert part in re.sub(" +", " ", page), part
    assert "@article{qu2021acmnet," in render([])["leaderboards/methods/acmnet.md"]
    assert "BibTeX" not in render([])["leaderboards/methods/random.md"]


def test_the_page_of_methods_says_what_each_implementation_follows() -> None:
    page = render([])["leaderboards/methods/README.md"]
    sources = {row["name on the command line"].strip("`"): row["source"] for row in ranking(page)}
    assert sources.keys() == method_entries().keys()
    expected = {
        "acmnet": "released code",
        "rmgcl-gksa": "paper",
        "basnet-rmgcl-gksa": "paper, partly",
        "random": "ours",
    }
    assert expected.items() <= sources.items()
    assert "source: what the implementation follows" in page


def test_a_users_results_begin_with_their_runs_and_the_projects_stand_apart(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "results"
    (folder / "records").mkdir(parents=True)
    records = [make_record(), make_record(seed=1, overrides={"train.epochs": 9}, recipe={"train": {"epochs": 9}})]
    for number, one in enumerate(records):
        (folder / "records" / f"{number}.json").write_text(json.dumps(one))
    page = tmp_path / "store" / "runs" / records[0]["id"] / "page.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    rendered = render(read_results(folder))
    entry = rendered["leaderboards/README.md"]
    assert entry.startswith("# Your results")
    assert f"[{records[0]['id']}](../../runs/{records[0]['id']}/page.html)" in entry
    assert f"| {records[1]['id']} " in entry
    assert "epochs=9" in entry
    assert f"The project's stored results stand apart, in {ROOT / 'results'}" in entry
    assert f'href="../runs/{records[0]["id"]}/page.html"' in rendered["report.html"]
    assert {name for name in rendered if name.endswith(".md")} == {
        "leaderboards/README.md", "leaderboards/data.md",
        "leaderboards/methods/README.md", "leaderboards/methods/acmnet.md",
    }  # fmt: skip
    assert "# Leaderboards" in render(read_results(ROOT / "results"))["leaderboards/README.md"]


def test_every_link_of_a_page_leads_to_a_page() -> None:
    rendered = render(read_results(ROOT / "results"))
    for name, text in rendered.items():
        if name.endswith(".md"):
            for target in re.findall(r"\]\(([^)#]+)\)", text):
                if "://" in target:
                    continue
                path = os.path.normpath(os.path.join(os.path.dirname(name), target))
                assert path in rendered or (ROOT / "results" / path).exists(), (name, target)


def test_runs_of_chance_alone_are_a_page_that_says_so() -> None:
    """An empty sentence, which no page can hold, was there before."""
    assert verdict([]) == "No method is ranked: what was run is chance, or is given more than video-level labels."
