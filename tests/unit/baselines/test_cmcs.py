"""CMCS against tensors recorded from its released code, its rules for static clips, and its localization as loops."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d

from baselines.cmcs import (
    FRAMES,
    Cmcs,
    CmcsNetwork,
    CmcsOptions,
    diversity_loss,
    fused_scores,
    mean_over_frames,
    norm_loss,
    static_rows,
)
from harness.testing import CHECKS, late_in_training
from tests.helpers.released import close
from wstal.errors import UserError
from wstal.localize import localize
from wstal.types import Batch, SnippetScores, Video

NAMES = (
    {"base": "base.base_conv_0", "attention.0": "att_bottom.att_conv_0", "attention.2": "att_head"}
    | {f"branches.{k}.0": f"cls_bottoms.{k}.cls_b{k}_conv_0" for k in range(4)}
    | {f"branches.{k}.2": f"cls_heads.{k}" for k in range(4)}
)
WHOLE = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in NAMES.items() for kind in ("weight", "bias")}
del WHOLE["attention.2.bias"]  # cancels in the softmax over time


@pytest.fixture
def recorded(shared: Path) -> tuple[CmcsNetwork, dict[str, np.ndarray]]:
    tensors = dict(np.load(shared / "fixtures" / "cmcs_small_parity.npz"))
    base, columns = tensors["sd/base.base_conv_0.weight"].shape[:2]
    hidden, classes = len(tensors["sd/att_bottom.att_conv_0.bias"]), len(tensors["sd/cls_heads.0.bias"]) - 1
    model = CmcsNetwork(CmcsOptions(base=base, hidden=hidden, static_clips=True), columns, classes).eval()
    state = {ours: torch.from_numpy(tensors[f"sd/{theirs}"]) for ours, theirs in WHOLE.items()}
    # a convolution of width 1 is a linear layer
    model.load_state_dict({name: w.squeeze(2) if w.shape[2:] == (1,) else w for name, w in state.items()})
    return model, tensors


def recorded_labels(tensors: dict[str, np.ndarray], classes: int) -> torch.Tensor:
    return torch.eye(classes)[tensors["input/label"]]


def test_forward_equals_the_released_code(recorded) -> None:
    model, expected = recorded
    with torch.no_grad():
        outputs = model.outputs(torch.from_numpy(expected["input/x"]))
    close(outputs.branches, expected["out/branch_scores"], scale=1)
    close(outputs.scores, expected["out/avg_score"], scale=1)
    close(outputs.attention, expected["out/att_weight"])
    close(outputs.video, expected["out/global_score"], scale=1)


def test_losses_and_gradients_equal_the_released_code(recorded) -> None:
    model, expected = recorded
    labels, weight = recorded_labels(expected, model.num_classes + 1), expected["input/weight"].item()
    terms = model.terms(torch.from_numpy(expected["input/x"]), labels)
    close(weight * terms["classification"], expected["loss/cls_per_video"].sum())
    close(weight * 0.2 * terms["diversity"], expected["loss/div_per_video"].sum())
    close(weight * 0.2 * terms["norm"], expected["loss/norm_per_video"].sum())
    close(weight * terms["total"], expected["loss/total"])
    (weight * terms["total"]).backward()
    for ours, theirs in WHOLE.items():
        gradient = model.get_parameter(ours).grad
        norm, total = expected[f"grad/{theirs}"]
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        assert gradient.double().sum().item() == pytest.approx(total, rel=1e-5, abs=1e-6 * norm * gradient.numel())


def test_parameter_count_is_the_recorded_one(recorded) -> None:
    model, _ = recorded
    assert model.parameter_count() == 1513 - 1  # without the bias of the attention


def test_one_visit_is_the_sum_of_the_copies_with_a_class_each() -> None:
    torch.manual_seed(0)
    model = CmcsNetwork(CmcsOptions(base=4, hidden=3, static_clips=True), 6, 5).eval()
    features, labels = torch.rand(1, 9, 6), torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0]])
    model.losses(Batch(features, labels, ("a",)))["total"].backward()
    once = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    for label in (0, 2, 3):
        (model.losses(Batch(features, torch.eye(5)[[label]], ("a",)))["total"] / 3).backward()
    for parameter, gradient in zip(model.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-7)


def test_diversity_by_hand() -> None:
    # probabilities of two classes by one branch (0.8, 0.2), (0.5, 0.5) and by another the other way round
    one = torch.tensor([[0.8, 0.2], [0.5, 0.5]])
    branches = torch.stack([one, one.flip(0)]).log().unsqueeze(1)
    first = 2 * 0.8 * 0.5 / (0.8**2 + 0.5**2)
    second = 2 * 0.2 * 0.5 / (0.2**2 + 0.5**2)
    assert diversity_loss(branches).item() == pytest.approx((first + second) / 2, rel=1e-5)
    assert diversity_loss(branches[:1]).item() == pytest.approx(0)  # a single branch differs from none


def test_norm_by_hand() -> None:
    # mean absolute logits 2 and 4: each is 1 from their mean 3
    branches = torch.tensor([[[[1.0], [-3.0]]], [[[-4.0], [4.0]]]])
    assert norm_loss(branches).item() == 1.0


def test_attention_pools_and_dropout_drops_whole_columns() -> None:
    torch.manual_seed(0)
    model = CmcsNetwork(CmcsOptions(base=400, dropout=0.5), 400, 2).train()
    torch.nn.init.eye_(model.base.weight)
    torch.nn.init.zeros_(model.base.bias)
    seen: list[torch.Tensor] = []
    model.attention[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    outputs = model.outputs(torch.ones(2, 7, 400))
    (embedded,) = seen
    assert torch.equal(embedded, embedded[:, :1].expand_as(embedded))
    assert set(embedded.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(embedded[0], embedded[1])
    torch.testing.assert_close(outputs.attention.sum(dim=1), torch.ones(2, 1))
    torch.testing.assert_close(outputs.video, (outputs.attention * outputs.scores).sum(dim=1))


def steps(rows: int, still: range, seed: int = 0) -> np.ndarray:
    """Flow features that move, but for the rows of `still`, which hardly do."""
    rng = np.random.default_rng(seed)
    moves = np.where(np.isin(np.arange(rows), still), 0.001, 1.0)
    return np.cumsum(moves[:, None] * rng.random((rows, 3)), axis=0).astype(np.float16)


def test_static_clips_are_where_the_flow_hardly_changes() -> None:
    # a row's motion has both neighbours' steps in it: the first of the still rows has a large one before it
    rows = static_rows(steps(40, range(10, 20)), 0.64)
    assert set(range(11, 19)) <= set(rows) <= set(range(9, 21))


@pytest.mark.parametrize(("seconds", "shortest"), [(0.64, 3), (1.0, 2), (5.0, 1)])
def test_static_clips_last_two_seconds(seconds: float, shortest: int) -> None:
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(50):
        rows = static_rows(rng.random((60, 4)).cumsum(axis=0) ** 1.5, seconds)
        found += len(rows)
        parts = np.split(np.array(rows), np.flatnonzero(np.diff(rows) > 1) + 1)
        assert all(len(part) >= shortest for part in parts if len(part))
        assert not rows or 0.05 <= len(rows) / 60 <= 0.30
    assert found > 100


def plain_static_rows(flow: np.ndarray, window: int, shortest: int) -> list[int]:
    moves = [float(np.linalg.norm(b - a)) for a, b in pairwise(flow)]
    motion = [np.mean(moves[max(t - 1, 0) : t + 1]) for t in range(len(flow))]
    low = [value < np.percentile(motion, 25) for value in motion]
    half = window // 2
    smooth = [2 * sum(low[max(t - half, 0) : t + half + 1]) > window for t in range(len(low))]
    kept: list[int] = []
    start = 0
    for t in range(len(smooth) + 1):
        if t == len(smooth) or not smooth[t]:
            kept += range(start, t) if t - start >= shortest else []
            start = t + 1
    return kept if 0.05 <= len(kept) / len(flow) <= 0.3 else []


@pytest.mark.parametrize(("seconds", "window", "shortest"), [(0.64, 3, 3), (0.32, 5, 6), (0.5, 3, 4), (3.0, 1, 1)])
def test_static_rows_equal_plain_loops(seconds: float, window: int, shortest: int) -> None:
    rng = np.random.default_rng(2)
    some = 0
    for rows in rng.integers(2, 90, 200):
        flow = np.repeat(rng.random((rows, 4)), rng.choice([1, 2, 12], rows), axis=0)[:rows].astype(np.float32)
        flow += 0.01 * rng.random(flow.shape, dtype=np.float32)
        expected = plain_static_rows(flow, window, shortest)
        some += bool(expected)
        assert static_rows(flow, seconds) == expected
    assert some > 5


def test_a_video_of_a_row_or_without_motion_has_no_static_clip() -> None:
    assert static_rows(np.ones((1, 3), np.float32), 0.64) == []
    assert static_rows(np.ones((50, 3), np.float32), 0.64) == []


def two_streams(**options: Any) -> tuple[Cmcs, Video, Batch]:
    torch.manual_seed(0)
    model = Cmcs(CmcsOptions(streams=(5, 3), base=4, hidden=3, **options), 8, 2).eval()
    features = np.concatenate([np.random.default_rng(3).random((40, 5)), steps(40, range(10, 20))], axis=1)
    video = Video("v", features.astype(np.float32), (1,), 0.64)
    return model, video, Batch(torch.from_numpy(video.features)[None], torch.tensor([[0.0, 1.0]]), ("v",))


def test_static_clips_are_a_video_of_the_class_background() -> None:
    model, video, batch = two_streams()
    assert model.losses(batch)["background"] == 0  # none is found before the first epoch
    model.start_epoch(0, 5, [video])
    rows = static_rows(video.features[:, 5:], 0.64)
    label = torch.tensor([[0.0, 0.0, 1.0]])
    clips = batch.features[:, rows]
    alone = [network.terms(part, label) for network, part in zip(model.networks, model.split(clips), strict=True)]
    terms = model.losses(batch)
    assert terms["background"].item() == pytest.approx(sum(one["total"].item() for one in alone), rel=1e-6)
    rest = terms["classification"] + 0.2 * (terms["diversity"] + terms["norm"])
    assert terms["total"].item() == pytest.approx((rest + terms["background"]).item(), rel=1e-6)


def test_streams_decide_whether_static_clips_are_looked_for() -> None:
    model, video, batch = two_streams(static_clips=False)
    model.start_epoch(0, 5, [video])
    assert model.losses(batch)["background"] == 0
    assert model.networks[0].branches[0][2].out_features == 2  # no class of background
    assert CmcsOptions(streams=(5, 3)).static_clips is True
    assert CmcsOptions(streams=(8,)).static_clips is False
    assert CmcsOptions().static_clips is None  # nothing known of the features
    with pytest.raises(UserError, match="static clips in the optical flow stream, and these features have one stream"):
        Cmcs(CmcsOptions(streams=(8,), static_clips=True), 8, 2)


@pytest.mark.parametrize("check", ["losses_are_finite_with_gradient_to_every_parameter", "the_seed_decides"])
def test_the_contract_holds_with_static_clips(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baselines.cmcs.static_rows", lambda flow, seconds: [2, 3, 4])
    batch = Batch(torch.rand(2, 20, 16), torch.eye(4)[:2], ("v0", "v1"))
    assert late_in_training(Cmcs, (8, 8)).losses(batch)["background"] > 0
    CHECKS[check](Cmcs)


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_mean_over_frames_is_that_of_the_interpolated_values(rows: int) -> None:
    values = np.random.default_rng(0).random((rows, 3))
    ticks = FRAMES * np.arange(rows)
    frames = interp1d(ticks, values, axis=0)(np.arange(ticks[-1] + 1)) if rows > 1 else values
    np.testing.assert_allclose(mean_over_frames(torch.from_numpy(values)), frames.mean(axis=0), rtol=1e-12)


def test_scores_are_of_the_streams_mean_outputs() -> None:
    model, _, batch = two_streams()
    with torch.no_grad():
        scores = model.score(batch.features[0])
        rgb, flow = (n.outputs(part) for n, part in zip(model.networks, model.split(batch.features), strict=True))
    mean = (rgb.scores + flow.scores)[0] / 2
    torch.testing.assert_close(scores.signals["cas"], mean.softmax(dim=1)[:, :2])
    torch.testing.assert_close(scores.video_scores, ((rgb.video + flow.video)[0] / 2).softmax(dim=0)[:2])
    alone = model.networks[0].score(batch.features[0, :, :5])
    torch.testing.assert_close(alone.signals["cas"], rgb.scores[0].softmax(dim=1)[:, :2])


def plain_detections(probabilities: np.ndarray, video_score: float, factor: float) -> list[list[float]]:
    """Frames and score of each run as the released code has them, but for margins before the video, cut here."""
    metric = (probabilities - probabilities.min()) / (probabilities.max() - probabilities.min())
    ticks = FRAMES * np.arange(len(metric))
    threshold = factor * interp1d(ticks, metric)(np.arange(ticks[-1] + 1)).mean()
    slope = metric[-1] - metric[-2]  # here the last row has frames too
    frames = np.append(np.interp(np.arange(ticks[-1]), ticks, metric), metric[-1] + slope * np.arange(16) / 16)
    mask = frames > threshold
    wide = [bool(mask[max(x - 9, 0) : x + 11].any()) for x in range(len(mask))]  # a box of 20 frames
    rows, start = [], 0
    for t in range(len(wide) + 1):
        if t == len(wide) or not wide[t]:
            if t > start:
                left = frames[max(int(start - 0.25 * (t - start)), 0) : start]
                outside = np.append(left, frames[t : int(t + 0.25 * (t - start))])
                score = frames[start:t].mean() - (outside.mean() if len(outside) else 0) + 0.25 * video_score
                rows.append([start, t, score])
            start = t + 1
    return rows


@pytest.mark.parametrize(("dataset", "factor"), [("thumos14", 1.0), ("activitynet13", 1e-7)])
@pytest.mark.parametrize("seed", range(3))
def test_detections_equal_plain_loops(dataset: str, factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(
        np.stack([np.convolve(rng.standard_normal(82), np.ones(3), "valid") for _ in range(3)], 1)
    )
    model = CmcsNetwork(CmcsOptions(static_clips=True), 4, 2)
    outputs = model.outputs(torch.rand(1, 80, 4))._replace(scores=logits[None], video=torch.tensor([[1.0, 0.0, -0.5]]))
    scores = fused_scores([outputs], 2)
    signals = {name: signal.detach().double().numpy() for name, signal in scores.signals.items()}
    video_scores = scores.video_scores.detach().double().numpy()
    given = SnippetScores("v", signals, video_scores, float(FRAMES))
    found = localize([given], Cmcs.recipe(dataset).localizer, ("a", "b"))
    expected = [
        [label, *row]
        for label in range(2)
        for row in plain_detections(logits.softmax(dim=1)[:, label].numpy(), video_scores[label], factor)
    ]
    assert len(expected) >= 2
    made = np.stack([found.label, found.start, found.end, found.score], axis=1)
    np.testing.assert_allclose(made[np.lexsort(made.T[1::-1])], np.array(expected), atol=1e-9)


def test_a_class_at_the_threshold_is_dropped_and_nothing_replaces_it() -> None:
    signals = {name: np.array([[0.5], [0.5], [2.0]]) for name in ("relative", "metric")}
    spec = Cmcs.recipe("thumos14").localizer
    assert len(localize([SnippetScores("v", signals, np.array([0.1]), 1.0)], spec, ("a",))) == 0
    assert len(localize([SnippetScores("v", signals, np.array([0.11]), 1.0)], spec, ("a",))) == 1
