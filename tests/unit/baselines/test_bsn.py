"""BSN against a recording of its released code, and its stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.bsn import Bsn, BsnOptions, action_samples, pairs_of, rating_loss
from tests.helpers.supervised import Recording, check_gradients, recording, rows_of, weights
from wstal.boundaries import covered, pairwise_iou
from wstal.localize.given import SoftSuppression, soft_suppression
from wstal.losses.boundary_matching import balanced_cross_entropy, sampled_weights
from wstal.method import TrainSpec

ROWS, TOP = 40, 120
CURVES = {f"tem.conv{number}": f"curves.conv{number}" for number in (1, 2, 3)}
RATING = {f"pem.fc{number}": f"rating.fc{number}" for number in (1, 2)}


def recorded(shared: Path) -> tuple[Recording, Bsn, Tensor]:
    tensors = recording(shared, "bsn_small_parity")
    model = Bsn(BsnOptions(window=ROWS, hidden=24, rating_hidden=32, curve_scale=0.01), 32, 3).eval()
    model.load_state_dict(weights(tensors, CURVES | RATING), strict=False)
    return tensors, model, model.curves(torch.from_numpy(tensors["input/x"]).transpose(1, 2))


def test_curves_losses_and_gradients_are_those_of_the_released_code(shared: Path) -> None:
    tensors, model, curves = recorded(shared)
    np.testing.assert_allclose(curves.detach(), tensors["out/tem"], rtol=1e-5, atol=1e-7)
    terms = {
        name: balanced_cross_entropy(curves[:, number], torch.from_numpy(tensors[f"target/{name}"]) > 0.5, epsilon=1e-5)
        for number, name in enumerate(("action", "start", "end"))
    }
    total = 2 * terms["action"] + terms["start"] + terms["end"]
    for name, value in (terms | {"total": total}).items():
        assert value.item() == pytest.approx(tensors[f"loss/tem_{name}"].item(), rel=1e-5), name
    total.backward()
    check_gradients(model, tensors, CURVES)


def test_targets_are_those_of_the_released_code(shared: Path) -> None:
    tensors, model, _ = recorded(shared)
    for video in range(3):
        instances = rows_of(tensors, video, ROWS)
        targets = model.window_targets(instances)
        for name in ("action", "start", "end"):
            np.testing.assert_array_equal(targets[name], tensors[f"target/{name}"][video] > 0.5)
        np.testing.assert_allclose(covered(instances, ROWS), tensors["target/action"][video], atol=1e-6)


def test_pairs_and_their_samples_are_those_of_the_released_code(shared: Path) -> None:
    tensors, _, curves = recorded(shared)
    pairs, score = pairs_of(curves.double(), ROWS * ROWS)
    for video in range(3):
        expected = tensors[f"pgm/{video}/proposals"]
        valid = score[video] >= 0
        found = torch.cat([pairs[video][valid] / ROWS, score[video][valid][:, None]], dim=1).numpy()
        assert len(found) == len(expected)
        order, wanted = (np.lexsort(rows[:, :2].round(6).T) for rows in (found, expected))
        np.testing.assert_allclose(found[order], expected[wanted][:, [0, 1, 4]], rtol=1e-5, atol=1e-9)
        samples = tensors[f"pgm/{video}/bsp"]
        given = torch.from_numpy(expected[None, : len(samples), :2] * ROWS)
        around = action_samples(curves[video : video + 1, 0].detach().double(), given)[0]
        np.testing.assert_allclose(around, samples, rtol=1e-5, atol=1e-8)


def test_the_rating_and_its_losses_are_those_of_the_released_code(shared: Path) -> None:
    tensors, model, _ = recorded(shared)
    samples = np.concatenate([tensors[f"pgm/{video}/bsp"] for video in range(3)])
    rated = model.rating(torch.from_numpy(samples).float())
    np.testing.assert_allclose(rated.detach(), tensors["out/pem"][:, 0], rtol=1e-5, atol=1e-7)
    iou = torch.from_numpy(tensors["target/pem_iou"])
    everything = torch.ones_like(iou, dtype=torch.bool)
    loss = rating_loss(rated, iou, everything, "mean", training=False)
    assert loss.item() == pytest.approx(tensors["loss/pem_as_run"].item(), rel=1e-5)
    loss.backward()
    check_gradients(model, tensors, RATING)

    draws = [torch.from_numpy(tensors[f"input/{name}"]) for name in ("u_m", "u_l")]
    groups = [(iou > 0.2) & (iou <= 0.6), iou < 0.2]
    weight = sampled_weights(iou > 0.6, groups, draws, ratios=(1.0, 2.0))
    np.testing.assert_array_equal(weight, tensors["target/pem_weights_lo0.2_rederived"])
    error = torch.nn.functional.smooth_l1_loss(rated, iou, reduction="none")
    found = (weight * error).sum() / weight.sum()
    assert found.item() == pytest.approx(tensors["loss/pem_weighted_lo0.2_rederived"].item(), rel=1e-5)


@pytest.mark.parametrize("video", [0, 1, 2])
def test_detections_are_those_of_the_released_code(shared: Path, video: int) -> None:
    tensors, _, _ = recorded(shared)
    first = sum(len(tensors[f"pgm/{earlier}/bsp"]) for earlier in range(video))
    proposals = tensors[f"pgm/{video}/proposals"][: len(tensors[f"pgm/{video}/bsp"])]
    rated = tensors["out/pem"][first : first + len(proposals), 0].astype(float)
    score = rated * proposals[:, 2] * proposals[:, 3]
    rule = SoftSuppression(sigma=0.75, low=0.6513, high=0.9021)
    index, kept = soft_suppression(proposals[:, 0], proposals[:, 1], score, rule, keep=25)
    seconds, frames, _ = tensors[f"gt/{video}/duration_s_frames_featureframes"]
    times = proposals[index, :2].clip(0, 1) * (frames // 16 * 16 / frames * seconds)
    expected = tensors[f"post/{video}/det_t1_0.6513_t2_0.9021"]
    np.testing.assert_allclose(np.column_stack([kept, times]), expected, rtol=1e-6)


def test_the_iou_of_pairs_is_the_recorded_one(shared: Path) -> None:
    tensors, _, _ = recorded(shared)
    for video in range(3):
        seconds, frames, feature_frames = tensors[f"gt/{video}/duration_s_frames_featureframes"]
        proposals = tensors[f"pgm/{video}/proposals"]
        truth = tensors[f"gt/{video}/segments_seconds"] / (feature_frames / frames * seconds)
        iou = pairwise_iou(torch.from_numpy(proposals[:, :2]), torch.from_numpy(truth)).amax(dim=1)
        np.testing.assert_allclose(iou, proposals[:, 5], atol=1e-9)


def test_the_rating_trains_in_the_second_half_at_the_first_rate() -> None:
    model = Bsn(BsnOptions(window=16, hidden=8, rating_hidden=8), 8, 3)
    train = TrainSpec(epochs=40, decay_every=10, learning_rate=1e-3)
    assert [model.stage(epoch, 40) for epoch in (0, 19, 20, 39)] == [0, 0, 1, 1]
    model.start_epoch(20, 40)
    (optimizer,) = model.optimizers(train)
    assert optimizer.param_groups[0]["params"] == [*model.rating.parameters()]
    assert optimizer.param_groups[0]["initial_lr"] * 0.1**2 == pytest.approx(1e-3)
    assert not any(parameter.requires_grad for parameter in model.curves.parameters())
    model.start_epoch(0, 40)
    (optimizer,) = model.optimizers(train)
    assert optimizer.param_groups[0]["params"] == [*model.curves.parameters()]
    assert optimizer.param_groups[0]["initial_lr"] == pytest.approx(1e-3)


def test_windows_with_fewer_pairs_are_filled_with_none() -> None:
    curves = torch.full((1, 3, 4), 0.1)
    curves[0, 1, 0] = curves[0, 2, 3] = 0.9
    pairs, score = pairs_of(curves, 10)
    assert (score >= 0).sum() == 1 + 0 + 0 + 0  # (0, 3); row 3 starts and row 0 ends nothing
    assert pairs[0, 0].tolist() == [0.5, 3.5]
