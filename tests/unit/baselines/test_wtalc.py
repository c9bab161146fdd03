"""W-TALC against tensors recorded from its released code; its localizer against the rules written out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.wtalc import LOCALIZER, Wtalc, WtalcOptions
from wstal.localize import localize
from wstal.parts.padded import pooled_logits, rows_present
from wstal.types import Batch, SnippetScores

LAYERS = {"embedding": "fc", "classifier": "classifier"}


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / "wtalc_small_parity.npz"))


@pytest.fixture
def recorded(tensors: dict[str, np.ndarray]) -> tuple[Wtalc, Batch]:
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    model = Wtalc(WtalcOptions(), features.shape[2], labels.shape[1]).eval()
    model.load_state_dict(
        {
            f"{ours}.{part}": torch.from_numpy(tensors[f"sd/{theirs}.{part}"])
            for ours, theirs in LAYERS.items()
            for part in ("weight", "bias")
        }
    )
    return model, Batch(features, labels, tuple(map(str, range(len(labels)))))


def test_forward_equals_the_released_code(recorded, tensors) -> None:
    model, batch = recorded
    with torch.no_grad():
        embedded = model.embed(batch.features)
        close(embedded, tensors["out/feat"])
        close(model.classify(embedded), tensors["out/logits"])
    assert rows_present(batch.features).sum(dim=1).tolist() == tensors["input/len"].tolist()


@pytest.mark.parametrize("padding", [0, 13])
def test_losses_and_gradients_equal_the_released_code(recorded, tensors, padding: int) -> None:
    """With more rows of zeros too."""
    model, batch = recorded
    features = torch.nn.functional.pad(batch.features, (0, 0, 0, padding))
    losses = model.losses(Batch(features, batch.labels, batch.videos))
    for ours, theirs in {"classification": "mil", "coactivity": "casl", "total": "total"}.items():
        close(losses[ours], tensors[f"loss/{theirs}"][0])
    losses["total"].backward()
    for name, parameter in model.named_parameters():
        layer, part = name.split(".")
        norm, total = tensors[f"grad/{LAYERS[layer]}.{part}"]
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        slack = 1e-6 * norm * parameter.numel()
        assert parameter.grad.double().sum().item() == pytest.approx(total, rel=1e-5, abs=slack)


def test_parameter_counts(shared: Path) -> None:
    small = json.loads((shared / "fixtures" / "wtalc_small_parity.json").read_text())
    assert Wtalc(WtalcOptions(), small["D"], small["C"]).parameter_count() == small["params_used"]
    with torch.device("meta"):
        assert Wtalc(WtalcOptions(), 2048, 20).parameter_count() == 4_237_332


def test_pooled_logits_by_hand() -> None:
    logits = torch.tensor([[[5.0], [1.0], [3.0], [9.0]], [[5.0], [1.0], [3.0], [9.0]], [[-5.0], [1.0], [3.0], [9.0]]])
    features = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]]).unsqueeze(-1)
    # k = ceil(4 / 2), ceil(3 / 2), and 1 for a video of zeros, whose first row stands for it
    pooled = pooled_logits(logits, rows_present(features), 2)
    assert pooled[:, 0].tolist() == [7.0, 4.0, -5.0]


# --- localizer --------------------------------------------------------------------------------------------------------


def plain(logits: np.ndarray, seconds: float) -> list[tuple[int, float, float, float]]:
    """The released rules for one video, a class and a snippet at a time: class, score, start, end."""
    rows = []
    for label, values in enumerate(logits.T):
        video = np.sort(values)[::-1][: len(values) // 8].mean()
        if video <= 0:
            continue
        middle = 0.5 * (values.max() + values.min())
        first = None
        for row, value in enumerate([*values, -np.inf]):
            if value > middle and first is None:
                first = row
            elif value <= middle and first is not None:
                if row - first >= 2:
                    rows.append((label, values[first:row].max() + 0.7 * video, first * seconds, row * seconds))
                first = None
    return rows


@pytest.mark.parametrize("length", [8, 9, 40, 77])
def test_detections_follow_the_released_rules(length: int) -> None:
    rng = np.random.default_rng(length)
    logits = np.convolve(rng.standard_normal(length * 30), np.ones(3), mode="same").reshape(30, length).T
    logits = logits - np.linspace(0, 6, 30)  # the last classes are rejected
    logits[:, 0] = 1.0  # no range, no run
    scores = Wtalc(WtalcOptions(), 1, 30).scores(torch.from_numpy(logits))
    one = SnippetScores(
        "v",
        {name: signal.numpy() for name, signal in scores.signals.items()},
        scores.video_scores.numpy(),
        0.64,
        class_scores={name: value.numpy() for name, value in scores.class_scores.items()},
    )
    found = localize([one], LOCALIZER, tuple(map(str, range(30))))
    expected = plain(logits, 0.64)
    assert 0 < len(set(found.label.tolist())) < 29
    table = np.stack([found.label, found.score, found.start, found.end], axis=1)
    np.testing.assert_allclose(table[np.lexsort((table[:, 2], table[:, 0]))], expected, rtol=1e-12)


def test_common_signals_stand_between_a_classs_extremes_and_do_not_change_with_an_offset_of_all_logits() -> None:
    logits = torch.tensor([[-1.0, 2.0], [-3.0, -0.5], [0.0, -9.0]])
    method = Wtalc(WtalcOptions(), 1, 2)
    scores, moved = method.scores(logits), method.scores(logits + 5)
    close(scores.signals["cas"], np.array([[2 / 3, 1.0], [0.0, 8.5 / 11], [1.0, 0.0]]))
    p = np.exp([0.0, 2.0]) / np.exp([0.0, 2.0]).sum()
    close(scores.signals["attention"], np.array([[2 / 3, 1.0], [0.0, 8.5 / 11], [1.0, 0.0]]) @ p)
    for name in ("cas", "attention"):
        torch.testing.assert_close(moved.signals[name], scores.signals[name])
    # 3 rows: the best of each class alone
    close(scores.class_scores["logit"], np.array([0.0, 2.0]))
    close(scores.video_scores, np.exp([0.0, 2.0]) / np.exp([0.0, 2.0]).sum())


# --- training ---------------------------------------------------------------------------------------------------------


def test_dropout_hides_embedded_columns_from_classifier_and_coactivity_alike() -> None:
    torch.manual_seed(0)
    model = Wtalc(WtalcOptions(), 64, 3)
    torch.nn.init.ones_(model.embedding.bias)
    features = torch.rand(4, 200, 64)
    with torch.no_grad():
        whole = model.eval().embed(features)
        embedded = model.train().embed(features)
    assert ((embedded == 0) & (whole > 0)).sum().item() / (whole > 0).sum().item() == pytest.approx(0.7, abs=0.01)
    kept = embedded != 0
    torch.testing.assert_close(embedded[kept], whole[kept] / 0.3)


def test_layers_begin_within_xavier_uniform_bounds() -> None:
    torch.manual_seed(0)
    model = Wtalc(WtalcOptions(), 100, 50)
    for layer, bound in ((model.embedding, (6 / 200) ** 0.5), (model.classifier, (6 / 150) ** 0.5)):
        assert 0.99 * bound < layer.weight.abs().max().item() <= bound
        assert not layer.bias.any()


def test_a_batch_begins_with_pairs_of_a_class_of_neighbouring_rows() -> None:
    model = Wtalc(WtalcOptions(pairs=2), 1, 3)
    labels = [(0,), (0, 1), (1,), (2,), (2,)]
    rng = np.random.default_rng(0)
    batches = [batch for _ in range(20) for batch in model.train_batches(labels, 5, rng)]
    pairs = [tuple(batch[2 * pair : 2 * pair + 2]) for batch in batches for pair in range(model.pairs)]
    assert all(set(labels[one]) & set(labels[other]) for one, other in pairs)
    assert any(one == other for one, other in pairs)  # with replacement
    drawn = model.train_indices(1000, 750, rng)
    assert (np.diff(drawn) == 1).all()
    assert len(drawn) == 750
    assert model.train_indices(20, 750, rng).tolist() == list(range(20))


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_short_videos_and_videos_without_labels_train_and_score(rows: int) -> None:
    torch.manual_seed(0)
    model = Wtalc(WtalcOptions(), 16, 4)
    features = torch.rand(3, rows, 16)
    features[2] = 0
    losses = model.losses(Batch(features, torch.ones(3, 4) * torch.tensor([[1.0], [1.0], [0.0]]), ("a", "b", "c")))
    losses["total"].backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    scores = model.eval().score(features[0])
    assert all(len(signal) == rows and signal.isfinite().all() for signal in scores.signals.values())


@pytest.mark.parametrize(
    ("dataset", "videos"),
    [("thumos14", 200), ("activitynet12", 4819), ("activitynet13", 10_024), ("fineaction", 8440), ("other", 200)],
)
def test_recipe_makes_as_many_steps_as_the_released_code(dataset: str, videos: int) -> None:
    recipe = Wtalc.recipe(dataset)
    assert WtalcOptions.model_validate_json(recipe.method.model_dump_json()) == recipe.method
    batches = -(-videos // 10)
    assert recipe.train.epochs * batches == pytest.approx(100_000, abs=batches / 2)


def close(actual: torch.Tensor, expected: np.ndarray | torch.Tensor) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-6)
