"""SSN's head and actionness grouping against a recording of the released code, and its samples by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.ssn import (
    BACKGROUND,
    FOREGROUND,
    INCOMPLETE,
    NONE,
    Ssn,
    SsnHead,
    SsnOptions,
    completeness_loss,
    detections,
    head_losses,
    pooled_scores,
)
from tests.helpers.supervised import Recording, check_gradients, recording, videos, weights
from wstal.actionness_grouping import actionness_proposals, grouped
from wstal.proposal_pools import moves_of, overlaps, places_of, pools

HEADS = {"activity_fc": "activity", "completeness_fc": "completeness", "regressor_fc": "regression"}


def recorded(shared: Path) -> tuple[Recording, SsnHead]:
    tensors = recording(shared, "ssn_small_parity")
    head = SsnHead(48, 20)
    head.load_state_dict(weights(tensors, HEADS))
    return tensors, head


def inputs(tensors: Recording) -> tuple[Tensor, ...]:
    kind, label = torch.from_numpy(tensors["input/type"]), torch.from_numpy(tensors["input/label"])
    moves = torch.from_numpy(tensors["input/reg_target"])
    return torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/scaling"]), kind, label - 1, moves


def test_heads_losses_and_gradients_are_those_of_the_released_code(shared: Path) -> None:
    tensors, head = recorded(shared)
    rows, scaling, kind, label, target = inputs(tensors)
    activity, completeness, moves = head(rows, scaling)
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(activity[(kind != INCOMPLETE)].detach(), tensors["out/activity"], **close)
    np.testing.assert_allclose(completeness[kind != BACKGROUND].detach(), tensors["out/completeness"], **close)
    np.testing.assert_allclose(moves[kind == FOREGROUND].detach(), tensors["out/regression"], **close)
    terms = head_losses(activity, completeness, moves, kind, label, target)
    total = terms["activity"] + 0.1 * terms["completeness"] + 0.1 * terms["regression"]
    for name, value in (terms | {"total": total}).items():
        assert value.item() == pytest.approx(tensors[f"loss/{name}"].item(), rel=1e-5), name
    total.backward()
    check_gradients(head, tensors, HEADS)


def test_the_hardest_incomplete_proposal_counts(shared: Path) -> None:
    tensors, _ = recorded(shared)
    scores = torch.from_numpy(tensors["input/comp_pred"]).requires_grad_()
    own = scores.gather(1, torch.from_numpy(tensors["input/comp_label"])[:, None] - 1)[:, 0]
    filled = torch.cat([own.view(2, 7), torch.zeros(2, 1)], dim=1).flatten()  # the code's groups lack the background
    kind = torch.tensor([FOREGROUND, *[INCOMPLETE] * 6, BACKGROUND]).repeat(2)
    loss = completeness_loss(filled, kind)
    assert loss.item() == pytest.approx(tensors["loss/comp_example"].item(), rel=1e-6)
    loss.backward()
    np.testing.assert_allclose(scores.grad, tensors["out/comp_example_grad"], atol=1e-7)


@pytest.mark.parametrize("video", [0, 1])
def test_pools_and_moves_are_those_of_the_released_code(shared: Path, video: int) -> None:
    tensors, _ = recorded(shared)
    truth, proposals = (tensors[f"gt/{video}/{name}"] for name in ("label_start_end_frames", "proposals_frames"))
    instances = truth[:, 1:].astype(float)
    best, iou, share = overlaps(proposals.astype(float), instances)
    expected = tensors[f"target/{video}/proposals_label_iou_overlapself"]
    meets = iou > 0
    np.testing.assert_array_equal(truth[best[meets], 0], expected[meets, 0])
    np.testing.assert_allclose(np.column_stack([iou, share]), expected[:, 1:], atol=1e-4)  # stored with 4 digits

    spans = (instances, truth[:, 0] - 1)
    foreground, incomplete, background = pools(proposals.astype(float), spans, tensors["gt/frame_counts"][video], 0.01)
    wanted = tensors[f"target/{video}/fg_label_start_end_loc_size"]
    found = np.column_stack([foreground.label + 1, foreground.spans])
    same_rows(found, wanted[:, :3])
    same_rows(incomplete.spans, tensors[f"target/{video}/incomplete_start_end"])
    same_rows(background.spans, tensors[f"target/{video}/background_start_end"])

    own = {tuple(row[1:3]): row[3:] for row in wanted}
    for start, end in foreground.spans[foreground.moves.any(axis=1)]:
        target = instances[overlaps(np.array([[start, end]]), instances)[0]]
        (moves,) = moves_of(np.array([[start, end]]), target, unit=1.0)
        np.testing.assert_allclose(moves, own[start, end], atol=1e-12)


def same_rows(found: np.ndarray, expected: np.ndarray) -> None:
    assert sorted(map(tuple, found.astype(int).tolist())) == sorted(map(tuple, expected.astype(int).tolist()))


def test_places_lie_where_the_released_code_takes_frames(shared: Path) -> None:
    tensors, _ = recorded(shared)
    rows = tensors["target/batch_video_type_label_start_end_9frames"]
    for row, scaling in zip(rows, tensors["input/scaling"], strict=True):
        start, end = (np.array([float(edge)]) for edge in row[3:5])
        places, shares = places_of(start, end, tensors["gt/frame_counts"][row[0]], None)
        if end - start < 18:
            continue  # the code repeats a frame there, and takes whole frames, of which a short side has few
        np.testing.assert_allclose(places[0], row[5:], atol=1.0 + 0.05 * (end - start)[0])
        np.testing.assert_allclose(shares[0], scaling, atol=0.15)


def test_pooled_scores_and_detections_are_those_of_the_released_code(shared: Path) -> None:
    tensors, head = recorded(shared)
    features, proposals = torch.from_numpy(tensors["post/test_features"]), tensors["post/rel_props"]
    with torch.no_grad():
        activity, completeness, moves = pooled_scores(head.double(), features.double(), proposals)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(activity, tensors["post/activity"], **close)
    np.testing.assert_allclose(completeness, tensors["post/completeness"], **close)
    np.testing.assert_allclose(moves.reshape(len(moves), -1), tensors["post/regression_raw"], **close)
    mean, deviation = tensors["target/reg_stats_mean_std"]
    raw = tensors["post/regression_raw"].reshape(len(moves), -1, 2).astype(float)
    found = detections(
        proposals, tensors["post/activity_for_detection"].astype(float), tensors["post/completeness"].astype(float),
        raw * deviation + mean, pairs=int(tensors["post/top_k"]), overlap=0.2,
    )  # fmt: skip
    expected = tensors["post/det_fractions"]
    np.testing.assert_array_equal(found[:, 0], expected[:, 0])
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=1e-5, atol=1e-6)


def test_grouping_gives_the_boxes_of_the_released_code(shared: Path) -> None:
    tensors, _ = recorded(shared)
    found = actionness_proposals(tensors["tag/scores"], smoothing=3)
    np.testing.assert_allclose(found, tensors["tag/boxes"][:, [0, 1, 3]], atol=1e-9)


def test_a_curve_below_the_threshold_has_no_group() -> None:
    assert grouped(np.zeros(5), np.zeros(5), 0.5, 0.1).shape == (0, 3)


def test_a_backward_group_begins_after_the_run_that_ends_it() -> None:
    curve = np.array([0.9, 0, 0, 0, 0, 0, 0.9, 0, 0.9])
    boxes = grouped(curve, np.ones(9), 0.5, 0.5)[:, :2].tolist()
    assert boxes == [[0, 2], [6, 10], [8, 10], [0, 2], [6, 8], [6, 10]]


def test_the_head_trains_on_the_actionness_proposals_after_a_third_of_the_epochs() -> None:
    model, given = Ssn(SsnOptions(passes=2), 8, 3), videos(4)
    assert [model.stage(epoch, 9) for epoch in (0, 2, 3, 8)] == [0, 0, 1, 1]
    assert [window.video for window in model.windows(given, 0)] == [0, 1, 2, 3] * 2
    rng = np.random.default_rng(0)
    rows, targets = model.example(given[0], model.windows(given, 0)[0], 0, rng)
    assert (rows.shape, targets["kind"].tolist()) == ((60, 8), [FOREGROUND] * 3 + [BACKGROUND] * 9)
    before = model.moves.clone()
    with torch.no_grad():  # an actionness that sees the column of actions
        model.actionness.weight.zero_()
        model.actionness.weight[1, 3], model.actionness.bias[1] = 20, -10
    windows = model.windows(given, 1)
    assert not torch.equal(model.moves, before)
    rows, targets = model.example(given[1], windows[1], 1, rng)
    assert (rows.shape, targets["kind"].tolist()[0]) == ((72, 8), FOREGROUND)
    assert targets["label"][0] == 1
    missing = [kind for kind in targets["kind"].tolist() if kind == NONE]
    assert len(missing) < 8
