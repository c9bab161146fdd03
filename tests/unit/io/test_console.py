"""Progress as lines: when they come, and how long they expect the rest to take."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.io import console
from harness.io.console import ProgressReport, duration


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_long_stage_tells_after_its_first_step_how_long_the_others_take(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressReport() as report:
        clock.now = 43.3
        report.update("r train", 1, 500, "loss 3.0400")
        assert lines(capsys) == ["r train 1/500 loss 3.0400, about 6 h left"]
        clock.now = 60
        report.update("r train", 2, 500, "loss 3.0000")
        assert lines(capsys) == ["r train 2/500 loss 3.0000, about 4 h left"]


def test_an_interrupted_training_counts_the_epochs_of_this_process(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    report = ProgressReport()
    clock.now = 60
    report.update("r train", 481, 500)
    assert lines(capsys) == ["r train 481/500 about 19 min left"]


def test_a_short_stage_has_one_line_at_its_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    report = ProgressReport()
    for epoch in range(1, 31):
        clock.now += 0.1
        report.update("r train", epoch, 30, "loss 1.0000")
    assert lines(capsys) == ["r train 30/30 loss 1.0000"]


def test_lines_are_five_seconds_apart(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    report = ProgressReport()
    for epoch in range(1, 41):
        clock.now += 0.5
        report.update("train", epoch, 40)
    told = lines(capsys)
    assert [line.split()[1] for line in told] == ["2/40", "12/40", "22/40", "32/40", "40/40"]
    assert [line.partition("about ")[2] for line in told] == ["19 s left", "14 s left", "9 s left", "4 s left", ""]


def test_reading_that_is_soon_over_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    report = ProgressReport()
    for number in range(1, 10):
        clock.now += 0.1
        report.reading("digest", number, 9)
    assert lines(capsys) == []


def test_reading_is_told_of_from_the_first_second_on_and_anew_for_other_files(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    report = ProgressReport()
    for what in ("train", "test"):
        for number in range(1, 101):
            clock.now += 0.125
            report.reading("headers", number, 100, f"{what} videos")
        told = lines(capsys)
        assert told[0] == f"data headers 8/100 {what} videos, about 12 s left"
        assert [line.split()[2] for line in told] == ["8/100", "48/100", "88/100", "100/100"]


def test_what_a_run_tells_is_shown_as_it_is(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    report = ProgressReport()
    for epoch in (1, 2):
        report.show("acmnet-s0", epoch, 500, "loss 3.0000, about 6 h left")
    assert lines(capsys) == [f"acmnet-s0 {epoch}/500 loss 3.0000, about 6 h left" for epoch in (1, 2)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (90, "90 s"), (117, "2 min"), (3600, "60 min"), (7100, "2 h"), (86_400, "24 h"), (2e5, "2 days")],
)
def test_durations_are_in_their_largest_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
