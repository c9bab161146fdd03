"""EM-MIL against tensors recorded from its released code, and its phases and pseudo labels against their rules."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.emmil import LOCALIZER, EmMil, EmMilOptions, above_average, picked, relative, snippet_loss
from wstal.localize import localize
from wstal.method import TrainSpec
from wstal.types import Batch, SnippetScores

STREAMS = ("rgb", "flow")
HEADS = {"keys": "key", "classes": "cls"}
LAYERS = {"0": "0", "2": "tail"}
# the epoch of each recorded loss: M with all snippets, E, M with picked ones
STEPS = {"m1": 0, "e": 10, "m2": 20}
CLIP_SECONDS = 1.25


def theirs(name: str) -> str:
    head, stream, layer, part = name.split(".")
    tail = layer == "2"
    return f"{HEADS[head]}{'_tail' * tail}_{STREAMS[int(stream)]}.{1 if tail else 0}.{part}"


def theirs_of_the_video_network(name: str) -> str:
    _, head, stream, part = name.split(".")
    return f"{ {'attention': 'att', 'classes': 'cls'}[head] }_{STREAMS[int(stream)]}.0.{part}"


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / "em_mil_small_parity.npz"))


@pytest.fixture
def recorded(tensors) -> tuple[EmMil, Batch]:
    rgb, flow = (torch.from_numpy(tensors[f"input/{name}"]) for name in STREAMS)
    labels = torch.from_numpy(tensors["input/y"]).unsqueeze(0)
    options = EmMilOptions(streams=(rgb.shape[1], flow.shape[1]), hidden=len(tensors["sd/key_rgb.0.bias"]))
    model = EmMil(options, sum(options.streams), labels.shape[1]).eval()
    state = {
        name: tensors[
            f"sd_unt/{theirs_of_the_video_network(name)}" if name.startswith("video") else f"sd/{theirs(name)}"
        ]
        for name in model.state_dict()
    }
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model, Batch(torch.cat([rgb, flow], dim=1).unsqueeze(0), labels, ("v",))


def test_forward_equals_the_released_code(recorded, tensors) -> None:
    model, batch = recorded
    with torch.no_grad():
        streams = batch.features.split(model.widths, dim=2)
        for number, name in enumerate(STREAMS):
            close(model.keys[number](streams[number]).sigmoid()[0], tensors[f"out/key_{name}"])
            close(model.classes[number](streams[number]).sigmoid()[0], tensors[f"out/cls_{name}"])
        close(model.video(streams)[0].exp(), tensors["out/video_pred"])
        close(model.score(batch.features[0]).video_scores, tensors["out/video_pred"])


@pytest.mark.parametrize(("step", "term"), [("m1", "class"), ("m2", "class"), ("e", "key")])
def test_losses_and_gradients_equal_the_released_code(recorded, tensors, step: str, term: str) -> None:
    model, batch = recorded
    model.start_epoch(STEPS[step], 65)
    losses = model.losses(batch)
    close(losses[term], tensors[f"loss/{step}"])
    assert losses["total"].item() == pytest.approx((losses[term] + losses["video"]).item())
    losses[term].backward()
    for name, parameter in model.named_parameters():
        if name.startswith("video"):
            assert parameter.grad is None
            continue
        norm, total = tensors[f"grad_{step}/{theirs(name)}"].tolist()
        if math.isnan(norm):
            assert parameter.grad is None
            continue
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        slack = 1e-6 * norm * parameter.numel()
        assert parameter.grad.double().sum().item() == pytest.approx(total, rel=1e-5, abs=slack)


def test_pseudo_labels_equal_the_released_code(recorded, tensors) -> None:
    model, batch = recorded
    with torch.no_grad():
        streams = batch.features.split(model.widths, dim=2)
        keys, classes = (model.probabilities(networks, streams) for networks in (model.keys, model.classes))
    close(picked(keys, 0.15)[0, :, 0], tensors["out/pseudo_m2_rederived"])
    close(above_average(classes, batch.labels)[0, :, 0], tensors["out/pseudo_e_rederived"])


def test_detections_equal_the_released_code(recorded, tensors) -> None:
    """Its test score weighs both networks by 0.8, which after the division by the range is the same as by 0.5."""
    model, batch = recorded
    model.spec = model.spec.model_copy(update={"key_weight": 0.5})
    with torch.no_grad():
        signals = model.score(batch.features[0]).signals
    one = SnippetScores(
        "v", {name: value.double().numpy() for name, value in signals.items()}, tensors["post/video_pred"], CLIP_SECONDS
    )
    found = localize([one], LOCALIZER, tuple(map(str, range(batch.labels.shape[1]))))
    table = np.stack([found.start.round(2), found.end.round(2), found.label + 1.0], axis=1)
    table = table[found.end < CLIP_SECONDS * batch.features.shape[1]]  # it drops what ends with the video
    np.testing.assert_array_equal(table[np.lexsort((table[:, 0], table[:, 2]))], tensors["post/det"][:, :3])


def test_phases() -> None:
    model = EmMil(EmMilOptions(), 2, 2)
    assert [epoch for epoch in range(65) if model.learns_keys(epoch)] == [*range(10, 20), *range(30, 65, 2)]
    assert [model.stage(epoch, 65) for epoch in (0, 19, 20, 64)] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("epoch", "learning"),
    [(0, {"classes", "video"}), (10, {"keys", "video"}), (20, {"classes", "video"}), (30, {"keys", "video"}),
     (44, {"keys", "video"}), (45, {"classes"}), (46, {"keys"})],
)  # fmt: skip
def test_a_step_changes_the_learning_networks_alone(epoch: int, learning: set[str]) -> None:
    torch.manual_seed(0)
    model = EmMil(EmMilOptions(hidden=4), 6, 3)
    batch = Batch(torch.rand(1, 20, 6), torch.tensor([[1.0, 0.0, 1.0]]), ("v",))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.start_epoch(epoch, 65)
    (optimizer,) = model.optimizers(TrainSpec(epochs=65, learning_rate=1e-2))
    model.losses(batch)["total"].backward()
    optimizer.step()
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == learning


def test_learning_rates() -> None:
    model = EmMil(EmMilOptions(), 2, 2)
    train = TrainSpec(epochs=65)
    rates = {}
    for epoch in (0, 20):
        model.start_epoch(epoch, 65)
        (optimizer,) = model.optimizers(train)
        rates[epoch] = [group["lr"] for group in optimizer.param_groups]
        given = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
        assert sorted(given) == sorted(map(id, model.parameters()))
    assert rates == {0: [1e-4, 1e-4], 20: pytest.approx([1e-4, 4e-4])}  # the video network's first


def test_all_parameters_are_counted_in_the_end() -> None:
    model = EmMil(EmMilOptions(streams=(1024, 1024)), 2048, 20)
    count = model.parameter_count()
    hidden = 3 * 1024 * 256 + 256
    assert count == 2 * (2 * hidden + 257 + 257 * 20) + 2 * (1024 + 1025 * 20)
    model.start_epoch(50, 65)
    model.end_training()
    assert model.parameter_count() == count


def test_picked_by_hand() -> None:
    # mean .5, range .8: above .5 + .15 x .8 = .62
    key = torch.tensor([[[0.1], [0.9], [0.6], [0.4]]])
    assert picked(key, 0.15).flatten().tolist() == [0, 1, 0, 0]
    assert picked(key, 0.1).flatten().tolist() == [0, 1, 1, 0]
    assert picked(torch.full((1, 3, 1), 0.5), 0.0).sum().item() == 0


def test_above_average_by_hand() -> None:
    classes = torch.tensor([[[0.9, 0.2, 0.1], [0.1, 0.2, 0.9], [0.2, 0.8, 0.1]]])
    for labels, expected in {(1, 0, 0): [1, 0, 0], (1, 1, 0): [1, 0, 1], (0, 0, 0): [0, 0, 0]}.items():
        found = above_average(classes, torch.tensor([labels], dtype=torch.float32))
        assert found.flatten().tolist() == expected


def test_snippet_loss_by_hand() -> None:
    # two streams of one video: probabilities 1/2 everywhere but .8 once, where the target is 1
    logits = torch.zeros(2, 1, 2, 3)
    logits[0, 0, 1, 2] = math.log(4)
    targets = torch.zeros(1, 2, 3)
    targets[0, 1, 2] = 1
    expected = (11 * math.log(2) - math.log(0.8)) / 2
    assert snippet_loss(logits, targets, torch.ones(1, 3)).item() == pytest.approx(expected)
    assert snippet_loss(logits, targets, torch.zeros(1, 3)).item() == 0


def test_relative_by_hand() -> None:
    scores = torch.tensor([[0.1, 0.3], [0.5, 0.3], [0.3, 0.3]])
    np.testing.assert_allclose(relative(scores), [[-0.5, 0], [0.5, 0], [0, 0]], atol=1e-6)


def test_a_video_in_a_batch_has_the_loss_that_it_has_alone() -> None:
    torch.manual_seed(0)
    model = EmMil(EmMilOptions(streams=(4, 2), hidden=4), 6, 3)
    features, labels = torch.rand(3, 20, 6), torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    for epoch in STEPS.values():
        model.start_epoch(epoch, 65)
        alone = [model.losses(Batch(features[[i]], labels[[i]], ("v",))) for i in range(3)]
        together = model.losses(Batch(features, labels, tuple("abc")))
        for name, value in together.items():
            torch.testing.assert_close(value, torch.stack([one[name] for one in alone]).mean())
        assert alone[2]["total"].item() == 0


def test_detections_are_ranked_by_video_score_and_mean_score() -> None:
    mixed = np.array([[0.1], [0.7], [0.9], [0.1], [0.6], [0.1]])
    signals = {"mixed": mixed, "relative": relative(torch.from_numpy(mixed)).numpy()}
    found = localize([SnippetScores("v", signals, np.array([0.4]), 0.64)], LOCALIZER, ("jump",))
    assert found.start.tolist() == pytest.approx([0.64, 4 * 0.64])
    assert found.score.tolist() == pytest.approx([0.4 + 0.8, 0.4 + 0.6])
    assert len(localize([SnippetScores("v", signals, np.array([0.14]), 0.64)], LOCALIZER, ("jump",))) == 0


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_constant_scores_give_no_detection(rows: int) -> None:
    scores = torch.full((rows, 2), 0.1) * torch.tensor([1.0, 7.0])
    assert (relative(scores) == 0).all()


def close(actual: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-7)
