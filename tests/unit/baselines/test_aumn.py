"""AUMN: formulas worked by hand, gradients by differences, and the memory against plain loops over units."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from baselines.aumn import (
    LOCALIZER,
    Aumn,
    AumnNetwork,
    AumnOptions,
    diversity_loss,
    homogeneity_loss,
    sparsity_loss,
    unit_logits,
)
from wstal.localize.spec import Nms
from wstal.types import Batch

WIDTH, CLASSES, LENGTH, UNITS, DIM = 6, 3, 9, 4, 5


def network(**options: object) -> AumnNetwork:
    torch.manual_seed(0)
    return AumnNetwork(AumnOptions(width=DIM, units=UNITS, **options), WIDTH, CLASSES).double().eval()


def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    features = torch.rand(2, LENGTH, WIDTH, dtype=torch.float64, generator=generator)
    return Batch(features, torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]).double(), ("a", "b"))


def test_unit_logits_by_hand() -> None:
    embedded, read = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.25, 0.75]]])
    classifiers = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 1.0], [-1.0, 0.0]]])
    # the units say (1, 2) and (4, -1)
    assert unit_logits(embedded, read, classifiers).tolist() == [[[3.25, -0.25]]]


def test_diversity_by_hand() -> None:
    # cosines 0.6, 0 and 0.8, each twice, whatever the lengths
    templates = torch.tensor([[2.0, 0.0], [0.6, 0.8], [0.0, 5.0]])
    assert diversity_loss(templates).item() == pytest.approx(2 * (0.36 + 0.64))


def test_homogeneity_by_hand() -> None:
    read = torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]).clamp(min=1e-30)
    # units are used by 3/4 and 1/4
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert homogeneity_loss(read.log()).item() == pytest.approx(expected)


def test_sparsity_by_hand() -> None:
    read = torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]).clamp(min=1e-30)
    assert sparsity_loss(read.log()).item() == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (diversity_loss, [(3, 4)]),
        (lambda read: homogeneity_loss(read.log_softmax(dim=2)), [(2, 3, 4)]),
        (lambda read: sparsity_loss(read.log_softmax(dim=2)), [(2, 3, 4)]),
        (lambda x, read, theta: unit_logits(x, read.softmax(dim=2), theta), [(2, 3, 4), (2, 3, 2), (2, 5, 4)]),
    ],
    ids=["diversity", "homogeneity", "sparsity", "logits"],
)
def test_gradients_by_differences(function: Callable[..., Tensor], shapes: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(function, [torch.randn(*shape).double().requires_grad_() for shape in shapes])


def test_templates_attend_to_each_other() -> None:
    memory = network().memory
    updated = []
    for key in memory.keys:
        query = memory.update_query(key)
        weights = (
            torch.stack([query @ memory.update_key(other) for other in memory.keys]).div(math.sqrt(DIM)).softmax(0)
        )
        mixed = sum(weight * memory.update_value(other) for weight, other in zip(weights, memory.keys, strict=True))
        updated.append(functional.layer_norm(key + mixed, (DIM,)))
    torch.testing.assert_close(memory.templates(), torch.stack(updated))


@pytest.mark.parametrize("classifiers", ["scaled", "free"])
def test_a_snippet_is_classified_by_its_units(classifiers: str) -> None:
    """One snippet, unit and class at a time."""
    model, given = network(classifiers=classifiers), batch()
    memory, outputs = model.memory, model.outputs(given.features)
    embedded = model.embedding(given.features).relu()
    for video in range(2):
        for t in range(LENGTH):
            x = embedded[video, t]
            similar = [memory.read_query(x) @ memory.read_key(k) / math.sqrt(DIM) for k in outputs.templates]
            weights = torch.stack(similar).softmax(dim=0)
            logits = torch.zeros(CLASSES + 1).double()
            for weight, value in zip(weights, memory.values, strict=True):
                theta = value if classifiers == "free" else memory.shared * memory.scale(value)
                logits = logits + weight * (theta @ x)
            torch.testing.assert_close(outputs.log_read[video, t].exp(), weights)
            torch.testing.assert_close(outputs.cas[video, t], logits)


def test_free_classifiers_can_be_the_scaled_ones() -> None:
    scaled, free = network(), network(classifiers="free")
    state = {name: value for name, value in scaled.state_dict().items() if name in free.state_dict()}
    free.load_state_dict(state | {"memory.values": scaled.memory.classifiers()})
    torch.testing.assert_close(free.outputs(batch().features), scaled.outputs(batch().features))


def test_foreground_may_be_what_resembles_a_template() -> None:
    model, given = network(foreground="memory"), batch()
    outputs = model.outputs(given.features)
    similarities = model.memory.similarities(model.embedding(given.features).relu(), outputs.templates)
    torch.testing.assert_close(outputs.attention[..., 0], similarities.max(dim=2).values.sigmoid())
    snippet = network()
    attention = snippet.attention(snippet.embedding(given.features).relu()).sigmoid()
    torch.testing.assert_close(snippet.outputs(given.features).attention, attention)


@pytest.mark.parametrize("options", [{"classifiers": "free"}, {"foreground": "memory"}])
def test_other_readings_train_every_parameter(options: dict[str, str]) -> None:
    model = network(**options)
    model.losses(batch())["total"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_losses_add_up() -> None:
    weights = {"diversity": 0.2, "homogeneity": 0.3, "sparsity": 0.4, "norm": 0.5}
    model, given = network(**weights), batch()
    losses, outputs = model.losses(given), model.outputs(given.features)
    means = {"diversity": diversity_loss(outputs.templates), "homogeneity": homogeneity_loss(outputs.log_read)}
    means |= {"sparsity": sparsity_loss(outputs.log_read), "norm": outputs.attention.mean()}
    for name, value in means.items():
        torch.testing.assert_close(losses[name], value)
    # k = 9 // 8 = 1: of each class the highest snippet; labels are divided by their sum + 1e-4
    whole = torch.cat([given.labels, torch.ones(2, 1).double()], dim=1)
    attended = torch.cat([given.labels, torch.zeros(2, 1).double()], dim=1)
    expected = []
    for logits, labels in ((outputs.attention * outputs.cas, attended), (outputs.cas, whole)):
        share = labels / (labels.sum(dim=1, keepdim=True) + 1e-4)
        expected.append(-(share * logits.amax(dim=1).log_softmax(dim=1)).sum(dim=1).mean())
    torch.testing.assert_close(torch.stack([losses["attended"], losses["whole"]]), torch.stack(expected))
    total = sum(expected) + sum(weights[name] * value for name, value in means.items())
    torch.testing.assert_close(losses["total"], total)


def test_each_stream_has_a_memory_and_scores_are_averaged() -> None:
    torch.manual_seed(0)
    model = Aumn(AumnOptions(width=DIM, units=UNITS, streams=(4, 2)), WIDTH, CLASSES).double().eval()
    features = batch().features[0]
    assert not torch.equal(model.networks[0].memory.keys, model.networks[1].memory.keys)
    one, other = (net.score(part) for net, part in zip(model.networks, (features[:, :4], features[:, 4:]), strict=True))
    found = model.score(features)
    for name in ("cas", "attention"):
        torch.testing.assert_close(found.signals[name], (one.signals[name] + other.signals[name]) / 2)
    torch.testing.assert_close(found.video_scores, (one.video_scores + other.video_scores) / 2)


@pytest.mark.parametrize(
    ("dataset", "videos", "rows"), [("thumos14", 200, 750), ("activitynet13", 10_024, 75), ("fineaction", 8440, 75)]
)
def test_recipe(dataset: str, videos: int, rows: int) -> None:
    recipe = Aumn.recipe(dataset)
    train, batches = recipe.train, -(-videos // 16)
    assert (train.learning_rate, train.batch_size, train.weight_decay) == (1e-4, 16, 5e-4)
    assert train.epochs * batches == pytest.approx(6000, abs=batches / 2)
    assert (train.temporal_length, train.test_length) == (rows, rows)
    assert recipe.method == AumnOptions(width=512, ratio=8, diversity=0.1, homogeneity=0.1, sparsity=0.1, norm=0.1)
    assert recipe.localizer == LOCALIZER
    assert (LOCALIZER.class_threshold, LOCALIZER.nms) == (0.2, Nms(kind="hard", threshold=0.5))
    assert [source.signal for source in LOCALIZER.sources] == ["attention", "cas"]


def test_it_says_that_it_follows_the_paper_in_part() -> None:
    assert (Aumn.supervision, Aumn.title, Aumn.source) == ("weak", "AUMN (from the paper)", "paper, partly")
