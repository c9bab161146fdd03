"""AutoLoc against tensors recorded from its released layers, and against its rules worked by hand."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from baselines.autoloc import (
    AutoLoc,
    AutoLocOptions,
    BoundaryRegressor,
    chosen,
    masked_heat,
    oic_loss,
    over_video,
    regressed_boxes,
    select_boxes,
)
from harness.random_streams import seed_torch
from harness.runs.training import train
from tests.helpers.training import RUN, SPEC, goes_on_to_the_same_bits, videos
from wstal.families import TRAINING_VIDEOS
from wstal.localize import localize
from wstal.losses.outer_inner import bound_gradients, floored, inflated, outer_inner_contrast
from wstal.types import Batch, SnippetScores

LOGIT = 7.0  # the release's threshold of attention logits
CLASSES = 20
Recorded = SimpleNamespace


@pytest.fixture
def recorded(shared: Path) -> Recorded:
    tensors = dict(np.load(shared / "fixtures" / "autoloc_small_parity.npz"))
    found = Recorded(tensors=tensors)
    found.delta = torch.from_numpy(tensors["input/delta"]).requires_grad_()
    found.anchors = torch.from_numpy(tensors["input/anchor_scales"]).float()
    found.heat = torch.from_numpy(tensors["input/heatmap"])
    logits = torch.from_numpy(tensors["input/attention_logits_temporal_spatial"])
    found.masked = masked_heat(found.heat, logits, torch.full((2, 1), LOGIT))
    found.classes = torch.from_numpy(tensors["input/classes"])
    return found


def joined(boxes: Tensor) -> Tensor:
    """Starts of all anchors, then ends, as the release has them."""
    return boxes.flatten(0, 1)


def test_boxes_equal_the_release(recorded: Recorded) -> None:
    inner = regressed_boxes(recorded.delta, recorded.anchors)
    for boxes, name in ((inner, "inner"), (inflated(inner), "outer")):
        torch.testing.assert_close(
            joined(boxes), torch.from_numpy(recorded.tensors[f"out/{name}"]), rtol=1e-5, atol=1e-5
        )
    rows = {"inner": floored(inner, 1), "outer": floored(inflated(inner), 2)}
    for name, boxes in rows.items():
        expected = np.floor(recorded.tensors[f"out/{name}_clipped"])
        np.testing.assert_array_equal(joined(boxes).detach().numpy(), expected)


def test_heat_and_contrast_equal_the_release(recorded: Recorded) -> None:
    np.testing.assert_array_equal(recorded.masked.numpy(), recorded.tensors["out/masked_heat"])
    contrast = outer_inner_contrast(
        regressed_boxes(recorded.delta, recorded.anchors), recorded.masked[recorded.classes]
    )
    expected = torch.from_numpy(recorded.tensors["out/oic_score_of_gt_classes"])
    torch.testing.assert_close(contrast, expected, rtol=1e-5, atol=1e-6)


def test_selection_loss_and_gradients_equal_the_release(recorded: Recorded) -> None:
    tensors, heat = recorded.tensors, recorded.masked[recorded.classes]
    inner = regressed_boxes(recorded.delta, recorded.anchors)
    inner.retain_grad()
    contrast = outer_inner_contrast(inner, heat)
    anchor, taken = select_boxes(floored(inner.detach(), 1), contrast.detach(), heat, 0.1, 0.3, 0.4)
    row, position = taken.nonzero().unbind(dim=1)
    found = torch.stack([recorded.classes[row], anchor[row, position], position], dim=1)
    assert sorted(found.tolist()) == sorted(tensors["out/chosen_class_anchor_position"].tolist())

    loss = oic_loss(chosen(contrast, anchor), taken)
    assert loss.item() == pytest.approx(float(tensors["loss/oic"]), rel=1e-6)
    loss.backward()
    close(recorded.delta.grad, tensors["grad/delta"])
    close(joined(inner.grad), tensors["grad/inner_total"])

    # each chosen box has the gradient of its class, divided by the number of boxes
    share = torch.zeros_like(contrast).scatter(1, anchor[:, None], taken[:, None].float()) / taken.sum()
    parts = bound_gradients(floored(inner.detach(), 1), floored(inflated(inner.detach()), 2), heat)
    for name, part in zip(("inner", "outer"), parts, strict=True):
        close(joined((part * share[:, None]).sum(dim=0)), tensors[f"grad/{name}_clipped"])


def test_detections_equal_the_release(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = recorded.heat.shape[1]
    model = AutoLoc(AutoLocOptions(), 4, CLASSES).eval()
    monkeypatch.setattr(model, "_heat", lambda features: (recorded.heat, recorded.masked))
    monkeypatch.setattr(model.regressor, "forward", lambda features: recorded.delta[None])
    scores = model.score(torch.rand(rows, 4))
    signals = {name: signal.double().numpy() for name, signal in scores.signals.items()}
    class_scores = {name: values.double().numpy() for name, values in scores.class_scores.items()}
    given_scores = SnippetScores("v", signals, scores.video_scores.numpy(), 1 / rows, class_scores=class_scores)
    localizer = AutoLoc.recipe("thumos14").localizer
    found = localize([given_scores], localizer, tuple(map(str, range(CLASSES))))
    expected = recorded.tensors["post/det"]
    expected = expected[np.lexsort((expected[:, 1], -expected[:, 3], expected[:, 0]))]
    np.testing.assert_array_equal(found.label, expected[:, 0])
    np.testing.assert_allclose(found.score, expected[:, 3], rtol=1e-6)
    # the release adds a frame, of which a row has 15, before it clips
    for mine, column in ((found.start, 1), (found.end, 2)):
        ours = np.where((mine == 0) & (expected[:, column] == 0), 0, np.minimum(mine + 1 / (15 * rows), 1))
        np.testing.assert_allclose(ours, expected[:, column], rtol=0, atol=1e-6)


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_contrast_by_hand() -> None:
    heat = torch.tensor([[0.2, 0.4, 0.9, 0.7, 0.1, 0.3]])
    # rows 2-3 (mean .8), inflated by a row to 1-4 (mean of rows 1 and 4: .25)
    box = torch.tensor([2.1, 3.9])[:, None, None].expand(2, 1, 6)
    assert outer_inner_contrast(box, heat)[0, 0].tolist() == [pytest.approx((0.8 - 0.25 + 1) / 2)] * 6
    # rows 0-0 end at row 0, which counts no heat in the release; around is row 1 and, outside, row -1
    box = torch.tensor([0.0, 0.9])[:, None, None].expand(2, 1, 6)
    assert outer_inner_contrast(box, heat)[0, 0, 0].item() == pytest.approx((0 - 0.6 / 2 + 1) / 2)
    # far outside of the video nothing is around
    assert outer_inner_contrast(box + 50, heat)[0, 0, 0].item() == 0


def test_a_bound_moves_towards_more_heat() -> None:
    heat = torch.tensor([[0.0, 0.0, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0]])
    box = torch.tensor([3.0, 4.0])[:, None, None].expand(2, 1, 8)
    of_inner, _ = bound_gradients(floored(box, 1), floored(inflated(box), 2), heat)
    assert of_inner[0, 0, 0, 0] > 0  # the loss falls as the start comes earlier
    assert of_inner[0, 1, 0, 0] < 0  # and as the end, here on a hot row, comes later


def test_batch_norm_of_one_video() -> None:
    values = torch.rand(2, 3, 9)
    norm = nn.BatchNorm1d(3)
    torch.testing.assert_close(over_video(values), torch.cat([norm(one[None]) for one in values]).detach())
    assert not over_video(values[..., :1]).any()


def plain_selection(
    boxes: Tensor, contrast: Tensor, heat: Tensor, least_heat: float, least: float, overlap: float
) -> set[tuple[int, int]]:
    """One class, box and better box at a time."""
    kept = set()
    for label in range(len(heat)):
        best = [
            (float(scores.max()), position, *boxes[:, int(scores.argmax()), position].tolist())
            for position, scores in enumerate(contrast[label].T)
            if heat[label, position] > least_heat and scores.max() > least
        ]
        stay: list[tuple[float, int, float, float]] = []
        for score, position, start, end in sorted(best, reverse=True):  # of equals the later first
            shares = []
            for _, _, s, e in stay:
                shared = min(end, e) - max(start, s)
                union = (end - start) + (e - s) - shared
                shares.append(shared / union if union else np.nan)
            if all(share <= overlap for share in shares):
                stay.append((score, position, start, end))
        kept |= {(label, position) for _, position, *_ in stay}
    return kept


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 30), coarse=st.booleans())
def test_selection_is_the_plain_one(seed: int, rows: int, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    start = torch.from_numpy(rng.integers(-1, rows, (3, rows))).float()
    boxes = torch.stack([start, start + torch.from_numpy(rng.integers(0, 6, (3, rows)))])
    contrast = torch.from_numpy(rng.random((2, 3, rows)))
    if coarse:  # ties
        contrast = (contrast * 4).round() / 4
    heat = torch.from_numpy(rng.random((2, rows)))
    _, taken = select_boxes(boxes, contrast, heat, 0.3, 0.3, 0.4)
    assert set(map(tuple, taken.nonzero().tolist())) == plain_selection(boxes, contrast, heat, 0.3, 0.3, 0.4)


def test_loss_without_boxes_is_one() -> None:
    contrast = torch.tensor([[0.8, 0.4]])
    assert oic_loss(contrast, torch.tensor([[True, True]])).item() == pytest.approx(0.4)
    assert oic_loss(contrast, torch.tensor([[False, False]])).item() == 1


# --- stages ----------------------------------------------------------------------------------------------------------


def fresh(seed: int = 0, **options: object) -> AutoLoc:
    seed_torch(seed, "initialisation")
    return AutoLoc(AutoLocOptions.model_validate({"regression": 3, "dropout": 0.5, "width": 8} | options), 16, 3)


def test_each_stage_trains_its_part_in_its_own_way() -> None:
    model, rng = fresh(), np.random.default_rng(0)
    assert [model.stage(epoch, 6) for epoch in range(6)] == [0, 0, 0, 1, 1, 1]
    for epoch, kind, rows, batches in ((2, torch.optim.Adam, 21, [4, 4, 2]), (3, torch.optim.SGD, 40, [1, 1, 1])):
        model.start_epoch(epoch, 6)
        (optimizer,) = model.optimizers(SPEC.model_copy(update={"weight_decay": 0.5}))
        assert type(optimizer) is kind
        assert optimizer.param_groups[0]["weight_decay"] == 0.5
        assert len(model.train_indices(40, 21, rng)) == rows
        assert [len(one) for one in model.train_batches([(0,)] * 10, 4, rng)] == batches
        trained = {name for name, value in model.named_parameters() if value.requires_grad}
        assert {name.split(".")[0] for name in trained} == {"untrimmednet" if epoch == 2 else "regressor"}
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert optimizer.param_groups[0]["momentum"] == 0


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_run_goes_on_to_the_same_bits(stop: int, tmp_path: Path) -> None:
    goes_on_to_the_same_bits(fresh, stop, tmp_path)


def test_the_first_stage_is_untrimmednet(tmp_path: Path) -> None:
    model = fresh()
    states = []
    train(
        model, videos(), SPEC, 0, tmp_path, RUN,
        on_progress=lambda *_: states.append({name: value.clone() for name, value in model.state_dict().items()}),
    )  # fmt: skip
    for number, (before, after) in enumerate(itertools.pairwise(states), 1):
        moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
        assert moved == {"untrimmednet" if number < 3 else "regressor"}


def test_small_steps_lower_the_loss_of_a_smooth_heat_map(monkeypatch: pytest.MonkeyPatch) -> None:
    model, time = fresh(width=32), torch.arange(40.0)
    heat = torch.stack([torch.exp(-((time - centre) ** 2) / 12) for centre in (7, 20, 31)])
    monkeypatch.setattr(model, "_heat", lambda features: (heat, heat))
    model.start_epoch(5, 6)
    batch = Batch(torch.rand(3, 40, 16), torch.eye(3), ("a", "b", "c"))
    optimizer = torch.optim.SGD(model.regressor.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.losses(batch)["total"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < losses[0] - 0.005


def test_foreground_is_a_quantile_of_the_logits_of_each_stream() -> None:
    model = fresh(streams=(6, 10), foreground=0.5).eval()
    heat, masked = model._heat(torch.rand(20, 16))
    assert heat.sum(dim=0).tolist() == pytest.approx([1.0] * 20)
    share = (masked / heat)[0]
    assert set(share.mul(2).round().tolist()) <= {0, 1, 2}
    assert share.sum().item() == pytest.approx(10)  # half of the snippets in each stream


def test_two_classes_have_boxes_at_test() -> None:
    model = fresh().eval()
    scores = model.score(torch.rand(30, 16))
    best = scores.class_scores["mean_heat"] > 0
    assert best.sum() == 2
    assert not scores.signals["box_score"][:, ~best].any()
    taken = scores.signals["box_score"] > 0
    start, end = scores.signals["box_start"][taken], scores.signals["box_end"][taken]
    assert ((start >= 0) & (end <= 30) & (end > start)).all()


def test_options_are_the_published_ones() -> None:
    options = {dataset: AutoLoc.recipe(dataset).method for dataset in ("thumos14", "activitynet12")}
    assert options["thumos14"].anchors == (1, 2, 4, 8, 16, 32)
    assert options["activitynet12"].anchors == (16, 32, 64, 128, 256, 512)
    for dataset, steps in {"thumos14": 200, "activitynet12": 4706}.items():
        batches = -(-TRAINING_VIDEOS[dataset] // AutoLoc.recipe(dataset).train.batch_size)
        assert batches * options[dataset].regression == pytest.approx(steps, rel=0.05)
    for one in options.values():
        assert (one.heat, one.oic, one.overlap, one.learning_rate, one.width) == (0.1, 0.7, 0.4, 1e-3, 128)


def test_parameter_count_of_the_regression() -> None:
    with torch.device("meta"):
        model = BoundaryRegressor(2048, 128, AutoLocOptions().anchors)
    layers = 3 * 128 * (2048 + 128 + 128) + 3 * 2 * 128
    assert sum(one.numel() for one in model.parameters()) == layers + 128 * 12 + 12


def close(actual: Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual, torch.from_numpy(expected), rtol=1e-5, atol=1e-7)
