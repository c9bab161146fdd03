"""RMGCL + GKSA over FAC-Net: the bank sees every video, and both branches share FAC-Net's heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from baselines.facnet import FacNet, FacNetNetwork
from baselines.facnet_rmgcl_gksa import FacNetRmgclGksa, FacNetRmgclGksaOptions
from wstal.types import Batch

WIDTH, CLASSES = 16, 4


def built(**changes: object) -> FacNetRmgclGksa:
    """A method whose bank has seen one batch."""
    torch.manual_seed(0)
    options = {"memory": {"length": 5, "start": 0.0}, "summary": {"count": 3, "neighbours": 4, "heads": 4}} | changes
    model = FacNetRmgclGksa(FacNetRmgclGksaOptions.model_validate(options), WIDTH, CLASSES).train()
    model.start_epoch(0, 1)
    model.losses(batch())["total"].backward()
    model.end_step()
    model.zero_grad()
    return model


def batch() -> Batch:
    rng = np.random.default_rng(0)
    labels = torch.eye(CLASSES)[[0, 1, 1]]
    labels[0, 2] = 1
    return Batch(torch.from_numpy(rng.random((3, 20, WIDTH), dtype=np.float32)), labels, ("a", "b", "c"))


def test_a_step_stores_every_video_of_its_batch() -> None:
    # classes 0 and 2 of the first video, 1 of both others, background of all three
    assert built().diagnostics()["memory_fill"] == [1, 2, 1, 0, 3]


def test_the_recipe_is_facnets_in_true_batches() -> None:
    train, base = FacNetRmgclGksa.recipe("thumos14").train, FacNet.recipe("thumos14").train
    assert (train.batch_size, train.accumulate) == (10, 1) == (base.accumulate, base.batch_size)
    # Adam ignores the scale of a gradient: decay for the mean of 10 is a tenth of that for the sum
    assert train.weight_decay == pytest.approx(base.weight_decay / 10)
    assert FacNetRmgclGksa.recipe("thumos14").localizer.fusion is None
    assert np.array_equal(built().test_indices(2614, 750), np.arange(2614))


@pytest.mark.parametrize("scale", ["softmax", "sigmoid"])
def test_a_probability_is_not_scaled_again(scale: str) -> None:
    with pytest.raises(ValidationError, match=r"leave memory\.score_scale at min_max"):
        built(memory={"score_scale": scale})


def test_every_part_of_an_accumulated_step_is_stored() -> None:
    model = built()
    before = model.diagnostics()["memory_fill"]
    for _ in range(2):
        model.losses(batch())["total"].backward()
    model.end_step()
    assert model.diagnostics()["memory_fill"] == [min(5, 3 * filled) for filled in before] == [3, 5, 3, 0, 5]


def test_the_bank_holds_what_attention_and_class_vectors_select() -> None:
    model, given = built(), batch()
    fresh = built(memory={"length": 5, "start": 0.0, "threshold": 0.5}).eval()
    with torch.no_grad():
        snippets = fresh.base.snippets(given.features)
        features, row, _ = fresh._representatives(snippets, given)
        cosine = torch.nn.functional.cosine_similarity(
            snippets.embedded[1].unsqueeze(1), model.base.vectors.classes, dim=-1
        )
        score = (5 * cosine).softmax(dim=-1)[:, 1] * snippets.attention[1, :, 0]
        chosen = (score - score.min()) / (score.max() - score.min()) > 0.5
    assert row.tolist() == [0, 2, 4, 1, 4, 1, 4]
    torch.testing.assert_close(features[3], snippets.embedded[1][chosen].mean(dim=0))


def test_the_auxiliary_branch_is_classified_by_the_same_class_vectors() -> None:
    model, given = built().eval(), batch()
    terms = model.losses(given)
    snippets = model.base.snippets(given.features)
    tokens, row = model.memory.tokens()
    fused = model.fusion(snippets.embedded, model.summarizer(tokens, row))
    cas = 5 * torch.nn.functional.cosine_similarity(fused.unsqueeze(2), model.base.vectors.classes, dim=-1)
    expected = model.base.classification_loss(cas, snippets.attention, given.labels)
    torch.testing.assert_close(terms["auxiliary"], expected)
    own = FacNetNetwork.losses(model.base, given)["total"]
    added = 0.1 * terms["contrast"] + terms["auxiliary"] + terms["pseudo_label"]
    torch.testing.assert_close(terms["total"], own + added)


def test_every_parameter_learns_once_the_bank_is_built() -> None:
    model = built().eval()
    model.losses(batch())["total"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("branch", ["fused", "mean"])
def test_the_auxiliary_branch_can_be_scored(branch: str) -> None:
    model = built(inference_branch=branch)
    model.end_training()
    features = batch().features[0]
    with torch.no_grad():
        scores, main = model.eval().score(features), model.base.score(features)
    assert not torch.equal(scores.signals["cas"], main.signals["cas"])
    # attention and classes of the video come from F, not from a CAS
    assert torch.equal(scores.video_scores, main.video_scores)


@pytest.mark.parametrize("dataset", ["thumos14", "activitynet13", "fineaction"])
def test_codewords_follow_the_number_of_classes(dataset: str) -> None:
    assert FacNetRmgclGksa.recipe(dataset).method.summary.count == {"thumos14": 40}.get(dataset, 200)
