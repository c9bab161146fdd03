"""STPN with embedding and background output, alone and under RMGCL + GKSA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from baselines.stpn import Stpn, StpnNetworkOptions
from baselines.stpn_rmgcl_gksa import StpnEmbedded, StpnRmgclGksa, StpnRmgclGksaOptions
from wstal.localize import localize
from wstal.types import Batch, SnippetScores

WIDTH, CLASSES = 16, 4


def ours(**changes: Any) -> StpnRmgclGksa:
    """Small enough to fill, from the first epoch on."""
    fields: dict[str, Any] = {
        "base": {"hidden": 8},
        "memory": {"length": 5, "start": 0.0},
        "summary": {"count": 3, "neighbours": 4, "heads": 4},
        "fusion_width": WIDTH,
    }
    torch.manual_seed(0)
    return StpnRmgclGksa(StpnRmgclGksaOptions.model_validate(fields | changes), WIDTH, CLASSES)


def batch(seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    labels = np.eye(CLASSES)[rng.integers(0, CLASSES, 5)]
    features = rng.random((5, 12, WIDTH)) + labels[:, np.newaxis] @ np.eye(CLASSES, WIDTH)
    return Batch(torch.from_numpy(features).float(), torch.from_numpy(labels).float(), tuple("abcde"))


def train(model: StpnRmgclGksa, epochs: int = 4) -> list[dict[str, Tensor]]:
    optimizer, steps = torch.optim.Adam(model.parameters(), lr=1e-2), []
    for epoch in range(epochs):
        model.train().start_epoch(epoch, epochs)
        optimizer.zero_grad()
        terms = model.losses(batch(epoch))
        terms["total"].backward()
        optimizer.step()
        model.end_step()
        steps.append({name: value.detach() for name, value in terms.items()})
    model.end_training()
    return steps


def test_classification_by_hand() -> None:
    """One class, one snippet, lambda 1/4: actions see a quarter of the logits, background the rest."""
    model = StpnEmbedded(StpnNetworkOptions(hidden=2), 3, 1)
    torch.nn.init.constant_(model.classifier.bias, 0.5)
    cas, attention = torch.tensor([[[2.0, -4.0]]]), torch.tensor([[[0.25]]])
    action = np.log1p(np.exp(-(0.25 * 2 + 0.5))) + np.log1p(np.exp(0.25 * -4 + 0.5))
    background = np.log1p(np.exp(0.75 * 2 + 0.5)) + np.log1p(np.exp(-(0.75 * -4 + 0.5)))
    loss = model.classification_loss(cas, attention, torch.ones(1, 1))
    assert loss.item() == pytest.approx((action + background) / 2, rel=1e-6)


def test_embedding_and_background_are_what_it_adds_to_stpn() -> None:
    with torch.device("meta"):
        plain, embedded = Stpn(Stpn.recipe("thumos14").method, 2048, 20), StpnEmbedded(StpnNetworkOptions(), 2048, 20)
    convolution, background = 3 * 2048 * 2048 + 2048, 2048 + 1
    assert embedded.parameter_count() - plain.parameter_count() == convolution + background


def test_embedding_reads_the_neighbours() -> None:
    torch.manual_seed(0)
    model, features = StpnEmbedded(StpnNetworkOptions(), WIDTH, CLASSES), torch.rand(1, 7, WIDTH)
    weight, bias = model.embedding.weight, model.embedding.bias
    padded = functional.pad(features[0], (0, 0, 1, 1))
    by_hand = [bias + sum(weight[:, :, k] @ padded[t + k] for k in range(3)) for t in range(7)]
    torch.testing.assert_close(model.embed(features)[0], torch.stack(by_hand).clamp(min=0))


def test_branches_share_the_probability_between_foreground_and_background() -> None:
    model = StpnEmbedded(StpnNetworkOptions(), WIDTH, CLASSES)
    cas, attention = torch.randn(2, 5, CLASSES + 1), torch.rand(2, 5, 1)
    instance, background = model.branch_cas(cas, attention)
    torch.testing.assert_close(instance, attention / (1 + (-cas).exp()))
    torch.testing.assert_close(instance + background, 1 / (1 + (-cas).exp()))


def test_every_part_of_ours_works_on_stpn() -> None:
    model = ours()
    first, *later = train(model)
    assert {"classification", "sparse", "contrast", "auxiliary", "pseudo_label", "pseudo_label_weight"} < set(first)
    assert not first["contrast"]  # the bank is filled after the first step
    for terms in later:
        expected = (
            terms["classification"]
            + 1e-4 * terms["sparse"]
            + 0.1 * terms["contrast"]
            + terms["auxiliary"]
            + terms["pseudo_label"]
        )
        torch.testing.assert_close(terms["total"], expected)
        assert all(terms[name] != 0 for name in ("contrast", "auxiliary", "pseudo_label"))
    fill = model.diagnostics()["memory_fill"]
    assert len(fill) == CLASSES + 1
    assert fill[-1] == 5  # background of every video, as many slots as there are


def test_memory_keeps_what_attention_times_probability_points_at() -> None:
    model, given = ours(), batch()
    with torch.no_grad():
        snippets = model.base.snippets(given.features)
        features, rows, owners = model._representatives(snippets, given)
        assert len(owners) == len(rows)
        probability = (snippets.cas[0].sigmoid() * snippets.attention[0])[:, int(rows[0])]
    scaled = (probability - probability.min()) / (probability.max() - probability.min())
    torch.testing.assert_close(features[0], snippets.embedded[0][scaled > 0.75].mean(dim=0))
    assert rows[0] == given.labels[0].argmax()


@pytest.mark.parametrize("branch", ["main", "fused", "mean"])
def test_each_branch_is_localized_by_stpns_settings(branch: str) -> None:
    model = ours(inference_branch=branch)
    train(model)
    with torch.no_grad():
        said = model.eval().score(batch().features[0])
    assert said.signals["cas"].shape == said.signals["tcam"].shape == (12, CLASSES)
    assert said.video_scores.shape == (CLASSES,)
    torch.testing.assert_close(
        said.signals["tcam"],
        said.signals["attention"][:, None] * torch.logit(said.signals["cas"] / said.signals["attention"][:, None]),
        rtol=1e-3,
        atol=1e-4,
    )
    signals = {name: signal.double().numpy() for name, signal in said.signals.items()}
    scores = SnippetScores("v", signals, np.ones(CLASSES), 1.0)
    found = localize([scores], StpnRmgclGksa.recipe("thumos14").localizer, tuple("abcd"))
    assert set(found.label) == {c for c in range(CLASSES) if signals["cas"][:, c].max() >= 0.05}


def test_schedule_is_the_bases_and_rows_are_stpns() -> None:
    for dataset, words in {"thumos14": 40, "activitynet13": 200, "fineaction": 200}.items():
        recipe = StpnRmgclGksa.recipe(dataset)
        assert recipe.train == StpnEmbedded.recipe(dataset).train == Stpn.recipe(dataset).train
        assert recipe.method.summary.count == words
    rng = np.random.default_rng(0)
    assert ours().test_indices(2, 4).tolist() == [0, 0, 1, 1]
    assert len(ours().train_indices(3, 400, rng)) == 400


def test_a_second_scale_for_eq_7_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"leave memory\.score_scale at min_max"):
        ours(memory={"score_scale": "softmax"})
