"""DGAM against tensors recorded from its released code, and its formulas and localizer against values by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from baselines.dgam import ACTIVITYNET_OPTIONS, Dgam, DgamOptions, gaussian_smooth, guide_loss, weighted_mean
from harness.runs.training import train
from tests.helpers.faults import Killed
from tests.helpers.training import RUN, SPEC, same, videos
from wstal.errors import UserError
from wstal.localize import localize
from wstal.types import Batch, SnippetScores

MODULES = {
    "attention.0": "model.att_head.fc1",
    "attention.2": "model.att_head.fc2",
    "classifier": "model.clf_head.fc1",
    **{f"cvae.encoder.{2 * i}": f"cvae.cencoder.fc{i + 1}" for i in range(3)},
    **{f"cvae.decoder.{2 * i}": f"cvae.cdecoder.fc{i + 1}" for i in range(3)},
}
TERMS = {"foreground": "fg", "background": "bg", "guide": "guide", "reconstruction": "recon"}
EPOCHS = 12_000  # of the released 6,000 for each part, of which 300 ramp up


def theirs(name: str) -> str:
    module, part = name.removeprefix("networks.0.").rsplit(".", 1)
    return f"{MODULES[module]}.{part}"


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / "dgam_small_parity.npz"))


@pytest.fixture(params=["rgb", "flow"])
def recorded(request: pytest.FixtureRequest, tensors, monkeypatch) -> tuple[Dgam, Batch, str]:
    """One stream, with the weights of RGB or of flow."""
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    options = DgamOptions(
        hidden=len(tensors["sd/model.att_head.fc1.bias"]), latent=tensors["input/eps"].shape[2],
        reconstruction={"rgb": (0.5, 0.0), "flow": (0.3, 0.0)}[request.param],
    )  # fmt: skip
    model = Dgam(options, features.shape[2], labels.shape[1]).eval()
    model.load_state_dict({name: torch.from_numpy(tensors[f"sd/{theirs(name)}"]) for name in model.state_dict()})
    return model, Batch(features, labels, tuple(map(str, range(len(labels))))), request.param


def check_gradients(model: Dgam, tensors: dict[str, np.ndarray], prefix: str) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None
            continue
        norm, total = tensors[f"{prefix}/{theirs(name).split('.', 1)[1]}"]
        assert parameter.grad.norm().item() == pytest.approx(norm, rel=1e-5)
        # a sum of signed entries cancels: bound its error by the norm's scale
        slack = 1e-6 * norm * parameter.numel()
        assert parameter.grad.double().sum().item() == pytest.approx(total, rel=1e-5, abs=slack)


def test_forward_equals_the_released_code(recorded, tensors) -> None:
    model, batch, _ = recorded
    (network,) = model.networks
    with torch.no_grad():
        attention = network.attention(batch.features)
        foreground = weighted_mean(batch.features, attention, 1.0)
        background = weighted_mean(batch.features, 1 - attention, 1e-6)
        code = torch.cat([attention + torch.from_numpy(tensors["input/z_noise"]), attention], dim=2)
        close(attention, tensors["out/attention"])
        close(foreground, tensors["out/feat_fg"])
        close(background, tensors["out/feat_bg"])
        close(network.classifier(foreground), tensors["out/score_fg"])
        close(network.classifier(background), tensors["out/score_bg"])
        close(gaussian_smooth(network.cas(batch.features).softmax(dim=2), 1.0), tensors["out/tcam_smoothed"])
        close(network.cvae["decoder"](code), tensors["out/recon"])
        encoded = network.cvae["encoder"](torch.cat([batch.features, attention], dim=2))
        close(encoded, np.concatenate([tensors["out/cvae_mean"], tensors["out/cvae_logvar"]], axis=2))


def test_losses_and_gradients_of_attention_equal_the_released_code(recorded, tensors, monkeypatch) -> None:
    model, batch, stream = recorded
    monkeypatch.setattr(model, "noise", lambda features: torch.from_numpy(tensors["input/z_noise"]))
    model.start_epoch(301, EPOCHS)
    losses = model.losses(batch)
    for ours, other in TERMS.items():
        close(losses[ours], tensors[f"loss/{other}"])
    close(losses["total"], tensors[f"loss/total_{stream}"])
    assert losses["cvae"].item() == 0
    losses["total"].backward()
    check_gradients(model, tensors, f"grad_{stream}")


def test_loss_and_gradients_of_the_cvae_equal_the_released_code(recorded, tensors, monkeypatch) -> None:
    model, batch, _ = recorded
    monkeypatch.setattr(model, "noise", lambda features: torch.from_numpy(tensors["input/eps"]))
    model.start_epoch(300, EPOCHS)
    losses = model.losses(batch)
    close(losses["cvae"], tensors["loss/cvae"])
    close(losses["total"], tensors["loss/cvae_ramped"])
    assert not any(losses[name] for name in TERMS)
    losses["total"].backward()
    check_gradients(model, tensors, "grad_cvae")


def test_parameter_counts(shared: Path) -> None:
    small = json.loads((shared / "fixtures" / "dgam_small_parity.json").read_text())
    options = DgamOptions(hidden=small["att_hidden"], latent=small["latent"])
    model = Dgam(options, small["D"], small["C"])
    assert model.parameter_count() == small["params"] + small["params_cvae"]
    with torch.device("meta"):
        thumos = Dgam(DgamOptions(streams=(1024, 1024)), 2048, 20)
    attention, classifier = 1024 * 256 + 256 + 257, 1024 * 21 + 21
    encoder = 1025 * 128 + 128 + 128 * 128 + 128 + 128 * 256 + 256
    decoder = 129 * 128 + 128 + 128 * 128 + 128 + 128 * 1024 + 1024
    assert thumos.parameter_count() == 2 * (attention + classifier + encoder + decoder)


# --- formulas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.25, 25.0])
@pytest.mark.parametrize("length", [1, 2, 3, 40])
def test_smoothing_equals_scipy(sigma: float, length: int) -> None:
    values = np.random.default_rng(0).random((2, length, 3))
    close(gaussian_smooth(torch.from_numpy(values), sigma), gaussian_filter1d(values, sigma, axis=1))


def test_guide_loss_by_hand() -> None:
    """All snippets alike, so that smoothing changes nothing: P is 0.5, 0.2 and, of background, 0.3."""
    cas = torch.tensor([0.5, 0.2, 0.3]).log().expand(3, 9, 3)
    attention = torch.full((3, 9, 1), 0.6)
    labels = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    # the best class of the video: 0.5, 0.2, none; 1 - P(background) is 0.7
    close(guide_loss(attention, cas, labels), np.array((0.1 + 0.4 + 0.6) / 3 + 0.1))


def test_divergence_by_hand() -> None:
    """From N(a, 1), of a code whose encoder gives mean 2 and log variance 0 for each of one column."""
    model = Dgam(DgamOptions(latent=1, hidden=1, divergence=1.0), 2, 2)
    (network,) = model.networks
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        network.cvae["encoder"][-1].bias.copy_(torch.tensor([2.0, np.log(4.0)]))
    # attention is 1/2, the decoder gives 0: features of ones have an error of 1
    loss = network.cvae_loss(torch.ones(1, 3, 2), torch.zeros(1, 3, 1))
    assert loss.item() == pytest.approx(1 + ((2 - 0.5) ** 2 + 4 - 1 - np.log(4)) / 2)


# --- training ---------------------------------------------------------------------------------------------------------


def test_parts_train_in_turn_while_weights_ramp_up() -> None:
    torch.manual_seed(0)
    model = Dgam(DgamOptions(ramp=0.5, streams=(8, 8)), 16, 3)
    batch = Batch(torch.rand(4, 12, 16), torch.eye(3)[[0, 1, 2, 0]], tuple("abcd"))
    for epoch, ramp in enumerate([0, 0, 0.4, 0.4, 0.8, 0.8, 1, 1, 1, 1]):
        model.start_epoch(epoch, 10)
        free = {name.split(".")[2] for name, parameter in model.named_parameters() if parameter.requires_grad}
        losses = model.eval().losses(batch)
        if epoch % 2 == 0:
            assert free == {"cvae"}
            close(losses["total"], 10 * ramp * losses["cvae"])
        else:
            assert free == {"attention", "classifier"}
            parts = torch.split(batch.features, [8, 8], dim=2)
            noise = torch.zeros(4, 12, 128)
            own = [
                one.attention_terms(part, batch.labels, noise) for one, part in zip(model.networks, parts, strict=True)
            ]
            expected = sum(
                one["foreground"]
                + 0.03 * one["background"]
                + 0.1 * one["guide"]
                + weight * ramp * one["reconstruction"]
                for one, weight in zip(own, (0.5, 0.3), strict=True)
            )
            close(losses["total"], expected.detach())
    model.end_training()
    assert model.parameter_count() == sum(parameter.numel() for parameter in model.parameters())


def test_a_ramp_of_no_epochs_is_full_from_the_start() -> None:
    model = Dgam(DgamOptions(ramp=0.0), 8, 3).eval()
    model.start_epoch(0, 10)
    losses = model.losses(Batch(torch.rand(2, 5, 8), torch.eye(3)[:2], ("a", "b")))
    close(losses["total"], 10 * losses["cvae"].detach())


def test_a_resumed_training_has_the_same_bits(tmp_path: Path) -> None:
    """Adam's state of the frozen part is kept too."""

    def fresh(seed: int) -> Dgam:
        torch.manual_seed(seed)
        return Dgam(DgamOptions(hidden=8, latent=4), 16, 3)

    undisturbed = fresh(0)
    expected = train(undisturbed, videos(), SPEC, 0, tmp_path / "a", RUN)

    def kill(stage: str, done: int, total: int, note: str) -> None:
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        train(fresh(0), videos(), SPEC, 0, tmp_path / "b", RUN, on_progress=kill, checkpoint_seconds=0)
    resumed = fresh(1)
    assert train(resumed, videos(), SPEC, 0, tmp_path / "b", RUN) == expected
    assert same(resumed, undisturbed)


def test_noise_is_drawn_in_training_alone() -> None:
    torch.manual_seed(0)
    model = Dgam(DgamOptions(), 8, 3)
    features = torch.rand(4, 500, 8)
    drawn = model.train().noise(features)
    assert drawn.shape == (4, 500, 128)
    assert abs(drawn.mean().item()) < 0.01
    assert drawn.std().item() == pytest.approx(1, abs=0.01)
    assert not model.eval().noise(features).any()


def test_three_streams_are_an_error() -> None:
    with pytest.raises(UserError, match=r"one or two streams.*names 3"):
        Dgam(DgamOptions(streams=(4, 4, 4)), 12, 3)


@pytest.mark.parametrize(
    ("options", "rows"), [(DgamOptions(), (50, 50, 70, 400)), (ACTIVITYNET_OPTIONS, (2, 3, 70, 400))]
)
def test_rows_of_test_videos(options: DgamOptions, rows: tuple[int, ...]) -> None:
    model = Dgam(options, 4, 2)
    assert tuple(len(model.test_indices(length, 400)) for length in (1, 3, 70, 900)) == rows


# --- scores and localizer ---------------------------------------------------------------------------------------------


def test_scores_of_two_streams_by_hand() -> None:
    torch.manual_seed(0)
    model = Dgam(DgamOptions(streams=(4, 6)), 10, 3).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    features = torch.randn(7, 10)
    parts = features.split([4, 6], dim=1)
    with torch.no_grad():
        scores = model.score(features)
        a = [one.attention(part)[:, 0] for one, part in zip(model.networks, parts, strict=True)]
        logits = [part @ one.classifier.weight.T for one, part in zip(model.networks, parts, strict=True)]
        p = [one[:, :3].sigmoid() for one in logits]
        pooled = [w @ part / w.sum() for w, part in zip(a, parts, strict=True)]
        video = [one.classifier(x).softmax(dim=0)[:3] for one, x in zip(model.networks, pooled, strict=True)]
    for own, other, share in ((0, 1, 0.35), (1, 0, 0.65)):
        mixed = a[own][:, None] ** 2 * (share * p[own] + (1 - share) * p[other])
        close(scores.signals[f"stream{own}/mixed"], mixed)
        activation = 0.8 * a[own][:, None] * p[own] + 0.2 * a[own][:, None] ** 2
        close(scores.signals[f"stream{own}/activation"], activation)
        close(scores.class_scores[f"stream{own}"], video[own])
    close(scores.signals["attention"], (a[0] + a[1]) / 2)
    joint = [one[:, None] * x.softmax(dim=1)[:, :3] for one, x in zip(a, logits, strict=True)]
    close(scores.signals["cas"], (joint[0] + joint[1]) / 2)
    close(scores.video_scores, (video[0] + video[1]) / 2)


def test_a_single_stream_is_scored_without_the_other() -> None:
    torch.manual_seed(0)
    model = Dgam(ACTIVITYNET_OPTIONS, 4, 3).eval()
    features = torch.randn(20, 4)
    with torch.no_grad():
        scores = model.score(features)
        (network,) = model.networks
        a, p = network.attention(features), (features @ network.classifier.weight.T)[:, :3].sigmoid()
    close(scores.signals["stream0/mixed"], a * p)
    smoothed = gaussian_filter1d((0.8 * a * p + 0.2 * a**2).double().numpy(), 1.25, axis=0)
    close(scores.signals["stream0/activation"], smoothed)


def plain(one: SnippetScores, stream: int, threshold: float) -> list[tuple[int, float, float, float]]:
    """The released proposals of one stream: class, score, start, end."""
    probabilities = one.class_scores[f"stream{stream}"]
    classes = np.flatnonzero(probabilities > 0.1) if probabilities.max() > 0.1 else [int(probabilities.argmax())]
    rows = []
    for label in classes:
        activation, mixed = (
            upsampled(one.signals[f"stream{stream}/{name}"][:, label]) for name in ("activation", "mixed")
        )
        active = np.flatnonzero(activation > threshold)
        if not active.any():  # none, or sample 0 alone
            continue
        for run in np.split(active, np.flatnonzero(np.diff(active) != 1) + 1):
            left = mixed[max(0, run[0] - len(run) // 4 - 1) : run[0]]
            right = mixed[run[-1] + 1 : run[-1] + 1 + len(run) // 4 + 1]
            outer = sum(side.mean() for side in (left, right) if len(side))
            times = run[0] * one.seconds_per_snippet / 20, (run[-1] + 1) * one.seconds_per_snippet / 20
            rows.append((int(label), mixed[run].mean() - 0.3 * outer, *times))
    return rows


def upsampled(signal: np.ndarray) -> np.ndarray:
    at = np.arange(0, len(signal), 1 / 20)
    row = np.minimum(at.astype(int), len(signal) - 2)
    return signal[row] + (at - row) * (signal[row + 1] - signal[row])


@pytest.mark.parametrize("seed", range(4))
def test_detections_follow_the_released_rules(seed: int) -> None:
    rng = np.random.default_rng(seed)
    signals = {}
    for stream in range(2):
        smooth = np.convolve(rng.standard_normal(40 * 6), np.ones(3) / 3, mode="same").reshape(6, 40).T
        signals[f"stream{stream}/activation"] = np.clip(0.05 + 0.1 * smooth, 0, 1)
        signals[f"stream{stream}/mixed"] = rng.uniform(0, 1, (40, 6))
    classes = {f"stream{stream}": rng.dirichlet(np.full(6, 0.4)) for stream in range(2)}
    one = SnippetScores("v", signals, np.zeros(6), 0.64, class_scores=classes)
    found = localize([one], Dgam.recipe("thumos14").localizer, tuple("abcdef"))

    by_stream = [plain(one, 0, 0.03), plain(one, 1, 0.08)]
    expected = []
    for label in range(6):
        rows = [row for stream in by_stream for row in stream if row[0] == label]
        if all(any(row[0] == label for row in stream) for stream in by_stream):
            stays: list[tuple[int, float, float, float]] = []
            for row in sorted(rows, key=lambda row: -row[1]):
                if all(iou(row, other) <= 0.5 for other in stays):
                    stays.append(row)
            rows = stays
        expected += sorted(rows, key=lambda row: -row[1])
    table = np.stack([found.label, found.score, found.start, found.end], axis=1)
    np.testing.assert_allclose(table, expected, rtol=1e-10, atol=1e-12)


def iou(one: tuple[int, float, float, float], other: tuple[int, float, float, float]) -> float:
    shared = max(0.0, min(one[3], other[3]) - max(one[2], other[2]))
    return shared / (one[3] - one[2] + other[3] - other[2] - shared)


def close(actual: torch.Tensor, expected: np.ndarray | torch.Tensor) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-6)
