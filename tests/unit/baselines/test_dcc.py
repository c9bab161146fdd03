"""DCC: its steps by hand or against loops, gradients, and what the paper claims of regions and denoising."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.acmnet import AcmNet
from baselines.dcc import (
    Dcc,
    DccOptions,
    Regions,
    clustered,
    denoised,
    pooled_regions,
    pseudo_labels,
    region_contrast,
)
from wstal.memory import RegionQueues
from wstal.types import Batch, Video

SEEDS = st.integers(0, 1000)
CLASSES, LENGTH, WIDTH = 3, 4, 5


def model(**options: Any) -> Dcc:
    torch.manual_seed(0)
    return Dcc(DccOptions(dropout=0.0, width=4, hidden=5, length=6, start=0.5, **options), 8, CLASSES)


def batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return Batch(torch.rand(3, 24, 8, generator=generator), labels, ("a", "b", "c"))


def videos() -> list[Video]:
    return [Video(name, np.zeros((2, 8), dtype=np.float32), (0,), 0.64) for name in "abc"]


# --- pseudo labels and their denoising --------------------------------------------------------------------------------


def test_pseudo_labels_by_hand() -> None:
    """Two classes of the video's own and one that is not, two snippets of each."""
    attended = torch.tensor([[[0.9, 0.1, 0.9], [0.6, 0.7, 0.9], [0.1, 0.6, 0.0], [0.2, 0.2, 0.0], [0.0, 0.0, 0.0]]])
    attention = torch.tensor([[0.9, 0.8, 0.05, 0.1, 0.4]])
    made = pseudo_labels(attended, attention, torch.tensor([[1.0, 1.0, 0.0]]), k=2)
    # snippet 1 is of both, of class 1 with more; snippet 2 is of class 1 in spite of its low attention
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert made[0].int().tolist() == expected


@given(SEEDS, st.integers(1, 12))
def test_a_snippet_has_one_label_of_its_video_at_most(seed: int, length: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    attended, attention = (
        torch.rand(3, length, CLASSES, generator=generator),
        torch.rand(3, length, generator=generator),
    )
    labels = batch().labels
    k = max(length // 3, 1)
    made = pseudo_labels(attended, attention, labels, k)
    assert (made.sum(dim=2) <= 1).all()
    assert (made.sum(dim=1) <= k).all()
    assert not made[..., :-1][(labels == 0).unsqueeze(1).expand(-1, length, -1)].any()
    # the highest of a class that no other class of the video claims
    assert made[0, attended[0, :, 0].argmax(), 0]


def test_shares_of_clusters_by_hand() -> None:
    """A cluster of three snippets of class 0 and one of background, and one of a label each and one without."""
    noisy = torch.tensor([[[1, 0], [1, 0], [1, 0], [0, 1], [1, 0], [0, 1], [0, 0]]]) > 0
    member = torch.tensor([[[1, 0]] * 4 + [[0, 1]] * 3]) > 0
    for purity, kept in ((0.76, []), (0.75, [0, 1, 2]), (0.5, [0, 1, 2, 4, 5]), (0.0, [0, 1, 2, 3, 4, 5])):
        made = denoised(noisy, member, purity)
        assert made.any(dim=2)[0].nonzero().flatten().tolist() == kept
        assert torch.equal(made, noisy & made)


def test_clusters_of_far_directions_are_found() -> None:
    directions = torch.eye(6)[[0, 0, 1, 1, 1, 2]] + 0.01 * torch.rand(6, 6)
    member = clustered(torch.nn.functional.normalize(directions, dim=1).unsqueeze(0), 3)[0]
    groups = member.int().argmax(dim=1).tolist()
    assert [len(list(group)) for _, group in groupby(groups)] == [2, 3, 1]
    assert len(set(groups)) == 3


@given(SEEDS, st.integers(1, 12), st.integers(1, 5))
def test_each_snippet_is_nearest_to_its_clusters_mean(seed: int, length: int, count: int) -> None:
    """Where k-means has come to rest, which it has for so few snippets; each snippet has one cluster."""
    points = torch.randn(1, length, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points = torch.nn.functional.normalize(points, dim=2)
    member = clustered(points, count)[0]
    assert member.shape == (length, min(count, length))
    assert (member.sum(dim=1) == 1).all()
    sums = member.double().T @ points[0]
    filled = member.any(dim=0)
    similarity = points[0] @ torch.nn.functional.normalize(sums[filled], dim=1).T
    own = similarity[member[:, filled]]
    assert (own >= similarity.amax(dim=1) - 1e-9).all()


@given(SEEDS)
def test_a_wrong_label_among_its_likes_is_dropped(seed: int) -> None:
    """What denoising is for: background called an action lies in a cluster of background."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.tensor([0] * 10 + [1] * 10)
    points = torch.eye(2)[truth] + 0.2 * torch.rand(20, 2, generator=generator)
    noisy = torch.eye(2)[truth] > 0
    wrong = int(torch.randint(10, 20, (), generator=generator))
    noisy[wrong] = torch.tensor([True, False])
    member = clustered(torch.nn.functional.normalize(points, dim=1).unsqueeze(0), 2)
    kept = denoised(noisy.unsqueeze(0), member, 0.7)[0]
    assert not kept[wrong].any()
    assert kept.sum() == 19


# --- regions ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-1, CLASSES), min_size=1, max_size=20), st.integers(1, 8))
def test_regions_equal_runs(labels: list[int], most: int) -> None:
    kept = torch.tensor([[label == row for row in range(CLASSES + 1)] for label in labels])
    projected = torch.arange(len(labels) * 2.0).reshape(-1, 2)
    made = pooled_regions(projected.unsqueeze(0), kept.unsqueeze(0), most)
    runs, start = [], 0
    for label, group in groupby(labels):
        stop = start + len(list(group))
        if label >= 0:
            runs.append((label, projected[start:stop].mean(dim=0).tolist(), stop - start))
        start = stop
    runs = sorted(runs, key=lambda run: -run[2])[:most]
    counted = made.counted[0]
    assert counted.sum() == len(runs)
    assert made.row[0][counted].tolist() == [label for label, _, _ in runs]
    np.testing.assert_allclose(made.features[0][counted], np.reshape([mean for _, mean, _ in runs], (-1, 2)), rtol=1e-6)
    assert not made.features[0][~counted].any()


# --- contrast ---------------------------------------------------------------------------------------------------------


def example(seed: int, count: int = 6) -> tuple[Regions, torch.Tensor, RegionQueues]:
    """Regions of two videos, the first of which has some in the memory, and a memory with empty places."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, count, WIDTH, generator=generator, dtype=torch.float64)
    row = torch.randint(CLASSES + 1, (2, count), generator=generator)
    counted = torch.rand(2, count, generator=generator) > 0.2
    memory = RegionQueues(CLASSES + 1, WIDTH, LENGTH).double()
    memory.update(
        torch.randn(12, WIDTH, generator=generator, dtype=torch.float64),
        torch.randint(CLASSES + 1, (12,), generator=generator),
        torch.randint(3, (12,), generator=generator),
        torch.ones(12, dtype=torch.bool),
    )
    return Regions(features, row, counted), torch.tensor([[0], [5]]).expand(2, count), memory


def plain_contrast(regions: Regions, owner: torch.Tensor, memory: RegionQueues, tau: float) -> list[float]:
    """One query and one positive at a time."""
    slots = [
        (row, memory.slots[row, place].numpy(), int(memory.owner[row, place]))
        for row in range(CLASSES + 1)
        for place in range(LENGTH)
        if memory.owner[row, place] >= 0
    ]
    means: list[list[float]] = [[], []]
    for video in range(len(owner)):
        for place in range(owner.shape[1]):
            row = int(regions.row[video, place])
            if not regions.counted[video, place] or row == CLASSES:
                continue
            x = regions.features[video, place].numpy()
            scaled = [(r, x @ m / np.linalg.norm(x) / np.linalg.norm(m) / tau, o) for r, m, o in slots]
            positives = [s for r, s, o in scaled if r == row and o != owner[video, place]]
            if not positives:
                continue
            for kind, negatives in enumerate(
                ([s for r, s, _ in scaled if r == CLASSES], [s for r, s, _ in scaled if r not in (row, CLASSES)])
            ):
                below = sum(math.exp(s) for s in negatives)
                costs = [-math.log(math.exp(s) / (math.exp(s) + below)) for s in positives]
                means[kind].append(sum(costs) / len(costs))
    return [sum(one) / len(one) if one else 0.0 for one in means]


@settings(deadline=None)
@given(SEEDS)
def test_contrast_equals_loops(seed: int) -> None:
    regions, owner, memory = example(seed)
    found = region_contrast(regions, owner, memory, 0.2)
    assert [one.item() for one in found] == pytest.approx(plain_contrast(regions, owner, memory, 0.2))


@settings(deadline=None)
@given(SEEDS, st.permutations(range(6)), st.permutations(range(LENGTH)))
def test_the_order_of_regions_does_not_matter(seed: int, places: list[int], slots: list[int]) -> None:
    """Neither of a video's, nor of videos, nor in the memory."""
    regions, owner, memory = example(seed)
    expected = region_contrast(regions, owner, memory, 0.07)
    mixed = Regions(*(part[[1, 0]][:, places] for part in regions))
    memory.slots.copy_(memory.slots[:, slots].clone())
    memory.owner.copy_(memory.owner[:, slots].clone())
    found = region_contrast(mixed, owner[[1, 0]], memory, 0.07)
    torch.testing.assert_close(found, expected)


def test_a_video_is_no_positive_of_its_own() -> None:
    memory = RegionQueues(2, 2, 3)
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    memory.update(vectors, torch.tensor([0, 1]), torch.tensor([4, 4]), torch.ones(2, dtype=torch.bool))
    regions = Regions(
        vectors[:1].unsqueeze(0), torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool)
    )
    own, other = (region_contrast(regions, torch.tensor([[number]]), memory, 1.0) for number in (4, 5))
    assert [one.item() for one in own] == [0, 0]
    # one positive of cosine 1; background of cosine 0, no other class
    assert other[0].item() == pytest.approx(math.log(math.e + 1) - 1)
    assert other[1].item() == pytest.approx(0)


def test_an_empty_memory_has_no_contrast() -> None:
    regions, owner, _ = example(0)
    memory = RegionQueues(CLASSES + 1, WIDTH, LENGTH).double()
    assert [one.item() for one in region_contrast(regions, owner, memory, 0.07)] == [0, 0]


def test_gradients() -> None:
    regions, owner, memory = example(1)

    def loss(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return region_contrast(regions._replace(features=features), owner, memory, 0.5)

    assert torch.autograd.gradcheck(loss, (regions.features.requires_grad_(),))
    kept = torch.eye(CLASSES + 1)[[0, 0, 3, 1, 1]].unsqueeze(0) > 0
    projected = torch.randn(1, 5, WIDTH, dtype=torch.float64, requires_grad=True)

    def pooled(snippets: torch.Tensor) -> torch.Tensor:
        return pooled_regions(snippets, kept, 4).features

    assert torch.autograd.gradcheck(pooled, (projected,))


# --- training ---------------------------------------------------------------------------------------------------------


def test_it_is_acmnet_before_the_contrasts_start() -> None:
    ours = model()
    torch.manual_seed(0)
    base = AcmNet(ours.spec, 8, CLASSES)
    base.load_state_dict(ours.export_state())
    ours.start_epoch(4, 10, videos())
    losses, expected = ours.losses(batch()), base.losses(batch())
    ours.end_step()
    for name, value in expected.items():
        assert torch.equal(losses[name], value)
    assert losses["from_background"] == losses["from_classes"] == 0
    assert (ours.memory.owner == -1).all()


def test_regions_are_stored_after_the_step_and_contrasted_in_the_next() -> None:
    ours = model(contrast=0.5, purity=0.0)
    ours.start_epoch(5, 10, videos())
    first = ours.losses(batch())
    assert first["from_background"] == 0
    assert (ours.memory.owner == -1).all()
    regions = ours.regions(ours.snippets(batch().features), batch().labels)
    ours.end_step()
    for row in range(CLASSES + 1):
        numbers = [
            video
            for video in range(3)
            for place in range(24)
            if regions.counted[video, place] and regions.row[video, place] == row
        ]
        stored = ours.memory.owner[row].tolist()
        assert [number for number in stored if number >= 0] == numbers[-6:]
    second = ours.losses(batch())
    assert second["from_background"] > 0
    expected = ours.snippet_losses(ours.snippets(batch().features), batch().labels)["total"]
    expected = expected + 0.5 * (second["from_background"] + second["from_classes"])
    torch.testing.assert_close(second["total"], expected)


def test_evaluation_stores_nothing_and_scores_need_no_memory() -> None:
    ours = model()
    ours.start_epoch(5, 10, videos())
    ours.eval().losses(batch())
    ours.end_step()
    assert (ours.memory.owner == -1).all()
    assert not any(name.startswith(("memory", "projection")) for name in ours.export_state())


def test_recipes_are_acmnets_with_fewer_regions_for_many_classes() -> None:
    for dataset, regions in (("thumos14", 32), ("activitynet13", 16)):
        own, base = Dcc.recipe(dataset), AcmNet.recipe(dataset)
        assert (own.train, own.localizer) == (base.train, base.localizer)
        assert own.method.regions == regions
        assert {name: getattr(own.method, name) for name, _ in base.method} == dict(base.method)
