"""ACM-Net against tensors recorded from its released code, and against its sheet's facts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.acmnet import ACTIVITYNET_OPTIONS, AcmNet, AcmNetOptions, feature_norm_loss, guide_loss
from wstal.types import Batch

CASES = {
    "thumos": ("acmnet_small_parity.npz", AcmNetOptions(), "feature_embedding.0"),
    "activitynet": ("acmnet_anet_small_parity.npz", ACTIVITYNET_OPTIONS, "feature_embedding.1"),
}
LOSSES = {
    "instance": "act_inst_loss",
    "context": "act_cont_loss",
    "background": "act_back_loss",
    "guide": "guide_loss",
    "feature": "feat_loss",
    "sparse": "sparse_loss",
    "total": "total",
}


@pytest.fixture(params=CASES)
def recorded(request: pytest.FixtureRequest, shared: Path) -> tuple[AcmNet, Batch, dict[str, np.ndarray], str]:
    file, options, embedding = CASES[request.param]
    tensors = dict(np.load(shared / "fixtures" / file))
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    model = AcmNet(options, features.shape[2], labels.shape[1]).eval()
    names = {"embedding": embedding, "attention": "att_branch", "classifier": "snippet_cls"}
    state = {
        f"{ours}.{part}": torch.from_numpy(tensors[f"sd/{theirs}.{part}"])
        for ours, theirs in names.items()
        for part in ("weight", "bias")
    }
    model.load_state_dict(state)
    return model, Batch(features, labels, ("a", "b", "c")), tensors, embedding


def test_forward_equals_the_released_code(recorded) -> None:
    model, batch, expected, _ = recorded
    with torch.no_grad():
        embedded = model.embed(batch.features)
        attention = model.attend(embedded)
        cas = model.classify(embedded)
        for kind, name in enumerate(("inst", "cont", "back")):
            weighted = (cas * attention[..., kind : kind + 1]).softmax(-1)
            close(weighted, expected[f"out/{name}_cas"])
            close(model._video_log_scores(cas, attention, kind).exp(), expected[f"out/{name}_cls"])
            close(model._pooled_feature(embedded, attention, kind), expected[f"out/{name}_feat"])
        close(attention, expected["out/att"])
        close(cas.softmax(-1), expected["out/cas"])


def test_score_gives_the_instance_branch_without_background(recorded) -> None:
    model, batch, expected, _ = recorded
    with torch.no_grad():
        scores = model.score(batch.features[1])
        signals, video_scores = scores.signals, scores.video_scores
    close(signals["cas"], expected["out/inst_cas"][1, :, :-1])
    close(signals["attention"], expected["out/att"][1, :, 0])
    close(video_scores, expected["out/inst_cls"][1, :-1])


def test_losses_and_gradients_equal_the_released_code(recorded) -> None:
    model, batch, expected, embedding = recorded
    losses = model.losses(batch)
    for ours, theirs in LOSSES.items():
        close(losses[ours], expected[f"loss/{theirs}"][0])
    losses["total"].backward()
    for ours, theirs in {"embedding": embedding, "attention": "att_branch", "classifier": "snippet_cls"}.items():
        for part in ("weight", "bias"):
            gradient = model.get_parameter(f"{ours}.{part}").grad
            norm, _ = expected[f"grad/{theirs}.{part}"]
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-5)
            # a sum of signed entries cancels: bound its error by the norm's scale
            total = expected[f"grad/{theirs}.{part}"][1]
            assert gradient.double().sum().item() == pytest.approx(total, rel=1e-5, abs=1e-6 * norm * gradient.numel())


@pytest.mark.parametrize(
    ("dataset", "classes", "parameters"), [("thumos14", 20, 12_634_136), ("activitynet13", 200, 13_002_956)]
)
def test_parameter_count_is_the_published_one(dataset: str, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        model = AcmNet(AcmNet.recipe(dataset).method, 2048, classes)
    assert model.parameter_count() == parameters


def test_full_size_losses_equal_the_sheet() -> None:
    torch.manual_seed(0)
    model = AcmNet(AcmNetOptions(), 2048, 20).eval()
    rng = np.random.Generator(np.random.PCG64(0))
    features = torch.from_numpy((np.abs(rng.standard_normal((2, 100, 2048))) * 0.5).astype(np.float32))
    with torch.no_grad():
        attention = model.attend(model.embed(features))
    # ||out/att|| of the full-size recording, whose inputs and weights both come from seed 0
    assert attention.norm().item() == pytest.approx(8.194849, rel=1e-4)


def test_guide_loss_by_hand() -> None:
    # one snippet, logits equal for 1 class + background: s = 1/2, W_ins = .25 -> |1 - .5 - .25| = .25
    cas = torch.zeros(1, 1, 2)
    attention = torch.tensor([[[0.25, 0.5, 0.25]]])
    assert guide_loss(cas, attention).item() == pytest.approx(0.25)


def test_feature_norm_loss_by_hand() -> None:
    # norms 60, 20, 5: [50-60+20]+ = 10, [50-20+5]+ = 35, + 5 -> 50^2
    pooled = [torch.tensor([[norm, 0.0]]) for norm in (60.0, 20.0, 5.0)]
    assert feature_norm_loss(*pooled).item() == pytest.approx(2500.0)


def test_dropout_hides_whole_snippets_and_most_inputs_in_training() -> None:
    torch.manual_seed(0)
    model = AcmNet(AcmNetOptions(), 64, 3)
    torch.nn.init.eye_(model.classifier.weight)
    torch.nn.init.zeros_(model.classifier.bias)
    cas = model.classify(torch.ones(4, 500, 64))
    hidden = (cas == 0).all(dim=-1).float().mean().item()
    # a snippet survives with .3; its 4 diagonal inputs are then all dropped with .7^4
    assert hidden == pytest.approx(0.7 + 0.3 * 0.7**4, abs=0.03)
    # survivors are scaled twice
    assert cas.max().item() == pytest.approx(1 / 0.09, rel=1e-5)


def test_evaluation_mode_has_no_dropout() -> None:
    model = AcmNet(ACTIVITYNET_OPTIONS, 8, 3).eval()
    features = torch.rand(5, 8)
    first, second = model.score(features).signals, model.score(features).signals
    assert all(torch.equal(first[name], second[name]) for name in first)


def close(actual: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-8)
