"""TadTR against tensors recorded from its released code, and its parts against values worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.tadtr import (
    ABOVE_NMS,
    COSTS,
    KEPT_SHARE,
    TadTr,
    TadTrNetwork,
    TadTrOptions,
    ranked,
)
from harness.testing import CHECKS
from tests.helpers.released import close
from wstal.localize.nms import Rows, suppress_where_windows_meet
from wstal.losses.set_prediction import Instances, match_instances
from wstal.parts.deformable_transformer import position_embedding
from wstal.types import SupervisedVideo, Video
from wstal.windows import Window, covering_starts, kept_instances

LAYERS = [("encoder", 0), ("encoder", 1), ("decoder", 0), ("decoder", 1), ("decoder", 2)]
Recorded = dict[str, Tensor]
OPTIONS = TadTrOptions(width=64, hidden=48, encoder_layers=2, decoder_layers=3, queries=12)
PARTS = {  # ours: the released code's
    "input.": "input_proj.0.0.",
    "input_norm.": "input_proj.0.1.",
    "queries": "query_embed.weight",
    "level": "transformer.level_embed",
    "first_reference.": "transformer.reference_points.",
    "regressor.": "actionness_pred.",
    "classifiers.": "class_embed.",
    "encoder.": "transformer.encoder.layers.",
    "decoder.": "transformer.decoder.layers.",
    "among_queries.": "self_attn.",
    "attention.offsets.": "attention.sampling_offsets.",
    "attention.weights.": "attention.attention_weights.",
    "attention.values.": "attention.value_proj.",
    "attention.output.": "attention.output_proj.",
    "feed_forward.into.": "linear1.",
    "feed_forward.out.": "linear2.",
    "refiners.": "transformer.decoder.segment_embed.",
}
NORMS = {
    "encoder": ("after_attention", "after_feed_forward"),
    "decoder": ("after_attention", "after_queries", "after_feed_forward"),
}


def theirs(name: str) -> str:
    for kind, norms in NORMS.items():
        for nth, norm in enumerate(norms, 1):
            if name.startswith(kind):
                name = name.replace(f".{norm}.", f".norm{nth}.")
    place = {"encoder.": "self_attn.", "decoder.": "cross_attn."}.get(name[:8], "")
    for ours, other in PARTS.items():
        if name.startswith(ours) or f".{ours}" in name:
            name = name.replace(ours, other, 1)
    name = name.replace(".attention.", f".{place}")
    if "segment_embed" in name:  # their layers are numbered without the ReLUs
        head, layer, kind = name.rsplit(".", 2)
        name = f"{head}.layers.{int(layer) // 2}.{kind}"
    return name


@pytest.fixture(scope="module")
def recorded(shared: Path) -> Recorded:
    path = shared / "fixtures" / "tadtr_small_parity.npz"
    return {name: torch.from_numpy(array) for name, array in np.load(path).items()}


@pytest.fixture
def network(recorded: Recorded) -> TadTrNetwork:
    found = TadTrNetwork(OPTIONS, 32, 20).eval()
    state = {name: recorded[f"sd/{theirs(name)}"].reshape(own.shape) for name, own in found.named_parameters()}
    found.load_state_dict(state)
    return found


def near(actual: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the largest entry: double precision differs from what was recorded by 3e-6 of it."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def instances(recorded: Recorded) -> list[Instances]:
    return [Instances(recorded[f"target/{b}/labels"], recorded[f"target/{b}/segments_cw"]) for b in range(2)]


def test_forward_equals_the_released_code(network: TadTrNetwork, recorded: Recorded) -> None:
    padded = recorded["input/padding_mask"].bool()
    with torch.no_grad():
        output = network(recorded["input/x"].transpose(1, 2), padded)
    close(position_embedding(padded, 64).float().transpose(1, 2), recorded["out/position_embedding"], scale=1)
    near(output.memory.transpose(1, 2), recorded["out/memory"])
    names = ("out/aux0", "out/aux1", "out")
    for name, layer in zip(names, output.layers, strict=True):
        near(layer.logits, recorded[f"{name}/logits"])
        near(layer.segments, recorded[f"{name}/segments_cw"])
    near(output.actionness, recorded["out/actionness"][..., 0])


def test_losses_matches_and_gradients_equal_the_released_code(network: TadTrNetwork, recorded: Recorded) -> None:
    true = instances(recorded)
    output = network(recorded["input/x"].transpose(1, 2), recorded["input/padding_mask"].bool())
    for name, layer in zip(("match_aux0", "match_aux1", "match"), output.layers, strict=True):
        for window, (query, instance) in enumerate(match_instances(layer.logits, layer.segments, true, COSTS)):
            expected = recorded[f"target/{window}/{name}_query_gt"]
            assert torch.equal(torch.stack([query, instance]), expected)
    losses = TadTr(OPTIONS, 32, 20).terms(output, true)
    for ours, name in {"classification": "ce", "segment": "segments", "iou": "iou", "actionness": "actionness"}.items():
        close(losses[ours], recorded[f"loss/loss_{name}"])
    close(losses["total"], recorded["loss/total"])
    losses["total"].backward()
    for name, parameter in network.named_parameters():
        norm, entries = recorded[f"grad/{theirs(name)}"].tolist()
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5), name
        assert parameter.grad.double().sum().item() == pytest.approx(entries, rel=1e-5, abs=1e-5 * norm), name


def test_ranking_equals_the_released_code(recorded: Recorded) -> None:
    outputs = (recorded["out/logits"], recorded["out/segments_cw"], recorded["out/actionness"][..., 0])
    for window, (found, seconds) in enumerate(zip(ranked(*outputs), recorded["post/durations"], strict=True)):
        expected = recorded[f"post/{window}/rank"]
        assert torch.equal(found[:, 0].double(), expected[:, 0])
        torch.testing.assert_close(found[:, 1].double(), expected[:, 1], rtol=1e-6, atol=0)
        torch.testing.assert_close((found[:, 2:] * seconds).double(), expected[:, 2:4], rtol=0, atol=2e-6)


def test_fusion_of_windows_equals_the_released_code(recorded: Recorded) -> None:
    label, score, start, end, _ = recorded["post/before_fusion"].numpy().T
    rows = Rows(start, end, score, label.astype(np.int64), np.zeros(len(start)))
    windows = recorded["post/windows"].numpy() / recorded["post/feature_fps"].numpy()
    kept = suppress_where_windows_meet(rows, windows[:, 0], windows[:, 1], ABOVE_NMS)
    found, expected = recorded["post/before_fusion"].numpy()[kept], recorded["post/after_fusion"].numpy()
    assert np.array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])


@pytest.fixture(scope="module")
def sliced(recorded: Recorded) -> list[SupervisedVideo]:
    *lengths, rate = recorded["gt/slices/feature_lengths_fps"].tolist()
    videos = []
    for number, length in enumerate(lengths):
        start, end = recorded[f"gt/slices/{number}/segments_seconds"].numpy().T
        video = Video(str(number), np.zeros((int(length), 1), dtype=np.float32), (0,), 1 / rate)
        videos.append(SupervisedVideo(video, np.zeros(len(start), dtype=np.int64), start, end))
    return videos


def test_training_windows_and_targets_equal_the_released_code(
    sliced: list[SupervisedVideo], recorded: Recorded
) -> None:
    method = TadTr(OPTIONS.model_copy(update={"window": 128}), 32, 20)
    windows = method.windows(sliced, 0)
    expected = recorded["target/slices_train/video_start_end"]
    lengths = [len(sliced[window.video].video.features) for window in windows]
    found = [(w.video, w.first, min(w.last, length)) for w, length in zip(windows, lengths, strict=True)]
    assert found == [tuple(row) for row in expected.tolist()]
    same_segments(sliced, windows, recorded["target/slices_train/slice_segments_seconds"])
    first = method.targets(sliced[0], windows[0], 0)
    assert (first["labels"] >= 0).sum() == 6
    assert (first["labels"] == 0).sum() == 6
    centre = (sliced[0].start + sliced[0].end) / 2 * 3.125 / 128  # of all instances: none is cut
    np.testing.assert_allclose(first["segments"][:6, 0], centre, rtol=1e-6)


def test_test_windows_equal_the_released_code(sliced: list[SupervisedVideo], recorded: Recorded) -> None:
    windows = [
        Window(number, first, 1, 128)
        for number, video in enumerate(sliced)
        for first in covering_starts(video.video.length, 128, 96)
    ]
    expected = recorded["target/slices_test/video_start_end"]
    assert [(window.video, window.first) for window in windows] == [tuple(row) for row in expected[:, :2].tolist()]
    same_segments(sliced, windows, recorded["target/slices_test/slice_segments_seconds"])


def same_segments(videos: list[SupervisedVideo], windows: list[Window], expected: Tensor) -> None:
    found = []
    for number, window in enumerate(windows):
        rows = window.instances(videos[window.video]).numpy()
        end = min(window.rows, videos[window.video].video.length - window.first)
        seconds = kept_instances(rows, end, KEPT_SHARE)[1] * end / 3.125
        found += [(number, centre - width / 2, centre + width / 2) for centre, width in seconds]
    made, wanted = np.array(found), expected.numpy()
    np.testing.assert_allclose(made[np.lexsort(made.T[::-1])], wanted[np.lexsort(wanted.T[::-1])], rtol=1e-6)


def test_the_network_has_the_released_number_of_parameters() -> None:
    with torch.device("meta"):
        network = TadTrNetwork(TadTrOptions(), 2048, 20)
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_661_594


def test_an_untrained_network_doubts_every_class_and_keeps_its_first_segments() -> None:
    torch.manual_seed(0)
    layers, actionness, _ = TadTrNetwork(OPTIONS, 32, 20).eval()(torch.randn(2, 16, 32))
    for layer in layers:
        assert layer.logits.sigmoid().mean().item() == pytest.approx(0.01, abs=0.005)
        torch.testing.assert_close(layer.segments[..., 1], torch.full((2, 12), -2.0).sigmoid())
        torch.testing.assert_close(layer.segments, layers[0].segments)
    assert actionness.shape == (2, 12)


def test_a_query_is_ranked_with_each_of_its_classes() -> None:
    logits = torch.tensor([[[0.0, 1.0], [2.0, -9.0]]])
    segments = torch.tensor([[[0.5, 0.5], [0.25, 0.1]]])
    found = ranked(logits, segments, torch.tensor([[0.5, 0.1]]))[0]
    assert found[:, 0].tolist() == [1, 0, 0, 1]
    expected = [0.5 * 0.7310586, 0.25, 0.1 * 0.8807971, 0.1 * 0.000123395]
    assert found[:, 1].tolist() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(found[:, 2:], [[0.25, 0.75]] * 2 + [[0.2, 0.3]] * 2, rtol=1e-6)


def test_what_decides_where_queries_look_learns_slowly() -> None:
    method = TadTr(OPTIONS, 32, 20)
    (optimizer,) = method.optimizers(TadTr.recipe("thumos14").train)
    rates = {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
    slow = {name for name, own in method.named_parameters() if rates[id(own)] == pytest.approx(2e-5)}
    assert {name.removeprefix("network.") for name in slow} == {
        f"{part}.{kind}"
        for part in ("first_reference", *(f"{side}.{n}.attention.offsets" for side, n in LAYERS))
        for kind in ("weight", "bias")
    }
    assert len(rates) == len(list(method.parameters()))


def test_a_width_that_heads_or_groups_do_not_divide_is_refused() -> None:
    for options in ({"width": 48}, {"width": 64, "heads": 3}):
        with pytest.raises(ValueError, match="multiple"):
            TadTrOptions(**options)


def test_more_instances_than_queries_are_cut_to_the_queries() -> None:
    count = 20
    video = Video("v", np.zeros((100, 1), dtype=np.float32), (0,), 1.0)
    start = np.arange(count, dtype=np.float64)
    crowded = SupervisedVideo(video, np.arange(count), start, start + 1)
    found = TadTr(OPTIONS, 32, 20).targets(crowded, Window(0, 0, 1, 128), 0)
    assert found["labels"].tolist() == list(range(12))


class ClassFree(TadTr):
    CHECK_OPTIONS: ClassVar = {**TadTr.CHECK_OPTIONS, "class_free": True, "rescale": True}


@pytest.mark.parametrize("check", CHECKS)
def test_queries_of_no_class_fulfil_the_contract(check: str) -> None:
    CHECKS[check](ClassFree)


def test_whole_videos_are_one_window_and_a_classifier_names_what_queries_find() -> None:
    torch.manual_seed(0)
    method = ClassFree(TadTr.recipe("activitynet13").method.model_copy(update=ClassFree.CHECK_OPTIONS), 32, 5).eval()
    video = SupervisedVideo(
        Video("v", np.zeros((37, 32), dtype=np.float32), (4,), 1.0), np.array([4]), np.array([9.25]), np.array([27.75])
    )
    (window,) = method.windows([video], 0)
    assert (window.first, window.last, window.rows) == (0, 37, 12)
    found = method.targets(video, window, 0)
    assert found["labels"].tolist() == [0] + 5 * [-1]
    np.testing.assert_allclose(found["segments"][0], [0.5, 0.5])
    with torch.no_grad():
        scores = method.score(torch.rand(37, 32))
    assert scores.proposals is not None
    assert (scores.proposals[:, 3] == -1).all()
    assert scores.proposals[:, :2].aminmax().max <= 37
    assert scores.video_scores.sum().item() == pytest.approx(1)
