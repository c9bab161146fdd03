"""G-TAD against tensors recorded from its released code, and its parts against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.gtad import GtadNetwork, GtadOptions, anchors, nearest_rows, neighbours_of
from wstal.parts.segment_align import align_matrix

Recorded = dict[str, Tensor]
OPTIONS = GtadOptions(window=32, width=16, interval_width=32, map_width=8, durations=20)
PARTS = {  # ours: the released code's
    "input.": "backbone1.0.",
    "base.": "backbone1.2.",
    "backbone.": "backbone2.0.",
    "start.": "regu_s.",
    "end.": "regu_e.",
    "pooled.": "localization.0.",
    "map.0.": "localization.2.",
    "map.2.": "localization.4.",
    "map.4.": "localization.6.",
    "map.6.": "localization.8.",
}


def theirs(name: str) -> str:
    ours, other = next((ours, other) for ours, other in PARTS.items() if name.startswith(ours))
    return (other + name.removeprefix(ours)).replace("temporal", "tconvs").replace("semantic", "sconvs")


@pytest.fixture(scope="module")
def recorded(shared: Path) -> Recorded:
    path = shared / "fixtures" / "gtad_small_parity.npz"
    return {name: torch.from_numpy(array) for name, array in np.load(path).items()}


@pytest.fixture
def network(recorded: Recorded) -> GtadNetwork:
    found = GtadNetwork(OPTIONS, 32).eval()
    state = {name: recorded[f"sd/{theirs(name)}"].reshape(own.shape) for name, own in found.named_parameters()}
    found.load_state_dict(state)
    return found


def near(actual: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the largest entry."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@torch.no_grad()
def test_forward_equals_the_released_code(network: GtadNetwork, recorded: Recorded) -> None:
    features = recorded["input/x"].transpose(1, 2)
    first = network.input(recorded["input/x"]).relu()
    assert torch.equal(nearest_rows(first, 3), recorded["out/knn_first_block"])
    base = network.base(first)
    near(base, recorded["out/base"])
    nodes = network.backbone(base)
    near(nodes, recorded["out/backbone2"])
    start, end, scores = network(features)
    near(start, recorded["out/start"])
    near(end, recorded["out/end"])
    near(scores, recorded["out/iou_map"])
    similar = neighbours_of(nodes, nearest_rows(nodes, 3)).mean(dim=3)
    matrix = align_matrix(*anchors(20, 32), 16, 32)[::3, ::3].float()
    pooled = torch.cat([torch.einsum("dikt,ct->ckdi", matrix, rows[0]) for rows in (nodes, similar)], dim=1)
    near(pooled.flatten(0, 1), recorded["out/sgalign_0_stride"])
