"""HAM-Net against tensors recorded from its released code; what it shares with CO2-Net by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.hamnet import ACTIVITYNET_OPTIONS, LOCALIZER, HamNet, HamNetOptions, less_salient
from wstal.localize import localize
from wstal.losses.attention import attended_scores, guide_loss, min_shifted, video_loss
from wstal.parts.layers import he_conv
from wstal.types import Batch, SnippetScores

LOSSES = {
    "base": "BCL",
    "hard": "HAL",
    "soft": "SAL",
    "semi_soft": "SSAL",
    "norm": "norm",
    "guide": "guide",
    "total": "total",
}
SMALL_ACTIVITYNET = ACTIVITYNET_OPTIONS.model_copy(update={"attention_width": 4})


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / "hamnet_small_parity.npz"))


@pytest.fixture
def recorded(tensors: dict[str, np.ndarray]) -> tuple[HamNet, Batch]:
    """With the drop rule of training, and without dropout."""
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    options = HamNetOptions(attention_width=len(tensors["sd/attention.0.bias"]), dropout=0.0)
    model = HamNet(options, features.shape[2], labels.shape[1])
    model.load_state_dict({name[3:]: torch.from_numpy(value) for name, value in tensors.items() if name[:3] == "sd/"})
    return model, Batch(features, labels, tuple(map(str, range(len(labels)))))


def test_forward_equals_the_released_code(recorded, tensors) -> None:
    model, batch = recorded
    with torch.no_grad():
        cas, attention = model.cas_and_attention(batch.features)
        left = less_salient(attention, model.spec.drop_below)
        close(cas, tensors["out/cas"])
        close(attention, tensors["out/attention"])
        close(left, tensors["out/atn_drop"])
        close(cas * attention, tensors["out/sal_logits"])
        close(min_shifted(cas, (left > 0).float()), tensors["out/hal_logits"])
        close(min_shifted(cas, left), tensors["out/ssal_logits"])


@pytest.mark.parametrize(("training", "suffix"), [(True, ""), (False, "_nodrop")])
def test_losses_and_gradients_equal_the_released_code(recorded, tensors, training: bool, suffix: str) -> None:
    model, batch = recorded
    losses = model.train(training).losses(batch)
    for ours, theirs in LOSSES.items():
        close(losses[ours], tensors[f"loss{suffix}/{theirs}"])
    losses["total"].backward()
    for name, parameter in model.named_parameters():
        norm, total = tensors[f"grad{suffix}/{name}"]
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        slack = 1e-6 * norm * parameter.numel()
        assert parameter.grad.double().sum().item() == pytest.approx(total, rel=1e-5, abs=slack)


@pytest.mark.parametrize("case", ["post", "post_none"])
def test_detections_equal_the_released_code(tensors, case: str) -> None:
    cas, attention = (torch.from_numpy(tensors[f"{case}/{name}"]) for name in ("cas", "attention"))
    scores = attended_scores(cas, attention, HamNetOptions().ratio)
    close(scores.video_scores, tensors[f"{case}/pred_vid_score"])
    rows, classes = cas.shape[1], cas.shape[2] - 1
    seconds = 16 * float(tensors[f"{case}/vid_num_seg"]) / (25 * rows)
    signals = {name: signal.double().numpy() for name, signal in scores.signals.items()}
    one = SnippetScores("v", signals, scores.video_scores.double().numpy(), seconds)
    found = localize([one], LOCALIZER, tuple(map(str, range(classes))))
    assert sorted(set(found.label.tolist())) == tensors[f"{case}/pred_classes"].tolist()
    table = ordered(np.stack([found.label, found.score, found.start, found.end], axis=1))
    np.testing.assert_allclose(table, ordered(tensors[f"{case}/det"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("attention", "runs"),
    [
        ((0.95, 0.05, 0.05, 0.05), []),  # the first snippet alone
        ((0.05, 0.95, 0.05, 0.05), [(1, 2)]),
        ((0.95, 0.05, 0.95, 0.05), [(0, 1), (2, 3)]),
        ((0.05, 0.10, 0.10, 0.05), []),  # on the lowest threshold, not above it
        ((0.05, 0.11, 0.11, 0.05), [(1, 3)]),
    ],
)
def test_runs_by_hand(attention: tuple[float, ...], runs: list[tuple[int, int]]) -> None:
    signals = {"attention": np.array(attention), "logit": np.ones((4, 1))}
    found = localize([SnippetScores("v", signals, np.ones(1), 1.0)], LOCALIZER, ("a",))
    assert sorted(set(zip(found.start.tolist(), found.end.tolist(), strict=True))) == runs


def test_parameter_counts(shared: Path) -> None:
    small = json.loads((shared / "fixtures" / "hamnet_small_parity.json").read_text())
    model = HamNet(HamNetOptions(attention_width=small["hidden"]), small["D"], small["C"])
    assert model.parameter_count() == small["params"]
    with torch.device("meta"):
        model = HamNet(HamNetOptions(), 2048, 20)
    classifier = 2 * (3 * 2048**2 + 2048) + 2049 * 21
    attention = (3 * 2048 + 1) * 512 + (3 * 512 + 1) * 512 + 513
    assert model.parameter_count() == classifier + attention


def test_scores_are_the_pass_over_all_rows(recorded, tensors) -> None:
    model, batch = recorded
    scores = model.eval().score(batch.features[1])
    close(scores.signals["attention"], tensors["out/attention"][1, :, 0])
    close(scores.signals["logit"], tensors["out/sal_logits"][1, :, :-1])
    attended = torch.from_numpy(tensors["out/sal_logits"][1])
    close(scores.signals["cas"], attended.softmax(dim=1)[:, :-1])
    # k = floor(T / 10)
    pooled = attended.sort(dim=0, descending=True).values[: len(attended) // 10].mean(dim=0)
    close(scores.video_scores, pooled.softmax(dim=0)[:-1])


def test_less_salient_by_hand() -> None:
    attention = torch.tensor([[[1.0], [0.2], [0.19], [0.0]], [[0.5], [0.09], [0.4], [0.1]]], requires_grad=True)
    left = less_salient(attention, 0.2)
    # strictly below 0.2 of each video's own largest
    close(left[..., 0], np.float32([[0, 0, 0.19, 0], [0, 0.09, 0, 0]]))
    left.sum().backward()
    assert attention.grad[..., 0].tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]


def test_min_shifted_by_hand() -> None:
    logits = torch.tensor([[[-3.0, 1.0, -1.0], [4.0, 2.0, 6.0]]])
    weights = torch.tensor([[[0.5], [0.0]]])
    assert min_shifted(logits, weights).tolist() == [[[-3.0, -1.0, -2.0], [2.0, 2.0, 2.0]]]


@pytest.mark.parametrize(("background", "target"), [(True, (0.5, 0.0, 0.5)), (False, (1.0, 0.0, 0.0))])
def test_video_loss_by_hand(background: bool, target: tuple[float, ...]) -> None:
    # 3 rows, ratio 2: the largest alone
    logits = torch.tensor([[[math.log(2), 0, 0], [0, math.log(3), -1], [-5, 0, math.log(4)]]])
    loss = video_loss(logits, torch.tensor([[1.0, 0.0]]), background=background, ratio=2)
    costs = -np.log(np.array([2, 3, 4]) / 9) @ target
    labels = 1 + background
    assert loss.item() == pytest.approx(costs * labels / (labels + 1e-4), rel=1e-6)


def test_guide_loss_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]]])  # P(background) 1/2, 3/4
    attention = torch.tensor([[[0.75], [0.0]]], requires_grad=True)
    loss = guide_loss(attention, logits)
    assert loss.item() == pytest.approx((0.25 + 0.25) / 2)
    loss.backward()
    assert attention.grad[0, :, 0].tolist() == [0.5, -0.5]


def test_activitynet_averages_cas_and_attention_over_17_rows() -> None:
    torch.manual_seed(0)
    smooth = HamNet(SMALL_ACTIVITYNET, 6, 2).eval()
    sharp = HamNet(HamNetOptions(attention_width=4), 6, 2).eval()
    sharp.load_state_dict(smooth.state_dict())
    features = torch.rand(1, 30, 6)
    with torch.no_grad():
        for averaged, raw in zip(smooth.cas_and_attention(features), sharp.cas_and_attention(features), strict=True):
            for column in range(raw.shape[2]):
                # zeros beyond the ends count
                expected = np.convolve(raw[0, :, column].double().numpy(), np.full(17, 1 / 17), mode="same")
                np.testing.assert_allclose(averaged[0, :, column].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_dropout_is_before_the_last_layer_alone() -> None:
    torch.manual_seed(0)
    model = HamNet(HamNetOptions(attention_width=4), 64, 63)
    seen: list[torch.Tensor] = []
    model.classifier[5].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    features = torch.rand(8, 50, 64)
    with torch.no_grad():
        _, first = model.cas_and_attention(features)
        _, second = model.cas_and_attention(features)
    assert torch.equal(first, second)  # the attention has none
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.7, abs=0.02)
    kept = (seen[0] != 0) & (seen[1] != 0)
    assert torch.equal(seen[0][kept], seen[1][kept])  # nothing was dropped earlier


def test_layers_begin_within_he_uniform_bounds() -> None:
    torch.manual_seed(0)
    layer = he_conv(50, 40, 3)
    bound = math.sqrt(6 / 150)
    assert 0.99 * bound < layer.weight.abs().max().item() <= bound
    assert not layer.bias.any()


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("options", [HamNetOptions(attention_width=4), SMALL_ACTIVITYNET])
def test_short_videos_train_and_score(rows: int, options: HamNetOptions) -> None:
    torch.manual_seed(0)
    model = HamNet(options, 16, 4)
    losses = model.losses(Batch(torch.rand(2, rows, 16), torch.zeros(2, 4), ("a", "b")))
    losses["total"].backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    scores = model.eval().score(torch.rand(rows, 16))
    assert all(len(signal) == rows and signal.isfinite().all() for signal in scores.signals.values())


@pytest.mark.parametrize(("dataset", "rows", "epochs"), [("thumos14", 500, 100), ("activitynet12", 80, 20)])
def test_recipe(dataset: str, rows: int, epochs: int) -> None:
    recipe = HamNet.recipe(dataset)
    assert HamNetOptions.model_validate_json(recipe.method.model_dump_json()) == recipe.method
    assert (recipe.train.temporal_length, recipe.train.epochs) == (rows, epochs)
    model = HamNet(recipe.method.model_copy(update={"attention_width": 2}), 2, 2)
    drawn = model.train_indices(700, rows, np.random.default_rng(0))
    cells = np.arange(rows + 1) * 700 // rows
    assert ((cells[:-1] <= drawn) & (drawn <= cells[1:])).all()
    assert model.test_indices(5000, recipe.train.test_length).tolist() == list(range(5000))


def ordered(rows: np.ndarray) -> np.ndarray:
    """By class, start, end, score."""
    return rows[np.lexsort((rows[:, 1], rows[:, 3], rows[:, 2], rows[:, 0]))]


def close(actual: torch.Tensor, expected: np.ndarray | torch.Tensor) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-6)
