"""STPN against tensors derived from its graph, weights that were released, and its post-processing by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.stpn import Stpn, StpnNetwork, StpnNetworkOptions, StpnOptions
from wstal.localize import localize
from wstal.types import Batch, SnippetScores

LAYERS = {"hidden": "fc1", "attention": "fc2", "classifier": "cls"}
RELEASED = {
    "hidden": "Attention.dense",
    "attention": "Attention.dense_1",
    "classifier": "Classification.class_weight",
}


@pytest.fixture
def recorded(shared: Path) -> tuple[StpnNetwork, Batch, dict[str, np.ndarray]]:
    tensors = dict(np.load(shared / "fixtures" / "stpn_small_parity.npz"))
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    hidden = len(tensors["sd/fc1.bias"])
    model = StpnNetwork(StpnNetworkOptions(hidden=hidden), features.shape[2], labels.shape[1]).eval()
    parts = [(ours, theirs, part) for ours, theirs in LAYERS.items() for part in ("weight", "bias")]
    model.load_state_dict({f"{o}.{part}": torch.from_numpy(tensors[f"sd/{t}.{part}"]) for o, t, part in parts})
    return model, Batch(features, labels, tuple(str(i) for i in range(len(features)))), tensors


def test_forward_equals_the_derived_graph(recorded) -> None:
    model, batch, expected = recorded
    with torch.no_grad():
        snippets = model.snippets(batch.features)
        logits = model.video_logits(snippets.cas, snippets.attention)
        close(snippets.attention, expected["out/att"])
        close(snippets.cas, expected["out/tcam_nobias"])
        close(logits, expected["out/logit"])
        for row, features in enumerate(batch.features):
            scores = model.score(features)
            close(scores.signals["cas"], expected["out/wtcam"][row])
            close(scores.signals["attention"], expected["out/att"][row, :, 0])
            close(scores.signals["tcam"], (expected["out/att"] * expected["out/tcam_nobias"])[row])
            close(scores.video_scores, expected["out/prob"][row])


def test_losses_and_gradients_equal_the_derived_graph(recorded) -> None:
    model, batch, expected = recorded
    losses = model.losses(batch)
    for ours, theirs in {"classification": "cls", "sparse": "sparse_l1", "total": "total"}.items():
        close(losses[ours], expected[f"loss/{theirs}"][0])
    losses["total"].backward()
    for ours, theirs in LAYERS.items():
        for part in ("weight", "bias"):
            gradient = model.get_parameter(f"{ours}.{part}").grad
            norm, total = expected[f"grad/{theirs}.{part}"]
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-5)
            # a sum of signed entries cancels: bound its error by the norm's scale
            assert gradient.double().sum().item() == pytest.approx(total, rel=1e-5, abs=1e-6 * norm * gradient.numel())


def test_parameter_count_is_that_of_the_released_checkpoint() -> None:
    with torch.device("meta"):
        model = Stpn(StpnOptions(streams=(1024, 1024)), 2048, 20)
    assert model.parameter_count() == 2 * 283_157


def released(shared: Path) -> Stpn:
    model = Stpn(StpnOptions(streams=(1024, 1024)), 2048, 20).eval()
    for network, stream in zip(model.networks, ("rgb", "flow"), strict=True):
        stored = np.load(shared / "data" / "stpn_released" / f"stpn_{stream}_weights.npz")
        state = {}
        for ours, theirs in RELEASED.items():
            state[f"{ours}.weight"] = torch.from_numpy(stored[f"{theirs}.kernel"].T.copy())
            state[f"{ours}.bias"] = torch.from_numpy(stored[f"{theirs}.bias"])
        network.load_state_dict(state)
    return model


@pytest.mark.parametrize(
    ("video", "label", "probability", "area"),
    [
        ("video_test_0001135", "FrisbeeCatch", 0.998, 0.80),
        ("video_validation_0000851", "SoccerPenalty", 0.932, 0.82),
        ("video_validation_0000950", "ThrowDiscus", 0.855, 0.73),
    ],
)
def test_released_weights_know_real_videos(
    shared: Path, video: str, label: str, probability: float, area: float
) -> None:
    """Known answers of the RGB half; the flow of these features is not of the kind that its half was trained on."""
    features = np.load(shared / "data" / "i3d_two_stream" / "thumos14" / f"{video}.npy")[:, :1024]
    annotations = json.loads((shared / "data" / "thumos14" / "annotations.json").read_text())["database"]
    classes = sorted({one["label"] for entry in annotations.values() for one in entry["annotations"]} - {"Ambiguous"})
    with torch.no_grad():
        scores = released(shared).networks[0].score(torch.from_numpy(features.astype(np.float32)))
    assert classes[scores.video_scores.argmax()] == label
    assert scores.video_scores.max().item() == pytest.approx(probability, abs=5e-4)

    middle = (np.arange(len(features)) * 4 + 32) / 30  # 64-frame windows every 4 frames at 30 frames a second
    times = [one["segment"] for one in annotations[video]["annotations"] if one["label"] == label]
    action = np.any([(start <= middle) & (middle <= end) for start, end in times], axis=0)
    cas = scores.signals["cas"][:, classes.index(label)].numpy()
    above = cas[action][:, np.newaxis] > cas[~action]  # area under the ROC curve, as Mann and Whitney count it
    assert above.mean() == pytest.approx(area, abs=6e-3)


def test_score_signal_mixes_the_streams_t_cams_under_own_attention() -> None:
    torch.manual_seed(0)
    model, features = Stpn(StpnOptions(streams=(5, 3, 4), own_weight=0.7), 12, 2).eval(), torch.rand(6, 12)
    with torch.no_grad():
        passes = [
            net.snippets(part[None]) for net, part in zip(model.networks, features.split((5, 3, 4), 1), strict=True)
        ]
        scores = model.score(features)
    for own, a, b in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        attention = passes[own].attention[0]
        mixed = 0.7 * passes[own].cas[0] + 0.3 * (passes[a].cas[0] + passes[b].cas[0]) / 2
        torch.testing.assert_close(scores.signals[f"stream{own}/tcam"], attention * mixed)
        torch.testing.assert_close(scores.signals[f"stream{own}/cas"], attention * passes[own].cas[0].sigmoid())


def test_one_stream_scores_its_own_t_cam() -> None:
    torch.manual_seed(0)
    model, features = Stpn(StpnOptions(), 5, 2).eval(), torch.rand(6, 5)
    alone = model.networks[0].score(features).signals
    assert torch.equal(model.score(features).signals["stream0/tcam"], alone["tcam"])


@pytest.mark.parametrize("seed", range(3))
def test_detections_equal_the_post_processing_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, classes, seconds = 30, 3, 1.6
    signals, class_scores = {}, {"stream0": np.array([0.9, 0.4, 0.05]), "stream1": np.array([0.8, 0.1, 0.3])}
    for stream in class_scores:
        signals[f"{stream}/cas"] = rng.random((rows, classes)) * 0.12
        signals[f"{stream}/tcam"] = rng.normal(size=(rows, classes))
    said = SnippetScores("v", signals, np.zeros(classes), seconds, 0.0, class_scores)
    found = localize([said], Stpn.recipe("thumos14").localizer, ("a", "b", "c"))
    expected = []
    for label in range(classes):
        streams = [name for name, score in class_scores.items() if score[label] > 0.1]
        proposals = [
            one
            for name in streams
            for one in runs(signals[f"{name}/cas"][:, label], signals[f"{name}/tcam"][:, label], seconds)
        ]
        if len(streams) == 2:
            proposals = suppress(proposals)
        expected += [(label, *one) for one in sorted(proposals, key=lambda one: -one[2])]
    assert {row[0] for row in expected} == {0, 1, 2}
    actual = np.stack([found.label, found.start, found.end, found.score], axis=1)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def runs(gate: np.ndarray, value: np.ndarray, seconds: float) -> list[tuple[float, float, float]]:
    """Sample by sample, 24 a row: start, end and mean of each run of 0.05 and above."""
    samples = []
    for row in range(len(gate)):
        before = min(row, len(gate) - 2)
        for part in range(24):
            along = row - before + part / 24
            samples.append([(1 - along) * signal[before] + along * signal[before + 1] for signal in (gate, value)])
    found, start = [], None
    for index, (height, _) in enumerate([*samples, [0.0, 0.0]]):
        if height >= 0.05 and start is None:
            start = index
        elif height < 0.05 and start is not None:
            mean = sum(one[1] for one in samples[start:index]) / (index - start)
            found.append((start * seconds / 24, index * seconds / 24, mean))
            start = None
    return found


def suppress(proposals: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    kept: list[tuple[float, float, float]] = []
    for start, end, score in sorted(proposals, key=lambda one: -one[2]):
        shared = [max(0.0, min(end, e) - max(start, s)) / (max(end, e) - min(start, s)) for s, e, _ in kept]
        if all(overlap < 0.5 for overlap in shared):
            kept.append((start, end, score))
    return kept


def test_every_video_is_400_rows_and_the_iterations_become_epochs() -> None:
    model = Stpn(StpnOptions(), 4, 2)
    rng = np.random.default_rng(0)
    assert model.test_indices(3, 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert len(model.train_indices(3, 400, rng)) == len(model.train_indices(5000, 400, rng)) == 400
    for dataset, videos in {"thumos14": 200, "activitynet12": 4819, "activitynet13": 10024, "fineaction": 8440}.items():
        train = Stpn.recipe(dataset).train
        iterations = train.epochs * -(-videos // train.batch_size)
        assert iterations == pytest.approx(24_000, rel=0.03)


def close(actual: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-7)
