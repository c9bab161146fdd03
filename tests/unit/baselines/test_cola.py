"""CoLA against tensors recorded from its released code, SciPy's morphology and formulas by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage

from baselines.cola import ACTIVITYNET_OPTIONS, Cola, ColaOptions, dilate, erode, rings, select, snippet_contrast
from tests.helpers.localizing import hard_nms
from wstal.localize import Nms, localize
from wstal.types import Batch, Detections, SnippetScores

CLASSES = tuple(f"class {number}" for number in range(20))
LAYERS = {"embedding": "actionness_module.f_embed.0", "classifier.0": "actionness_module.f_cls.0"}


@pytest.fixture
def recorded(shared: Path) -> tuple[Cola, Batch, dict[str, np.ndarray]]:
    tensors = dict(np.load(shared / "fixtures" / "cola_small_parity.npz"))
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"]).float()
    model = Cola(ColaOptions(), features.shape[2], labels.shape[1]).eval()
    model.load_state_dict(
        {
            name: torch.from_numpy(tensors[f"sd/{LAYERS[layer]}.{part}"])
            for name in model.state_dict()
            for layer, part in [name.rsplit(".", 1)]
        }
    )
    return model, Batch(features, labels, tuple("abc")), tensors


def test_forward_and_mining_equal_the_released_code(recorded) -> None:
    model, batch, expected = recorded
    with torch.no_grad():
        embedded = model.embed(batch.features)
        cas = model.classify(embedded)
        close(embedded, expected["out/embedding"])
        close(cas, expected["out/cas"])
        close(cas.sum(dim=2), expected["out/actionness"])
        close(model._video_scores(cas), expected["out/video_scores"])
        inner, outer = rings(cas.sum(dim=2), 3, 6)
        np.testing.assert_array_equal(inner, expected["out/inner_ring"])
        np.testing.assert_array_equal(outer, expected["out/outer_ring"])
        mined = dict(
            zip(("EA", "EB", "HA", "HB"), model._easy(embedded, cas) + model._hard(embedded, cas), strict=True)
        )
    for name, found in mined.items():
        close(found, expected[f"out/{name}"])


def test_losses_and_gradients_equal_the_released_code(recorded) -> None:
    model, batch, expected = recorded
    losses = model.losses(batch)
    close(losses["classification"], expected["loss/action"])
    close(losses["hard_action"], expected["loss/nce_HA"])
    close(losses["hard_background"], expected["loss/nce_HB"])
    close(losses["hard_action"] + losses["hard_background"], expected["loss/snico"])
    close(losses["total"], expected["loss/total"])
    same_gradients(model, losses["total"], expected, "grad")


def test_easy_mask_acts_where_it_does_in_the_released_code(recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, expected = recorded
    monkeypatch.setattr(model, "_easy_mask", lambda actionness: torch.from_numpy(expected["input/easy_mask"]))
    embedded = model.embed(batch.features)
    action, background = model._easy(embedded, model.classify(embedded))
    close(action.detach(), expected["out_masked/EA"])
    close(background.detach(), expected["out_masked/EB"])
    losses = model.losses(batch)
    close(losses["hard_action"] + losses["hard_background"], expected["loss_masked/snico"])
    close(losses["total"], expected["loss_masked/total"])
    same_gradients(model, losses["total"], expected, "grad_masked")


def recorded_scores(model: Cola, expected: dict[str, np.ndarray], case: str) -> SnippetScores:
    """Signals made by the method of the recorded CAS; recorded class probabilities."""
    cas = torch.from_numpy(expected[f"{case}/cas"][0])
    close(cas.sum(dim=1), expected[f"{case}/actionness"][0])
    signals = {name: signal.numpy() for name, signal in model.scores(cas).signals.items()}
    seconds = 16 * float(expected[f"{case}/vid_num_seg"]) / (25 * len(cas))
    return SnippetScores("v", signals, expected[f"{case}/video_scores"][0], seconds)


def test_detections_equal_the_released_code(recorded) -> None:
    model, _, expected = recorded
    spec = Cola.recipe("thumos14").localizer
    same_rows(table(localize([recorded_scores(model, expected, "post")], spec, CLASSES)), expected["post/det"])


@pytest.mark.parametrize("case", ["post", "post_fallback"])
def test_some_order_of_equal_scores_gives_the_released_detections(recorded, case: str) -> None:
    model, _, expected = recorded
    spec, det = Cola.recipe("thumos14").localizer, expected[f"{case}/det"]
    scores = recorded_scores(model, expected, case)
    rows = table(localize([scores], spec.model_copy(update={"nms": Nms()}), CLASSES))
    assert set(rows[:, 0]) == set(expected[f"{case}/pred_classes"])
    # where the clipped CAS is 0, runs of the actionness have one and the same score, and the released code leaves their
    # order to an unstable sort: put those first that it kept
    kept = (np.abs(rows[:, None] - det).max(axis=2) < 1e-6).any(axis=1)
    label = rows[:, 0].astype(np.int64)
    stays = hard_nms(
        rows[:, 2], rows[:, 3], rows[:, 1] + 1e-9 * kept, label, threshold=spec.nms.threshold, kind="iou", plus=1.0
    )
    same_rows(rows[stays], det)


@pytest.mark.parametrize("length", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("time", [1, 2, 5, 40])
def test_erosion_and_dilation_are_scipys(length: int, time: int) -> None:
    rng = np.random.default_rng(length)
    element = np.ones(length)
    for share in (0.0, 0.5, 0.8, 1.0):
        binary = (rng.random((6, time)) < share).astype(np.float32)
        eroded = [ndimage.binary_erosion(row, structure=element) for row in binary]
        dilated = [ndimage.binary_dilation(row, structure=element) for row in binary]
        np.testing.assert_array_equal(erode(torch.from_numpy(binary), length), np.array(eroded))
        np.testing.assert_array_equal(dilate(torch.from_numpy(binary), length), np.array(dilated))


def test_rings_of_one_run_by_hand() -> None:
    # active 8 to 15; 3 takes one snippet from either end or adds it, 6 takes three and two, or adds three and two
    actionness = torch.zeros(1, 32)
    actionness[0, 8:16] = 1.0
    inner, outer = rings(actionness, 3, 6)
    assert inner[0].nonzero().flatten().tolist() == [9, 10, 14]
    assert outer[0].nonzero().flatten().tolist() == [5, 6, 17]


@pytest.mark.parametrize(
    ("values", "active"), [([1.0, 2.0, 3.0, 4.0], [2, 3]), ([1.0, 2.0, 3.0], [2]), ([5.0, 5.0, 5.0, 5.0], [])]
)
def test_active_is_above_the_median(values: list[float], active: list[int]) -> None:
    inner, _ = rings(torch.tensor([values]), 1, 99)  # nothing outlives an erosion by 99
    assert inner[0].nonzero().flatten().tolist() == active


def test_a_short_ring_is_filled_with_the_earliest() -> None:
    embedded = torch.arange(5.0).reshape(1, 5, 1)
    assert select(embedded, torch.tensor([[0.0, 0.0, 0.0, 2.0, 0.0]]), 3).flatten().tolist() == [3.0, 0.0, 1.0]


def test_contrast_by_hand() -> None:
    # query along x, positive at 60 degrees, negatives along x and y: cosines 1/2, 1, 0
    query = torch.tensor([[[3.0, 1.0], [1.0, -1.0]]])
    positive = torch.tensor([[[0.5, 3**0.5 / 2]]])
    negatives = torch.tensor([[[2.0, 0.0], [0.0, 0.1]]])
    expected = -np.log(np.exp(1) / (np.exp(1) + np.exp(2) + 1))
    assert snippet_contrast(query, positive, negatives, 0.5).item() == pytest.approx(expected)


def test_dropout_in_training() -> None:
    torch.manual_seed(0)
    model = Cola(ColaOptions(), 64, 64)
    torch.nn.init.dirac_(model.classifier[0].weight)
    cas = model.classify(torch.ones(4, 500, 64))
    assert (cas == 0).float().mean().item() == pytest.approx(0.7, abs=0.01)
    assert cas.max().item() == pytest.approx(1 / 0.3, rel=1e-5)
    mask = model._easy_mask(torch.rand(40, 500))
    assert mask.unique().tolist() == pytest.approx([0.0, 2.5])
    assert (mask == 0).float().mean().item() == pytest.approx(0.6, abs=0.01)
    # the contrast's embeddings pass none
    features = torch.rand(2, 9, 64)
    assert torch.equal(model.embed(features), model.embed(features))
    model.eval()
    assert torch.equal(model.classify(features), model.classify(features))
    assert bool((model._easy_mask(torch.rand(2, 9)) == 1).all())


def test_sizes_by_formula() -> None:
    with torch.device("meta"):
        thumos = Cola(ColaOptions(), 2048, 20)
        activitynet = Cola(ACTIVITYNET_OPTIONS, 2048, 100)
    assert thumos.parameter_count() == 3 * 2048**2 + 2048 + 20 * 2048
    assert activitynet.parameter_count() == 9 * 2048**2 + 2048 + 9 * 2048 * 100 + 7 * 100


def test_activitynets_network_reaches_14_snippets_and_keeps_the_length() -> None:
    torch.manual_seed(0)
    model = Cola(ACTIVITYNET_OPTIONS, 6, 3).double().eval()
    features = torch.rand(1, 50, 6, dtype=torch.float64, requires_grad=True)
    cas = model.classifier(model.embed(features))  # before the ReLU, which may hide a path
    assert cas.shape == (1, 50, 3)
    cas[0, 25].sum().backward()
    touched = features.grad[0].abs().sum(dim=1).nonzero().flatten()
    assert (touched.min().item(), touched.max().item()) == (25 - 14, 25 + 14)  # 4 + 4 + 2 * 3


def test_activitynets_recipe_scales_the_classification_loss() -> None:
    recipe = Cola.recipe("activitynet12")
    assert recipe.train.epochs * -(-4819 // recipe.train.batch_size) == pytest.approx(100_000, rel=1e-3)
    torch.manual_seed(0)
    batch = Batch(torch.rand(2, 50, 6), torch.eye(2), ("a", "b"))
    torch.manual_seed(0)
    losses = Cola(recipe.method, 6, 2).eval().losses(batch)
    expected = 10 * losses["classification"] + 0.005 * (losses["hard_action"] + losses["hard_background"])
    torch.testing.assert_close(losses["total"], expected)


def test_thresholds_are_the_released_ones() -> None:
    for family, last in (("thumos14", 0.225), ("activitynet12", 0.135)):
        zero, higher, actionness = Cola.recipe(family).localizer.sources
        np.testing.assert_allclose(zero.thresholds + higher.thresholds, np.linspace(0, last, 10), atol=1e-12)
        np.testing.assert_allclose(actionness.thresholds, np.linspace(0.1, 0.9, 33), atol=1e-12)


def test_widths_without_a_ring_are_refused() -> None:
    with pytest.raises(ValidationError, match="inner_width 6 and outer_width 6 leave no ring"):
        ColaOptions(inner_width=6)


def same_gradients(model: Cola, loss: torch.Tensor, expected: dict[str, np.ndarray], key: str) -> None:
    model.zero_grad()
    loss.backward()
    for name, parameter in model.named_parameters():
        layer, part = name.rsplit(".", 1)
        norm, total = expected[f"{key}/{LAYERS[layer]}.{part}"]
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        assert parameter.grad.double().sum().item() == pytest.approx(
            total, rel=1e-5, abs=1e-6 * norm * parameter.numel()
        )


def table(found: Detections) -> np.ndarray:
    """`[N, 4]` class, score, start, end."""
    return np.stack([found.label, found.score, found.start, found.end], axis=1)


def same_rows(found: np.ndarray, expected: np.ndarray) -> None:
    """Scores of the released code, which subtracts rows in single precision, are 1e-8 off."""
    found, expected = (rows[np.lexsort((rows[:, 3], rows[:, 2], rows[:, 0]))] for rows in (found, expected))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=0, atol=1e-7)
    np.testing.assert_allclose(found[:, [0, 2, 3]], expected[:, [0, 2, 3]], rtol=1e-14, atol=0)


def close(actual: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-8)
