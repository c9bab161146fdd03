"""ASM-Loc against tensors recorded from its released networks, and against its rules worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.asmloc import (
    ACTIVITYNET_OPTIONS,
    BETWEEN,
    AsmLoc,
    AsmLocOptions,
    Found,
    Network,
    uncertain_cross_entropy,
)
from harness.random_streams import seed_torch
from harness.runs.training import train
from tests.helpers.training import RUN, SPEC, goes_on_to_the_same_bits, videos
from wstal.localize.intervals import covered
from wstal.localize.time_warp import TimeWarp, stretch
from wstal.types import Batch, Scores

MODULES = {
    "embedding": "feature_embedding.0",
    "attention": "att_branch",
    "classifier": "snippet_cls",
    "uncertainty": "uncertainty_branch",
}
PARTS = {"query": "conv_query", "key": "conv_key", "value": "conv_value", "output": "conv_out", "norm": "bn"}
for _ours, _theirs in {"within": "MHSA_Intra", "between": "MHSA_Inter"}.items():
    MODULES |= {f"{_ours}.{name}": f"{_theirs}.{part}" for name, part in PARTS.items()}
NOTHING = torch.zeros(3)
CLASSIFICATION = {"foreground": "fg_loss", "background": "bg_loss", "context": "abg_loss"}


def theirs(name: str) -> str:
    module, _, part = name.rpartition(".")
    return f"{MODULES[module]}.{part}"


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / "asmloc_small_parity.npz"))


@pytest.fixture(params=["base", "full"])
def recorded(request: pytest.FixtureRequest, tensors: dict[str, np.ndarray]) -> tuple[str, AsmLoc, Batch]:
    """The method in the step whose network was recorded, as if an earlier step had found the recorded segments."""
    kind = request.param
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    rows = features.shape[1]
    model = AsmLoc(AsmLocOptions(steps=(0.5,), rows=rows), features.shape[2], labels.shape[1]).eval()
    step = int(kind == "full")
    network = model.networks[step]
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    network.load_state_dict(
        {name: torch.from_numpy(tensors[f"sd_{kind}/{theirs(name)}"]).reshape(shapes[name]) for name in shapes}
    )
    model.start_epoch(step, 2)
    model._lengths = dict.fromkeys("ab", rows)
    warp = TimeWarp(np.arange(rows + 1.0))
    for video, name in enumerate("ab"):
        # the recorded last rows are included
        times = tensors["input/bbox"][video, : tensors["input/count"][video]] + [0, 1.0]
        label = np.flatnonzero(tensors["input/y"][video])
        model._found[name] = Found(
            warp, times, np.tile(label, len(times)), np.repeat(times, len(label), axis=0), NOTHING
        )
    return kind, model, Batch(features, labels, ("a", "b"))


def test_forward_equals_the_released_code(recorded, tensors: dict[str, np.ndarray]) -> None:
    kind, model, batch = recorded
    inside = model._inside([model._found[name] for name in batch.videos], batch.features.shape[1])
    with torch.no_grad():
        out = model.networks[model._step](batch.features, inside)
    expected = {name: tensors[f"out_{kind}/{name}"] for name in ("att", "cas", "fg_cas", "bg_cas", "fg_cls", "bg_cls")}
    close(out.attention, expected["att"])
    close(out.cas.softmax(dim=-1), expected["cas"])
    close(out.foreground.exp(), expected["fg_cls"])
    close(out.background.exp(), expected["bg_cls"])
    for column, name in enumerate(("fg_cas", "bg_cas")):
        close((out.cas * out.attention[..., column, None]).softmax(dim=-1), expected[name])
    assert (out.uncertainty is None) == (kind == "base")
    if out.uncertainty is not None:
        close(out.uncertainty[..., None], tensors["out_full/uncertainty"])


def test_losses_and_gradients_equal_the_released_code(recorded, tensors: dict[str, np.ndarray]) -> None:
    kind, model, batch = recorded
    terms = model.losses(batch)
    for ours, name in CLASSIFICATION.items():
        assert terms[ours].item() == pytest.approx(tensors[f"loss_{kind}/{name}"][0], rel=1e-6)
    pseudo_label = tensors["loss_full/pseudo_instance_loss"][0] if kind == "full" else 0
    assert terms["pseudo_label"].item() == pytest.approx(pseudo_label, rel=1e-6)
    assert terms["total"].item() == pytest.approx(tensors[f"loss_{kind}/total"][0], rel=1e-6)
    terms["total"].backward()
    for name, parameter in model.networks[model._step].named_parameters():
        norm, total = tensors[f"grad_{kind}/{theirs(name)}"]
        if name.endswith("key.bias"):  # 0 up to rounding: a softmax does not change where all its inputs shift
            assert parameter.grad.norm().item() < 1e-9
            continue
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        error = 1e-6 * norm * parameter.numel()
        assert parameter.grad.double().sum().item() == pytest.approx(total, rel=1e-5, abs=error)


def test_pseudo_labels_equal_the_released_code(tensors: dict[str, np.ndarray], recorded) -> None:
    _, model, batch = recorded
    for video, name in enumerate(batch.videos):
        close(model._pseudo_labels(model._found[name]), tensors["input/pseudo"][video])
    nothing = model._pseudo_labels(None)
    assert nothing[:, :-1].sum() == 0
    assert nothing[:, -1].eq(1).all()


@pytest.mark.parametrize(("segments", "parameters"), [(False, 12_632_087), (True, 46_213_143)])
def test_parameter_counts_are_the_published_ones(segments: bool, parameters: int) -> None:
    with torch.device("meta"):
        network = Network(AsmLocOptions(), 2048, 20, segments)
    assert sum(one.numel() for one in network.parameters()) == parameters


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_uncertain_cross_entropy_by_hand() -> None:
    # two equal classes: CE log 2; u = 0 and log 2 -> (log 2 + .5 log 2) / 2 + .2 (log 2) / 2
    uncertainty = torch.tensor([[0.0, np.log(2)]], dtype=torch.float64)
    cas, targets = torch.zeros(1, 2, 2).double(), torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]).double()
    loss = uncertain_cross_entropy(cas, targets, uncertainty, 0.2)
    assert loss.item() == pytest.approx(0.75 * np.log(2) + 0.1 * np.log(2))


def fresh(seed: int = 0, **options: object) -> AsmLoc:
    seed_torch(seed, "initialisation")
    given = {"steps": (1 / 3, 2 / 3), "rows": 12, "dropout": 0.3, "heads": 4} | options
    return AsmLoc(AsmLocOptions.model_validate(given), 16, 3)


def test_steps_begin_at_shares_of_the_epochs() -> None:
    model = AsmLoc(AsmLocOptions(rows=4, heads=2), 4, 2)
    assert [model.stage(epoch, 800) for epoch in (0, 99, 100, 199, 200, 299, 300, 799)] == [0, 0, 1, 1, 2, 2, 3, 3]
    model = AsmLoc(ACTIVITYNET_OPTIONS.model_copy(update={"heads": 2}), 4, 2)
    assert [model.stage(epoch, 100) for epoch in (49, 50, 99)] == [0, 1, 1]


def test_a_training_video_is_interpolated_or_drawn_from() -> None:
    model = fresh(rows=5)
    assert model._positions(None, 3).tolist() == [0, 0.5, 1, 1.5, 2]
    model.train()
    torch.manual_seed(0)
    drawn = torch.stack([model._positions(None, 21) for _ in range(200)])
    # cells of [0, 4, 8, 12, 16, 20], whose upper edge is not drawn
    for cell in range(5):
        assert set(drawn[:, cell].tolist()) == {4.0 * cell, 4 * cell + 1, 4 * cell + 2, 4 * cell + 3}
    assert model.eval()._positions(None, 21).tolist() == [0, 4, 8, 12, 16]


def test_a_warped_video_is_interpolated_at_its_own_rows() -> None:
    warp = stretch(4, np.array([[1, 2]]), 3.0)  # row 1 lasts three rows
    found = Found(warp, np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros((0, 2)), NOTHING)
    assert fresh(rows=6)._positions(found, 4).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 2, 3])
    assert fresh(rows=6)._positions(found, 2).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1])  # a shorter sample


def scored(
    patch: pytest.MonkeyPatch, model: AsmLoc, attention: np.ndarray, cas: np.ndarray, video_scores: list[float]
) -> None:
    """Let a network give these scores, each row its own."""
    signals = {"cas": torch.from_numpy(cas), "attention": torch.from_numpy(attention)}
    warp = TimeWarp(np.arange(len(attention) + 1.0))
    patch.setattr(model, "_pass", lambda *_: (Scores(signals, torch.tensor(video_scores)), warp))


def test_proposals_become_segments_a_warp_and_pseudo_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh(rows=60, extension=0.5, stretched=6, kept=0.7)
    attention, cas = np.full(60, 0.1), np.full((60, 3), 0.05)
    for first, stop, value in ((10, 14, 0.9), (30, 50, 0.4)):
        attention[first:stop], cas[first:stop, 1] = 0.95, value
    scored(monkeypatch, model, attention, cas, [0.1, 0.8, 0.1])
    found = model._propose(torch.zeros(60, 16), 0, None)
    assert set(found.label) == {1}
    times = found.warp.unwarped(found.times.reshape(-1)).reshape(-1, 2)
    # samples between rows begin up to a row earlier, and rise and fall along a line
    assert all((abs(times - [10, 14]) <= 1).all(axis=1) | (abs(times - [30, 50]) <= 1).all(axis=1))
    # the first is extended by half of its length to either side, 8 rows of 12; the second one is longer than 12
    weights = np.diff(found.warp.edges)
    assert weights[8:16] == pytest.approx(1.5, abs=0.4)
    assert not (weights[17:] > 1).any()
    assert found.warp.length == 60 + round(weights[weights > 1].sum() - (weights > 1).sum())
    segments = found.warp.unwarped(found.segments.reshape(-1)).reshape(-1, 2)
    assert segments[0] == pytest.approx([8, 16], abs=2.5)
    assert segments[-1] == pytest.approx([20, 60], abs=2.5)


@pytest.mark.parametrize(
    ("labels", "video_scores", "expected"),
    [
        (None, [0.6, 0.3, 0.1], {0, 1}),
        ((1, 2), [0.6, 0.3, 0.1], {1}),  # of its classes those that are predicted
        ((2,), [0.6, 0.3, 0.1], {2}),  # none is predicted: the best of them
        ((), [0.6, 0.3, 0.1], set()),
    ],
)
def test_classes_of_proposals(
    labels: tuple[int, ...] | None, video_scores: list[float], expected: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fresh(rows=20)
    attention = np.full(20, 0.1)
    attention[5:9] = 0.95
    scored(monkeypatch, model, attention, np.tile(attention[:, None], (1, 3)), video_scores)
    assert set(model._propose(torch.zeros(20, 16), 0, None, labels).label) == expected


def test_the_last_scores_are_those_of_the_video_s_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh(steps=(0.5,))
    warp = stretch(4, np.array([[1, 2]]), 3.0)
    found = Found(warp, np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros((0, 2)), NOTHING)
    values = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.6, 0.9])  # rows 0, 1/3, 2/3, 1, 2, 3
    of_pass = Scores({"cas": values[:, None].repeat(1, 3), "attention": values}, torch.ones(3))
    monkeypatch.setattr(model, "_propose", lambda *_: found)
    monkeypatch.setattr(model, "_pass", lambda *_: (of_pass, warp))
    scores = model.score(torch.zeros(4, 16))
    assert scores.signals["attention"].tolist() == pytest.approx([0, 0.3, 0.6, 0.9])
    assert scores.signals["cas"].shape == (4, 3)


def test_thresholds_between_steps_are_the_published_ones() -> None:
    (attention,) = BETWEEN["attention"].sources
    assert attention.thresholds == pytest.approx(np.arange(0.4, 0.901, 0.025))
    assert BETWEEN["attention"].nms.threshold == 0.45
    (cas,) = BETWEEN["cas"].sources
    assert cas.thresholds == pytest.approx(np.arange(0.1, 0.3001, 0.005))
    assert cas.masked
    assert cas.score == {"cas": 0.7, "attention": 0.3}
    assert (BETWEEN["cas"].margin, BETWEEN["cas"].nms.threshold) == (0.15, 0.9)


def test_options_are_the_published_ones() -> None:
    options = AsmLoc.recipe("thumos14").method
    assert (options.rows, options.dropout, options.foreground_ratio, options.background_ratio) == (750, 0.7, 8, 3)
    assert (options.kept, options.extension, options.stretched) == (0.7, 0.5, 6)
    options = AsmLoc.recipe("activitynet13").method
    assert (options.rows, options.input_dropout, options.foreground_ratio, options.background_ratio) == (
        150,
        True,
        2,
        10,
    )
    assert (options.foreground, options.background, options.uncertainty) == (5, 0.5, 0.2)
    assert (options.kept, options.extension, options.stretched) == (0.3, 0, 10)


def test_heads_divide_the_columns() -> None:
    assert [AsmLoc(AsmLocOptions(), width, 2).networks[1].within.heads for width in (16, 12, 7)] == [8, 4, 1]


# --- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_run_goes_on_to_the_same_bits(stop: int, tmp_path: Path) -> None:
    trained = goes_on_to_the_same_bits(fresh, stop, tmp_path)
    assert any(len(one.times) for one in trained._found.values())


def test_each_step_trains_a_fresh_network_alone(tmp_path: Path) -> None:
    model, states = fresh(), list[dict[str, Tensor]]()
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    train(
        model, videos(), SPEC, 0, tmp_path, RUN,
        on_progress=lambda *_: states.append({name: value.clone() for name, value in model.state_dict().items()}),
    )  # fmt: skip
    for epoch, (before, after) in enumerate(zip([initial, *states], states, strict=False)):
        moved = {name.split(".")[1] for name, value in after.items() if not torch.equal(value, before[name])}
        assert moved == {str(epoch // 2)}


def test_segments_of_a_step_are_found_by_the_steps_before() -> None:
    model, given = fresh(), videos()
    model.train().start_epoch(4, 6, given)
    expected = {}
    model.eval()
    for video in given:
        features = torch.from_numpy(video.features)
        first = model._propose(features, 0, None, video.labels)
        expected[video.name] = model._propose(features, 1, first, video.labels)
    for name, found in model._found.items():
        np.testing.assert_array_equal(found.times, expected[name].times)
        np.testing.assert_array_equal(found.warp.edges, expected[name].warp.edges)
        assert covered(found.segments, found.warp.length, 12).shape == (len(found.segments), 12)


def close(actual: Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual, torch.from_numpy(expected), rtol=1e-5, atol=1e-7)
