"""D2-Net against tensors recorded from its released code, and its formulas and localizer against values by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.d2net import (
    ACTIVITYNET_OPTIONS,
    LOCALIZER,
    D2Net,
    D2NetOptions,
    bottom_up_attention,
    focal_loss,
    random_matching,
    running_mean,
    weighted_mean,
)
from baselines.wtalc import rows_present
from wstal.errors import UserError
from wstal.localize import localize
from wstal.types import Batch, SnippetScores

LAYERS = {"residuals.0": "conv", "residuals.1": "conv1", "classifier": "classifier"}

LOSSES = {"discriminative": "dis", "snippet_denoising": "lds", "video_denoising": "ldv", "total": "total"}


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / "d2net_small_parity.npz"))


@pytest.fixture
def recorded(tensors: dict[str, np.ndarray]) -> tuple[D2Net, Batch]:
    """Beyond the first denoising step."""
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    half = features.shape[2] // 2
    model = D2Net(D2NetOptions(streams=(half, half)), features.shape[2], labels.shape[1]).eval()
    state = {
        f"{ours}.{part}": torch.from_numpy(tensors[f"sd/{theirs}.{part}"])
        for ours, theirs in LAYERS.items()
        for part in ("weight", "bias")
    }
    model.load_state_dict(state | {"background": torch.from_numpy(tensors["sd/running_bg"][0])})
    model.start_epoch(99, 100)
    return model, Batch(features, labels, tuple(map(str, range(len(labels)))))


def test_forward_equals_the_released_code(recorded, tensors) -> None:
    model, batch = recorded
    with torch.no_grad():
        cas, embedded = model.cas_and_embedding(batch.features)
    close(cas, tensors["out/tcam"])
    close(embedded, tensors["out/feat"])
    close(bottom_up_attention(embedded, torch.from_numpy(tensors["out/running_bg_after"][0])), tensors["out/lambda"])
    present = rows_present(batch.features)
    assert present.sum(dim=1).tolist() == tensors["input/seq_len"].tolist()
    quietest = embedded[torch.arange(len(cas)), cas.amax(dim=2).masked_fill(~present, 2).argmin(dim=1)]
    has_background = ((cas.amax(dim=2) <= 0.5) & present).any(dim=1)
    close(running_mean(model.background, quietest, has_background), tensors["out/running_bg_after"][0])


def test_losses_and_gradients_equal_the_released_code(recorded, tensors, monkeypatch) -> None:
    """On its pairs, and without a mask between layers."""
    model, batch = recorded
    monkeypatch.setattr(model, "partners", recorded_partners(tensors))
    losses = model.terms(batch.labels, rows_present(batch.features), *model.cas_and_embedding(batch.features))
    for ours, theirs in LOSSES.items():
        close(losses[ours], tensors[f"loss/{theirs}"])
    losses["total"].backward()
    for name, parameter in model.named_parameters():
        layer, part = name.rsplit(".", 1)
        norm, total = tensors[f"grad/{LAYERS[layer]}.{part}"]
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        slack = 1e-6 * norm * parameter.numel()
        assert parameter.grad.double().sum().item() == pytest.approx(total, rel=1e-5, abs=slack)


def recorded_partners(tensors: dict[str, np.ndarray]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The draws for foregrounds, backgrounds and both, as indices into the lists of the videos that have these."""
    draws = iter([(None, "fg"), (None, "bg"), ("sep_fg", "sep_bg")])

    def partners(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        first, second = next(draws)
        rows, columns = one.numpy().nonzero()[0], other.numpy().nonzero()[0]
        fewest = min(len(rows), len(columns))
        rows = rows if first is None else rows[tensors[f"input/perm_{first}"][:fewest]]
        weights = torch.zeros(len(one), len(one))
        weights[rows, columns[tensors[f"input/perm_{second}"][:fewest]]] = 1
        return weights

    return partners


def test_parameter_counts(shared: Path) -> None:
    """The released code counts the running background as a parameter."""
    small = json.loads((shared / "fixtures" / "d2net_small_parity.json").read_text())
    half = small["D"] // 2
    model = D2Net(D2NetOptions(streams=(half, half)), small["D"], small["C"])
    assert model.parameter_count() + model.background.numel() == small["params"]
    with torch.device("meta"):
        thumos = D2Net(D2NetOptions(streams=(1024, 1024)), 2048, 20)
        activitynet = D2Net(ACTIVITYNET_OPTIONS.model_copy(update={"streams": (1024, 1024)}), 2048, 100)
    assert thumos.parameter_count() == 2 * (2048 * 1024 * 3 + 2048) + 40 * 1024 + 40
    assert activitynet.parameter_count() == 2 * (2048 * 1024 * 5 + 2048) + 200 * 1024 * 5 + 200


# --- formulas ---------------------------------------------------------------------------------------------------------


def test_focal_loss_by_hand() -> None:
    scores, labels = torch.tensor([[0.8, 0.4], [0.9, 0.9]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    inflation = torch.tensor([[0.2, 0.0], [0.3, 0.0]])
    loss = focal_loss(scores, labels, torch.tensor([True, False]), inflation)
    # the positive one twice, for two classes; the second video does not count
    expected = (2 * (0.2 + 0.2) ** 2 * -np.log(0.8) + (0.4 + 0.3) ** 2 * -np.log(0.6)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert focal_loss(scores, labels, torch.tensor([False, False]), inflation).item() == 0


def test_distances_inflate_the_loss_by_hand(monkeypatch) -> None:
    """Two classes with activations of snippets of 0.55 to 0.9 and of 0.1, whose embeddings are known."""
    model = D2Net(D2NetOptions(grouping=0.5, ratio=5), 2, 2).eval()
    cas = torch.full((2, 5, 2), 0.1)
    cas[0, 0], cas[0, 1], cas[1, 0] = torch.tensor([0.55, 0.3]), torch.tensor([0.1, 0.9]), torch.tensor([0.6, 0.1])
    embedded = torch.tensor([[0.0, 1.0]]).expand(2, 5, 2).clone()  # background
    embedded[0, 0], embedded[0, 1], embedded[1, 0] = (torch.tensor(row) for row in ([1.0, 0.0], [1.0, 1.0], [1.0, 0.0]))
    seen: dict[str, torch.Tensor] = {}
    monkeypatch.setattr("baselines.d2net.focal_loss", lambda *given: seen.update(inflation=given[3]) or cas.sum())
    monkeypatch.setattr(model, "partners", lambda one, other: torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    model.terms(torch.eye(2), torch.ones(2, 5, dtype=torch.bool), cas, embedded)
    # the first foreground is (0.55 (1, 0) + 0.9 (1, 1)) / 1.45, the second (1, 0); all backgrounds are (0, 1)
    first = np.array([1.45, 0.9]) / np.hypot(1.45, 0.9)
    near = np.array([first[1], 0.0])
    close(seen["inflation"], np.stack([0.5 * (1 - first[0]) + near, near]))


def test_weighted_mean_by_hand() -> None:
    mean, some = weighted_mean(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]), torch.tensor([[0.5, 1.5], [0.0, 0.0]]))
    assert mean.tolist() == [[1.75], [0.0]]
    assert some.tolist() == [True, False]


def test_random_matching_pairs_each_video_once() -> None:
    torch.manual_seed(0)
    one = torch.tensor([True, False, True, True, True])
    other = torch.tensor([True, True, True, False, False])
    seen = torch.zeros(5, 5)
    for _ in range(600):
        pairs = random_matching(one, other)
        assert pairs.sum() == 3
        assert pairs.sum(dim=0).max() == pairs.sum(dim=1).max() == 1
        seen += pairs
    # a video of the first set takes part in 3 of 4, with each of 3 alike
    assert not seen[~one].any()
    assert not seen[:, ~other].any()
    np.testing.assert_allclose(seen[one][:, other] / 600, 0.25, atol=0.06)
    assert random_matching(~one & ~other, other).sum() == 0
    close(D2Net(D2NetOptions(), 4, 2).eval().partners(one, other)[0], np.array([1, 1, 1, 0, 0]) / 3)


def test_the_background_is_a_running_mean_of_steps() -> None:
    torch.manual_seed(0)
    model = D2Net(D2NetOptions(streams=(4, 4), dropout=0.0), 8, 3).train()
    model.start_epoch(0, 10)
    batch = Batch(torch.rand(4, 20, 8), torch.eye(3)[[0, 1, 2, 0]], tuple("abcd"))
    torch.nn.init.constant_(model.classifier.bias, -3)
    with torch.no_grad():
        cas, embedded = model.cas_and_embedding(batch.features)
    quietest = torch.stack([x[a.amax(dim=1).argmin()] for x, a in zip(embedded, cas, strict=True)]).mean(dim=0)
    for step in (1, 2):
        model.losses(batch)
        assert model.background.any() == (step > 1)  # the step's own is stored after it
        model.end_step()
        close(model.background, (1 - 0.9**step) * quietest)
    model.eval().losses(batch)
    model.end_step()
    close(model.background, (1 - 0.9**2) * quietest)
    close(running_mean(torch.ones(2), torch.zeros(3, 2), torch.zeros(3, dtype=torch.bool)), np.ones(2))


# --- training ---------------------------------------------------------------------------------------------------------


def test_denoising_takes_every_second_step_from_its_start_on(recorded) -> None:
    model, batch = recorded
    active = []
    for epoch in (4, 5):
        model.start_epoch(epoch, 100)
        for _ in range(3):
            active.append(model.losses(batch)["video_denoising"].item() > 0)
            model.end_step()
    assert active == [False, False, False, True, False, True]


def test_a_denoising_step_asks_the_device_nothing(recorded) -> None:
    model, batch = recorded
    model = model.train().to("meta")
    model.losses(Batch(batch.features.to("meta"), batch.labels.to("meta"), batch.videos))["total"].backward()
    model.end_step()


def test_streams_never_mix() -> None:
    torch.manual_seed(0)
    model = D2Net(D2NetOptions(streams=(4, 4)), 8, 3).eval()
    features = torch.rand(1, 10, 8)
    other = features.clone()
    other[..., 4:] = 0
    alone = D2Net(D2NetOptions(), 4, 3).eval()
    alone.load_state_dict(
        {name: value[: len(value) // 2] if "." in name else value for name, value in model.state_dict().items()}
    )
    with torch.no_grad():
        (both, mean), (cut, _) = (model.cas_and_embedding(one) for one in (features, other))
        (first, embedded) = alone.cas_and_embedding(features[..., :4])
    assert not torch.equal(both, cut)
    second = 2 * both - first  # the other stream's activation
    assert ((second > 0) & (second < 1)).all()
    torch.testing.assert_close(2 * cut - first, torch.full_like(first, 0.5))
    assert mean.shape == embedded.shape


def test_streams_of_different_width_are_an_error() -> None:
    with pytest.raises(UserError, match=r"have \[8, 4\] columns.*--streams"):
        D2Net(D2NetOptions(streams=(8, 4)), 12, 3)


@pytest.mark.parametrize("options", [D2NetOptions(), ACTIVITYNET_OPTIONS], ids=["thumos14", "activitynet"])
def test_padding_stays_zero_between_layers(options: D2NetOptions) -> None:
    torch.manual_seed(0)
    model = D2Net(options, 8, 3).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.start_epoch(9, 10)
    features, labels = torch.rand(3, 20, 8), torch.eye(3)
    features[0, 12:] = 0
    longer = torch.nn.functional.pad(features, (0, 0, 0, 13))
    losses, padded = (model.losses(Batch(one, labels, tuple("abc"))) for one in (features, longer))
    torch.testing.assert_close(padded, losses)
    present = rows_present(features)
    with torch.no_grad():
        alone, _ = model.cas_and_embedding(features[:1, :12])
        among, _ = model.cas_and_embedding(features, present)
    torch.testing.assert_close(among[:1, :12], alone)


def test_short_videos_and_videos_without_labels_have_no_loss() -> None:
    torch.manual_seed(0)
    model = D2Net(D2NetOptions(), 8, 3).eval()
    features, labels = torch.rand(3, 9, 8), torch.eye(3)
    features[0, 4:] = 0
    labels[1] = 0
    whole, alone = (model.losses(Batch(features[rows], labels[rows], ("v",) * 3))["total"] for rows in ([0, 1, 2], [2]))
    torch.testing.assert_close(whole, alone)
    assert model.losses(Batch(features[:2], labels[:2], ("v",) * 2))["total"].item() == 0


def test_batches_draw_videos_with_replacement() -> None:
    model = D2Net(D2NetOptions(), 4, 2)
    batches = [model.train_batches([(0,)] * 10, 4, np.random.default_rng(seed)) for seed in range(9)]
    assert all([len(batch) for batch in epoch] == [4, 4, 4] for epoch in batches)
    assert any(len(set(batch.tolist())) < 4 for epoch in batches for batch in epoch)
    assert np.array_equal(np.diff(model.train_indices(900, 750, np.random.default_rng(0))), np.ones(749))


# --- localizer --------------------------------------------------------------------------------------------------------


def plain(weighted: np.ndarray, kept: list[int], seconds: float) -> list[tuple[int, float, float, float]]:
    """The released rules for one video: class, score, start, end, with the filter by contrast and its pruning."""
    rows = []
    for label in kept:
        signal, found = weighted[:, label], []
        for step in range(1, 20):
            active = np.concatenate([[0], signal > step / 40, [0]]).astype(int)
            starts, ends = (np.flatnonzero(np.diff(active) == sign) for sign in (1, -1))
            for first, stop in zip(starts, ends, strict=True):
                if stop - first < 2:
                    continue
                reach = max(1, (stop - first) // 4)
                sides = [signal[max(0, first - reach) : first], signal[stop : stop + reach]]
                means = [side.mean() for side in sides if len(side)]
                inner, outer = signal[first:stop].mean(), np.mean(means) if means else None
                if outer is None or (outer - inner + 1) / 2 <= 0.7:
                    found.append((label, inner - (outer or 0), int(first), int(stop)))
        stays: list[tuple[int, float, int, int]] = []
        for row in sorted(found, key=lambda row: (-row[1], row[2], row[3])):
            spans = [(set(range(*row[2:])), set(range(*other[2:]))) for other in stays]
            if all(len(a & b) / len(a | b) < 0.3 for a, b in spans):
                stays.append(row)
        rows += [row for row in stays if row[1] >= 0.1 * stays[0][1]]
    return [(label, score, first * seconds, stop * seconds) for label, score, first, stop in rows]


@pytest.mark.parametrize("length", [1, 2, 9, 40, 77])
@pytest.mark.parametrize("few", [False, True])
def test_detections_follow_the_released_rules(length: int, few: bool) -> None:
    rng = np.random.default_rng(length)
    smooth = np.convolve(rng.standard_normal(length * 12), np.ones(3), mode="same").reshape(12, length).T
    cas = 1 / (1 + np.exp(-2 * smooth - np.linspace(2, -6, 12)))
    attention = rng.uniform(0.2, 0.8, length)
    options = ACTIVITYNET_OPTIONS if few else D2NetOptions()
    scores = D2Net(options, 1, 12).scores(torch.from_numpy(cas), torch.from_numpy(attention))
    one = SnippetScores(
        "v",
        {name: signal.numpy() for name, signal in scores.signals.items()},
        scores.video_scores.numpy(),
        0.64,
        class_scores={name: value.numpy() for name, value in scores.class_scores.items()},
    )
    found = localize([one], LOCALIZER, tuple(map(str, range(12))))

    if few:
        highest = np.sort(cas, axis=0)[::-1][: -(-length // 8)].mean(axis=0)
        weighted = cas * (2 * attention / attention.max())[:, None]
        weighted[:, np.argsort(highest)[:-2]] = 0
    else:
        weighted = cas * attention[:, None]
    mean = np.sort(weighted, axis=0)[::-1][: max(1, length // (4 if few else 8))].mean(axis=0)
    kept = mean > ((1 if (mean > 1).any() else 0.5) if few else mean.max() / 2)
    assert 0 < kept.sum() < 12
    expected = plain(weighted, np.flatnonzero(kept).tolist(), 0.64)
    table = np.stack([found.label, found.score, found.start, found.end], axis=1)
    np.testing.assert_allclose(table, np.array(expected).reshape(-1, 4), rtol=1e-12, atol=1e-12)


def close(actual: torch.Tensor, expected: np.ndarray | torch.Tensor) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-6)
