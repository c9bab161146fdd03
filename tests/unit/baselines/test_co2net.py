"""CO2-Net against tensors recorded from its released code, and with one stream against itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from baselines.co2net import ACTIVITYNET_OPTIONS, CO2_LOCALIZER, Co2Net, Co2NetOptions, Consensus, mutual_loss
from wstal.errors import UserError
from wstal.localize import localize
from wstal.losses.attention import attended_scores, guide_loss, min_shifted
from wstal.types import Batch, SnippetScores

MODULES = {
    "consensus.0.": "vAttn.",
    "consensus.1.": "fAttn.",
    "whole.": "channel_conv.",
    "local.": "bit_wise_attn.",
}
LOSSES = {
    "whole": "mil_orig",
    "suppressed": "mil_supp",
    "coactivity": "coactivity",
    "mutual": "mutual",
    "total": "total",
}
VARIANTS = {"": Co2NetOptions(), "_anet": ACTIVITYNET_OPTIONS}


def theirs(name: str) -> str:
    for ours, other in MODULES.items():
        name = name.replace(ours, other)
    return name


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / "co2net_small_parity.npz"))


@pytest.fixture(params=VARIANTS)
def recorded(request: pytest.FixtureRequest, tensors: dict[str, np.ndarray]) -> tuple[Co2Net, Batch, str]:
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    width = len(tensors["sd/vAttn.channel_conv.0.bias"])
    options = {
        "streams": (width, features.shape[2] - width),
        "attention_width": len(tensors["sd/vAttn.attention.0.bias"]),
    }
    model = Co2Net(VARIANTS[request.param].model_copy(update=options), features.shape[2], labels.shape[1]).eval()
    model.load_state_dict({name: torch.from_numpy(tensors[f"sd/{theirs(name)}"]) for name in model.state_dict()})
    return model, Batch(features, labels, tuple(map(str, range(len(labels))))), request.param


def test_forward_equals_the_released_code(recorded, tensors) -> None:
    model, batch, variant = recorded
    with torch.no_grad():
        filtered, streams = model.filtered(batch.features)
        fused, cas = model.classified(filtered)
        attention = sum(streams) / 2
    close(cas, tensors[f"out{variant}/cas"])
    close(streams[0], tensors[f"out{variant}/attention_rgb"])
    close(streams[1], tensors[f"out{variant}/attention_flow"])
    close(attention, tensors[f"out{variant}/attention"])
    # the same in both variants
    close(fused, tensors["out/embedding"])
    gated = np.concatenate([tensors["out/filtered_rgb"], tensors["out/filtered_flow"]], axis=2)
    close(filtered.transpose(1, 2), gated)
    if not variant:
        close(min_shifted(cas, attention), tensors["out/supp_logits"])


def test_losses_and_gradients_equal_the_released_code(recorded, tensors) -> None:
    model, batch, variant = recorded
    losses = model.losses(batch)
    for ours, name in LOSSES.items():
        close(losses[ours], tensors[f"loss{variant}/{name}"])
    for name in ("norm", "guide"):
        close(losses[name], np.mean([tensors[f"loss{variant}/{name}{one}"] for one in ("", "_v", "_f")]))
    losses["total"].backward()
    for name, parameter in model.named_parameters():
        norm, total = tensors[f"grad{variant}/{theirs(name)}"]
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        slack = 1e-6 * norm * parameter.numel()
        assert parameter.grad.double().sum().item() == pytest.approx(total, rel=1e-5, abs=slack)


def test_norm_and_guide_of_each_attention_equal_the_released_code(recorded, tensors) -> None:
    model, batch, variant = recorded
    with torch.no_grad():
        filtered, streams = model.filtered(batch.features)
        _, cas = model.classified(filtered)
    for one, name in zip((sum(streams) / 2, *streams), ("", "_v", "_f"), strict=True):
        close(one.mean(), tensors[f"loss{variant}/norm{name}"])
        close(guide_loss(one, cas), tensors[f"loss{variant}/guide{name}"])


@pytest.mark.parametrize("case", ["post", "post_fallback"])
def test_detections_equal_the_released_code(tensors, case: str) -> None:
    cas, attention = (torch.from_numpy(tensors[f"{case}/{name}"]) for name in ("cas", "attention"))
    scores = attended_scores(cas, attention, Co2NetOptions().score_ratio)
    close(scores.video_scores, tensors[f"{case}/pred_vid_score"])
    signals = {name: signal.double().numpy() for name, signal in scores.signals.items()}
    one = SnippetScores("v", signals, scores.video_scores.double().numpy(), seconds_per_snippet=1.0)
    found = localize([one], CO2_LOCALIZER, tuple(map(str, range(cas.shape[2] - 1))))
    assert sorted(set(found.label.tolist())) == tensors[f"{case}/pred_classes"].tolist()
    table = ordered(np.stack([found.label, found.score, found.start, found.end], axis=1))
    np.testing.assert_allclose(table, ordered(tensors[f"{case}/det_nofilter"]), rtol=1e-5, atol=1e-6)


def test_the_extra_unit_of_suppression_is_a_snippet(tensors) -> None:
    """Detections of a video that runs at another speed are the same in snippets."""
    cas, attention = (torch.from_numpy(tensors[f"post/{name}"]) for name in ("cas", "attention"))
    scores = attended_scores(cas, attention, 10)
    signals = {name: signal.double().numpy() for name, signal in scores.signals.items()}
    found = localize(
        [SnippetScores("v", signals, scores.video_scores.double().numpy(), seconds_per_snippet=0.64)],
        CO2_LOCALIZER,
        tuple(map(str, range(cas.shape[2] - 1))),
    )
    table = ordered(np.stack([found.label, found.score, found.start / 0.64, found.end / 0.64], axis=1).round(6))
    np.testing.assert_allclose(table, ordered(tensors["post/det_nofilter"].round(6)), rtol=1e-5, atol=2e-6)


def test_parameter_counts(shared: Path) -> None:
    small = json.loads((shared / "fixtures" / "co2net_small_parity.json").read_text())
    dim = small["D"]
    model = Co2Net(Co2NetOptions(streams=(dim // 2, dim // 2), attention_width=small["hidden"]), dim, small["C"])
    unused = 3 * dim * dim + dim  # a convolution of width 3 over the joint features, counted in the recording
    assert model.parameter_count() + unused == small["params"]
    with torch.device("meta"):
        model = Co2Net(Co2NetOptions(streams=(1024, 1024)), 2048, 20)
    attention = (3 * 1024 + 1) * 512 + (3 * 512 + 1) * 512 + 513
    consensus = 2 * (3 * 1024**2 + 1024) + attention
    classifier = (2048**2 + 2048) + (3 * 2048**2 + 2048) + 2049 * 21
    assert model.parameter_count() == 2 * consensus + classifier


def test_gate_by_hand() -> None:
    module = Consensus(1, 1, Co2NetOptions(attention_width=1)).eval()
    for layer in (module.whole[0], module.local[0]):
        layer.weight.data = torch.tensor([[[0.0, 1.0, 0.0]]])
    gated, _ = module(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.5, -1.0]]]))
    # global 2; local 0.5 and, leaky, -0.2
    expected = np.array([1.0, 3.0]) / (1 + np.exp([-1.0, 0.4]))
    close(gated[0, 0], expected)


def test_mutual_loss_by_hand() -> None:
    one, other = torch.tensor([[[0.1], [0.5]]], requires_grad=True), torch.tensor([[[0.5], [0.2]]])
    loss = mutual_loss(one, other)
    assert loss.item() == pytest.approx((0.16 + 0.09) / 2)
    loss.backward()
    # half of the gradient of the mean squared difference
    np.testing.assert_allclose(one.grad[0, :, 0], [-0.2, 0.15], rtol=1e-6)


def test_one_stream_is_its_own_auxiliary_and_counts_once() -> None:
    torch.manual_seed(0)
    single = Co2Net(Co2NetOptions(attention_width=4), 6, 3).eval()
    batch = Batch(torch.rand(3, 20, 6), torch.ones(3, 3), ("a", "b", "c"))
    # two equal streams with equal weights, of which the fused features hear the first alone
    double = Co2Net(Co2NetOptions(streams=(6, 6), attention_width=4), 12, 3).eval()
    state = single.state_dict()
    with torch.no_grad():
        for module in double.consensus:
            module.load_state_dict(single.consensus[0].state_dict())
        for name, target in double.state_dict().items():
            if not name.startswith("consensus"):
                target.zero_()
                target[tuple(map(slice, state[name].shape))] = state[name]
        expected = double.losses(Batch(torch.cat([batch.features] * 2, dim=2), batch.labels, batch.videos))
        found = single.losses(batch)
    assert found["mutual"].item() == 0
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_more_than_two_streams_are_refused() -> None:
    with pytest.raises(UserError, match=r"one or two streams.*names 3"):
        Co2Net(Co2NetOptions(streams=(2, 2, 2)), 6, 3)


def test_streams_may_differ_in_width() -> None:
    model = Co2Net(Co2NetOptions(streams=(5, 3), attention_width=2), 8, 3).eval()
    scores = model.score(torch.rand(11, 8))
    assert scores.signals["cas"].shape == (11, 3)


def test_dropout_of_the_attention_logits_gives_one_half() -> None:
    torch.manual_seed(0)
    module = Consensus(16, 16, Co2NetOptions(attention_width=8))
    _, attention = module(torch.rand(8, 16, 500), torch.rand(8, 16, 500))
    assert (attention == 0.5).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_dropout_elsewhere() -> None:
    torch.manual_seed(0)
    model = Co2Net(Co2NetOptions(streams=(32, 32), attention_width=32), 64, 3)
    dropped: dict[str, float] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Dropout):
            layer.register_forward_hook(
                lambda module, inputs, output, name=name: dropped.update(
                    {name: (output[inputs[0] != 0] == 0).float().mean().item()}
                )
            )
    model.losses(Batch(torch.rand(4, 200, 64), torch.ones(4, 3), tuple("abcd")))
    expected = {"fusion.2": 0.7, "classifier.0": 0.7, "classifier.3": 0.7}
    for stream in range(2):
        expected |= {f"consensus.{stream}.{part}": 0.5 for part in ("whole.2", "local.2", "attention.2", "attention.6")}
    assert dropped == pytest.approx(expected, abs=0.1)


def test_a_batch_begins_with_pairs_of_different_videos_of_a_class() -> None:
    model = Co2Net(Co2NetOptions(attention_width=1, pairs=2), 1, 3)
    labels = [(0,), (0, 1), (1,), (2,), (2,), (1,)]
    rng = np.random.default_rng(0)
    for batch in [batch for _ in range(20) for batch in model.train_batches(labels, 6, rng)]:
        for pair in range(model.pairs):
            one, other = batch[2 * pair : 2 * pair + 2]
            assert one != other
            assert set(labels[one]) & set(labels[other])


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("streams", [(), (8, 8)])
@pytest.mark.parametrize("half_window", [0, 6])
def test_short_videos_train_and_score(rows: int, streams: tuple[int, ...], half_window: int) -> None:
    torch.manual_seed(0)
    model = Co2Net(Co2NetOptions(streams=streams, attention_width=4, half_window=half_window), 16, 4)
    labels = torch.ones(3, 4) * torch.tensor([[1.0], [1.0], [0.0]])
    losses = model.losses(Batch(torch.rand(3, rows, 16), labels, ("a", "b", "c")))
    losses["total"].backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    scores = model.eval().score(torch.rand(rows, 16))
    assert all(len(signal) == rows and signal.isfinite().all() for signal in scores.signals.values())


@pytest.mark.parametrize(
    ("dataset", "steps", "videos", "rows"), [("thumos14", 5000, 200, 500), ("activitynet12", 22_000, 4819, 60)]
)
def test_recipe_shows_as_many_videos_as_the_released_code(dataset: str, steps: int, videos: int, rows: int) -> None:
    recipe = Co2Net.recipe(dataset)
    assert Co2NetOptions.model_validate_json(recipe.method.model_dump_json()) == recipe.method
    assert recipe.train.epochs * videos == pytest.approx(steps * recipe.train.batch_size, abs=videos / 2)
    assert (
        len(Co2Net(recipe.method, 2, 2).train_indices(3, recipe.train.temporal_length, np.random.default_rng(0)))
        == rows
    )


def ordered(rows: np.ndarray) -> np.ndarray:
    """By class, start, end, score."""
    return rows[np.lexsort((rows[:, 1], rows[:, 3], rows[:, 2], rows[:, 0]))]


def close(actual: torch.Tensor, expected: np.ndarray | torch.Tensor) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-6)
