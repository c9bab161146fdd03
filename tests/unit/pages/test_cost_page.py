"""Table IX's page: three columns side by side, and what it says before anything was measured."""

from __future__ import annotations

from pathlib import Path

from harness.pages.cost import cost_page
from harness.pages.formats import markdown_page
from harness.pages.site import read_results
from harness.paper.tables import find_table

ROOT = Path(__file__).parents[3]


def test_without_a_measurement_the_printed_cells_stand_with_the_command_that_measures() -> None:
    page = markdown_page(cost_page(find_table("IX"), None))
    assert page.count("wstal-bench paper cost") == 6
    assert "84.16" in page


def test_stored_cost_stands_beside_every_printed_cell() -> None:
    cost = read_results(ROOT / "results").cost
    assert cost is not None
    page = markdown_page(cost_page(find_table("IX"), cost))
    sizes = page.split("## Sizes")[1].split("## FLOPs")[0]
    assert sizes.count("to the printed digit") == 12
    flops = page.split("## FLOPs")[1].split("## True cost")[0]
    for row in find_table("IX").rows:
        assert f"| {row.cells['FLOPs(G)']} " in flops
    true = [line.split("|")[1].strip() for line in page.split("## True cost")[1].splitlines() if line[:1] == "|"]
    assert all(true.count(method.title) == 6 for method in cost.methods.values())
    # every weak method was measured; one that was not is named
    assert "not measured" not in page
    rest = cost.model_copy(update={"methods": {name: one for name, one in cost.methods.items() if name != "haan"}})
    assert "(not measured: HAAN)" in markdown_page(cost_page(find_table("IX"), rest))


def test_the_load_of_the_machine_stands_beside_its_name() -> None:
    cost = read_results(ROOT / "results").cost
    assert cost is not None
    name, method = next(iter(cost.methods.items()))
    busy = cost.model_copy(update={"methods": {name: method.model_copy(update={"load": 2.5})}})
    assert "; load 2.5 over the minute before" in markdown_page(cost_page(find_table("IX"), busy))
    idle = cost.model_copy(update={"methods": {name: method.model_copy(update={"load": None})}})
    assert "load" not in markdown_page(cost_page(find_table("IX"), idle)).split("Measured on:")[1]
