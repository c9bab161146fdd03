"""HAAN against tensors recorded from its released code, its clusterings, and its localization as loops."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from baselines.haan import (
    Haan,
    HaanOptions,
    class_features,
    concept_loss,
    pseudo_loss,
    visual_concepts,
)
from harness.testing import CHECKS
from tests.helpers.released import close
from wstal.errors import UserError
from wstal.localize import localize
from wstal.losses.balanced import balance, balanced_loss
from wstal.method import Recipe
from wstal.parts.pooling import above_mean
from wstal.types import Batch, SnippetScores, Video

LOSSES = {"classification": "mil", "pseudo": "pseudo", "concept": "concept", "coarse": "coarse"}
Case = tuple[Haan, dict[str, Tensor], str]


@pytest.fixture(params=["max", "mean"])
def recorded(shared: Path, request: pytest.FixtureRequest) -> Case:
    tensors = {name: torch.from_numpy(a) for name, a in np.load(shared / "fixtures" / "haan_small_parity.npz").items()}
    options = HaanOptions(
        width=tensors["out/encoded"].shape[2],
        concepts=len(tensors["input/pseudo_weights"]),
        pooling=request.param,
        coarse_classes=tuple(tensors["input/fine_to_coarse"].tolist()),
    )
    model = Haan(options, tensors["input/x"].shape[2], tensors["input/fine_label"].shape[1]).eval()
    state = {ours: tensors[f"sd/{theirs(ours)}"] for ours, _ in model.named_parameters()}
    model.load_state_dict(state, strict=False)
    return model, tensors, request.param


def theirs(name: str) -> str:
    return name.replace("hidden.", "hidden_layer.").replace("output.", "out_layer.")


def recorded_terms(model: Haan, tensors: dict[str, Tensor], video: int) -> dict[str, Tensor]:
    rows, one = int(tensors["input/seq_len"][video]), slice(video, video + 1)
    return model.terms(
        tensors["input/x"][one, :rows],
        tensors["input/fine_label"][one],
        tensors[f"input/pseudo_label_{video}"].unsqueeze(0),
        tensors["input/pseudo_weights"],
        tensors["input/fine_weight"][one],
        tensors["input/coarse_label"][one],
        tensors["input/coarse_weight"][one],
    )


def test_forward_equals_the_released_code(recorded: Case) -> None:
    model, expected, pooling = recorded
    with torch.no_grad():
        encoded = model.encoder(expected["input/x"])[1]
        hidden, cas = model.fine(encoded)
        close(encoded, expected["out/encoded"], scale=1)
        close(hidden, expected["out/fine_feature"], scale=1)
        close(cas, expected["out/fine_logits"], scale=1)
        close(model.pseudo(encoded)[1], expected["out/pseudo_logits"], scale=1)
        for video, rows in enumerate(expected["input/seq_len"].tolist()):
            clusters = expected[f"input/pseudo_label_{video}"].unsqueeze(0)
            concepts = visual_concepts(hidden[video : video + 1, :rows], clusters, model.spec.concepts)
            classes = class_features(concepts, model.fine.output.weight, model.spec.nearest)
            close(above_mean(cas[video : video + 1, :rows])[0], expected[f"out/mil_pooled_{video}"], scale=1)
            close(concepts[0], expected[f"out_{pooling}/concepts_{video}"], scale=1)
            close(classes[0], expected[f"out_{pooling}/fine_reps_{video}"], scale=1)
            close(model.coarse_features(classes)[0], expected[f"out_{pooling}/coarse_reps_{video}"], scale=1)
    assert torch.equal(model.coarse_labels(expected["input/fine_label"]), expected["input/coarse_label"])


def test_losses_and_gradients_equal_the_released_code(recorded: Case) -> None:
    model, expected, pooling = recorded
    videos = [recorded_terms(model, expected, video) for video in range(len(expected["input/x"]))]
    for video, terms in enumerate(videos):
        for ours, name in LOSSES.items():
            close(terms[ours], expected[f"loss_{pooling}/{name}_per_video"][video])
    total = torch.stack([terms["total"] for terms in videos]).sum()
    close(total, expected[f"loss_{pooling}/total"])
    total.backward()
    for name, parameter in model.named_parameters():
        norm, entries = expected[f"grad_{pooling}/{theirs(name)}"].tolist()
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        bound = 1e-6 * norm * parameter.numel()
        assert parameter.grad.double().sum().item() == pytest.approx(entries, rel=1e-5, abs=bound)


def test_a_batch_is_the_sum_of_its_videos(recorded: Case) -> None:
    model, expected, _ = recorded
    rows = int(expected["input/seq_len"].min())
    both = {
        "features": expected["input/x"][:, :rows],
        "labels": expected["input/fine_label"],
        "clusters": torch.stack([expected[f"input/pseudo_label_{video}"][:rows] for video in range(2)]),
        "weights": expected["input/fine_weight"],
        "coarse_labels": expected["input/coarse_label"],
        "coarse_weights": expected["input/coarse_weight"],
    }
    whole = model.terms(frequencies=expected["input/pseudo_weights"], **both)
    parts = [
        model.terms(frequencies=expected["input/pseudo_weights"], **{k: v[i : i + 1] for k, v in both.items()})
        for i in range(2)
    ]
    for name, value in whole.items():
        close(value, (parts[0][name] + parts[1][name]).detach().numpy())


def test_parameter_count_is_that_of_the_published_layers() -> None:
    coarse = tuple(min(label // 7, 13) for label in range(106))
    with torch.device("meta"):
        model = Haan(HaanOptions(coarse_classes=coarse), 4096, 106)
    hidden = [(4096, 1024), *[(1024, 1024)] * 3]
    layers = [*hidden, (1024, 1024), (1024, 106), (1024, 500), (1024, 1)]
    assert model.parameter_count() == sum((inputs + 1) * outputs for inputs, outputs in layers) == 9_015_903


def test_above_mean_by_hand() -> None:
    cas = torch.tensor([[[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]]])
    assert above_mean(cas).tolist() == [[6.0, 5.0]]  # the mean 3 is passed once, the mean 5 reached by all
    constant = torch.full((1, 7, 1), 0.1)
    torch.testing.assert_close(above_mean(constant), torch.tensor([[0.1]]))  # though its mean rounds to more


def test_balance_by_hand() -> None:
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    # of 10 videos 4, 1 and 0 have the classes; one that none has is not divided by 0
    weights = balance(labels, torch.tensor([4.0, 1.0, 0.0]), torch.tensor(10.0))
    torch.testing.assert_close(weights, torch.tensor([[3 / 4, 3 / 9, 3 / 10], [3 / 6, 3 / 1, 3 / 10]]))
    loss = balanced_loss(torch.zeros(2, 3), labels, weights)
    assert loss.item() == pytest.approx(np.log(2) * weights.sum().item() / 3)


def test_pseudo_loss_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [np.log(3.0), 0.0]]], dtype=torch.float32)
    # snippet 0 is of cluster 1 (weight 0.8), snippet 1 of cluster 0 (weight 0.2); T = 2 divides again
    loss = pseudo_loss(logits, torch.tensor([[1, 0]]), torch.tensor([0.2, 0.8]))
    assert loss.item() == pytest.approx((0.8 * np.log(2) + 0.2 * np.log(4 / 3)) / 1.0 / 2, rel=1e-6)
    assert pseudo_loss(logits, torch.tensor([[1, 0]]), torch.zeros(2)) == 0


def test_concepts_and_classes_by_loops() -> None:
    rng = np.random.default_rng(0)
    features, vectors = rng.random((1, 9, 4)), rng.standard_normal((3, 4))
    clusters = np.array([[0, 0, 2, 5, 2, 2, 3, 0, 5]])
    concepts = np.zeros((7, 4))
    for cluster in set(clusters[0].tolist()):
        concepts[cluster] = features[0, clusters[0] == cluster].mean(axis=0)
    made = visual_concepts(torch.from_numpy(features), torch.from_numpy(clusters), 7)
    np.testing.assert_allclose(made[0], concepts)
    for label, vector in enumerate(vectors):
        cosine = concepts @ vector / (np.linalg.norm(concepts, axis=1) + 1e-9) / np.linalg.norm(vector)
        nearest = concepts[np.argsort(-cosine, kind="stable")[:2]].mean(axis=0)
        np.testing.assert_allclose(class_features(made, torch.from_numpy(vectors), 2)[0, label], nearest)


def test_concept_loss_is_the_mean_over_a_videos_classes() -> None:
    vectors = torch.eye(3)
    classes = torch.stack([vectors, -vectors])  # cosines of 1 in one video, -1 in the other
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert concept_loss(classes, vectors, labels).item() == pytest.approx(2.0)
    assert concept_loss(classes, vectors, torch.zeros(2, 3)) == 0


def planted(**options: Any) -> tuple[Haan, list[Video]]:
    """A method whose encoder keeps four directions apart, and videos of snippets of these."""
    torch.manual_seed(0)
    model = Haan(HaanOptions(width=4, concepts=6, clustered=1.0, **options), 4, 3)
    for layer in (model.encoder.hidden, model.encoder.output):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    rng = np.random.default_rng(0)
    kinds = [[0, 0, 1, 2], [3, 0, 0, 0, 1], [2, 0, 0]]
    return model.train(), [
        Video(f"v{i}", (np.eye(4)[kind] + 0.01 * rng.random((len(kind), 4))).astype(np.float16), (i,), 0.64)
        for i, kind in enumerate(kinds)
    ]


def test_clusters_are_those_of_the_encoded_snippets() -> None:
    model, videos = planted()
    model.start_epoch(0, 10, videos)
    # six clusters of twelve snippets split some kind in two, but join none
    clusters = [model.clusters(torch.from_numpy(video.features).float()).tolist() for video in videos]
    kinds = [0, 0, 1, 2, 3, 0, 0, 0, 1, 2, 0, 0]
    joined = list(chain(*clusters))
    of_kind = {k: {c for c, kind in zip(joined, kinds, strict=True) if kind == k} for k in range(4)}
    assert sum(map(len, of_kind.values())) == len(set().union(*of_kind.values()))
    counts = np.bincount(joined, minlength=6)
    np.testing.assert_allclose(model.frequencies, counts / 12)


def test_clusters_change_every_few_epochs_only() -> None:
    model, videos = planted(refresh=3)
    centres = []
    for epoch in range(5):
        model.start_epoch(epoch, 5, videos)
        centres.append(model.centres.clone())
        with torch.no_grad():
            model.encoder.output.weight.mul_(2)
    assert [torch.equal(one, other) for one, other in pairwise(centres)] == [1, 1, 0, 1]
    # snippets are assigned by the encoder that found the clusters
    found = model.clusters(torch.from_numpy(videos[0].features).float())
    encoded = functional.relu(torch.from_numpy(videos[0].features).float()) * 2**3
    nearest = torch.cdist(encoded, model.centres[model.frequencies > 0]).argmin(dim=1)
    assert torch.equal(found, torch.arange(6)[model.frequencies > 0][nearest])


def test_a_first_epoch_in_the_middle_finds_clusters() -> None:
    model, videos = planted(refresh=5)
    model.start_epoch(3, 10, videos)
    assert model.frequencies.sum().item() == pytest.approx(1)


def test_few_snippets_are_their_own_clusters() -> None:
    model, videos = planted()
    model.spec = model.spec.model_copy(update={"clustered": 0.01})
    model.start_epoch(0, 10, videos)
    assert (model.frequencies > 0).tolist() == [True] + 5 * [False]
    assert model.losses(Batch(torch.rand(1, 5, 4), torch.eye(3)[:1], ("v",)))["total"].isfinite()


def test_classes_are_counted_over_the_training_videos() -> None:
    model, videos = planted(coarse_classes=(0, 1, 1))
    videos[2] = Video("both", videos[2].features, (0, 2), 0.64)
    model.start_epoch(0, 10, videos)
    assert model.positives.tolist() == [2, 1, 1]
    assert model.coarse_positives.tolist() == [2, 2]
    assert model.videos == 3


class Grouped(Haan):
    """HAAN where the data set states coarse classes."""

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        recipe = super().recipe(dataset)
        options = recipe.method.model_copy(update={"width": 32, "coarse_classes": (0, 1, 1, 0)})
        return recipe.model_copy(update={"method": options})


@pytest.mark.parametrize("check", CHECKS)
def test_the_contract_holds_with_coarse_classes(check: str) -> None:
    CHECKS[check](Grouped)


def test_without_coarse_classes_there_is_no_coarse_loss() -> None:
    for stated in (None, ()):
        model = Haan(HaanOptions(width=4, coarse_classes=stated), 4, 3).eval()
        assert model.coarse is None
        assert model.losses(Batch(torch.rand(2, 5, 4), torch.eye(3)[:2], ("a", "b")))["coarse"] == 0
    with pytest.raises(UserError, match="coarse_classes has 2 entries for 3 classes"):
        Haan(HaanOptions(coarse_classes=(0, 1)), 4, 3)


def plain_detections(logits: np.ndarray, alpha: float, ratio: int) -> list[list[float]]:
    rows = []
    for label, column in enumerate(logits.T):
        class_score = np.mean(sorted(column, reverse=True)[: int(np.ceil(len(column) / ratio))])
        values = column * (class_score > 0)
        active = values > values.mean() + (values.max() - values.min()) * alpha
        start = 0
        for t in range(len(active) + 1):
            if t == len(active) or not active[t]:
                if t > start:
                    rows.append([label, start, t, values[start:t].max() + 0.5 * class_score])
                start = t + 1
    return rows


@pytest.mark.parametrize(("dataset", "alpha", "ratio"), [("fineaction", -0.8, 4), ("thumos14", 0.1, 2)])
@pytest.mark.parametrize("rows", [1, 2, 3, 101])
def test_detections_equal_plain_loops(dataset: str, alpha: float, ratio: int, rows: int) -> None:
    torch.manual_seed(rows)
    recipe = Haan.recipe(dataset)
    model = Haan(recipe.method.model_copy(update={"width": 8}), 6, 5).double().eval()
    with torch.no_grad():
        model.fine.output.weight.mul_(20)
        model.fine.output.bias[0] -= 100
        features = torch.rand(rows, 6, dtype=torch.float64)
        scores = model.score(features)
        logits = model.fine(model.encoder(features)[1])[1].numpy()
    assert (logits[:, 0] < 0).all()
    given = SnippetScores(
        "v",
        {name: signal.numpy() for name, signal in scores.signals.items()},
        scores.video_scores.numpy(),
        1.0,
        class_scores={name: values.numpy() for name, values in scores.class_scores.items()},
    )
    found = localize([given], recipe.localizer, tuple("abcde"))
    expected = plain_detections(logits, alpha, ratio)
    assert bool(expected) == (rows > 1)  # nothing exceeds the mean of a single row
    made = np.stack([found.label, found.start, found.end, found.score], axis=1)
    np.testing.assert_allclose(made[np.lexsort(made.T[1::-1])], np.array(expected).reshape(-1, 4), atol=1e-12)


def test_a_sample_of_the_snippets_is_clustered(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def watched(slots: np.ndarray, count: int, seed: int) -> np.ndarray:
        seen.append(slots)
        return slots[:count]

    monkeypatch.setattr("baselines.haan.k_means", watched)
    model, videos = planted()
    model.spec = model.spec.model_copy(update={"clustered": 0.5})
    drawn: list[Sequence[float]] = []
    for seed in range(20):
        torch.manual_seed(seed)
        model.start_epoch(0, 10, videos)
        assert seen[-1].shape == (6, 4)
        drawn += seen[-1].round(4).tolist()
    assert len({tuple(row) for row in drawn}) == 12  # every snippet of every video may be drawn
