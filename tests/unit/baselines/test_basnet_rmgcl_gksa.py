"""What RMGCL, GKS, GKA and pseudo labels read of BaS-Net, term by term."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from baselines.acmnet import AcmNet
from baselines.basnet import BasNet, BasNetOptions
from baselines.basnet_rmgcl_gksa import BasNetRmgclGksa, BasNetRmgclGksaOptions
from baselines.rmgcl_gksa import RmgclGksa
from wstal.types import Batch

WIDTH, CLASSES = 16, 4
OFF = {"rmgcl": False, "gks": False, "gka": False, "pseudo": False}


def ours(**changes: Any) -> BasNetRmgclGksa:
    torch.manual_seed(0)
    fields: dict[str, Any] = {
        "memory": {"length": 5, "start": 0.0},
        "summary": {"count": 3, "neighbours": 4, "heads": 4},
        "fusion_width": WIDTH,
    }
    return BasNetRmgclGksa(BasNetRmgclGksaOptions.model_validate(fields | changes), WIDTH, CLASSES)


def batch(seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    labels = torch.eye(CLASSES)[[0, 2, 1]]
    labels[0, 3] = 1
    return Batch(torch.from_numpy(rng.random((3, 12, WIDTH))).float(), labels, tuple("abc"))


def filled(**changes: Any) -> BasNetRmgclGksa:
    """After one step, so that the bank has something."""
    method = ours(**changes).train()
    method.start_epoch(0, 4)
    torch.manual_seed(1)
    method.losses(batch())
    method.end_step()
    return method


@pytest.mark.parametrize("changes", [OFF, {}], ids=["all off", "bank empty"])
def test_without_its_parts_it_is_basnet_to_the_bit(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    plain, method = BasNet(BasNetOptions(), WIDTH, CLASSES), ours(**changes)
    torch.manual_seed(1)
    expected = plain.train().losses(batch())
    torch.manual_seed(1)
    terms = method.train().losses(batch())
    assert all(torch.equal(terms[name], value) for name, value in expected.items())
    scores, again = plain.eval().score(batch().features[0]), method.eval().score(batch().features[0])
    assert torch.equal(again.video_scores, scores.video_scores)
    assert all(torch.equal(again.signals[name], signal) for name, signal in scores.signals.items())


def test_bank_holds_the_suppression_pass() -> None:
    method = filled()
    torch.manual_seed(1)
    with torch.no_grad():
        passed = method.base.eval().snippets(batch().features)
    expected: dict[int, list[Tensor]] = {row: [] for row in range(CLASSES + 1)}
    for video, labels in enumerate(batch().labels):
        for label in labels.nonzero().flatten().tolist():
            expected[label].append(above(passed.cas[video, :, label], passed.embedded[video]))
        weight = passed.attention[video, :, 0]
        expected[CLASSES].append(above(((1 - weight) / weight).log(), passed.embedded[video]))
    assert method.memory.filled.tolist() == [len(entries) for entries in expected.values()]
    for row, entries in expected.items():
        torch.testing.assert_close(method.memory.slots[row, : len(entries)], torch.stack(entries))


def above(scores: Tensor, embedded: Tensor) -> Tensor:
    """Mean embedding where scores, min-max over time, are above 0.75 (Eq. 6-7)."""
    scaled = (scores - scores.min()) / (scores.max() - scores.min())
    return embedded[scaled > 0.75].mean(dim=0)


def test_auxiliary_branch_is_classified_as_the_suppression_pass_and_teaches_it() -> None:
    method = filled().eval()
    terms = method.losses(batch())
    with torch.no_grad():
        passed = method.base.snippets(batch().features)
        fused = method.fusion(passed.embedded, method.summarizer(*method.memory.tokens()))
        cas = method.base.classifier(fused)
    probabilities = cas.topk(1, dim=1).values.mean(dim=1).softmax(dim=1)  # k = 12 // 8
    targets = functional.pad(batch().labels / batch().labels.sum(dim=1, keepdim=True), (0, 1))
    costs = -(targets * probabilities.log() + (1 - targets) * (1 - probabilities).log())
    assert terms["auxiliary"].item() == pytest.approx(costs.mean().item(), rel=1e-5)
    # Eq. 15-16 by snippet, between A of the suppression pass and A_hat
    p, teacher = passed.cas.softmax(dim=2), cas.softmax(dim=2)
    divergence = (p * (p / teacher).log()).sum(dim=2)
    expected = (-divergence).exp() * -(teacher * p.log()).sum(dim=2) + 0.001 * divergence
    assert terms["pseudo_label"].item() == pytest.approx(expected.mean().item(), rel=1e-4)
    weighted = terms["base"] + terms["suppression"] + 1e-4 * terms["sparse"]
    weighted = weighted + 0.1 * terms["contrast"] + terms["auxiliary"] + terms["pseudo_label"]
    torch.testing.assert_close(terms["total"], weighted)


def test_contrast_reaches_the_filter_and_every_parameter_is_trained() -> None:
    method = filled().eval()
    method.losses(batch())["contrast"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in method.base.filter.parameters())
    method.zero_grad()
    method.losses(batch())["total"].backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("branch", ["fused", "mean"])
def test_the_auxiliary_branch_can_be_scored(branch: str) -> None:
    method = filled(inference_branch=branch)
    method.end_training()
    features = batch().features[0]
    with torch.no_grad():
        passed = method.base.snippets(features.unsqueeze(0))
        fused = method.base.classifier(method.fusion(passed.embedded, method.summary[: int(method.summary_count)]))
        scores = method.score(features)
    cas = fused if branch == "fused" else (passed.cas + fused) / 2
    torch.testing.assert_close(scores.signals["cas"], cas[0].softmax(dim=1)[:, :CLASSES])
    torch.testing.assert_close(scores.signals["attention"], passed.attention[0, :, 0])


def test_what_is_added_is_as_large_as_over_acmnet() -> None:
    sizes = []
    for method in (BasNetRmgclGksa, BasNet, RmgclGksa, AcmNet):
        with torch.device("meta"):
            sizes.append(method(method.recipe("thumos14").method, 2048, 20).parameter_count())
    assert sizes[0] - sizes[1] == sizes[2] - sizes[3] > 0


def test_recipe_is_the_papers_schedule_over_basnets() -> None:
    recipe, base = BasNetRmgclGksa.recipe("thumos14"), BasNet.recipe("thumos14")
    assert recipe.localizer == base.localizer
    assert (recipe.train.epochs, recipe.train.decay_every) == (200, 100)
    assert recipe.train.model_copy(update={"epochs": base.train.epochs, "decay_every": None}) == base.train
    assert recipe.method.base == base.method
    assert (recipe.method.summary.count, BasNetRmgclGksa.recipe("activitynet13").method.summary.count) == (40, 200)
