"""FTCL against tensors recorded from its released code, and its alignments against one cell at a time."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baselines.acmnet import AcmNet, AcmNetOptions
from baselines.ftcl import (
    Ftcl,
    FtclOptions,
    contrast,
    draw_pairs,
    in_time,
    longest_common,
    most_attended,
    soft_alignment,
)
from wstal.parts.cosine import cosines
from wstal.types import Batch, Snippets

MODULES = {
    "embedding": "feature_embedding.0",
    "attention": "att_branch",
    "classifier": "snippet_cls",
    "transform": "feature_trans",
}
LOSSES = {
    "instance": "act_inst_loss",
    "context": "act_cont_loss",
    "background": "act_back_loss",
    "guide": "guide_loss",
    "feature": "feat_loss",
    "sparse": "sparse_loss",
    "lcs": "lcs_unweighted",
    "fsd": "fsd_unweighted",
    "total": "total",
}
BRANCHES = ("inst", "cont", "back")


def theirs(name: str) -> str:
    module, part = name.split(".")
    return f"{MODULES[module]}.{part}"


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / "ftcl_small_parity.npz"))


@pytest.fixture
def recorded(tensors) -> tuple[Ftcl, Batch]:
    """The model in its second stage, and the pairs as its batches have them: rows 0 and 1, 2 and 3, ..."""
    features, labels = (
        torch.from_numpy(np.stack([tensors[f"input/{name}{side}"] for side in (1, 2)], axis=1)).flatten(0, 1)
        for name in ("x", "y")
    )
    options = FtclOptions(width=len(tensors["sd/feature_trans.bias"]))
    model = Ftcl(options, features.shape[2], labels.shape[1]).eval()
    model.load_state_dict({name: torch.from_numpy(tensors[f"sd/{theirs(name)}"]) for name in model.state_dict()})
    model.start_epoch(0, 1)
    return model, Batch(features, labels, tuple(map(str, range(len(labels)))))


def test_forward_equals_the_released_code(recorded, tensors) -> None:
    model, batch = recorded
    with torch.no_grad():
        snippets = model.snippets(batch.features)
        embedded, attention, cas = snippets.embedded, snippets.attention, snippets.cas
        attended, ranked = most_attended(snippets, 30)
        found = {
            "embedding": embedded,
            "att": attention,
            "cas": cas.softmax(dim=-1),
            "lcs_candi": in_time(attended, ranked),
            "fsd_act_candi": model.transform(in_time(attended[:, :5], ranked[:, :5])),
            "fsd_bak_candi": model.transform(in_time(attended[:, 5:10], ranked[:, 5:10])),
        }
        for kind, name in enumerate(BRANCHES):
            found[f"{name}_cas"] = (cas * attention[..., kind : kind + 1]).softmax(dim=-1)
            found[f"{name}_cls"] = model._video_log_scores(cas, attention, kind).exp()
            found[f"{name}_feat"] = model._pooled_feature(embedded, attention, kind)
    assert {f"out/{name}_1" for name in found} == {name for name in tensors if name.startswith("out") and "_1" in name}
    for name, value in found.items():
        close(value[0::2], tensors[f"out/{name}_1"])
        close(value[1::2], tensors[f"out/{name}_2"])


def test_alignments_equal_the_released_code(recorded, tensors) -> None:
    model, batch = recorded
    with torch.no_grad():
        attended, ranked = most_attended(model.snippets(batch.features), 30)
        ordered = in_time(attended, ranked)
        close(cosines(ordered[0::2], ordered[1::2]), tensors["out/lcs_similarity"])
        close(model.lcs(attended, ranked), tensors["out/lcs_per_pair"])
        for name, same in {"act_act": True, "act_bak": False}.items():
            scores = model.fsd(attended, ranked, torch.full((len(ranked) // 2,), same))
            close(scores, tensors[f"out/fsd_{name}_per_pair"])


def test_losses_and_gradients_equal_the_released_code(recorded, tensors) -> None:
    model, batch = recorded
    losses = model.losses(batch)
    for ours, name in LOSSES.items():
        close(losses[ours], tensors[f"loss/{name}"])
    losses["total"].backward()
    for name, parameter in model.named_parameters():
        norm, total = tensors[f"grad/{theirs(name)}"]
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        slack = 1e-6 * norm * parameter.numel()
        assert parameter.grad.double().sum().item() == pytest.approx(total, rel=1e-5, abs=slack)


def test_parameter_counts(shared: Path) -> None:
    small = json.loads((shared / "fixtures" / "ftcl_small_parity.json").read_text())
    model = Ftcl(FtclOptions(width=small["fc_dim"]), small["D"], small["C"])
    assert model.parameter_count() == small["params"]
    with torch.device("meta"):
        model = Ftcl(FtclOptions(), 2048, 20)
    assert model.parameter_count() == 12_634_136 + (2048 + 1) * 1024  # ACM-Net and one linear layer


def test_the_first_stage_is_acmnet() -> None:
    torch.manual_seed(0)
    model = Ftcl(FtclOptions(pair_start=0.6), 8, 3).eval()
    base = AcmNet(AcmNetOptions(), 8, 3).eval()
    base.load_state_dict({name: value for name, value in model.state_dict().items() if "transform" not in name})
    batch = Batch(torch.rand(4, 40, 8), torch.eye(3)[[0, 0, 1, 2]], tuple("abcd"))
    model.start_epoch(2, 5)
    first, expected = model.losses(batch), base.losses(batch)
    assert all(torch.equal(first[name], value) for name, value in expected.items())
    assert first["lcs"].item() == first["fsd"].item() == 0
    labels, rng = [(0,), (0,), (1,), (2,)], np.random.default_rng(0)
    assert sorted(np.concatenate(model.train_batches(labels, 3, rng)).tolist()) == [0, 1, 2, 3]
    model.start_epoch(3, 5)
    second = model.losses(batch)
    assert second.keys() == first.keys()
    assert second["lcs"].item() != 0
    assert second["fsd"].item() != 0
    weighted = expected["total"] + 0.1 * second["lcs"] + 0.8 * second["fsd"]
    torch.testing.assert_close(second["total"], weighted)
    assert [model.stage(epoch, 5) for epoch in range(5)] == [0, 0, 0, 1, 1]
    usual = Ftcl(FtclOptions(), 2, 2)
    assert [usual.stage(epoch, Ftcl.recipe("thumos14").train.epochs) for epoch in (0, 499, 500, 707)] == [0, 0, 1, 1]
    assert [usual.stage(epoch, 2) for epoch in range(2)] == [0, 1]
    assert usual.stage(0, 1) == 1  # there is an epoch over pairs in any training


def one_cell_at_a_time(match: np.ndarray, step) -> float:
    cells = np.zeros((match.shape[0] + 1, match.shape[1] + 1))
    for i in range(match.shape[0]):
        for j in range(match.shape[1]):
            cells[i + 1, j + 1] = step(i, j, cells[i, j], cells[i, j + 1], cells[i + 1, j])
    return cells[-1, -1]


@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 2**16))
def test_alignments_equal_loops_over_cells(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    match, gap = rng.uniform(-1, 1, (2, 3, rows, columns))
    lengths = longest_common(torch.from_numpy(match), 0.3)
    scores = soft_alignment(torch.from_numpy(match), torch.from_numpy(gap), 0.1)
    for pair in range(3):
        m, g = match[pair], gap[pair]

        def common(i, j, corner, above, left, m=m):
            return corner + m[i, j] if m[i, j] > 0.3 else max(above, left)

        def soft(i, j, corner, above, left, m=m, g=g):
            ways = np.array([corner, g[i, j] + above, g[i, j] + left])
            return m[i, j] + 0.1 * np.log(np.exp(ways / 0.1).sum())

        assert lengths[pair].item() == pytest.approx(one_cell_at_a_time(m, common))
        assert scores[pair].item() == pytest.approx(one_cell_at_a_time(m, soft))


def test_gradients_of_the_alignments_are_those_of_their_values() -> None:
    rng = np.random.default_rng(0)
    match, gap = (torch.from_numpy(values).requires_grad_() for values in rng.uniform(-1, 1, (2, 2, 4, 3)))
    assert torch.autograd.gradcheck(lambda m: longest_common(m, 0.3), match)
    assert torch.autograd.gradcheck(lambda m, g: soft_alignment(m, g, 0.1), (match, gap))


def test_longest_common_by_hand() -> None:
    # a b c against b c a: b and c are common and in order, a crosses them
    similarity = torch.tensor([[[0.0, 0.0, 1.0], [0.95, 0.0, 0.0], [0.0, 0.93, 0.92]]])
    assert longest_common(similarity, 0.92).item() == pytest.approx(0.95 + 0.93)
    assert longest_common(similarity, 0.95).item() == pytest.approx(1.0)


def test_soft_alignment_by_hand() -> None:
    # 1 x 2: C(1, 1) = .5 + .1 log(1 + 2 e^2) with gaps of .2; C(1, 2) = .5 + .1 log(1 + e^2 + e^(2 + 10 C(1, 1)))
    match, gap = torch.full((1, 1, 2), 0.5), torch.full((1, 1, 2), 0.2)
    first = 0.5 + 0.1 * math.log(1 + 2 * math.exp(2))
    second = 0.5 + 0.1 * math.log(1 + math.exp(2) + math.exp(2 + 10 * first))
    assert soft_alignment(match, gap, 0.1).item() == pytest.approx(second)


def test_contrast_by_hand() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0])
    assert contrast(scores, torch.tensor([True, False, False])).item() == pytest.approx(1.5 - 3)
    assert contrast(scores, torch.tensor([True, True, True])).item() == pytest.approx(-2)
    assert contrast(scores, torch.tensor([False, False, False])).item() == pytest.approx(2)


def test_most_attended_snippets_return_in_the_order_of_time() -> None:
    attention = torch.tensor([[0.1, 0.9, 0.3, 0.5]]).unsqueeze(-1).expand(-1, -1, 3)
    snippets = Snippets(torch.arange(4.0).reshape(1, 4, 1), attention, torch.zeros(1, 4, 1))
    attended, ranked = most_attended(snippets, 3)
    assert attended.flatten().tolist() == ranked.flatten().tolist() == [1, 3, 2]
    assert in_time(attended, ranked).flatten().tolist() == [1, 2, 3]
    assert most_attended(snippets, 30)[1].shape == (1, 4)


LABELS = [(0,), (0,), (0, 1), (1,), (0, 1), (2,), (2,), (), (2,)]


EQUAL = {(0, 1), (2, 4), (5, 6), (5, 8), (6, 8)}


def kinds(pairs: np.ndarray, labels: list[tuple[int, ...]]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Those of equal and those of disjoint labels. There are no others."""
    both = [(one, other) for one, other in pairs.tolist()]
    equal = [pair for pair in both if labels[pair[0]] == labels[pair[1]]]
    disjoint = [pair for pair in both if not set(labels[pair[0]]) & set(labels[pair[1]])]
    assert sorted(equal + disjoint) == sorted(both)
    assert all(one < other for one, other in both)
    return equal, disjoint


@pytest.mark.parametrize("count", [1, 4, 10, 11])
def test_pairs_have_equal_or_disjoint_labels(count: int) -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(200):
        equal, disjoint = kinds(draw_pairs(LABELS, count, rng), LABELS)
        assert (len(equal), len(disjoint)) == (count - count // 2, count // 2)
        assert set(equal) <= EQUAL
        assert len(set(equal)) == min(len(equal), len(EQUAL)) or count == 11  # repeated only where there are too few
        seen |= set(disjoint)
    expected = {
        (one, other)
        for one in range(9)
        for other in range(one + 1, 9)
        if LABELS[one] and LABELS[other] and not set(LABELS[one]) & set(LABELS[other])
    }
    assert seen == (expected if count > 1 else set())


def test_pairs_of_a_kind_are_equally_likely() -> None:
    labels = [(0,)] * 4 + [(1,), (1,), (2,)]
    found = kinds(draw_pairs(labels, 20_000, np.random.default_rng(0)), labels)
    for pairs, expected in zip(found, (6 + 1, 4 * 2 + 4 + 2), strict=True):
        counts = np.unique(pairs, axis=0, return_counts=True)[1]
        assert len(counts) == expected
        np.testing.assert_allclose(counts / counts.sum(), 1 / expected, rtol=0.15)


def test_one_kind_of_pairs_may_be_missing() -> None:
    rng = np.random.default_rng(0)
    assert draw_pairs([(0,), (0,)], 3, rng).tolist() == [[0, 1]] * 3
    for nothing in ([(0,), (1,)], [()], [(), ()]):
        assert draw_pairs(nothing, 4, rng).shape == (0, 2)
        model = Ftcl(FtclOptions(), 2, 2)
        model.start_epoch(0, 1)
        assert sorted(np.concatenate(model.train_batches(nothing, 4, rng)).tolist()) == [*range(len(nothing))]


def test_a_batch_of_the_second_stage_is_all_pairs() -> None:
    model = Ftcl(FtclOptions(pairs=3), 2, 3)
    for size, most in ((16, 6), (2, 4)):
        model.start_epoch(0, 2)
        usual = model.train_batches(LABELS, size, np.random.default_rng(0))
        model.start_epoch(1, 2)
        batches = model.train_batches(LABELS, size, np.random.default_rng(0))
        assert [len(batch) for batch in batches] == [most] * len(usual)
        equal, disjoint = kinds(np.concatenate(batches).reshape(-1, 2), LABELS)
        assert abs(len(equal) - len(disjoint)) <= 1


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 9, 10])
def test_short_videos_are_aligned(rows: int) -> None:
    torch.manual_seed(0)
    model = Ftcl(FtclOptions(), 8, 3)
    model.start_epoch(0, 1)
    losses = model.losses(Batch(torch.rand(4, rows, 8), torch.eye(3)[[0, 0, 1, 2]], tuple("abcd")))
    losses["total"].backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_training_draws_actions_of_a_class_together() -> None:
    """Minimising the loss raises the scores of pairs that share a class and lowers the others'."""
    torch.manual_seed(0)
    model = Ftcl(FtclOptions(instance_weight=0, guide=0, feature=0, sparse=0), 16, 2).eval()
    model.start_epoch(0, 1)
    batch = Batch(torch.randn(4, 40, 16), torch.eye(2)[[0, 0, 0, 1]], tuple("abcd"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    values = []
    for _ in range(30):
        losses = model.losses(batch)
        values.append((losses["fsd"].item(), losses["lcs"].item()))
        optimizer.zero_grad()
        (losses["fsd"] + losses["lcs"]).backward()
        optimizer.step()
    assert values[-1][0] < values[0][0] - 0.5


def close(actual: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-6)
