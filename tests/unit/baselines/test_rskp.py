"""RSKP against tensors recorded from its released code, published figures, and plain versions of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.rskp import (
    ACTIVITYNET_OPTIONS,
    Rskp,
    RskpOptions,
    assign,
    random_walk,
    soft_cross_entropy,
)
from tests.helpers.released import SECONDS, close, noise, plain_detections, same_rows
from wstal.localize import localize
from wstal.types import Batch, SnippetScores, Video

NAMES = {
    "embedding.0.weight": "feature_embedding.0.weight",
    "embedding.0.bias": "feature_embedding.0.bias",
    "prototypes": "mu",
    "vectors.classes": "ac_center",
    "vectors.foreground": "fg_center",
}
Recorded = tuple[Rskp, Batch, dict[str, np.ndarray]]


@pytest.fixture
def recorded(shared: Path) -> Recorded:
    tensors = dict(np.load(shared / "fixtures" / "rskp_small_parity.npz"))
    features, labels = torch.from_numpy(tensors["input/x"]), torch.from_numpy(tensors["input/y"])
    model = Rskp(RskpOptions(), features.shape[2], labels.shape[1])
    state = {ours: torch.from_numpy(tensors[f"sd/{theirs}"]) for ours, theirs in NAMES.items()}
    assert set(model.load_state_dict(state, strict=False).missing_keys) == {"slots", "slot_scores"}
    return model.eval(), Batch(features, labels, ("a",)), tensors


def small(seed: int = 0, **options: Any) -> Rskp:
    torch.manual_seed(seed)
    return Rskp(RskpOptions(**options), 16, 4)


def video(seed: int, *labels: int, length: int = 12) -> Video:
    rows = np.random.default_rng(seed).random((length, 16), dtype=np.float32)
    return Video(f"v{seed}", rows, labels, SECONDS)


def batch(*videos: Video) -> Batch:
    labels = torch.stack([torch.eye(4)[list(one.labels)].sum(dim=0) for one in videos])
    features = torch.from_numpy(np.stack([one.features for one in videos]))
    return Batch(features, labels, tuple(one.name for one in videos))


def remember(model: Rskp, given: Batch) -> None:
    """Start the second stage with the videos of a batch in the memory."""
    rows = zip(given.videos, given.features.numpy(), given.labels, strict=True)
    videos = [Video(name, features, tuple(y.nonzero()[:, 0].tolist()), SECONDS) for name, features, y in rows]
    model.start_epoch(101, 200, videos)


def test_forward_equals_the_released_code(recorded: Recorded) -> None:
    model, given, expected = recorded
    remember(model, given)
    with torch.no_grad():
        embedded, prototypes = model._represent(given.features)
        close(embedded, expected["out/x_emb"])
        close(prototypes, expected["out/mu"])
        close(model._class_scores(prototypes, model.vectors.classes), expected["out/mu_pred"])
        present = given.labels[0] > 0
        close(model.slots[present], expected["out/mem_mu"])
        close(model.slot_scores[present], expected["out/mem_sc"])
        across = model._propagate_memory(embedded, prototypes, given.labels)
        close(across, expected["out/reallocated_inter"])
        own = model._propagate(embedded, prototypes)
        for letter, features in {"o": embedded, "m": own, "r": across}.items():
            branch = model._head(features)
            close(branch.foreground.exp(), expected[f"out/{letter}_vid_ca"])
            close(model._class_wise(features, branch.cas).exp(), expected[f"out/{letter}_vid_cw"])
            close(branch.attention[..., 0], expected[f"out/{letter}_att"])
            close(branch.cas, expected[f"out/{letter}_frm_scr"], scale=20)


def test_losses_and_gradients_of_both_stages_equal_the_released_code(recorded: Recorded) -> None:
    model, given, expected = recorded
    for stage in ("", "_stage2"):
        if stage:
            remember(model, given)
        losses = model.losses(given)
        close(losses["foreground"] + 0.5 * losses["memory_foreground"], expected[f"loss/fore{stage}"][0])
        close(losses["class_wise"] + 0.5 * losses["memory_class_wise"], expected[f"loss/back{stage}"][0])
        close(losses["attention"], expected["loss/att"][0])
        close(losses["pseudo_label"], expected[f"loss/spl{stage}"][0])
        close(losses["total"], expected[f"loss/total{stage or '_stage1'}"][0])
        model.zero_grad()
        losses["total"].backward()
        for ours, theirs in NAMES.items():
            gradient = model.get_parameter(ours).grad
            norm, total = expected[f"grad{stage}/{theirs}"]
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-5)
            # a sum of signed entries cancels: bound its error by the norm's scale
            assert gradient.double().sum().item() == pytest.approx(total, rel=1e-5, abs=1e-6 * norm * gradient.numel())


def test_scores_are_the_recorded_branches_fused(recorded: Recorded) -> None:
    model, given, expected = recorded
    with torch.no_grad():
        scores = model.score(given.features[0])
    plain, own = (np.exp(expected[f"out/{letter}_frm_scr"][0].astype(np.float64)) for letter in "om")
    fused = 0.6 * plain / plain.sum(axis=1, keepdims=True) + 0.4 * own / own.sum(axis=1, keepdims=True)
    close(scores.signals["cas"], (fused * expected["out/o_att"][0][:, None])[:, :-1])
    close(scores.signals["attention"], expected["out/o_att"][0])
    close(scores.video_scores, (0.6 * expected["out/o_vid_ca"] + 0.4 * expected["out/m_vid_ca"])[0, :-1])


def test_full_size_losses_equal_the_recorded_ones() -> None:
    model = Rskp(RskpOptions(), 2048, 20).eval()
    torch.manual_seed(0)  # the recording's inputs and weights both come from seed 0, drawn in the released order
    torch.randn(8, 2048)
    prototypes = torch.nn.init.xavier_uniform_(torch.empty(8, 2048))
    torch.randn(21, 2048)
    classes = torch.nn.init.xavier_uniform_(torch.empty(21, 2048))
    layer = torch.nn.Linear(2048, 2048)
    rng = np.random.Generator(np.random.PCG64(0))
    features = torch.from_numpy((np.abs(rng.standard_normal((1, 48, 2048))) * 0.5).astype(np.float32))
    labels = torch.zeros(1, 20)
    labels[0, [1, 7]] = 1
    given = Batch(features, labels, ("a",))
    with torch.no_grad():
        model.embedding[0].weight.copy_(torch.nn.init.xavier_uniform_(layer.weight))
        model.prototypes.copy_(prototypes)
        model.vectors.classes.copy_(classes)
        model.vectors.foreground.copy_(-classes[-1:])
        losses = model.losses(given)
        remember(model, given)
        total = model.losses(given)["total"]
    recorded = {
        "foreground": 5.756642,
        "class_wise": 5.427647,
        "attention": -0.194776,
        "pseudo_label": 1.882648,
        "total": 8.705342,
    }
    for name, value in recorded.items():
        assert losses[name].item() == pytest.approx(value, abs=1e-6)
    assert total.item() == pytest.approx(9.474947, abs=2e-6)


def test_parameter_count_is_the_published_one() -> None:
    with torch.device("meta"):
        assert Rskp(RskpOptions(), 2048, 20).parameter_count() == 4_257_792


@pytest.mark.parametrize("length", [1, 7, 30])
def test_random_walk_is_the_inverse_over_all_snippets(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, length, 6, generator=generator, dtype=torch.float64)
    mu = torch.randn(1, 3, 6, generator=generator, dtype=torch.float64)
    z = assign(x, mu, 5.0)[0].T.numpy()
    affinity = z.T @ (z / z.sum(axis=1, keepdims=True))
    inverse = np.linalg.inv(np.eye(length) - 0.4**2 * affinity)
    expected = 0.6 * inverse @ (0.4 * z.T @ mu[0].numpy() + x[0].numpy())
    np.testing.assert_allclose(random_walk(x, mu, 0.4, 5.0)[0].numpy(), expected, atol=1e-7)


def test_soft_cross_entropy_by_hand() -> None:
    # at temperature .5 logits 0, log(2) / 2 become probabilities 1/3, 2/3
    target, cas = torch.tensor([[[0.0, 0.5 * np.log(2)]]]), torch.zeros(1, 1, 2)
    assert soft_cross_entropy(cas, target, 0.5).item() == pytest.approx(np.log(2))
    assert soft_cross_entropy(target, target, 0.5).item() == pytest.approx(np.log(3) - 2 / 3 * np.log(2))


def test_the_memory_keeps_the_best_prototypes_of_each_class() -> None:
    model, videos = small(slots=3), [video(0, 0), video(1, 0, 2), video(2, 2), video(3, 0)]
    model.train().start_epoch(101, 200, videos)
    assert model.training
    seen: dict[int, list[tuple[float, int, int]]] = {0: [], 2: []}
    model.eval()  # as the filling was done: no dropout
    with torch.no_grad():
        made = [model._represent(torch.from_numpy(one.features)[None])[1] for one in videos]
        scores = [model._class_scores(one, model.vectors.classes)[0] for one in made]
    for number, one in enumerate(videos):
        for label in one.labels:
            seen[label] += [(scores[number][k, label].item(), number, k) for k in range(8)]
    for label, found in seen.items():
        best = sorted(found, reverse=True)[:3]
        assert model.slot_scores[label].tolist() == pytest.approx([score for score, _, _ in best])
        for slot, (_, number, k) in enumerate(best):
            assert torch.equal(model.slots[label, slot], made[number][0, k])
    assert (model.slot_scores[[1, 3]] == -1).all()


def test_a_step_changes_the_memory_only_when_it_is_over_and_loses_no_video() -> None:
    model = small().train()
    model.start_epoch(101, 200)
    for number in range(3):  # three videos accumulated
        model.losses(batch(video(number, number)))
    assert (model.slot_scores == -1).all()
    model.end_step()
    assert (model.slot_scores[:3] > 0).all()
    before = model.slots.clone()
    model.eval().losses(batch(video(9, 0)))
    model.end_step()
    assert torch.equal(model.slots, before)


def test_losses_of_one_batch_twice_are_equal() -> None:
    model = small(dropout=0.0).train()
    model.start_epoch(101, 200, [video(0, 0)])
    first, second = (model.losses(batch(video(1, 0))) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_run_keeps_its_memory_and_a_finished_one_drops_it() -> None:
    model, videos = small().train(), [video(0, 0), video(1, 1)]
    model.start_epoch(101, 200, videos)
    resumed = small(seed=1)
    resumed.load_state_dict(model.state_dict())
    resumed.start_epoch(102, 200, [video(seed, 0, 1) for seed in range(5, 25)])
    assert torch.equal(resumed.slots, model.slots)
    assert model.state_dict().keys() - model.export_state().keys() == {"slots", "slot_scores"}


@pytest.mark.parametrize(("epochs", "first"), [(1, 0), (2, 1), (3, 1), (100, 50), (200, 101)])
def test_the_memory_starts_after_the_warm_up_of_any_training(epochs: int, first: int) -> None:
    model, given = small().eval(), batch(video(0, 0))
    for epoch in {0, first - 1, first} - {-1}:
        model.start_epoch(epoch, epochs, [video(0, 0)])
        assert (model.losses(given)["memory_foreground"] > 0) == (epoch >= first)


def test_a_batch_is_the_mean_of_its_videos_whose_classes_differ_in_number() -> None:
    model = small().eval()
    videos = [video(0, 0), video(1, 1, 2), video(2)]
    model.start_epoch(101, 200, videos)
    alone = [model.losses(batch(one)) for one in videos]
    for name, value in model.losses(batch(*videos)).items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in alone]).mean(), rtol=1e-5, atol=1e-6)


def test_a_video_without_remembered_classes_walks_with_its_own_prototypes() -> None:
    model = small().eval()
    model.start_epoch(101, 200, [video(0, 0)])
    embedded, prototypes = model._represent(batch(video(1, 3)).features)
    walked = model._propagate_memory(embedded, prototypes, torch.eye(4)[[3]])
    assert torch.equal(walked, model._propagate(embedded, prototypes))


def test_features_of_zeros_give_no_nan() -> None:
    model, given = small().eval(), batch(video(0, 0), video(1, 1))
    given.features[0] = 0
    remember(model, given)
    losses = model.losses(given)
    losses["total"].backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_dropout_acts_after_the_embedding_in_training() -> None:
    model = small().train()
    torch.nn.init.eye_(model.embedding[0].weight)
    embedded, _ = model._represent(torch.ones(4, 1000, 16))
    assert (embedded == 0).float().mean().item() == pytest.approx(0.6, abs=0.01)
    assert embedded.max().item() == pytest.approx(2.5)


def test_recipes_follow_the_paper_and_its_author() -> None:
    recipe = Rskp.recipe("thumos14")
    assert recipe.train.epochs * 200 // recipe.train.accumulate == 4000
    assert recipe.localizer.sources[0].thresholds[-1] == 0.039
    assert Rskp.recipe("activitynet13").method == Rskp.recipe("fineaction").method == ACTIVITYNET_OPTIONS
    rng = np.random.default_rng(0)
    assert np.array_equal(small().train_indices(2614, 750, rng), small().test_indices(2614, 750))


def test_detections_equal_plain_loops() -> None:
    cas, video_scores = noise(0, 0.001, 0.039)
    expected = plain_detections(cas, video_scores, np.arange(0.001, 0.04, 0.002), 2, 1.0, 0.5)
    assert len(expected) > 100
    spec = Rskp.recipe("thumos14").localizer
    same_rows(localize([SnippetScores("v", {"cas": cas}, video_scores, SECONDS)], spec, tuple("abc")), expected)
