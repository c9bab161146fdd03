"""G-TAD against tensors recorded from its released code, and its parts against plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.gtad import (
    ACTIVITYNET_OPTIONS,
    GraphBlock,
    Gtad,
    GtadNetwork,
    GtadOptions,
    anchors,
    boundary_shares,
    interval_bins,
    nearest_rows,
    neighbours_of,
)
from harness.testing import CHECKS
from tests.helpers.released import close
from wstal.boundaries import regions, valid_cells
from wstal.localize.given import GivenProposals, SoftSuppression
from wstal.localize.given import classified as classified_proposals
from wstal.parts.cell_sampling import folded
from wstal.parts.segment_align import align_matrix
from wstal.proposal_generator import CLIPS, INSIDE, best_of_window
from wstal.supervised import whole_instances
from wstal.types import SupervisedBatch
from wstal.windows import Window, window_starts

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


def in_rows(recorded: Recorded, window: int) -> tuple[Tensor, float]:
    """Instances of a window in its rows, and what its targets of intervals are late by, as the code truncates it."""
    first = recorded["target/train_windows"][window, 1].item() * 5
    return (recorded[f"target/window{window}/segments_frames"] - first) / 5, (first - int(first - 2.5)) / 5


@pytest.mark.parametrize("window", range(6))
def test_targets_equal_the_released_code(recorded: Recorded, window: int) -> None:
    instances, offset = in_rows(recorded, window)
    expected = {name: recorded[f"target/window{window}/{name}"] for name in ("start", "end", "iou_map")}
    for name, part in zip(("start", "end"), regions(instances, 1.5), strict=True):
        torch.testing.assert_close(boundary_shares(part, 32, wide=False).float(), expected[name], rtol=0, atol=1e-6)
    method = Gtad(OPTIONS.model_copy(update={"offset": offset}), 32, 20)
    found = method.window_targets(instances)
    assert torch.equal(found["start"], expected["start"] > 0.5)
    assert torch.equal(found["end"], expected["end"] > 0.5)
    torch.testing.assert_close(found["iou"], expected["iou_map"] * recorded["target/mask"], rtol=0, atol=1e-6)
    assert torch.equal(valid_cells(32, 20).float(), recorded["target/mask"])


def test_training_windows_equal_the_released_code(recorded: Recorded) -> None:
    """Those of equal first row: ours shift the last window back, where the code leaves rows out or adds another."""
    found = []
    for number, rows in enumerate(recorded["gt/windows_videos_rows"][0].tolist(), 1):
        own = recorded["gt/windows_segments_frames"][recorded["gt/windows_segments_frames"][:, 0] == number, 1:] / 5
        starts = window_starts(rows, 32, 16)
        found += [(number, f) for f in starts if whole_instances(own.numpy(), Window(0, f, 1, 32), INSIDE)]
    expected = recorded["target/train_windows"][:, :2].tolist()
    assert {(1, 0), (1, 32), (1, 48), (1, 60), (2, 0), (3, 16), (3, 19)} == set(found)
    assert {tuple(row) for row in expected} == set(found) - {(3, 19)}


def test_losses_and_gradients_equal_the_released_code(
    network: GtadNetwork, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = Gtad(OPTIONS, 32, 20).eval()
    method.network = network
    numbers = recorded["input/windows_of_batch"].tolist()
    targets = {
        name: torch.stack([recorded[f"target/window{number}/{theirs}"] for number in numbers])
        for name, theirs in {"start": "start", "end": "end", "iou": "iou_map"}.items()
    }
    targets = {name: value if name == "iou" else value > 0.5 for name, value in targets.items()}
    draws = [recorded["input/u_m"], recorded["input/u_l"]]
    monkeypatch.setattr("baselines.gtad.uniform_draws", lambda *_: draws)
    batch = SupervisedBatch(
        recorded["input/x"].transpose(1, 2), torch.eye(20)[:2], ("a", "b"), targets | {CLIPS: torch.zeros(2, 3, 32)}
    )
    losses = method.window_losses(batch)
    close(losses["boundaries"], recorded["loss/node"])
    close(losses["iou_regression"], recorded["loss/reg"])
    close(losses["iou_classification"], recorded["loss/cls"])
    total = losses["total"] - losses["classification"]
    close(total, recorded["loss/total"])
    total.backward()
    for name, parameter in network.named_parameters():
        norm, entries = recorded[f"grad/{theirs(name)}"].tolist()
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5), name
        assert parameter.grad.double().sum().item() == pytest.approx(entries, rel=1e-5, abs=1e-5 * norm), name


def test_suppression_and_detections_equal_the_released_code(recorded: Recorded) -> None:
    rule = SoftSuppression(sigma=GtadOptions().sigma)
    kept = []
    for number in range(2):
        start, end, regressed, classified = recorded[f"post/window{number}/proposals"].numpy().T
        kept.append(best_of_window(start, end, regressed * classified, rule, 200))
    assert np.array_equal(kept[0][:, [2, 0, 1]], recorded["post/window0/softnms"].numpy())
    rate, frames = recorded["post/fps_frames"].tolist()
    start, end, score = np.concatenate(kept).T
    proposals = np.column_stack([start, end, score, np.full(len(start), -1.0)])
    given = GivenProposals(suppression=rule, keep=200, classes=2)
    label, start, end, score = classified_proposals(proposals, recorded["post/video_classes"].numpy(), given, frames)
    found = np.column_stack([label, score.round(6), (start / rate).round(1), (end.clip(max=frames) / rate).round(1)])
    expected = recorded["post/det"].numpy()
    assert np.array_equal(found[: len(expected)], expected)


def test_similar_rows_are_the_nearest_of_all_pairs() -> None:
    nodes = torch.randn(2, 5, 9, dtype=torch.float64)
    found = nearest_rows(nodes, 4)
    for window, row in np.ndindex(2, 9):
        distance = ((nodes[window] - nodes[window, :, row : row + 1]) ** 2).sum(dim=0)
        assert found[window, row].tolist() == distance.argsort()[:4].tolist()
    assert torch.equal(found[..., 0], torch.arange(9).expand(2, 9))
    assert nearest_rows(nodes[..., :2], 4).shape == (2, 2, 2)


def test_neighbours_are_gathered_column_by_column() -> None:
    nodes = torch.arange(12.0).reshape(1, 2, 6)
    index = torch.tensor([[[0, 5], [1, 0], [2, 2], [3, 1], [4, 0], [5, 4]]])
    assert neighbours_of(nodes, index)[0, :, 0].tolist() == [[0, 5], [6, 11]]


def test_an_edge_to_itself_alone_leaves_a_convolution() -> None:
    block = GraphBlock(width=4, neighbours=1)
    nodes = torch.randn(1, 4, 7)
    twice = torch.cat([nodes, nodes], dim=1)[..., None]
    expected = (block.temporal(nodes) + nodes + block.semantic(twice)[..., 0]).relu()
    torch.testing.assert_close(block(nodes), expected)


def test_anchors_by_hand() -> None:
    start, end = anchors(durations=3, length=4)
    assert start.tolist() == [[-0.5, 0.5, 1.5, 2.5], [-1, 0, 1, 0], [-1.5, -0.5, 0, 0]]
    assert end.tolist() == [[0.5, 1.5, 2.5, 3.5], [2, 3, 4, 0], [3.5, 4.5, 0, 0]]


def test_pooling_after_the_layer_is_pooling_before_it() -> None:
    torch.manual_seed(0)
    nodes, weight = torch.randn(2, 6, 12, requires_grad=True), torch.randn(5, 6, 4, requires_grad=True)
    matrix = align_matrix(*anchors(7, 12), 4, 12).float()
    pooled = torch.einsum("dikt,bct->bckdi", matrix, nodes)
    expected = torch.einsum("ock,bckdi->bodi", weight, pooled).flatten(2)
    found = folded(interval_bins(7, 12, 4), nodes, weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    slope = torch.randn_like(found)
    wanted = torch.autograd.grad((expected * slope).sum(), (nodes, weight))
    for own, other in zip(torch.autograd.grad((found * slope).sum(), (nodes, weight)), wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def test_the_network_has_the_released_number_of_parameters() -> None:
    with torch.device("meta"):
        network = GtadNetwork(GtadOptions(window=256), 2048)
    assert sum(parameter.numel() for parameter in network.parameters()) == 5_617_540


def rated(scores: Tensor, **options: Any) -> list[list[float]]:
    method = Gtad(OPTIONS.model_copy(update={"window": 4, "durations": 3, **options}), 32, 20)
    start, end = np.array([0.1, 0.9, 0.1, 0.1]), np.array([0.1, 0.1, 0.9, 0.1])
    return np.column_stack(method.rated(start, end, scores.double().numpy())).round(6).tolist()


def test_rows_twice_as_wide_by_hand() -> None:
    region = torch.tensor([[2.25, 5.25]], dtype=torch.float64)
    assert boundary_shares(region, 7, wide=False).tolist() == [0, 0, 0.25, 1, 1, 0.75, 0]
    assert boundary_shares(region, 7, wide=True).tolist() == [0, 0.125, 0.625, 1, 0.875, 0.375, 0]
    both = torch.cat([region, torch.tensor([[4.0, 7.0]], dtype=torch.float64)])
    assert boundary_shares(both, 7, wide=True).tolist() == [0, 0.125, 0.625, 1, 0.875, 1, 0.75]
    assert boundary_shares(region[:0], 3, wide=True).tolist() == [0, 0, 0]


def test_any_width_of_features_is_taken() -> None:
    for columns in (6, 7, 16):
        start, end, scores = GtadNetwork(OPTIONS, columns)(torch.rand(1, 32, columns))
        assert (start.shape, end.shape, scores.shape) == ((1, 32), (1, 32), (1, 2, 20, 32))


class Rescaled(Gtad):
    CHECK_OPTIONS: ClassVar = {
        **ACTIVITYNET_OPTIONS.model_dump(exclude_defaults=True),
        **Gtad.CHECK_OPTIONS,
        "window": 12,
    }


@pytest.mark.parametrize("check", CHECKS)
def test_the_branch_for_activitynet_fulfils_the_contract(check: str) -> None:
    CHECKS[check](Rescaled)


def test_intervals_that_end_with_the_window_are_not_reported() -> None:
    scores = torch.stack([torch.full((3, 4), 0.5), torch.full((3, 4), 0.4)])
    assert rated(scores) == [[0, 1, 0.2], [1, 2, 0.2], [2, 3, 0.2], [0, 2, 0.2], [1, 3, 0.2], [0, 3, 0.2]]
    # of candidates alone: rows 0, 1 and 3 start, rows 0, 2 and 3 end
    assert rated(scores, candidates=True) == [[1, 2, 0.2], [0, 2, 0.2], [1, 3, 0.2], [0, 3, 0.2]]
    assert rated(scores, longest=2) == [[0, 1, 0.2], [1, 2, 0.2], [2, 3, 0.2]]
