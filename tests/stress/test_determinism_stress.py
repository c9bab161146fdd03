"""Every registered method against itself, and one that cannot repeat itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.registry import method_entries
from tests.stress.report import report

pytestmark = pytest.mark.stress

COMMAND = ["debug", "determinism", "all", "--threads", "1,2"]
RESTLESS = '''
"""ACM-Net, with noise from the system in the place of seeded draws."""
import os
from baselines.acmnet import AcmNet

class Restless(AcmNet):
    name = "restless"
    def losses(self, batch):
        terms = super().losses(batch)
        return terms | {"total": terms["total"] * (1 + os.urandom(1)[0] / 255)}
'''


def test_every_method_agrees_with_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == method_entries().keys()
    pairs = [pair for check in found.values() for pair in check["pairs"]]
    repeats = [pair for pair in pairs if pair["kind"] == "repeat"]
    assert all(pair["first"] is None for pair in repeats)
    assert all(pair["first"] == "weights.safetensors" for pair in pairs if pair["kind"] == "seed")
    # a comparison of nothing but empty detections would say little
    assert all(any(pair["detections"] for pair in check["pairs"]) for check in found.values())
    moved = [pair for pair in pairs if pair["kind"] == "threads" and pair["first"] is not None]
    largest = max((pair["weights"] or 0 for pair in moved), default=0)
    report(
        "each registered method twice on 1 thread and twice on 2, every run a fresh process",
        f"{len(found)} methods, all {len(repeats)} pairs of repeats equal in every file and in the record; 2 threads "
        f"give other bits than 1 in {len(moved)} methods (weights by {largest:.1e} at most)",
        f"wstal-bench {' '.join(COMMAND)}",
    )


def test_a_method_that_cannot_repeat_itself_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "restless.py").write_text(RESTLESS)
    installed = tmp_path / "restless-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: restless\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[wstal_bench.methods]\nrestless = restless:Restless\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["debug", "determinism", "restless", "--threads", "1"]) == 5
    assert "restless, 1 thread(s), beside its repeat: weights.safetensors differs first" in capsys.readouterr().err
