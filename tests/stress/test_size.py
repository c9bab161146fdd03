"""A data set of ActivityNet's size, a fifteenth of it: how often files are opened, and how stages grow with videos."""

from __future__ import annotations

import pytest

from tests.stress.report import report
from tests.stress.size import SETTINGS, Size, Stage, growth, measured

pytestmark = pytest.mark.stress

VIDEOS = (250, 1_000)
COMMAND = "nox -s stress -- tests/stress/test_size.py"


@pytest.fixture(scope="module")
def found() -> list[dict[str, Stage]]:
    stages = []
    for videos in VIDEOS:
        with measured(Size(videos, classes=50, width=64, rows=60), "acmnet", SETTINGS, threads=1) as one:
            stages.append(one)
    return stages


def test_files_are_not_opened_again_and_again(found: list[dict[str, Stage]]) -> None:
    for videos, stages in zip(VIDEOS, found, strict=True):
        assert stages["verify"]["opened"] <= 2 * videos
        assert sum(stage["opened"] for name, stage in stages.items() if name != "verify") <= 4.1 * videos


def test_no_stage_grows_faster_than_the_videos(found: list[dict[str, Stage]]) -> None:
    exponents = {name: growth(VIDEOS, [max(stages[name]["cpu"], 0.05) for stages in found]) for name in found[-1]}
    worst = max(exponents, key=lambda name: exponents[name])
    report("seconds of each stage of a run, of n videos", f"at most n^{exponents[worst]:.2f} ({worst})", COMMAND)
    assert exponents[worst] < 1.3


def test_memory_grows_by_less_than_the_files(found: list[dict[str, Stage]]) -> None:
    grown = max(found[1][name]["peak"] - found[0][name]["peak"] for name in found[1])
    report("peak memory of a run, of 1,000 videos more than of 250", f"{grown:.0f} MB", COMMAND)
    assert grown < 100
