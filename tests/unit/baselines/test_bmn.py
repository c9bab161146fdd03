"""BMN against recordings of both released implementations, and its windows and proposals by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.bmn import Bmn, BmnOptions, map_losses
from tests.helpers.supervised import Recording, check_gradients, recording, rows_of, videos, weights
from wstal.boundaries import covered, iou_map, regions, valid_cells
from wstal.localize.given import SoftSuppression, soft_suppression
from wstal.losses.boundary_matching import balanced_cross_entropy

ACTIVITYNET = {
    "x_1d_b.0": "base.0", "x_1d_b.2": "base.2", "x_1d_s.0": "start.0", "x_1d_s.2": "start.2", "x_1d_e.0": "end.0",
    "x_1d_e.2": "end.2", "x_1d_p.0": "map_in.0", "x_3d_p.0": "fold", "x_2d_p.0": "map.0", "x_2d_p.2": "map.2",
    "x_2d_p.4": "map.4", "x_2d_p.6": "map.6",
}  # fmt: skip
WINDOW = {
    "projection.convs.0.conv": "base.0", "projection.convs.1.conv": "base.2", "rpn_head.tem.0.0.conv": "start.0",
    "rpn_head.tem.0.1.conv": "start.2", "rpn_head.tem.1.0.conv": "end.0", "rpn_head.tem.1.1.conv": "end.2",
    "extractor.reduce_dim.0": "map_in.0", "extractor.conv3d.0": "fold", "extractor.conv2d.0": "map.0",
    "head.head.0.0": "map.2", "head.head.1.0": "map.4", "head.head.2": "map.6",
}  # fmt: skip
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def of_activitynet(tensors: Recording) -> tuple[Bmn, tuple[Tensor, Tensor, Tensor]]:
    spec = BmnOptions(
        window=24, durations=24, hidden=16, map_width=16, fold=32, map_hidden=8,
        layout="end", rating="product", candidates=False,
    )  # fmt: skip
    model = Bmn(spec, 32, 3).eval()
    model.network.load_state_dict(weights(tensors, ACTIVITYNET))
    return model, model.network(torch.from_numpy(tensors["input/x"]).transpose(1, 2))


def test_activitynet_code_has_the_same_outputs_losses_and_gradients(shared: Path) -> None:
    tensors = recording(shared, "bmn_small_parity")
    model, (start, end, maps) = of_activitynet(tensors)
    for found, name in ((start, "start"), (end, "end"), (maps, "confidence_map")):
        np.testing.assert_allclose(found.detach(), tensors[f"out/{name}"], **CLOSE)
    near_start, near_end = (torch.from_numpy(tensors[f"target/{name}"]) > 0.5 for name in ("start", "end"))
    boundaries = balanced_cross_entropy(start, near_start) + balanced_cross_entropy(end, near_end)
    draws = [torch.from_numpy(tensors[f"input/{name}"]) for name in ("u_m", "u_l")]
    terms = map_losses(maps, torch.from_numpy(tensors["target/iou_map"]), model.valid_cells(), draws)
    total = boundaries + 10 * terms["iou_regression"] + terms["iou_classification"]
    expected = {"tem": boundaries, "pem_reg": terms["iou_regression"], "pem_cls": terms["iou_classification"]}
    for name, value in (expected | {"total": total}).items():
        assert value.item() == pytest.approx(tensors[f"loss/{name}"].item(), rel=1e-5), name
    total.backward()
    check_gradients(model.network, tensors, ACTIVITYNET)


def test_activitynet_code_has_the_same_targets(shared: Path) -> None:
    tensors = recording(shared, "bmn_small_parity")
    model, _ = of_activitynet(tensors)
    for video in range(2):
        instances = rows_of(tensors, video, 24)
        targets = model.window_targets(instances)
        for name, region in zip(("start", "end"), regions(instances, 1.5), strict=True):
            recorded = tensors[f"target/{name}"][video]
            np.testing.assert_allclose(covered(region, 24, shift=-0.5), recorded, atol=1e-6)
            assert np.array_equal(targets[name], recorded > 0.5)
        np.testing.assert_array_equal(targets["iou"], tensors["target/iou_map"][video])
    np.testing.assert_array_equal(model.valid_cells(), tensors["target/mask"] > 0)


@pytest.mark.parametrize("video", [0, 1])
def test_activitynet_code_has_the_same_proposals_and_detections(shared: Path, video: int) -> None:
    tensors = recording(shared, "bmn_small_parity")
    model, outputs = of_activitynet(tensors)
    start, end, maps = (value[video].detach().double().numpy() for value in outputs)
    proposals = np.column_stack(model.rated(start, end, *maps)) / [24, 24, 1]
    recorded = tensors[f"post/{video}/proposals"]
    np.testing.assert_allclose(proposals, recorded[:, [0, 1, 6]], rtol=1e-5, atol=1e-9)
    rule = SoftSuppression(sigma=0.4, low=0.5031, high=0.9017)
    index, score = soft_suppression(recorded[:, 0], recorded[:, 1], recorded[:, 6], rule, keep=100)
    seconds, frames, _ = tensors[f"gt/{video}/duration_s_frames_featureframes"]
    expected = tensors[f"post/{video}/det_t1_0.5031_t2_0.9017"]
    times = recorded[index, :2] * (frames // 16 * 16 / frames * seconds)
    np.testing.assert_allclose(np.column_stack([score, times]), expected, rtol=1e-12)


def test_window_code_has_the_same_outputs_losses_and_gradients(shared: Path) -> None:
    tensors = dict(recording(shared, "bmn_window_small_parity"))
    for key in ("sd/head.head.2.weight", "sd/head.head.2.bias"):
        tensors[key] = tensors[key][::-1].copy()  # its first channel is the classified one
    tensors["sd/extractor.conv3d.0.weight"] = tensors["sd/extractor.conv3d.0.weight"][..., None]
    spec = BmnOptions(window=32, durations=16, hidden=16, map_width=8, fold=24, map_hidden=8, points=16)
    model = Bmn(spec, 32, 3).eval()
    model.network.load_state_dict(weights(tensors, WINDOW))
    start, end, maps = model.network(torch.from_numpy(tensors["input/x"]).transpose(1, 2))
    logits = torch.from_numpy(tensors["out/start_end_logits"])
    torch.testing.assert_close(torch.stack([start, end], dim=1), logits.sigmoid(), **CLOSE)
    torch.testing.assert_close(maps.flip(1), torch.from_numpy(tensors["out/map_logits"]).sigmoid(), **CLOSE)

    near_start, near_end = (torch.from_numpy(tensors[f"target/{name}"]) > 0 for name in ("start", "end"))
    exact = {"epsilon": 0.0}
    boundaries = balanced_cross_entropy(start, near_start, **exact) + balanced_cross_entropy(end, near_end, **exact)
    iou, valid = torch.from_numpy(tensors["target/iou_map"]), model.valid_cells()
    draws = [torch.from_numpy(tensors[f"input/{name}"]) for name in ("u_m", "u_l")]
    terms = map_losses(maps, iou, valid, draws, zeros=True, epsilon=0.0)
    total = boundaries + 10 * terms["iou_regression"] + terms["iou_classification"]
    found = {"tem": boundaries, "reg": 10 * terms["iou_regression"], "cls": terms["iou_classification"], "total": total}
    for name, value in found.items():
        assert value.item() == pytest.approx(tensors[f"loss/{name}"].item(), rel=1e-5), name
    total.backward()
    check_gradients(model.network, tensors, WINDOW)


def test_window_code_has_the_same_targets(shared: Path) -> None:
    tensors = recording(shared, "bmn_window_small_parity")
    for video in range(2):
        instances = torch.from_numpy(tensors[f"gt/{video}/segments_rows"]).double()
        np.testing.assert_allclose(iou_map(instances, 32, 16), tensors["target/iou_map"][video], atol=1e-6)
        # it takes shares of rows as whole numbers, so that only rows within a region count, which ours do not copy
        for name, region in zip(("start", "end"), regions(instances, 1.5), strict=True):
            np.testing.assert_array_equal(covered(region, 32).floor(), tensors[f"target/{name}"][video])
    np.testing.assert_array_equal(valid_cells(32, 16), tensors["target/valid"] > 0)


def small(**changes: object) -> Bmn:
    return Bmn(BmnOptions(**{**Bmn.CHECK_OPTIONS, **changes}), 8, 3)


def test_windows_overlap_by_half_and_have_an_instance() -> None:
    model, given = small(window=48), videos(1, rows=60)
    windows = model.windows(given, 0)
    assert {window.step for window in windows} == {0.5}
    assert [window.first for window in model.windows_of(60)] == [0, 12, 24, 36]
    spans = list(zip(given[0].start, given[0].end, strict=True))
    for window in model.windows_of(60):
        whole = any(min(end, window.last) - max(start, window.first) > 0.9 * (end - start) for start, end in spans)
        assert (window in windows) == whole
    assert 0 < len(windows) < 4
    (rescaled,) = small(rescale=True).windows_of(60)
    assert (rescaled.first, rescaled.last, rescaled.rows) == (0, 60, 16)


def test_proposals_rate_boundaries_and_both_maps() -> None:
    model = small(window=4, durations=2, candidates=False)
    start, end = np.array([0.5, 0.1, 0.2, 0.3]), np.array([0.1, 0.6, 0.4, 0.2])
    regressed, classified = np.full((2, 4), 0.9), np.full((2, 4), 0.4)
    first, stop, score = model.rated(start, end, regressed, classified)
    assert list(zip(first, stop, strict=True)) == [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)]
    np.testing.assert_allclose(score[:2], [0.5 * 0.6 * 0.6, 0.1 * 0.4 * 0.6])
    for rating, expected in {"product": 0.5 * 0.6 * 0.36, "iou": 0.36}.items():
        changed = small(window=4, durations=2, candidates=False, rating=rating)
        assert changed.rated(start, end, regressed, classified)[2][0] == pytest.approx(expected)
    chosen = small(window=4, durations=2).rated(start, end, regressed, classified)
    assert list(zip(*chosen[:2], strict=True)) == [(0, 1), (0, 2)]


def test_a_window_without_a_cell_above_the_threshold_trains() -> None:
    maps = torch.full((1, 2, 2, 3), 0.5, requires_grad=True)
    terms = map_losses(maps, torch.zeros(1, 2, 3), valid_cells(3, 2), None)
    sum(terms.values()).backward()
    assert maps.grad.isfinite().all()
    assert terms["iou_regression"].item() == 0


def test_recipes_rescale_where_classes_are_many() -> None:
    assert Bmn.recipe("thumos14").method.rescale is False
    activitynet = Bmn.recipe("activitynet13")
    assert (activitynet.method.rescale, activitynet.method.window, activitynet.method.durations) == (True, 100, 100)
    assert activitynet.localizer.given.classes == 1
    assert Bmn.supervision == "full"
