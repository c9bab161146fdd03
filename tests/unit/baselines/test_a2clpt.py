"""A2CL-PT against tensors recorded from its released code; its localizer against the rules written out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from baselines.a2clpt import ERASED, LOCALIZER, A2clPt, A2clPtOptions, angular_loss, most_telling
from wstal.localize import localize
from wstal.method import TrainSpec
from wstal.types import Batch, SnippetScores

LAYERS = {"embedding.0": "fc", "embedding.2": "fc1", "classifier": "classifier"}
STREAMS = ("r", "f")  # in joining order
NAMES = {"r": "rgb", "f": "flow"}


class Recorded(A2clPt):
    """A2CL-PT with recorded draws."""

    def even_factors(self, count: int) -> Tensor:
        drawn = next(self.draws)
        assert len(drawn) == count
        return drawn


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / "a2clpt_small_parity.npz"))


@pytest.fixture
def recorded(tensors: dict[str, np.ndarray]) -> tuple[Recorded, Batch]:
    features, labels = (torch.from_numpy(tensors[f"input/{name}"]).float() for name in ("x", "y"))
    half, classes = features.shape[2] // 2, labels.shape[1]
    # as many as the released code erases of the padded 45 rows
    options = A2clPtOptions(streams=(half, features.shape[2] - half), erased=1)
    model = Recorded(options, features.shape[2], classes).eval()
    state = {"fusion": np.stack([tensors["sd/mul_r"], tensors["sd/mul_f"]])}
    for number, stream in enumerate(STREAMS):
        name = NAMES[stream]
        state[f"centres.{number}"] = np.stack([tensors[f"sd_centers/{name}_centers{which}"] for which in (1, 2)])
        for part in ("weight", "bias"):
            for ours, theirs in LAYERS.items():
                value = tensors[f"sd/{theirs}_{stream}.{part}"]
                state[f"networks.{number}.{ours}.{part}"] = value.squeeze(2) if value.ndim == 3 else value
            each = [tensors[f"sd/classifier_{stream}a.{label}.{part}"].reshape(1, -1) for label in range(classes)]
            joined = np.concatenate(each)
            state[f"adversaries.{number}.{part}"] = joined if part == "weight" else joined[:, 0]
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model, Batch(features, labels, tuple("abcd"))


def draws(tensors: dict[str, np.ndarray], late: bool) -> Iterator[Tensor]:
    for stream in STREAMS:
        for which in ("main", "adv"):
            yield torch.from_numpy(tensors[f"input/beta_{'late_' * late}{NAMES[stream]}_{which}"])


def test_forward_equals_the_released_code(recorded, tensors) -> None:
    model, batch = recorded
    present = torch.ones(batch.features.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        streams = model.streams(batch.features)
        close(model.fuse(streams, present), tensors["out/tcam"])
        for stream, (embedded, logits, second) in zip(STREAMS, streams, strict=True):
            close(embedded, tensors[f"out/feat_{NAMES[stream]}"])
            close(logits, tensors[f"out/cas_{NAMES[stream]}"])
            rest = second.masked_fill(most_telling(logits, present, 1), ERASED)
            close(rest, tensors[f"out/cas_{NAMES[stream]}_adv"])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("padding", [0, 13])
def test_losses_and_gradients_equal_the_released_code(
    recorded, tensors, late: bool, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more rows of zeros too, which the released code ranks among the snippets that it may erase: here as well.

    Gradients of the centres are the released backward pass's, not those of the loss.
    """
    model, batch = recorded
    length = batch.features.shape[1]

    def as_released(logits: Tensor, present: Tensor, count: int) -> Tensor:
        erased = most_telling(logits[:, :length], torch.ones_like(present[:, :length]), count)
        return functional.pad(erased, (0, 0, 0, padding))

    monkeypatch.setattr("baselines.a2clpt.most_telling", as_released)
    model._several_labels, model.draws = late, draws(tensors, late)
    features = functional.pad(batch.features, (0, 0, 0, padding))
    losses = model.losses(Batch(features, batch.labels, batch.videos))
    losses["total"].backward()
    loss, grad = ("loss_late", "grad_late") if late else ("loss", "grad")
    sums = {
        "fused": ("mil_tcam",),
        "streams": ("mil_rgb", "mil_flow"),
        "adversarial": ("mil_rgb_adv", "mil_flow_adv"),
        "centre": ("aclpt_rgb", "aclpt_flow"),
        "total": ("total",),
    }
    for ours, names in sums.items():
        close(losses[ours], np.sum([tensors[f"{loss}/{name}"] for name in names]))
    for number, stream in enumerate(STREAMS):
        close_gradient(model.fusion.grad[number], tensors[f"{grad}/mul_{stream}"])
        for which in (0, 1):
            expected = tensors[f"{grad}/centers_{NAMES[stream]}.centers{which + 1}"]
            close_gradient(model.centres[number].grad[which], expected)
        for ours, theirs in LAYERS.items():
            for part in ("weight", "bias"):
                gradient = model.networks[number].get_parameter(f"{ours}.{part}").grad
                close_gradient(gradient, tensors[f"{grad}/{theirs}_{stream}.{part}"])
        for label in range(batch.labels.shape[1]):
            for part in ("weight", "bias"):
                gradient = model.adversaries[number].get_parameter(part).grad[label]
                close_gradient(gradient, tensors[f"{grad}/classifier_{stream}a.{label}.{part}"])


def close_gradient(gradient: Tensor, recorded: np.ndarray) -> None:
    norm, total = recorded
    assert gradient.norm().item() == pytest.approx(norm, rel=1e-5)
    # a sum of signed entries cancels: bound its error by the norm's scale
    assert gradient.double().sum().item() == pytest.approx(total, rel=1e-5, abs=1e-6 * norm * gradient.numel())


def test_parameter_counts() -> None:
    """The network's, 2,488 in the recorded size and 4,280,440 at full size, and two centres a class and stream."""
    for width, network in ((16, 2488), (1024, 4_280_440)):
        with torch.device("meta"):
            model = A2clPt(A2clPtOptions(streams=(width, width)), 2 * width, 20)
        assert model.parameter_count() == network + 4 * 20 * width


def test_angles_by_hand() -> None:
    """Two pairs in a plane with centres at 0, 90 and 180 degrees."""
    degree = math.pi / 180

    def at(*angles: float) -> Tensor:
        return torch.tensor([[math.cos(angle * degree), math.sin(angle * degree)] for angle in angles])

    # pair 1 of class 0: at 30, evenly at 80; pair 2 of class 1: at 130, evenly at 60. Nearest others: 90 and 180.
    loss, _ = angular_loss(3 * at(30, 130), at(80, 60), at(0, 90, 180), torch.tensor([0, 1]), (0.5, 1.0), 0.6)
    first = [30 - 80, 40 - 30]
    second = [30 - 60, 40 - 50]
    terms = [0.6 * max(a * degree + 0.5, 0) + max(b * degree + 1, 0) for a, b in zip(first, second, strict=True)]
    assert loss.item() == pytest.approx(sum(terms) / 2, rel=1e-5)


def test_gradients_of_centres_are_averaged_by_role_and_class_by_hand() -> None:
    """An angle's gradient for a unit centre has length 1, and here only brackets with other centres are active."""
    angle = torch.tensor([0.3, 0.4, -0.2])
    high = torch.stack([angle.cos(), angle.sin()], dim=1)
    centres = torch.eye(2).requires_grad_()
    label = torch.tensor([0, 0, 0])
    _, update = angular_loss(high, high, centres, label, (-5.0, 9.0), 0.6)
    update.backward()
    # three active pairs, each divided by 1 + 3, over the three pairs: two push one way, one the other
    own = torch.tensor([0.0, -(1 + 1 - 1) / 4 / 3])
    other = torch.tensor([3 / 4 / 3, 0.0])
    torch.testing.assert_close(centres.grad, torch.stack([own, other]), rtol=1e-5, atol=1e-6)


def test_the_update_of_centres_adds_nothing_to_the_total() -> None:
    torch.manual_seed(0)
    model = A2clPt(A2clPtOptions(streams=(4, 2)), 6, 3)
    losses = model.losses(Batch(torch.rand(3, 20, 6), torch.eye(3), ("a", "b", "c")))
    parts = losses["fused"] + losses["streams"] + losses["adversarial"] + losses["centre"]
    torch.testing.assert_close(losses["total"], parts)


def test_features_get_the_gradient_of_the_loss_and_centres_another() -> None:
    torch.manual_seed(0)
    high, low = torch.rand(4, 5, requires_grad=True), torch.rand(4, 5, requires_grad=True)
    centres = torch.randn(3, 5, requires_grad=True)
    loss, update = angular_loss(high, low, centres, torch.tensor([0, 1, 1, 2]), (2.0, 1.0), 0.6)
    unmoved = torch.autograd.grad(loss, centres, retain_graph=True, allow_unused=True)
    unmoved += torch.autograd.grad(update, [high, low], retain_graph=True, allow_unused=True)
    assert [gradient is None for gradient in unmoved] == [True] * 3
    (moved,) = torch.autograd.grad(update, centres)
    assert (moved * centres).sum(dim=1).abs().max().item() < 1e-6, "only the direction of a centre counts"


def test_the_most_telling_snippets_by_hand() -> None:
    logits = torch.tensor([[5.0, 1.0, 3.0, 9.0], [1.0, 2.0, 2.0, 0.0], [4.0, 4.0, 4.0, 4.0]]).unsqueeze(-1)
    present = torch.tensor([[True, True, True, False], [True] * 4, [True] * 4])
    assert most_telling(logits, present, 1)[..., 0].tolist() == [
        [True, False, False, False],
        [False] * 4,  # two are equal
        [False] * 4,
    ]
    # the lowest of three stays
    assert most_telling(logits, present, 7)[..., 0].tolist()[0] == [True, False, True, False]


def test_even_factors_are_drawn_in_training_alone() -> None:
    torch.manual_seed(0)
    model = A2clPt(A2clPtOptions(), 4, 2)
    drawn = model.even_factors(1000)
    assert 0.001 <= drawn.min() < 0.003
    assert 0.098 < drawn.max() <= 0.1
    assert model.eval().even_factors(2).tolist() == pytest.approx([0.0505, 0.0505])


def test_centres_move_by_the_rate_of_their_stream_and_are_unit_vectors_again() -> None:
    torch.manual_seed(0)
    model = A2clPt(A2clPtOptions(streams=(4, 3)), 7, 3)
    batch = Batch(torch.rand(3, 20, 7), torch.eye(3), ("a", "b", "c"))
    before = [centres.detach().clone() for centres in model.centres]
    _, descent = model.optimizers(TrainSpec(epochs=1))
    model.losses(batch)["total"].backward()
    descent.step()
    for old, new, rate in zip(before, model.centres, (0.1, 0.2), strict=True):
        torch.testing.assert_close(new.detach(), old - rate * new.grad)
    model.end_step()
    for centres in model.centres:
        torch.testing.assert_close(centres.detach().norm(dim=-1), torch.ones(2, 3))


def test_the_second_classifier_begins_as_layers_of_one_class_each() -> None:
    torch.manual_seed(0)
    model = A2clPt(A2clPtOptions(), 100, 50)
    bound = (6 / 101) ** 0.5
    assert 0.99 * bound < model.adversaries[0].weight.abs().max().item() <= bound
    assert not model.adversaries[0].bias.any()


@pytest.mark.parametrize(("epoch", "several"), [(0, False), (9, False), (10, True), (89, True)])
def test_videos_with_several_labels_join_after_a_ninth(epoch: int, several: bool) -> None:
    torch.manual_seed(0)
    model = A2clPt(A2clPtOptions(), 4, 2).eval()
    model.start_epoch(epoch, 90)
    both = Batch(torch.rand(1, 9, 4), torch.ones(1, 2), ("a",))
    assert (model.losses(both)["centre"].item() > 0) == several


def plain(logits: np.ndarray, seconds: float) -> list[tuple[int, float, float, float]]:
    """The released rules for one video, a class and a snippet at a time: class, score, start, end."""
    rows = []
    video = np.sort(logits, axis=0)[::-1][: math.ceil(len(logits) / 8)].mean(axis=0)
    for label, values in enumerate(logits.T):
        if video[label] <= max(video.max() / 2, 0):
            continue
        first = None
        for row, value in enumerate([*values, -np.inf]):
            if value > 0 and first is None:
                first = row
            elif value <= 0 and first is not None:
                if row - first >= 2:
                    rows.append((label, values[first:row].max() + video[label], first * seconds, row * seconds))
                first = None
    return rows


@pytest.mark.parametrize("length", [5, 9, 40, 77])
def test_detections_follow_the_released_rules(length: int) -> None:
    rng = np.random.default_rng(length)
    signal = np.convolve(rng.standard_normal(length * 30), np.ones(3), mode="same").reshape(30, length).T
    logits = signal + np.linspace(-3, 3, 30)  # the first classes are rejected
    model = A2clPt(A2clPtOptions(), 30, 30)
    model.streams = lambda features: [(features, features, 0 * features)]  # type: ignore[method-assign]
    scores = model.score(torch.from_numpy(logits))
    one = SnippetScores(
        "v",
        {name: signal.detach().numpy() for name, signal in scores.signals.items()},
        scores.video_scores.detach().numpy(),
        0.64,
        class_scores={name: value.detach().numpy() for name, value in scores.class_scores.items()},
    )
    found = localize([one], LOCALIZER, tuple(map(str, range(30))))
    assert 0 < len(set(found.label.tolist())) < 30
    table = np.stack([found.label, found.score, found.start, found.end], axis=1)
    np.testing.assert_allclose(table[np.lexsort((table[:, 2], table[:, 0]))], plain(logits, 0.64), rtol=1e-12)


@pytest.mark.parametrize(
    ("dataset", "videos", "smooth"),
    [("thumos14", 200, False), ("other", 200, False), ("activitynet13", 10_024, True), ("fineaction", 8440, True)],
)
def test_recipe_makes_as_many_steps_as_the_released_code(dataset: str, videos: int, smooth: bool) -> None:
    recipe = A2clPt.recipe(dataset)
    assert recipe.method.smooth is smooth
    batches = -(-videos // 32)
    assert recipe.train.epochs * batches == pytest.approx(45_000, abs=batches / 2)
    assert A2clPt(A2clPtOptions(smooth=True), 4, 2).smoothing.weight.numel() == 2 * 13


def close(actual: Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual.detach().double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-6)
