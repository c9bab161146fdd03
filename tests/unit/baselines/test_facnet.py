"""FAC-Net against tensors recorded from its released code, published figures, and its post-processing as loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.facnet import FacNet, FacNetNetwork, FacNetNetworkOptions, FacNetOptions, _log
from tests.helpers.released import SECONDS, close, noise, plain_detections, plain_nms, same_rows
from wstal.localize import localize
from wstal.types import Batch, SnippetScores

LOSSES = {"class_wise": "cw", "class_agnostic": "ca", "mil": "mil", "total": "total"}
NAMES = {
    "embedding.0.weight": "feature_embedding.process.0.weight",
    "embedding.0.bias": "feature_embedding.process.0.bias",
    "embedding.3.weight": "feature_embedding.process.3.weight",
    "embedding.3.bias": "feature_embedding.process.3.bias",
    "vectors.classes": "ac_center",
    "vectors.foreground": "fg_center",
}


@pytest.fixture
def recorded(shared: Path) -> tuple[FacNetNetwork, Batch, dict[str, np.ndarray]]:
    tensors = dict(np.load(shared / "fixtures" / "facnet_small_parity.npz"))
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    model = FacNetNetwork(FacNetNetworkOptions(), features.shape[2], labels.shape[1]).eval()
    model.load_state_dict({ours: torch.from_numpy(tensors[f"sd/{theirs}"]) for ours, theirs in NAMES.items()})
    return model, Batch(features, labels, tuple("abc"[: len(features)])), tensors


def network(width: int = 8, classes: int = 3, seed: int = 0) -> FacNetNetwork:
    torch.manual_seed(seed)
    return FacNetNetwork(FacNetNetworkOptions(), width, classes).eval()


def test_forward_equals_the_released_code(recorded) -> None:
    model, batch, expected = recorded
    with torch.no_grad():
        snippets = model.snippets(batch.features)
        close(snippets.cas, expected["out/frm_scrs"], scale=5)
        close(model._class_agnostic(snippets).softmax(dim=-1), expected["out/ca_pred"])
        for video, features in enumerate(batch.features):
            scores = model.score(features)
            close(scores.video_scores, expected["out/ca_pred"][video, :-1])
            exponentials = np.exp(expected["out/frm_scrs"][video].astype(np.float64))
            close(scores.signals["cas"], (exponentials / exponentials.sum(axis=1, keepdims=True))[:, :-1])


def test_losses_and_gradients_equal_the_released_code(recorded) -> None:
    model, batch, expected = recorded
    losses = model.losses(batch)
    assert losses.keys() == LOSSES.keys()
    for ours, theirs in LOSSES.items():
        close(losses[ours], expected[f"loss/{theirs}"][0])
    losses["total"].backward()
    for ours, theirs in NAMES.items():
        gradient = model.get_parameter(ours).grad
        norm, total = expected[f"grad/{theirs}"]
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        assert gradient.double().sum().item() == pytest.approx(total, rel=1e-5, abs=1e-6 * norm * gradient.numel())


def test_full_size_losses_equal_the_recorded_ones() -> None:
    model = network(1024, 20)
    torch.manual_seed(0)  # the recording's inputs and weights both come from seed 0, drawn in the released order
    layers = [torch.nn.Linear(1024, 1024) for _ in range(2)]
    classes = torch.nn.init.xavier_uniform_(torch.empty(21, 1024))
    rng = np.random.Generator(np.random.PCG64(0))
    features = torch.from_numpy((np.abs(rng.standard_normal((1, 60, 1024))) * 0.5).astype(np.float32))
    labels = torch.zeros(1, 20)
    labels[0, [1, 7]] = 1
    with torch.no_grad():
        for place, layer in zip((0, 3), layers, strict=True):
            model.embedding[place].weight.copy_(torch.nn.init.xavier_uniform_(layer.weight))
        model.vectors.classes.copy_(classes)
        model.vectors.foreground.copy_(-classes[-1:])
        losses = model.losses(Batch(features, labels, ("a",)))
        assert model.snippets(features).cas.norm().item() == pytest.approx(5.509344, rel=1e-6)
    for name, value in {"class_wise": 3.045614, "class_agnostic": 2.965662, "mil": 3.111102, "total": 3.653291}.items():
        assert losses[name].item() == pytest.approx(value, abs=1e-6)


def test_parameter_count_is_the_published_one() -> None:
    with torch.device("meta"):
        model = FacNet(FacNetOptions(streams=(1024, 1024)), 2048, 20)
    assert [network.parameter_count() for network in model.networks] == [2_121_728] * 2


def test_streams_are_trained_and_scored_as_if_alone() -> None:
    torch.manual_seed(0)
    model = FacNet(FacNetOptions(streams=(6, 4)), 10, 3).eval()
    batch = Batch(torch.rand(2, 9, 10), torch.eye(3)[:2], ("a", "b"))
    alone = [
        model.networks[0].losses(Batch(batch.features[..., :6], batch.labels, batch.videos)),
        model.networks[1].losses(Batch(batch.features[..., 6:], batch.labels, batch.videos)),
    ]
    for name, value in model.losses(batch).items():
        torch.testing.assert_close(value, alone[0][name] + alone[1][name])
    scores, flow = model.score(batch.features[0]), model.networks[1].score(batch.features[0, :, 6:])
    assert torch.equal(scores.signals["stream1/cas"], flow.signals["cas"])
    assert torch.equal(scores.class_scores["stream1"], flow.video_scores)


def test_dropout_acts_after_both_layers_in_training() -> None:
    torch.manual_seed(0)
    model = FacNetNetwork(FacNetNetworkOptions(), 64, 3).train()
    for layer in (model.embedding[0], model.embedding[3]):
        torch.nn.init.eye_(layer.weight)
    embedded = model.embed(torch.ones(4, 500, 64))
    # an entry survives both with .5^2, scaled twice
    assert (embedded == 0).float().mean().item() == pytest.approx(0.75, abs=0.01)
    assert embedded.max().item() == pytest.approx(4.0)


def test_attention_is_the_softmax_over_time_up_to_its_maximum() -> None:
    model, features = network(), torch.rand(2, 6, 8)
    embedded = model.embed(features)
    attention = model.attend(embedded)
    assert torch.equal(attention.amax(dim=1), torch.ones(2, 1))
    cosine = torch.nn.functional.cosine_similarity(embedded, model.vectors.foreground, dim=-1)
    for temperature, made in zip((1.0, 2.0, 5.0), model._attentions(_log(attention)), strict=True):
        torch.testing.assert_close(made[..., 0], (temperature * 5 * cosine).softmax(dim=1))


def test_classification_loss_of_a_cas_by_loops() -> None:
    model = network(classes=2)
    generator = torch.Generator().manual_seed(1)
    cas = torch.randn(1, 4, 3, generator=generator, dtype=torch.float64)
    attention = torch.rand(1, 4, 1, generator=generator, dtype=torch.float64)
    a, g = cas[0].numpy(), np.log(attention[0, :, 0].numpy())
    logits = np.zeros((3, 3))  # head, class
    for temperature in (1.0, 2.0, 5.0):
        by_foreground = np.exp(temperature * g) / np.exp(temperature * g).sum()
        for c in range(3):
            by_class = np.exp(temperature * a[:, c]) / np.exp(temperature * a[:, c]).sum()
            logits[:, c] += 2 / 3 * np.array([by_class @ g, by_foreground @ a[:, c], by_class @ a[:, c]])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    # the video's class is 1; the last head's target is class 1 and background, half each
    expected = -(log_p[0, 1] + 0.1 * log_p[1, 1] + 0.1 * (log_p[2, 1] + log_p[2, 2]) / 2)
    loss = model.classification_loss(cas, attention, torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_classification_loss_is_the_networks_own_where_pooling_changes_no_angle() -> None:
    model = network()
    batch = Batch(torch.rand(2, 1, 8).expand(-1, 4, -1), torch.eye(3)[:2], ("a", "b"))
    snippets = model.snippets(batch.features)
    own = model.snippet_losses(snippets, batch.labels)["total"]
    torch.testing.assert_close(model.classification_loss(snippets.cas, snippets.attention, batch.labels), own)
    assert model.classification_loss(snippets.cas, torch.zeros_like(snippets.attention), batch.labels).isfinite()


def test_branches_share_out_the_softmax() -> None:
    cas, attention = torch.zeros(1, 2, 4), torch.tensor([[[1.0], [0.2]]])
    instance, background = network().branch_cas(cas, attention)
    torch.testing.assert_close(instance[0, :, 0], torch.tensor([0.25, 0.05]))
    torch.testing.assert_close(background[0, :, 3], torch.tensor([0.0, 0.2]))


@pytest.mark.parametrize("length", [1, 3])
def test_features_of_zeros_give_no_nan(length: int) -> None:
    model, features = network(), torch.rand(2, length, 8)
    features[0] = 0
    losses = model.losses(Batch(features, torch.eye(3)[:2], ("a", "b")))
    losses["total"].backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(signal.isfinite().all() for signal in model.score(features[0]).signals.values())


def test_videos_are_taken_whole_in_steps_of_ten() -> None:
    model, train = FacNet(FacNetOptions(), 8, 3), FacNet.recipe("thumos14").train
    assert np.array_equal(model.train_indices(2614, 750, np.random.default_rng(0)), np.arange(2614))
    assert np.array_equal(model.test_indices(2614, 750), np.arange(2614))
    assert (train.batch_size, train.epochs * 200 // train.accumulate) == (1, 2000)


@pytest.mark.parametrize("seed", range(5))
def test_detections_equal_plain_loops_over_one_stream(seed: int) -> None:
    spec = FacNetNetwork.recipe("thumos14").localizer
    cas, video_scores = noise(seed, 0.03, 0.05)
    expected = plain_detections(cas, video_scores, np.arange(0.03, 0.0505, 0.005), 3, 0.6, 0.2)
    assert len(expected) > 50
    same_rows(localize([SnippetScores("v", {"cas": cas}, video_scores, SECONDS)], spec, tuple("abc")), expected)


@pytest.mark.parametrize("seed", range(5))
def test_detections_equal_plain_loops_over_two_streams(seed: int) -> None:
    signals, class_scores, fused = {}, {}, []
    rng = np.random.default_rng(1)
    for number, weight in enumerate((0.1, 1.0)):
        cas, video_scores = noise(seed, 0.03, 0.05)
        cas += 0.002 * number * rng.standard_normal(cas.shape)  # streams mostly agree
        video_scores[number] = 0.05  # class 0 is flow's alone, class 1 RGB's, class 2 both have
        signals[f"stream{number}/cas"], class_scores[f"stream{number}"] = cas, video_scores
        thresholds = weight * np.arange(0.03, 0.0505, 0.005)
        fused += plain_detections(weight * cas, video_scores, thresholds, 3, 0.6, 0.2)
    both = plain_nms([row for row in fused if row[0] == 2], 0.9)
    assert 20 < len(both) < sum(row[0] == 2 for row in fused)
    scores = SnippetScores("v", signals, np.zeros(3), SECONDS, class_scores=class_scores)
    spec = FacNet.recipe("thumos14").localizer
    same_rows(localize([scores], spec, tuple("abc")), [row for row in fused if row[0] < 2] + both)
