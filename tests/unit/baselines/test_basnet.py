"""BaS-Net against tensors recorded from its released code, and against its paper's facts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.basnet import BasNet, BasNetOptions
from wstal.localize import localize
from wstal.types import Batch, Snippets, SnippetScores

LAYERS = {
    "filter.0": "filter_module.conv_1.0",
    "filter.2": "filter_module.conv_2.0",
    "embedding.0": "cas_module.conv_1.0",
    "embedding.2": "cas_module.conv_2.0",
    "classifier": "cas_module.conv_3.0",
}
LOSSES = {"base": "loss_base", "suppression": "loss_supp", "sparse": "loss_norm", "total": "loss_total"}


@pytest.fixture
def recorded(shared: Path) -> tuple[BasNet, Batch, dict[str, np.ndarray]]:
    tensors = dict(np.load(shared / "fixtures" / "basnet_small_parity.npz"))
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    width = len(tensors["sd/filter_module.conv_1.0.bias"])
    model = BasNet(BasNetOptions(filter_width=width), features.shape[2], labels.shape[1]).eval()
    # where ours is linear, theirs is a convolution of width 1
    state = {
        name: torch.from_numpy(tensors[f"sd/{theirs(name)}"]).reshape(value.shape)
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model, Batch(features, labels, tuple("abc")), tensors


def test_both_passes_equal_the_released_code(recorded) -> None:
    model, batch, expected = recorded
    with torch.no_grad():
        passed = model.snippets(batch.features)
        base = model.classify(model.embed(batch.features))
        close(passed.attention, expected["out/fore_weights"])
        close(passed.cas, expected["out/cas_supp"])
        close(base, expected["out/cas_base"])
        close(model._video_scores(passed.cas), expected["out/score_supp"])
        close(model._video_scores(base), expected["out/score_base"])


def test_score_is_the_suppression_pass_without_background(recorded) -> None:
    model, batch, expected = recorded
    with torch.no_grad():
        scores = model.score(batch.features[1])
    close(scores.signals["cas"], torch.from_numpy(expected["out/cas_supp"][1]).softmax(-1)[:, :-1].numpy())
    close(scores.signals["attention"], expected["out/fore_weights"][1, :, 0])
    close(scores.video_scores, expected["out/score_supp"][1, :-1])


def test_losses_and_gradients_equal_the_released_code(recorded) -> None:
    model, batch, expected = recorded
    losses = model.losses(batch)
    assert losses.keys() == LOSSES.keys()
    for ours, recorded_name in LOSSES.items():
        close(losses[ours], expected[f"loss/{recorded_name}"][0])
    losses["total"].backward()
    for name, parameter in model.named_parameters():
        norm, total = expected[f"grad/{theirs(name)}"]
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        assert parameter.grad.double().sum().item() == pytest.approx(
            total, rel=1e-5, abs=1e-6 * norm * parameter.numel()
        )


@pytest.mark.shared
def test_detections_equal_the_released_code(shared: Path) -> None:
    expected = dict(np.load(shared / "fixtures" / "postproc_parity.npz"))
    cas = torch.from_numpy(expected["bas/cas_supp"])
    actions = cas.shape[2] - 1
    model = BasNet(BasNetOptions(), 4, actions)
    signals = model.snippet_scores(Snippets(torch.zeros(1, 1, 4), torch.zeros(1, cas.shape[1], 1), cas)).signals
    settings = BasNet.recipe("thumos14").localizer
    seconds = 16 * float(expected["bas/vid_len"]) / (25 * cas.shape[1])
    found = localize(
        [SnippetScores("v", {name: one.numpy() for name, one in signals.items()}, expected["bas/score_supp"], seconds)],
        settings,
        tuple(map(str, range(actions))),
    )
    # theirs has 0.2 times a class score that is 1 by then
    rows = np.stack([found.label, found.score + 0.2, found.start, found.end], axis=1)
    assert rows.shape == expected["bas/det"].shape
    np.testing.assert_array_equal(rows[:, 0], expected["bas/det"][:, 0])
    np.testing.assert_allclose(rows[:, 1], expected["bas/det"][:, 1], rtol=0, atol=1e-7)
    np.testing.assert_allclose(rows[:, 2:], expected["bas/det"][:, 2:], rtol=1e-14, atol=0)


def test_no_class_above_the_threshold_is_no_detection() -> None:
    settings = BasNet.recipe("thumos14").localizer
    signals = {"normalized": np.tile([0.0, 1.0, 1.0, 0.0], (2, 1)).T}
    for probability, found in ((0.24, 0), (0.25, 1)):
        scores = SnippetScores("v", signals, np.array([probability, 0.1]), 0.64)
        assert len(localize([scores], settings, ("first", "second"))) == found  # the first class is like any other


def test_full_size_parameters_are_the_published_ones() -> None:
    with torch.device("meta"):
        model = BasNet(BasNetOptions(), 2048, 20)
    assert sum(parameter.numel() for parameter in model.filter.parameters()) == 1_049_601
    assert model.parameter_count() == 26_262_529


def test_full_size_pass_equals_the_recorded_norms() -> None:
    torch.manual_seed(0)
    model = BasNet(BasNetOptions(), 2048, 20).eval()
    rng = np.random.Generator(np.random.PCG64(0))
    features = torch.from_numpy((np.abs(rng.standard_normal((2, 64, 2048))) * 0.5).astype(np.float32))
    with torch.no_grad():
        passed = model.snippets(features)
        base = model.classify(model.embed(features))
    # norms of the full-size recording, whose inputs and weights both come from seed 0
    assert passed.attention.norm().item() == pytest.approx(5.500175, rel=1e-4)
    assert passed.cas.norm().item() == pytest.approx(1.104117, rel=1e-4)
    assert base.norm().item() == pytest.approx(2.207614, rel=1e-4)
    assert passed.attention.sum(dim=(1, 2)).mean().item() == pytest.approx(31.091545, rel=1e-4)


def test_classification_by_hand() -> None:
    model = BasNet(BasNetOptions(), 4, 1)
    # two classes with equal logits: p = 1/2, whatever the targets, costs log 2 for each
    cas = torch.zeros(2, 9, 2)
    value = model.classification_loss(cas, torch.zeros(2, 9, 1), torch.ones(2, 1))
    assert value.item() == pytest.approx(np.log(2))
    # logits log 3 and 0: p = 3/4, 1/4 against 1, 0
    cas[..., 0] = np.log(3)
    value = model.classification_loss(cas, torch.zeros(2, 9, 1), torch.ones(2, 1))
    assert value.item() == pytest.approx(-np.log(0.75))


def test_background_is_where_the_filter_is_shut() -> None:
    model, cas = BasNet(BasNetOptions(), 4, 2), torch.randn(1, 3, 3)
    weights = torch.tensor([0.5, 0.1, 1.0]).reshape(1, 3, 1)
    action, background = model.branch_cas(cas, weights)
    assert torch.equal(action, cas)
    assert torch.equal(background[..., :2], cas[..., :2])
    assert background[0, :2, 2].sigmoid().tolist() == pytest.approx([0.5, 0.9])
    assert background.isfinite().all()


def test_dropout_hides_inputs_of_the_last_layer_in_training_only() -> None:
    torch.manual_seed(0)
    model = BasNet(BasNetOptions(), 64, 63)
    torch.nn.init.eye_(model.classifier.weight)
    cas = model.classify(torch.ones(4, 500, 64))
    assert (cas == 0).float().mean().item() == pytest.approx(0.7, abs=0.01)
    assert cas.max().item() == pytest.approx(1 / 0.3, rel=1e-5)
    features = torch.rand(2, 30, 64)
    passed, again = model.snippets(features), model.snippets(features)
    # the embedding and the filter see none
    assert torch.equal(passed.embedded, again.embedded)
    assert torch.equal(passed.attention, again.attention)
    model.eval()
    assert torch.equal(model.snippets(features).cas, model.snippets(features).cas)


def test_every_video_gives_as_many_rows() -> None:
    model, rng = BasNet(BasNetOptions(), 4, 2), np.random.default_rng(0)
    for length in (1, 30, 1300):
        assert len(model.test_indices(length, 750)) == 750
        rows = model.train_indices(length, 750, rng)
        assert len(rows) == 750
        assert rows.max() < length


def theirs(name: str) -> str:
    """The released code's name of a parameter."""
    layer, part = name.rsplit(".", 1)
    return f"{LAYERS[layer]}.{part}"


def close(actual: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-8)
