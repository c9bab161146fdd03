"""3C-Net against tensors recorded from its released code; its localizer against the rules written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.threecnet import ACTIVITYNET_LOCALIZER, LOCALIZER, ThreeCNet, ThreeCNetOptions, centre_loss, count_loss
from wstal.localize import LocalizerSpec, localize
from wstal.method import TrainSpec
from wstal.types import Batch, CountedBatch, SnippetScores

LAYERS = {"embedding.0": "fc", "embedding.2": "fc1", "classifier": "classifier"}
STREAMS = ("r", "f")  # in joining order
NAMES = {"r": "rgb", "f": "flow"}


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / "threec_net_small_parity.npz"))


@pytest.fixture
def recorded(tensors: dict[str, np.ndarray]) -> tuple[ThreeCNet, CountedBatch]:
    """The network at an even iteration, where losses count."""
    features, labels, counts = (torch.from_numpy(tensors[f"input/{name}"]).float() for name in ("x", "y", "count"))
    half = features.shape[2] // 2
    options = ThreeCNetOptions(streams=(half, features.shape[2] - half))
    model = ThreeCNet(options, features.shape[2], labels.shape[1]).eval()
    state = {"fusion": np.stack([tensors["sd/mul_r"], tensors["sd/mul_f"]])}
    for number, stream in enumerate(STREAMS):
        state[f"centres.{number}"] = tensors[f"sd_centers/{NAMES[stream]}"]
        for ours, theirs in LAYERS.items():
            for part in ("weight", "bias"):
                state[f"networks.{number}.{ours}.{part}"] = tensors[f"sd/{theirs}_{stream}.{part}"]
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    model._counting = True
    return model, CountedBatch(features, labels, tuple("abcd"), counts=counts)


def theirs(name: str) -> str:
    """The released name of a parameter of a network."""
    _, number, layer = name.split(".", 2)
    layer, part = layer.rsplit(".", 1)
    return f"{LAYERS[layer]}_{STREAMS[int(number)]}.{part}"


def test_forward_equals_the_released_code(recorded, tensors) -> None:
    model, batch = recorded
    with torch.no_grad():
        streams = model.streams(batch.features)
        for stream, (embedded, logits) in zip(STREAMS, streams, strict=True):
            close(embedded, tensors[f"out/feat_{NAMES[stream]}"])
            close(logits, tensors[f"out/logits_{NAMES[stream]}"])
        present = torch.ones(batch.features.shape[:2], dtype=torch.bool)
        close(model.fuse([logits for _, logits in streams], present), tensors["out/tcam"])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("padding", [0, 13])
def test_losses_and_gradients_equal_the_released_code(recorded, tensors, late: bool, padding: int) -> None:
    """With more rows of zeros too."""
    model, batch = recorded
    model._several_labels = late
    features = torch.nn.functional.pad(batch.features, (0, 0, 0, padding))
    losses = model.losses(CountedBatch(features, batch.labels, batch.videos, counts=batch.counts))
    losses["total"].backward()
    loss, grad = ("loss_late", "grad_late") if late else ("loss", "grad")
    sums = {"streams": ("cls_flow", "cls_rgb"), "fused": ("cls_tcam",), "centre": ("centre_flow", "centre_rgb")}
    for ours, names in (sums | {"count": ("count",), "total": ("total",)}).items():
        close(losses[ours], np.sum([tensors[f"{loss}/{name}"] for name in names]))
    for name, parameter in model.named_parameters():
        if name == "fusion":
            for row, stream in zip(parameter.grad, STREAMS, strict=True):
                close_gradient(row, tensors[f"{grad}/mul_{stream}"])
        elif name.startswith("centres."):
            stream = NAMES[STREAMS[int(name[-1])]]
            close_gradient(parameter.grad, tensors[f"{grad}/centers_{stream}.centers"])
        else:
            close_gradient(parameter.grad, tensors[f"{grad}/{theirs(name)}"])


def close_gradient(gradient: torch.Tensor, recorded: np.ndarray) -> None:
    norm, total = recorded
    assert gradient.norm().item() == pytest.approx(norm, rel=1e-5)
    # a sum of signed entries cancels: bound its error by the norm's scale
    assert gradient.double().sum().item() == pytest.approx(total, rel=1e-5, abs=1e-6 * norm * gradient.numel())


def test_the_count_is_the_logits_sum_under_their_own_softmax(recorded, tensors) -> None:
    model, batch = recorded
    lengths = torch.from_numpy(tensors["input/seq_len"])
    expected = count_loss(torch.from_numpy(tensors["out/pred_count"]), batch.counts, lengths)
    close(model.losses(batch)["count"], expected.numpy())


def test_parameter_counts() -> None:
    """The network's, 1,808 in the recorded size and 4,239,440 at full size, and a centre of each class and stream."""
    for width, classes, network in ((16, 20, 1808), (1024, 20, 4_239_440)):
        with torch.device("meta"):
            model = ThreeCNet(ThreeCNetOptions(streams=(width, width)), 2 * width, classes)
        assert model.parameter_count() == network + 2 * classes * width


def test_counts_by_hand() -> None:
    predicted = torch.tensor([[3.0, -2.0, 5.0], [1.0, 4.0, 0.5]])
    counts = torch.tensor([[2.0, 0.0, 4.0], [0.0, 5.0, 8.0]])
    # video 1 of 4 snippets: |3 - 2| / 2 + 0.001 * 2 + 0.001 * 5, since 4 instances are no fewer than its snippets
    # video 2 of 9 snippets: 0.001 + |4 - 5| / 5 + |0.5 - 8| / 8
    expected = (0.5 + 0.002 + 0.005 + 0.001 + 0.2 + 0.9375) / 2
    assert count_loss(predicted, counts, torch.tensor([4, 9])).item() == pytest.approx(expected)


def test_centre_loss_by_hand() -> None:
    features = torch.tensor([[1.0, 2.0], [0.0, 0.0], [5.0, 5.0]])
    centres = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    counted = torch.tensor([True, True, False])
    # 2 * 5 and 3 * 25, over two pairs, and by their number again
    loss = centre_loss(features, counted, centres, torch.tensor([2.0, 3.0, 9.0]))
    assert loss.item() == pytest.approx((10 + 75) / 4)


def test_the_first_class_has_no_centre_loss_as_released_unless_told() -> None:
    torch.manual_seed(0)
    batch = CountedBatch(
        torch.rand(2, 9, 4), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), ("a", "b"), counts=torch.ones(2, 2)
    )
    released, mended = (ThreeCNet(ThreeCNetOptions(centre_class_index=index), 4, 2) for index in (True, False))
    assert released.losses(batch)["centre"].item() < 1e-10
    assert mended.losses(batch)["centre"].item() > 0.1


def test_centres_move_by_the_rate_of_the_unweighted_loss() -> None:
    torch.manual_seed(0)
    model = ThreeCNet(ThreeCNetOptions(), 4, 3).eval()
    batch = CountedBatch(torch.rand(2, 9, 4), torch.eye(3)[1:], ("a", "b"), counts=torch.eye(3)[1:])
    before = model.centres[0].detach().clone()
    (gradient,) = torch.autograd.grad(model.losses(batch)["centre"], [model.centres[0]])
    _, descent = model.optimizers(TrainSpec(epochs=1))
    model.losses(batch)["total"].backward()
    descent.step()
    torch.testing.assert_close(model.centres[0].detach(), before - 0.1 * gradient)


def test_a_batch_without_counts_is_refused() -> None:
    with pytest.raises(TypeError, match="counts"):
        ThreeCNet(ThreeCNetOptions(), 4, 2).losses(Batch(torch.rand(1, 5, 4), torch.ones(1, 2), ("a",)))


@pytest.mark.parametrize(("epoch", "counts"), [(0, False), (1, False), (2, True), (3, False), (4, True)])
def test_every_other_epoch_counts_on_longer_crops(epoch: int, counts: bool) -> None:
    model, rng = ThreeCNet(ThreeCNetOptions(counting_length=50), 4, 2), np.random.default_rng(0)
    model.start_epoch(epoch, 100)
    rows = model.train_indices(1000, 20, rng)
    assert len(rows) == (50 if counts else 20)
    assert (np.diff(rows) == 1).all()
    batch = CountedBatch(torch.rand(2, 9, 4), torch.eye(2), ("a", "b"), counts=3 * torch.eye(2))
    assert (model.losses(batch)["count"].item() > 0) == counts


@pytest.mark.parametrize(("epoch", "several"), [(0, False), (9, False), (10, True), (99, True)])
def test_videos_with_several_labels_join_after_a_tenth(epoch: int, several: bool) -> None:
    torch.manual_seed(0)
    model = ThreeCNet(ThreeCNetOptions(), 4, 2).eval()
    model.start_epoch(epoch, 100)
    both = CountedBatch(torch.rand(1, 9, 4), torch.ones(1, 2), ("a",), counts=torch.ones(1, 2))
    assert (model.losses(both)["centre"].item() > 0) == several


@pytest.mark.parametrize("length", [5, 30])
def test_smoothing_ends_with_the_video(length: int) -> None:
    """Rows of zeros after it change nothing."""
    torch.manual_seed(0)
    model = ThreeCNet(ThreeCNetOptions(smooth=True), 4, 2).eval()
    batch = CountedBatch(torch.rand(2, length, 4), torch.eye(2), ("a", "b"), counts=torch.eye(2))
    longer = torch.nn.functional.pad(batch.features, (0, 0, 0, 40))
    padded = CountedBatch(longer, batch.labels, batch.videos, counts=batch.counts)
    model._counting = True
    for name, value in model.losses(batch).items():
        torch.testing.assert_close(model.losses(padded)[name], value)
    assert model.smoothing.weight.numel() == 2 * 13


def plain(logits: np.ndarray, seconds: float, many: bool) -> list[tuple[int, float, float, float]]:
    """The released rules for one video, a class and a snippet at a time: class, score, start, end."""
    rows = []
    video = np.sort(logits, axis=0)[::-1][: max(len(logits) // 8, 1)].mean(axis=0)
    for label, values in enumerate(logits.T):
        if video[label] <= (0 if many else max(video.max() / 2, 0)):
            continue
        middle = 0 if many else 0.5 * (values.max() + values.min())
        first = None
        for row, value in enumerate([*values, -np.inf]):
            if value > middle and first is None:
                first = row
            elif value <= middle and first is not None:
                if row - first >= 2:
                    rows.append((label, values[first:row].max() + video[label], first * seconds, row * seconds))
                first = None
    return rows


@pytest.mark.parametrize(("localizer", "many"), [(LOCALIZER, False), (ACTIVITYNET_LOCALIZER, True)])
@pytest.mark.parametrize("length", [5, 9, 40, 77])
def test_detections_follow_the_released_rules(length: int, localizer: LocalizerSpec, many: bool) -> None:
    rng = np.random.default_rng(length)
    signal = np.convolve(rng.standard_normal(length * 30), np.ones(3), mode="same").reshape(30, length).T
    logits = signal + np.linspace(-3, 3, 30)  # the first classes are rejected
    model = ThreeCNet(ThreeCNetOptions(), 30, 30)
    model.streams = lambda features: [(features, features)]  # type: ignore[method-assign]
    scores = model.score(torch.from_numpy(logits))
    one = SnippetScores(
        "v",
        {name: signal.detach().numpy() for name, signal in scores.signals.items()},
        scores.video_scores.detach().numpy(),
        0.64,
        class_scores={name: value.detach().numpy() for name, value in scores.class_scores.items()},
    )
    found = localize([one], localizer, tuple(map(str, range(30))))
    expected = plain(logits, 0.64, many)
    assert 0 < len(set(found.label.tolist())) < 30
    table = np.stack([found.label, found.score, found.start, found.end], axis=1)
    np.testing.assert_allclose(table[np.lexsort((table[:, 2], table[:, 0]))], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("dataset", "videos", "options"),
    [
        ("thumos14", 200, (False, 2800, 1.0, 750)),
        ("other", 200, (False, 2800, 1.0, 750)),
        ("activitynet12", 4819, (True, 400, 0.1, 200)),
        ("activitynet13", 10_024, (True, 400, 0.1, 200)),
        ("fineaction", 8440, (True, 400, 0.1, 200)),
    ],
)
def test_recipe_makes_as_many_steps_as_the_released_code(
    dataset: str, videos: int, options: tuple[object, ...]
) -> None:
    recipe = ThreeCNet.recipe(dataset)
    own = recipe.method
    assert (own.smooth, own.counting_length, own.count, recipe.train.temporal_length) == options
    batches = -(-videos // 32)
    assert recipe.train.epochs * batches == pytest.approx(50_000, abs=batches / 2)


def close(actual: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual.detach().double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-6)
