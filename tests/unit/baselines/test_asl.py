"""ASL against tensors recorded from its released code, and against its formulas worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from baselines.asl import Asl, AslOptions, generalized_cross_entropy, pseudo_labels, selection_scores, video_logits
from wstal.errors import UserError
from wstal.localize import Nms, localize
from wstal.types import Batch, SnippetScores

FIXTURE = "asl_small_parity"
MODULES = {"classifier": "base_module", "actionness.0": "action_module_rgb", "actionness.1": "action_module_flow"}
PARAMETERS = {
    f"{ours}.{layer}.{part}": f"{theirs}.{layer}.{part}"
    for ours, theirs in MODULES.items()
    for layer in (0, 2)
    for part in ("weight", "bias")
}
STREAMS = ("rgb", "flow")
STREAM_KEYS = tuple(f"actionness_{name}" for name in STREAMS)


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / f"{FIXTURE}.npz"))


@pytest.fixture
def recorded(tensors: dict[str, np.ndarray]) -> tuple[Asl, Batch]:
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    options = AslOptions(
        streams=tuple(tensors[f"sd/action_module_{name}.0.weight"].shape[1] for name in STREAMS),
        hidden=len(tensors["sd/base_module.0.bias"]),
    )
    model = Asl(options, features.shape[2], labels.shape[1]).eval()
    # the released code's convolutions of width 1 are linear layers here
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    assert shapes.keys() == PARAMETERS.keys()
    state = {ours: torch.from_numpy(tensors[f"sd/{theirs}"]) for ours, theirs in PARAMETERS.items()}
    model.load_state_dict({name: value.reshape(shapes[name]) for name, value in state.items()})
    return model, Batch(features, labels, tuple(f"v{i}" for i in range(len(features))))


def test_forward_equals_the_released_code(recorded, tensors: dict[str, np.ndarray]) -> None:
    model, batch = recorded
    with torch.no_grad():
        cas, actionness = model.cas_and_actionness(batch.features)
        selection = selection_scores(cas, actionness)
        selected = model._select(selection)
        close(cas, tensors["out/cas"])
        for stream, key in enumerate(STREAM_KEYS):
            close(actionness[..., stream], tensors[f"out/{key}"])
        close(selection, tensors["out/combined"])
        np.testing.assert_array_equal(selected.numpy(), tensors["out/topk_indices"])
        close(video_logits(cas, selected), tensors["out/video_logits"])
        labels = pseudo_labels(selected, batch.labels, batch.features.shape[1])
        np.testing.assert_array_equal(labels.numpy(), tensors["out/pseudo_target"])


def test_losses_and_gradients_equal_the_released_code(recorded, tensors: dict[str, np.ndarray]) -> None:
    model, batch = recorded
    terms = model.losses(batch)
    close(terms["classification"], tensors["loss/ce"])
    close(terms["actionness"], tensors["loss/gce_rgb"] + tensors["loss/gce_flow"])
    close(terms["total"], tensors["loss/total"])
    terms["total"].backward()
    for ours, theirs in PARAMETERS.items():
        gradient = model.get_parameter(ours).grad
        norm, total = tensors[f"grad/{theirs}"]
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        assert gradient.double().sum().item() == pytest.approx(total, rel=1e-5, abs=1e-6 * norm * gradient.numel())


def test_the_loss_of_each_stream_equals_the_released_code(tensors: dict[str, np.ndarray]) -> None:
    actionness = torch.stack([torch.from_numpy(tensors[f"out/{key}"]) for key in STREAM_KEYS], dim=2)
    foreground = torch.from_numpy(tensors["out/pseudo_target"]).unsqueeze(2)
    losses = generalized_cross_entropy(actionness, foreground, AslOptions().q)
    close(losses, np.stack([tensors[f"loss/gce_{name}"] for name in STREAMS]))


@pytest.mark.parametrize("case", ["post", "post_fallback"])
@pytest.mark.parametrize("rows", ["det_soft", "det_hard"])
def test_detections_equal_the_released_code(tensors: dict[str, np.ndarray], case: str, rows: str) -> None:
    localizer = Asl.recipe("thumos14").localizer
    assert localizer.sources[0].thresholds == pytest.approx(np.arange(0.1, 1.0, 0.1))  # no score here reaches the last
    if rows == "det_hard":  # the released code without its flag for soft suppression
        localizer = localizer.model_copy(update={"nms": Nms(kind="hard", threshold=0.4, plus_one="second")})
    cas, *actionness = (torch.from_numpy(tensors[f"{case}/{name}"]) for name in ("cas", *STREAM_KEYS))
    selection = selection_scores(cas, torch.stack(actionness, dim=2))
    close(selection, tensors[f"{case}/combined"])
    selected = selection.topk(cas.shape[1] // 8, dim=1).indices
    video_scores = video_logits(cas, selected).softmax(dim=1)
    close(video_scores, tensors[f"{case}/video_scores"])

    seconds = 16 / 25 * float(tensors[f"{case}/vid_num_seg"]) / cas.shape[1]
    scores = SnippetScores("v", {"selection": selection[0].numpy()}, video_scores[0].numpy(), seconds)
    found = localize([scores], localizer, tuple(f"class {index}" for index in range(cas.shape[2])))
    table = np.stack([found.label, found.score, found.start, found.end], axis=1)
    expected = tensors[f"{case}/{rows}"]
    # the released code writes what survives and then what comes back; here all is by class and score
    expected = expected[np.lexsort((expected[:, 3], expected[:, 2], -expected[:, 1], expected[:, 0]))]
    assert table.shape == expected.shape
    np.testing.assert_array_equal(table[:, 0], expected[:, 0])
    np.testing.assert_allclose(table[:, 1], expected[:, 1], rtol=0, atol=5e-8)  # float32 scores in the released code
    np.testing.assert_allclose(table[:, 2:], expected[:, 2:], rtol=1e-14, atol=0)


def test_parameter_counts(recorded, shared: Path) -> None:
    model, _ = recorded
    assert model.parameter_count() == json.loads((shared / "fixtures" / f"{FIXTURE}.json").read_text())["params"]
    with torch.device("meta"):
        full = Asl(AslOptions(streams=(1024, 1024)), 2048, 20)
    # a classifier 2048-512-20 and two actionness heads 1024-512-1
    assert full.parameter_count() == 2049 * 512 + 513 * 20 + 2 * (1025 * 512 + 513)


def test_selection_score_by_hand() -> None:
    # softmax of (log 3, 0) is (.75, .25); with streams of .6 and .3: (.75 + .9) / 3 and (.25 + .9) / 3
    cas = torch.tensor([[[np.log(3.0), 0.0]]], dtype=torch.float32)
    close(selection_scores(cas, torch.tensor([[[0.6, 0.3]]])), np.array([[[0.55, 1.15 / 3]]]))
    close(selection_scores(cas, torch.tensor([[[0.5]]])), np.array([[[0.625, 0.375]]]))


def test_only_classes_of_the_video_give_pseudo_labels() -> None:
    # class 0 selects snippets 0 and 2, class 1 snippets 2 and 3
    selected = torch.tensor([[[0, 2], [2, 3]]]).expand(4, 2, 2)
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    expected = [[1, 0, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0]]
    assert pseudo_labels(selected, labels, 4).tolist() == expected


def test_generalized_cross_entropy_by_hand() -> None:
    actionness = torch.tensor([[[0.25], [0.64], [0.19]]])
    foreground = torch.tensor([[[1.0], [0.0], [0.0]]])
    # q = 1/2, cost 2 (1 - sqrt p): p = .25 -> 1; p = .36 and .81 -> .8 and .2, mean .5
    assert generalized_cross_entropy(actionness, foreground, 0.5).item() == pytest.approx(1.5, rel=1e-5)
    # q = 1: mean absolute error, .75 + (.64 + .19) / 2
    assert generalized_cross_entropy(actionness, foreground, 1.0).item() == pytest.approx(1.165, rel=1e-5)
    # q -> 0: cross-entropy
    expected = -np.log(0.25) - (np.log(0.36) + np.log(0.81)) / 2
    double = generalized_cross_entropy(actionness.double(), foreground.double(), 1e-6).item()
    assert double == pytest.approx(expected, rel=1e-5)
    # without a positive, the negatives alone
    assert generalized_cross_entropy(actionness, 0 * foreground, 1.0).item() == pytest.approx(0.36, rel=1e-5)


def test_classification_trains_the_classifier_alone_and_actionness_the_heads_alone() -> None:
    torch.manual_seed(0)
    model, batch = small(streams=(6, 2)), Batch(torch.rand(2, 40, 8), torch.eye(2, 3), ("a", "b"))
    for term, trained in (("classification", "classifier"), ("actionness", "actionness")):
        model.zero_grad()
        model.losses(batch)[term].backward()
        assert {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None} == {trained}


def test_a_head_sees_its_own_stream() -> None:
    torch.manual_seed(0)
    model, features = small(streams=(6, 2)), torch.rand(1, 5, 8)
    other = features.clone()
    other[..., 6:] = 0
    (_, before), (_, after) = model.cas_and_actionness(features), model.cas_and_actionness(other)
    assert torch.equal(before[..., 0], after[..., 0])
    assert not torch.isclose(before[..., 1], after[..., 1]).any()


@pytest.mark.parametrize("streams", [(), (6, 2), (2, 3, 3)])
def test_score_of_any_number_of_streams(streams: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, features = small(streams=streams), 4 * torch.rand(30, 8)
    with torch.no_grad():
        cas, actionness = (found[0].double().numpy() for found in model.cas_and_actionness(features[None]))
        scores = model.train().score(features)  # no dropout: the same as in evaluation
    softmax = np.exp(cas) / np.exp(cas).sum(axis=1, keepdims=True)
    selection = (softmax + actionness.sum(axis=1, keepdims=True)) / (1 + max(len(streams), 1))
    close(scores.signals["selection"], selection)
    close(scores.signals["attention"], actionness.mean(axis=1))
    close(scores.signals["cas"], softmax * actionness.mean(axis=1, keepdims=True))
    # k = 30 // 8: the 3 snippets that score best for a class are averaged over its logits
    logits = [cas[np.argsort(-selection[:, c])[:3], c].mean() for c in range(3)]
    close(scores.video_scores, np.exp(logits) / np.exp(logits).sum())


def test_rows_are_always_as_many_as_the_recipe_says() -> None:
    model, rng = small(), np.random.default_rng(0)
    for length in (1, 7, 750, 751, 2000):
        rows = model.test_indices(length, 750)
        assert rows.tolist() == [i * length // 750 for i in range(750)]
        drawn = model.train_indices(length, 750, rng)
        upper = [min((i + 1) * length // 750, length - 1) for i in range(750)]
        assert len(drawn) == 750
        assert (drawn >= rows).all()
        assert (drawn <= upper).all()


def test_wrong_options_are_the_users() -> None:
    with pytest.raises(UserError, match="5 columns, the features have 8"):
        small(streams=(3, 2))
    for q in (0.0, 1.1):
        with pytest.raises(ValidationError, match="q"):
            AslOptions(q=q)


def small(streams: tuple[int, ...] = ()) -> Asl:
    return Asl(AslOptions(streams=streams, hidden=16), 8, 3).eval()


def close(actual: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-8)
