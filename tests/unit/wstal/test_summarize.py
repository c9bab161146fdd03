from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from torch import Tensor, nn
from torch.nn import functional

from wstal.summarize import clustering
from wstal.summarize.build import build_summarizer
from wstal.summarize.clustering import Clustering, balanced_assignment
from wstal.summarize.codewords import Codewords, DetrLayer, ExpectationAttention
from wstal.summarize.options import SummaryOptions
from wstal.summarize.summarizer import Summarizer

KINDS = ["k_means", "spectral", "dbscan", "optimal_transport"]


def planted(sizes: list[int], dim: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Slots of well-separated clusters, as non-negative as ReLU features, in random order; and the clusters' means.

    All sources have one norm, so that the clusters are as wide by cosine as each other: dbscan has one eps for all.
    """
    generator = torch.Generator().manual_seed(seed)
    sources = 30 * functional.normalize(torch.randn(len(sizes), dim, generator=generator).relu())
    label = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    slots = (sources[label] + 3 * dim**-0.5 * torch.randn(len(label), dim, generator=generator)).relu()
    means = torch.stack([slots[label == cluster].mean(dim=0) for cluster in range(len(sizes))])
    return slots[torch.randperm(len(label), generator=generator)], means


def refreshed(kind: str, slots: Tensor, count: int, seed: int = 0) -> Clustering:
    torch.manual_seed(seed)
    summarizer = Clustering(kind, slots.shape[1], count)
    summarizer.refresh(slots, torch.zeros(len(slots), dtype=torch.int64))
    return summarizer


def summary(summarizer: Summarizer, slots: Tensor) -> Tensor:
    return summarizer(slots, torch.zeros(len(slots), dtype=torch.int64))


def farthest(means: Tensor, centres: Tensor) -> float:
    """Largest distance of a mean to its nearest centre, over the least distance between means."""
    between = torch.cdist(means, means).fill_diagonal_(math.inf).min()
    return float(torch.cdist(means, centres.detach()).min(dim=1).values.max() / between)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_clusterings_recover_planted_clusters(kind: str, seed: int) -> None:
    slots, means = planted([40] * 6, seed=seed)
    centres = summary(refreshed(kind, slots, 6, seed), slots)
    assert centres.shape == means.shape
    # half of the slots are core for dbscan: those at a cluster's edge may be noise
    assert farthest(means, centres) < (0.05 if kind == "dbscan" else 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bits_and_one_number_drawn(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "LARGEST_DRAW", 100)
    slots = torch.rand(150, 4)
    first = refreshed(kind, slots, 10, seed=5)
    state = torch.get_rng_state()
    assert torch.equal(first.centres, refreshed(kind, slots, 10, seed=5).centres)
    assert not torch.equal(first.centres, refreshed(kind, slots, 10, seed=6).centres)
    torch.manual_seed(5)
    torch.randint(2**31, ())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_resumes_to_the_same_centres(kind: str) -> None:
    slots, _ = planted([20] * 3)
    stored = refreshed(kind, slots, 5)
    resumed = Clustering(kind, slots.shape[1], 5)
    assert summary(resumed, slots).shape == (0, slots.shape[1])
    resumed.load_state_dict(copy.deepcopy(stored.state_dict()))
    assert torch.equal(summary(resumed, slots), summary(stored, slots))
    assert not summary(resumed, slots).requires_grad


def test_a_smaller_bank_leaves_no_centres_of_the_last_one() -> None:
    slots, _ = planted([20] * 3)
    summarizer = refreshed("k_means", slots, 5)
    summarizer.refresh(slots[:2], torch.zeros(2, dtype=torch.int64))
    assert farthest(slots[:2], summary(summarizer, slots)) == 0
    assert summarizer.found == 2
    assert not summarizer.centres[2:].any()


@pytest.mark.parametrize("kind", ["k_means", "spectral", "optimal_transport"])
def test_no_more_slots_than_centres_are_their_own_centres(kind: str) -> None:
    slots = torch.rand(4, 3)
    for count in (4, 9):
        centres = summary(refreshed(kind, slots, count), slots)
        assert sorted(centres.tolist()) == sorted(slots.tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slots", [torch.rand(1, 3), torch.rand(1, 3).expand(12, 3), torch.zeros(12, 3)])
def test_one_slot_and_equal_slots(kind: str, slots: Tensor) -> None:
    centres = summary(refreshed(kind, slots, 4), slots)
    assert 1 <= len(centres) <= min(4, len(slots))
    torch.testing.assert_close(centres, slots[:1].expand_as(centres))


def test_clusterings_run_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    class Watched(clustering.KMeans):  # type: ignore[name-defined]
        def fit_predict(self, *args: np.ndarray) -> np.ndarray:
            threads.extend(pool["num_threads"] for pool in threadpool_info())
            return super().fit_predict(*args)

    monkeypatch.setattr(clustering, "KMeans", Watched)
    with clustering.threadpool_limits(2):
        refreshed("k_means", torch.rand(10, 2), 3)
        assert set(threads) == {1}
        assert max(pool["num_threads"] for pool in threadpool_info()) == 2


def test_dbscan_keeps_the_largest_clusters_and_drops_noise() -> None:
    slots, means = planted([60, 40, 50])
    noise = 10 * torch.rand(6, slots.shape[1], generator=torch.Generator().manual_seed(9))
    slots = torch.cat([slots, noise])
    centres = summary(refreshed("dbscan", slots, 2), slots)
    assert len(centres) == 2
    assert farthest(means[[0, 2]], centres) < 0.05
    assert len(summary(refreshed("dbscan", slots, 9), slots)) == 3


def test_transport_moves_the_slot_that_loses_least() -> None:
    # three slots are nearest to the first centre, each centre takes two: the one with least to lose goes
    cost = np.array([[0.0, 3.0], [0.0, 1.0], [0.0, 3.0], [3.0, 0.0]])
    expected = np.array([[0.25, 0.0], [0.0, 0.25], [0.25, 0.0], [0.0, 0.25]])
    np.testing.assert_allclose(balanced_assignment(cost, 0.05), expected, atol=1e-3)


def test_transport_equals_a_sinkhorn_loop() -> None:
    cost = np.random.default_rng(0).random((50, 7))
    kernel = np.exp(-cost / 0.05)
    left, right = np.ones(50), np.ones(7)
    for _ in range(5000):
        right = (1 / 7) / (kernel.T @ left)
        left = (1 / 50) / (kernel @ right)
    plan = balanced_assignment(cost, 0.05)
    np.testing.assert_allclose(plan, left[:, None] * kernel * right, rtol=5e-3)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 50)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 7, rtol=1e-3)


def test_transport_is_balanced_with_an_outlier() -> None:
    cost = np.random.default_rng(0).random((50, 7)) / 1e3
    cost[0] = 1e4 * np.arange(1, 8)
    plan = balanced_assignment(cost, 0.05)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 50)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 7, rtol=1e-3)
    assert plan[0, 0] == pytest.approx(1 / 50)


def plain_em(slots: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """Three steps of E and M, one basis and one slot after the other."""
    mean = slots.mean(axis=0)
    deviation = [slot - mean for slot in slots]
    for _ in range(3):
        cosine = [[d @ b / math.sqrt((d @ d) * (b @ b)) for b in bases] for d in deviation]
        responsibility = [[math.exp(c / 0.05) / sum(math.exp(o / 0.05) for o in row) for c in row] for row in cosine]
        mass = np.sum(responsibility, axis=0)
        centres = [
            sum(row[n] * slot for row, slot in zip(responsibility, slots, strict=True)) / mass[n]
            for n in range(len(bases))
        ]
        bases = np.array(centres) - mean
    return np.array(centres)


def test_em_equals_a_plain_loop() -> None:
    torch.manual_seed(0)
    summarizer = ExpectationAttention(5, 4).double()
    slots = torch.rand(12, 5, dtype=torch.float64)
    expected = plain_em(slots.numpy(), summarizer.bases.detach().numpy())
    np.testing.assert_allclose(summary(summarizer, slots).detach().numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("dim", [32, 512, 2048])
@pytest.mark.parametrize("seed", range(3))
def test_em_recovers_planted_clusters_from_random_bases(dim: int, seed: int) -> None:
    torch.manual_seed(seed)
    slots, means = planted([30] * 6, dim, seed)
    assert farthest(means, summary(ExpectationAttention(dim, 12), slots)) < 0.01


@pytest.mark.parametrize("dim", [512, 2048])
def test_em_follows_scale_and_offset_and_every_basis_learns(dim: int) -> None:
    torch.manual_seed(0)
    summarizer = ExpectationAttention(dim, 20).double()
    slots, offset = torch.randn(100, dim, dtype=torch.float64).relu(), 10 * torch.rand(dim, dtype=torch.float64)
    centres = summary(summarizer, slots)
    torch.testing.assert_close(summary(summarizer, 50 * slots + offset), 50 * centres + offset)
    (centres * torch.randn(20, dim)).sum().backward()
    lengths = summarizer.bases.grad.norm(dim=1)
    assert lengths.min() > 0.01 * lengths.max()


def test_em_with_a_basis_without_mass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wstal.summarize.codewords.EM_TEMPERATURE", 1e-4)  # exp(-1 / 1e-4) is 0 in single precision
    summarizer = ExpectationAttention(2, 2)
    with torch.no_grad():
        summarizer.bases.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.5]]))
    slots = torch.tensor([[1.0, 3.0], [1.1, 3.0], [3.0, 1.0], [3.0, 1.1]])
    centres = summary(summarizer, slots)
    centres.sum().backward()
    assert centres.isfinite().all()
    assert summarizer.bases.grad.isfinite().all()


def bank(rows: int = 3, slots: int = 12, dim: int = 6) -> tuple[Tensor, Tensor]:
    return torch.rand(slots, dim, dtype=torch.float64), torch.arange(slots) % rows


def built(attention: str, projection: str, embedding: bool) -> Codewords:
    options = SummaryOptions(
        count=4, attention=attention, neighbours=5, memory_projection=projection, memory_embedding=embedding
    )
    return Codewords(6, 3, options).double()


def codewords(attention: str, projection: str, embedding: bool) -> Codewords:
    """Random in every parameter: scales of 1 and biases of 0 would hide what they do."""
    module = built(attention, projection, embedding)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def entmax15(logits: Tensor) -> Tensor:
    """p = max(z / 2 - threshold, 0)^2 with the threshold that makes each row sum to 1, by bisection."""
    low, high = logits.amax(dim=1, keepdim=True) / 2 - 1, logits.amax(dim=1, keepdim=True) / 2
    for _ in range(100):
        middle = (low + high) / 2
        above = ((logits / 2 - middle).clamp(min=0) ** 2).sum(dim=1, keepdim=True) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (logits / 2 - low).clamp(min=0) ** 2


def projected(projection: nn.Module, tokens: Tensor) -> Tensor:
    """Every slot through the depthwise scale (and bias), then the pointwise map."""
    values = tokens * projection.scale
    if projection.bias is not None:
        values = values + projection.bias
    if projection.pointwise is not None:
        values = functional.linear(values, projection.pointwise.weight, projection.pointwise.bias)
    return values


def literal_weights(module: Codewords, queries: Tensor, tokens: Tensor, row: Tensor) -> Tensor:
    keys = projected(module.memory_key, tokens)
    if module.memory_rows is not None:
        keys = torch.cat([keys, module.memory_rows[row]], dim=1)
        queries = torch.cat([queries, module.positions], dim=1)
    logits = queries @ keys.T / math.sqrt(keys.shape[1])
    if module.options.attention == "entmax15":
        return entmax15(logits)
    if module.options.attention == "top_k":
        least = logits.sort(dim=1, descending=True).values[:, module.options.neighbours - 1 : module.options.neighbours]
        logits = logits.masked_fill(logits < least, -math.inf)
    return logits.exp() / logits.exp().sum(dim=1, keepdim=True)


def literal_summary(module: Codewords, tokens: Tensor, row: Tensor) -> Tensor:
    placed = torch.cat([module.codewords, module.positions], dim=1)
    logits = module.codewords @ module.key(placed).T / math.sqrt(module.codewords.shape[1])
    queries = module.query_norm(module.codewords + logits.softmax(dim=1) @ module.value(placed))
    weights = literal_weights(module, queries, tokens, row)
    read = module.memory_norm(queries + weights @ projected(module.memory_value, tokens))
    return module.summary_norm(read + module.feed_forward(read))


every_kind = pytest.mark.parametrize("attention", ["top_k", "entmax15", "dense"])
every_projection = pytest.mark.parametrize("projection", ["depthwise", "separable"])
with_and_without_embedding = pytest.mark.parametrize("embedding", [True, False])


@every_kind
@every_projection
@with_and_without_embedding
def test_codewords_equal_the_literal_definition(attention: str, projection: str, embedding: bool) -> None:
    torch.manual_seed(0)
    module, (tokens, row) = codewords(attention, projection, embedding), bank()
    queries = module.queries()
    weights = module.weights(queries, tokens, row)
    torch.testing.assert_close(weights, literal_weights(module, queries, tokens, row), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4, dtype=torch.float64))
    if attention == "top_k":
        assert ((weights > 0).sum(dim=1) == 5).all()
    torch.testing.assert_close(module(tokens, row), literal_summary(module, tokens, row), rtol=1e-6, atol=1e-9)


@every_kind
@with_and_without_embedding
def test_codewords_do_not_see_the_order_of_slots(attention: str, embedding: bool) -> None:
    torch.manual_seed(0)
    module, (tokens, row) = codewords(attention, "separable", embedding), bank()
    order = torch.randperm(len(tokens))
    torch.testing.assert_close(module(tokens[order], row[order]), module(tokens, row))


def test_codewords_see_the_row_of_a_slot_only_with_the_embedding() -> None:
    torch.manual_seed(0)
    tokens, row = bank()
    with_rows, without = (codewords("dense", "separable", embedding) for embedding in (True, False))
    assert not torch.allclose(with_rows(tokens, row), with_rows(tokens, row.flip(0)))
    assert torch.equal(without(tokens, row), without(tokens, row.flip(0)))


def test_top_k_of_fewer_slots_reads_them_all() -> None:
    torch.manual_seed(0)
    module, (tokens, row) = codewords("top_k", "separable", True), bank(slots=3)
    assert (module.weights(module.queries(), tokens, row) > 0).all()


@every_kind
@every_projection
@with_and_without_embedding
def test_every_parameter_of_codewords_learns(attention: str, projection: str, embedding: bool) -> None:
    torch.manual_seed(0)
    module = built(attention, projection, embedding)
    tokens, row = bank()
    (module(tokens, row) * torch.randn(4, 6, dtype=torch.float64)).sum().backward()
    still = {name for name, parameter in module.named_parameters() if parameter.grad.abs().max() < 1e-12}
    assert not still


@pytest.mark.parametrize(("dim", "count"), [(16, 5), (2048, 40)])
def test_parameters_of_the_detr_layer(dim: int, count: int) -> None:
    with torch.device("meta"):
        layer = DetrLayer(dim, count, 8)
    counts = {name: parameter.numel() for name, parameter in layer.named_parameters()}
    attention = sum(number for name, number in counts.items() if "attn" in name)
    assert attention == 2 * (4 * dim * dim + 4 * dim)
    assert counts["codewords"] == count * dim
    # two linear layers and three norms: what Table IX's tool counts of it
    assert sum(counts.values()) - attention - count * dim == 2 * (dim * dim + dim) + 3 * 2 * dim
    if dim == 2048:
        assert (attention, sum(counts.values())) == (2 * 16_785_408, 2 * 16_785_408 + 8_404_992 + 81_920)


def test_the_detr_layer_gives_one_row_a_codeword_and_every_parameter_learns() -> None:
    torch.manual_seed(0)
    layer, (tokens, row) = DetrLayer(6, 4, 2).double().eval(), bank()
    centres = layer(tokens, row)
    assert centres.shape == (4, 6)
    order = torch.randperm(len(tokens))
    torch.testing.assert_close(layer(tokens[order], row[order]), centres)
    (centres * torch.randn(4, 6, dtype=torch.float64)).sum().backward()
    assert all(parameter.grad.abs().max() > 1e-12 for parameter in layer.parameters())


@pytest.mark.parametrize("kind", ["codewords", "detr_layer", "em_attention", *KINDS])
def test_every_option_builds_its_summarizer(kind: str) -> None:
    torch.manual_seed(0)
    summarizer = build_summarizer(SummaryOptions(kind=kind, count=4, heads=2), 6, 3)
    tokens, row = bank()
    summarizer = summarizer.double()
    summarizer.refresh(tokens, row)
    centres = summarizer(tokens, row)
    assert centres.shape[1] == 6
    assert 1 <= len(centres) <= 4
    assert centres.requires_grad == (kind not in KINDS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_clusterings_of_a_bank_on_the_gpu(kind: str) -> None:
    slots, _ = planted([20] * 3)
    expected = summary(refreshed(kind, slots, 5), slots)
    torch.manual_seed(0)
    summarizer = Clustering(kind, slots.shape[1], 5).cuda()
    summarizer.refresh(slots.cuda(), torch.zeros(len(slots), dtype=torch.int64).cuda())
    assert torch.equal(summary(summarizer, slots.cuda()).cpu(), expected)
