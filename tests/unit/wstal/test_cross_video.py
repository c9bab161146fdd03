"""RMGCL, GKS, GKA and pseudo labels around ACM-Net: each term by hand, the bank's life, and what is stored."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from baselines.acmnet import AcmNet
from baselines.basnet_rmgcl_gksa import BasNetRmgclGksa
from baselines.rmgcl_gksa import RmgclGksa, RmgclGksaOptions
from harness.random_streams import seed_torch
from harness.runs.overrides import override
from wstal.errors import UserError
from wstal.method import TrainSpec
from wstal.summarize.options import SummaryKind
from wstal.types import Batch, Snippets, Supervision, Video

WIDTH, CLASSES = 16, 4
OFF = {"rmgcl": False, "gks": False, "gka": False, "pseudo": False}
# the rows of Table IV, and the terms that each adds
ROWS: dict[str, tuple[dict[str, bool], set[str]]] = {
    "baseline": (OFF, set()),
    "contrast": (OFF | {"rmgcl": True}, {"contrast"}),
    "gka": (OFF | {"rmgcl": True, "gka": True}, {"contrast", "auxiliary"}),
    "gka-pseudo": ({"gks": False}, {"contrast", "auxiliary", "pseudo_label", "pseudo_label_weight"}),
    "gks": ({"pseudo": False}, {"contrast", "auxiliary"}),
    "all": ({}, {"contrast", "auxiliary", "pseudo_label", "pseudo_label_weight"}),
    "no-contrast": ({"rmgcl": False}, {"auxiliary", "pseudo_label", "pseudo_label_weight"}),
}
BASE_TERMS = {"instance", "context", "background", "guide", "feature", "sparse", "total"}
BRANCHES = ("main", "fused", "mean")


def ours(**changes: Any) -> RmgclGksa:
    """Small enough to fill; `memory__start=0.5` changes a nested option."""
    fields: dict[str, Any] = {
        "memory": {"length": 5, "start": 0.0},
        "summary": {"count": 3, "neighbours": 4, "heads": 4},
        "fusion_width": WIDTH,
    }
    for name, value in changes.items():
        *groups, last = name.split("__")
        place = fields
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    seed_torch(0, "initialisation")
    return RmgclGksa(RmgclGksaOptions.model_validate(fields), WIDTH, CLASSES)


def batch(seed: int = 0, videos: int = 5, length: int = 12, seen: int = CLASSES) -> Batch:
    """Videos of one or two of the first `seen` classes."""
    rng = np.random.default_rng(seed)
    labels = np.eye(CLASSES)[rng.integers(0, seen, videos)]
    labels[0, 0] = 1
    features = rng.random((videos, length, WIDTH)) + labels[:, np.newaxis] @ np.eye(CLASSES, WIDTH)
    return Batch(
        torch.from_numpy(features).float(), torch.from_numpy(labels).float(), tuple(f"v{n}" for n in range(videos))
    )


def adam(method: AcmNet | RmgclGksa) -> torch.optim.Adam:
    return torch.optim.Adam(method.parameters(), lr=1e-2, weight_decay=1e-3)


def train(
    method: AcmNet | RmgclGksa,
    epochs: range = range(3),
    total: int = 3,
    optimizer: torch.optim.Adam | None = None,
    **shape: int,
) -> list[dict[str, Tensor]]:
    """Two steps an epoch, in the trainer's order; the terms of every step."""
    optimizer = optimizer or adam(method)
    steps = []
    for epoch in epochs:
        method.train()
        seed_torch(0, "dropout", epoch)
        method.start_epoch(epoch, total)
        for step in range(2):
            terms = method.losses(batch(2 * epoch + step, **shape))
            optimizer.zero_grad()
            terms["total"].backward()
            optimizer.step()
            method.end_step()
            steps.append({name: value.detach() for name, value in terms.items()})
    return steps


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


def trained(**changes: Any) -> RmgclGksa:
    method = ours(**changes)
    train(method)
    return method.eval()


# the base


def acmnet() -> AcmNet:
    seed_torch(0, "initialisation")
    return AcmNet(AcmNet.Options(), WIDTH, CLASSES)


@pytest.mark.parametrize("changes", [OFF, {"memory__start": 0.99}], ids=["all off", "before the start"])
def test_without_its_parts_it_is_acmnet_to_the_bit(changes: dict[str, Any]) -> None:
    plain, method = acmnet(), ours(**changes)
    expected, steps = train(plain, total=3), train(method, total=300)
    for terms, others in zip(steps, expected, strict=True):
        assert same({name: terms[name] for name in others}, others)
        assert all(terms[name] == 0 for name in terms.keys() - others.keys())
    assert same(method.base.state_dict(), plain.state_dict())
    assert not any(method.diagnostics().get("memory_fill", []))
    features = batch().features[0]
    scores, plain_scores = method.eval().score(features), plain.eval().score(features)
    assert same(scores.signals, plain_scores.signals)
    assert torch.equal(scores.video_scores, plain_scores.video_scores)


class Noting(AcmNet):
    """A base with all that it may have of its own."""

    supervision: ClassVar[Supervision] = "weak+count"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.called: list[Any] = []

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        self.called.append(("start", epoch, epochs, videos))

    def stage(self, epoch: int, epochs: int) -> int:
        return 7 * epoch

    def end_step(self) -> None:
        self.called.append("step")

    def end_training(self) -> None:
        self.called.append("end")

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(self.parameters(), lr=train.learning_rate)]


@pytest.mark.parametrize("changes", [{}, OFF])
def test_what_the_base_has_is_passed_through(changes: dict[str, Any]) -> None:
    wrapped = type("Wrapped", (RmgclGksa,), {"Base": Noting})
    method = wrapped(ours(**changes).spec, WIDTH, CLASSES)
    videos = [Video("v", np.zeros((3, WIDTH), np.float32), (0,), 0.64)]
    method.start_epoch(2, 3, videos)
    method.end_step()
    method.end_training()
    assert method.base.called == [("start", 2, 3, videos), "step", "end"]
    assert method.stage(2, 3) == 14
    assert (RmgclGksa.supervision, wrapped.supervision) == ("weak", "weak+count")
    of_base, *more = method.optimizers(TrainSpec(epochs=1))
    assert isinstance(of_base, torch.optim.SGD)
    assert len(more) == (0 if changes else 1)
    trained = [value for one in (of_base, *more) for group in one.param_groups for value in group["params"]]
    assert sorted(map(id, trained)) == sorted(map(id, method.parameters()))


def test_a_base_with_adam_shares_it() -> None:
    (one,) = ours().optimizers(TrainSpec(epochs=1))
    assert isinstance(one, torch.optim.Adam)


@pytest.mark.parametrize(
    ("start", "epochs", "first"), [(0.25, 200, 50), (0.25, 8, 2), (0.0, 4, 0), (0.5, 5, 3), (0.07, 100, 7)]
)
def test_the_bank_is_built_from_its_start_on(start: float, epochs: int, first: int) -> None:
    method = ours(memory__start=start)
    if first:
        train(method, range(first - 1, first), epochs)
        assert not any(method.diagnostics()["memory_fill"])
    train(method, range(first, first + 1), epochs)
    assert any(method.diagnostics()["memory_fill"])


def test_a_training_that_ends_before_the_bank_begins_is_refused() -> None:
    with pytest.raises(UserError, match=r"never be built.*90 % of 4 epochs"):
        ours(memory__start=0.9).start_epoch(0, 4)
    ours(memory__start=0.75).start_epoch(0, 4)
    ours(memory__start=0.9, rmgcl=False, gks=False, gka=False, pseudo=False).start_epoch(0, 4)


@pytest.mark.parametrize("row", ROWS)
def test_every_step_has_the_same_terms(row: str) -> None:
    changes, added = ROWS[row]
    for terms in train(ours(**changes, memory__start=0.5), range(4), 4):
        assert terms.keys() == BASE_TERMS | added
        assert all(value.shape == () and value.isfinite() for value in terms.values())


def test_terms_are_at_work_once_the_bank_holds_something() -> None:
    steps = train(ours(memory__start=0.5), range(4), 4)
    for name in ("contrast", "auxiliary", "pseudo_label", "pseudo_label_weight"):
        # epochs 0 and 1 do not store; the first step of epoch 2 finds the bank empty
        assert [bool(terms[name]) for terms in steps] == [False] * 5 + [True] * 3


def test_total_is_the_weighted_sum() -> None:
    method = trained(
        contrast__weight=0.3,
        pseudo_label__weight=0.7,
        base__instance_weight=1.7,
        base__guide=0.02,
        base__feature=0.03,
        base__sparse=0.05,
    )
    terms = {name: value.item() for name, value in method.losses(batch()).items()}
    classification = 1.7 * terms["instance"] + terms["context"] + terms["background"]
    regularizers = 0.02 * terms["guide"] + 0.03 * terms["feature"] + 0.05 * terms["sparse"]
    added = 0.3 * terms["contrast"] + terms["auxiliary"] + 0.7 * terms["pseudo_label"]
    assert terms["total"] == pytest.approx(classification + regularizers + added, rel=1e-5)


# the bank


def test_the_bank_changes_only_at_the_end_of_a_training_step() -> None:
    method = ours()
    train(method, range(1))
    before = copied(method.memory.state_dict())
    method.eval()
    first = method.losses(batch())
    method.end_step()
    assert same(method.losses(batch()), first)
    assert same(method.memory.state_dict(), before)
    method.train()
    terms = method.losses(batch())
    terms["total"].backward()
    assert same(method.memory.state_dict(), before)
    method.end_step()
    assert not same(method.memory.state_dict(), before)
    stored = copied(method.memory.state_dict())
    method.end_step()
    assert same(method.memory.state_dict(), stored)


def plain_representatives(snippets: Snippets, labels: Tensor, background: bool = True) -> list[tuple[Tensor, int]]:
    """Eq. 6-7 by loops: (beta, class) of each video's classes and, last, background; min-max over time, zeta 0.75."""
    found = []
    for b, c in itertools.product(range(len(labels)), range(CLASSES + 1)):
        if labels[b, c] if c < CLASSES else background:
            weighted = snippets.cas[b, :, c] * snippets.attention[b, :, 0 if c < CLASSES else 2]
            low, high = weighted.min(), weighted.max()
            chosen = [t for t, value in enumerate(weighted) if (value - low) / (high - low) > 0.75]
            found.append((snippets.embedded[b, chosen].mean(dim=0), c))
    return found


@pytest.mark.parametrize("background", [True, False])
def test_a_step_stores_the_representative_features(background: bool) -> None:
    method = ours(base__dropout=0.0, memory__length=50, memory__background=background)
    method.start_epoch(0, 1)
    given = batch()
    expected = plain_representatives(method.base.snippets(given.features), given.labels, background)
    method.losses(given)
    method.end_step()
    assert method.memory is not None
    tokens, row = method.memory.tokens()
    in_rows = sorted(expected, key=lambda entry: entry[1])
    assert row.tolist() == [c for _, c in in_rows]
    torch.testing.assert_close(tokens, torch.stack([beta for beta, _ in in_rows]))
    assert not tokens.requires_grad
    assert bool(method.diagnostics()["memory_fill"][-1]) == background


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"contrast__loss": "info_nce"},
        {"contrast__reduction": "sum"},
        {"contrast__anchors": "actions"},
        {"contrast__own_video": False},
        {"contrast__own_video": False, "contrast__anchors": "actions", "contrast__loss": "info_nce"},
    ],
    ids=str,
)
def test_contrast_equals_the_printed_formula(changes: dict[str, Any]) -> None:
    method = trained(**changes).double()
    given = batch(9)
    features, labels = given.features.double(), given.labels.double()
    assert method.memory is not None
    tokens, token_row = method.memory.tokens()
    anchors = []
    represented = plain_representatives(method.base.snippets(features), labels)
    videos = [name for name, shown in zip(given.videos, labels, strict=True) for _ in range(int(shown.sum()) + 1)]
    assert len(videos) == len(represented)
    # the last features of a row, in the order of the bank's slots: those of the steps of `trained`
    owner = stored_by(method) if "contrast__own_video" in changes else [""] * len(tokens)
    for (beta, c), video in zip(represented, videos, strict=True):
        if "contrast__anchors" in changes and c == CLASSES:  # background is a negative alone
            continue
        scaled = [functional.cosine_similarity(beta, token, dim=0).item() / 0.1 for token in tokens]
        own = [s for s, row, of in zip(scaled, token_row, owner, strict=True) if row == c and of != video]
        negatives = sum(math.exp(s) for s, row in zip(scaled, token_row, strict=True) if row != c)
        if "contrast__loss" in changes:
            costs = [math.log(math.exp(s) + negatives) - s for s in own]
        else:
            costs = [(-math.exp(0.2 * s) + (0.5 * (math.exp(s) + negatives)) ** 0.2) / 0.2 for s in own]
        if own:
            anchors.append(sum(costs) / (1 if "contrast__reduction" in changes else len(own)))
    value = method.losses(Batch(features, labels, given.videos))["contrast"]
    assert value.item() == pytest.approx(sum(anchors) / len(anchors), rel=1e-6)


def stored_by(method: RmgclGksa) -> list[str]:
    """The video of each filled slot after `train`, by a queue of names for each class."""
    queues: list[list[str]] = [[""] * method.spec.memory.length for _ in range(CLASSES + 1)]
    stored = [0] * (CLASSES + 1)
    for given in (batch(number) for number in range(6)):
        for name, labels in zip(given.videos, given.labels, strict=True):
            for c in [*labels.nonzero().flatten().tolist(), CLASSES]:
                queues[c][stored[c] % method.spec.memory.length] = name
                stored[c] += 1
    return [name for queue in queues for name in queue if name]


def test_an_anchor_whose_class_holds_its_own_video_alone_has_no_positive() -> None:
    method = ours(contrast__own_video=False, memory__background=False).eval()
    one = batch(videos=1)
    method.start_epoch(0, 3)
    method.train().losses(one)
    method.end_step()
    assert method.losses(one)["contrast"].item() == 0.0
    assert method.losses(Batch(one.features, one.labels, ("another",)))["contrast"].item() != 0.0
    # the same slots after a resume
    resumed = ours(contrast__own_video=False, memory__background=False).train()
    resumed.load_state_dict(copied(method.state_dict()))
    resumed.start_epoch(1, 3)
    assert resumed.losses(one)["contrast"].item() == 0.0


def test_a_balanced_contrast_begins_with_a_gradient_as_long_as_the_bases() -> None:
    method = ours(contrast__balanced=True, contrast__weight=0.5).train()
    method.start_epoch(0, 3)
    first, second = batch(0), batch(1)
    assert method.losses(first)["contrast"].item() == 0  # the bank is empty
    assert method.contrast_unit == 0
    method.end_step()
    found: list[Tensor] = []
    embed = method.base.snippets

    def kept(features: Tensor) -> Snippets:
        snippets = embed(features)
        found.append(snippets.embedded)
        return snippets

    method.base.snippets = kept  # type: ignore[method-assign]
    terms = method.losses(second)
    added = method.added_terms(terms)
    base = terms["total"] - sum(added.values())
    on_f = [torch.autograd.grad(one, found[0], retain_graph=True)[0].norm() for one in (added["contrast"], base)]
    assert on_f[0].item() == pytest.approx(0.5 * on_f[1].item(), rel=1e-4)
    # known from then on
    unit = method.contrast_unit.clone()
    assert unit > 0
    terms["total"].backward()
    method.end_step()
    method.losses(first)
    assert torch.equal(method.contrast_unit, unit)
    resumed = ours(contrast__balanced=True, contrast__weight=0.5)
    resumed.load_state_dict(copied(method.state_dict()))
    assert torch.equal(resumed.contrast_unit, unit)


def gradient_of(term: Tensor, part: torch.nn.Module) -> list[Tensor | None]:
    return list(torch.autograd.grad(term, list(part.parameters()), retain_graph=True, allow_unused=True))


def test_contrast_moves_the_embedding_alone() -> None:
    method = trained()
    contrast = method.losses(batch())["contrast"]
    assert all(gradient is not None and gradient.any() for gradient in gradient_of(contrast, method.base.embedding))
    for part in (method.base.classifier, method.base.attention, method.fusion, method.summarizer):
        assert gradient_of(contrast, part) == [None] * len(list(part.parameters()))


# the auxiliary branch


@pytest.mark.parametrize("row", ["gka-pseudo", "all", "no-contrast"])
def test_auxiliary_branch_equals_its_equations(row: str) -> None:
    changes, _ = ROWS[row]
    method = trained(**changes)
    given = batch(9)
    tokens, token_row = method.memory.tokens()
    knowledge = tokens if row == "gka-pseudo" else method.summarizer(tokens, token_row)
    assert len(knowledge) == (int(method.memory.filled.sum()) if row == "gka-pseudo" else 3)
    snippets = method.base.snippets(given.features)
    teacher = method.base.classify(method.fusion(snippets.embedded, knowledge))
    terms = method.losses(given)
    classified = AcmNet.snippet_losses(
        method.base, Snippets(snippets.embedded, snippets.attention, teacher), given.labels
    )
    expected = classified["instance"] + classified["context"] + classified["background"]
    torch.testing.assert_close(terms["auxiliary"], expected)
    for part in (method.base.embedding, method.base.attention, method.base.classifier, method.fusion):
        torch.testing.assert_close(gradient_of(terms["auxiliary"], part), gradient_of(expected, part))
        assert all(gradient is not None and gradient.any() for gradient in gradient_of(expected, part))
    p, p_hat = snippets.cas.softmax(-1), teacher.softmax(-1)
    divergence = (p * (p / p_hat).log()).sum(-1)
    learned = ((-divergence).exp() * -(p_hat * p.log()).sum(-1) + 0.001 * divergence).mean()
    torch.testing.assert_close(terms["pseudo_label"], learned)
    torch.testing.assert_close(terms["pseudo_label_weight"], (-divergence).exp().mean())


def test_aggregation_without_summary_reads_every_slot() -> None:
    method = trained(**ROWS["gka"][0])
    before = method.losses(batch())["auxiliary"]
    for row, filled in enumerate(method.memory.filled.tolist()):
        for slot in range(filled):
            kept = method.memory.slots[row, slot].clone()
            method.memory.slots[row, slot] *= 2
            assert method.losses(batch())["auxiliary"] != before
            method.memory.slots[row, slot] = kept
    assert method.losses(batch())["auxiliary"] == before


@pytest.mark.parametrize("dropped", [False, True])
def test_the_head_drops_what_memory_and_pseudo_labels_read_only_if_told(dropped: bool) -> None:
    method = ours(head_dropout=dropped)
    method.load_state_dict(trained().state_dict())
    method.start_epoch(1, 1)
    whole = method.eval().losses(batch())
    method.train()
    for name, value in method.losses(batch()).items():
        if name in ("contrast", "auxiliary", "pseudo_label", "pseudo_label_weight"):
            assert torch.equal(value, whole[name]) != dropped, name


@pytest.mark.parametrize("changes", [{"memory__score_scale": "none"}, {"pseudo_label__weighted": True}], ids=str)
def test_a_reading_that_changes_no_formula_above_changes_its_term(changes: dict[str, Any]) -> None:
    method = ours(**changes)
    method.load_state_dict(trained().state_dict())
    method.start_epoch(0, 1)
    terms, default = method.eval().losses(batch()), trained().losses(batch())
    changed = {"contrast"} if "memory__score_scale" in changes else {"pseudo_label", "pseudo_label_weight"}
    assert {name for name in terms if terms[name] != default[name]} - {"total"} == changed


def test_the_auxiliary_loss_alone_has_the_heads_dropout_if_told() -> None:
    method = ours(auxiliary__dropout=True)
    method.load_state_dict(trained().state_dict())
    method.start_epoch(1, 1)
    whole = method.eval().losses(batch())
    method.train()
    torch.manual_seed(0)
    dropped = method.losses(batch())
    assert dropped["auxiliary"] != whole["auxiliary"]
    assert dropped["contrast"] == whole["contrast"]  # of the CAS without it, as before
    assert whole["auxiliary"] == trained().losses(batch())["auxiliary"]


def test_the_auxiliary_loss_has_its_weight_and_its_attention() -> None:
    method = trained(auxiliary__weight=0.25, auxiliary__attention="own")
    given = batch(9)
    terms = method.losses(given)
    snippets = method.base.snippets(given.features)
    fused = method.fusion(snippets.embedded, method.summarizer(*method.memory.tokens()))
    expected = method.base.classification_loss(method.base.classify(fused), method.base.attend(fused), given.labels)
    torch.testing.assert_close(terms["auxiliary"], expected)
    others = AcmNet.snippet_losses(method.base, snippets, given.labels)["total"] + terms["pseudo_label"]
    torch.testing.assert_close(terms["total"], others + 0.1 * terms["contrast"] + 0.25 * expected)


def test_pseudo_labels_may_compare_the_weighted_cas() -> None:
    method = trained(pseudo_label__weighted=True)
    given = batch(9)
    snippets = method.base.snippets(given.features)
    fused = method.fusion(snippets.embedded, method.summarizer(*method.memory.tokens()))
    instance = snippets.attention[..., :1]
    p, p_hat = (instance * snippets.cas).softmax(-1), (instance * method.base.classify(fused)).softmax(-1)
    divergence = (p * (p / p_hat).log()).sum(-1)
    expected = ((-divergence).exp() * -(p_hat * p.log()).sum(-1) + 0.001 * divergence).mean()
    torch.testing.assert_close(method.losses(given)["pseudo_label"], expected)


def test_attention_of_its_own_needs_a_base_that_reads_it_from_the_embedding() -> None:
    recipe = BasNetRmgclGksa.recipe("thumos14")
    options = override(recipe, {"method.auxiliary.attention": "own"}).method
    with pytest.raises(UserError, match="that of BaS-Net comes from the features before F"):
        BasNetRmgclGksa(options, WIDTH, CLASSES)


def test_new_options_at_their_defaults_leave_a_run_its_name() -> None:
    written = RmgclGksa.recipe("thumos14").method.model_dump(mode="json")
    assert not {"auxiliary", "fusion_residual", "fusion_norm"} & written.keys()
    assert not {"anchors", "own_video", "balanced"} & written["contrast"].keys()
    assert "weighted" not in written["pseudo_label"]


@pytest.mark.parametrize("teacher_grad", [False, True])
def test_pseudo_labels_teach_the_auxiliary_branch_only_if_told(teacher_grad: bool) -> None:
    method = trained(pseudo_label__teacher_grad=teacher_grad)
    terms = method.losses(batch())
    for part in (method.fusion, method.summarizer):
        learned = gradient_of(terms["pseudo_label"], part)
        assert all((gradient is not None) == teacher_grad for gradient in learned)
        assert any(gradient is not None and gradient.any() for gradient in learned) == teacher_grad
        # video-level labels train it in either case
        assert all(
            gradient is not None and gradient.isfinite().all() for gradient in gradient_of(terms["auxiliary"], part)
        )
        assert any(gradient.any() for gradient in gradient_of(terms["auxiliary"], part))
    assert all(gradient.any() for gradient in gradient_of(terms["pseudo_label"], method.base.classifier))


def test_detached_uncertainty_changes_the_gradient_and_not_the_value() -> None:
    values, slopes = [], []
    for detach in (False, True):
        method = ours(pseudo_label__detach_uncertainty=detach)
        method.load_state_dict(trained().state_dict())
        method.eval().start_epoch(1, 1)
        term = method.losses(batch())["pseudo_label"]
        values.append(term)
        slopes.append(gradient_of(term, method.base.classifier)[0])
    assert values[0] == values[1]
    assert not torch.allclose(*slopes)


# what is stored


@pytest.mark.parametrize("kind", ["codewords", "detr_layer", "em_attention"])
def test_training_stores_the_summary_of_the_last_bank(kind: str) -> None:
    method = trained(summary__kind=kind)
    before = copied(method.state_dict())
    method.train().end_training()
    tokens, row = method.memory.tokens()
    torch.testing.assert_close(method.summary[: method.summary_count], method.eval().summarizer(tokens, row))
    assert int(method.summary_count) == 3
    after = method.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"summary", "summary_count"}


@pytest.mark.parametrize("kind", ["k_means", "spectral", "dbscan", "optimal_transport"])
def test_an_epoch_begins_with_a_clustering_of_the_bank_as_it_is_then(kind: str) -> None:
    method = ours(summary__kind=kind)
    train(method, range(4), 6)
    earlier = method.summarizer(*method.memory.tokens()).clone()
    seed_torch(0, "dropout", 4)
    method.start_epoch(4, 6)
    fresh = ours(summary__kind=kind).summarizer
    seed_torch(0, "dropout", 4)
    fresh.refresh(*method.memory.tokens())
    now = method.summarizer(*method.memory.tokens())
    assert torch.equal(now, fresh(*method.memory.tokens()))
    assert not torch.equal(now, earlier)


def test_a_clustering_of_a_bank_built_in_the_last_epoch_is_stored() -> None:
    method = ours(summary__kind="k_means", summary__count=1, memory__start=0.5, inference_branch="fused")
    train(method, range(2), 2)
    method.end_training()
    tokens, _ = method.memory.tokens()
    torch.testing.assert_close(method.summary[:1], tokens.mean(dim=0, keepdim=True))


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("kind", ["codewords", "k_means"])
def test_the_exported_state_scores_the_same_without_a_bank(branch: str, kind: str) -> None:
    changes = {"inference_branch": branch, "summary__kind": kind}
    method = trained(**changes)
    method.end_training()
    exported = copied(method.export_state())
    assert not any(name.startswith("memory") for name in exported)
    restored = ours(**changes)
    missing = restored.load_state_dict(exported, strict=False)
    assert set(missing.missing_keys) == {"memory.slots", "memory.pointer", "memory.filled"}
    assert not missing.unexpected_keys
    restored.memory = None
    features = batch(9).features[1]
    scores, others = method.score(features), restored.eval().score(features)
    assert same(scores.signals, others.signals)
    assert torch.equal(scores.video_scores, others.video_scores)


# k-means finds no more centres than there are slots
@pytest.mark.parametrize("changes", [{}, {"summary__kind": "k_means", "summary__count": 40}], ids=str)
def test_inference_branches_score_what_they_say(changes: dict[str, Any]) -> None:
    features = batch(9).features[1]
    scored = {}
    for branch in BRANCHES:
        method = trained(inference_branch=branch, **changes)
        method.end_training()
        scored[branch] = method.score(features).signals["cas"]
    snippets = method.base.snippets(features.unsqueeze(0))
    fused = method.base.classify(method.fusion(snippets.embedded, method.summarizer(*method.memory.tokens())))
    for branch, cas in {"main": snippets.cas, "fused": fused, "mean": (snippets.cas + fused) / 2}.items():
        expected = (cas * snippets.attention[..., :1]).softmax(dim=-1)[0, :, :CLASSES]
        torch.testing.assert_close(scored[branch], expected)
    assert not torch.allclose(scored["main"], scored["fused"])


@pytest.mark.parametrize("branch", ["fused", "mean"])
def test_an_auxiliary_branch_that_never_was_cannot_be_scored(branch: str) -> None:
    nothing = {"memory__score_scale": "softmax", "memory__threshold": 0.999, "memory__background": False}
    method = trained(inference_branch=branch, **nothing)
    with pytest.raises(UserError, match=rf"inference_branch={branch}.*memory\.threshold=0\.999"):
        method.end_training()
    trained(**nothing).end_training()


@pytest.mark.parametrize("kind", get_args(SummaryKind))
def test_training_goes_on_from_a_checkpoint_to_the_same_bits(kind: str) -> None:
    straight, begun, resumed = (ours(summary__kind=kind, memory__start=0.25) for _ in range(3))
    expected = train(straight, range(4), 4)
    optimizer = adam(begun)
    train(begun, range(2), 4, optimizer)
    resumed.load_state_dict(copied(begun.state_dict()))
    again = adam(resumed)
    again.load_state_dict(optimizer.state_dict())
    steps = train(resumed, range(2, 4), 4, again)
    assert all(same(terms, others) for terms, others in zip(steps, expected[4:], strict=True))
    assert all(terms["auxiliary"] > 0 for terms in steps)
    for method in (straight, resumed):
        seed_torch(0, "dropout", 4)
        method.end_training()
    assert same(resumed.state_dict(), straight.state_dict())


# the edges


@pytest.mark.parametrize(
    "changes",
    [
        {"memory__length": 1},
        {"memory__length": 1, "memory__update": "class_ema"},
        {"memory__length": 1, **ROWS["gka-pseudo"][0]},
        {"memory__update": "fifo"},
        {"memory__update": "class_ema"},
        {"memory__background": False},
        {"memory__score_scale": "softmax"},
        {"memory__score_scale": "sigmoid", "memory__threshold": 0.5},
        {"memory__score_scale": "softmax", "memory__threshold": 0.99, "memory__background": False},
        {"contrast__loss": "info_nce"},
        {"contrast__reduction": "sum"},
        {"summary__attention": "entmax15"},
        {"summary__attention": "dense", "summary__memory_embedding": False, "summary__memory_projection": "depthwise"},
        {"summary__count": 1, "summary__neighbours": 1},
        {"pseudo_label__teacher_grad": True, "pseudo_label__detach_uncertainty": True},
        {"pseudo_label__weighted": True, "contrast__anchors": "actions"},
        {"contrast__own_video": False, "contrast__loss": "info_nce"},
        {"contrast__own_video": False, "memory__update": "fifo", "contrast__reduction": "sum"},
        {"contrast__balanced": True, "contrast__weight": 1.0},
        {"memory__score_scale": "none", "memory__threshold": 0.0},
        {"auxiliary__weight": 0.5, "auxiliary__dropout": True, "auxiliary__attention": "own"},
        {"fusion_residual": False, "fusion_norm": False},
        {"base__attention_kernel": 3, "base__input_dropout": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("length", [1, 12])
def test_every_reading_trains_on_videos_of_any_length(changes: dict[str, Any], length: int) -> None:
    method = ours(**changes)
    for terms in train(method, range(2), 2, length=length):
        assert all(value.isfinite() for value in terms.values())
    assert all(value.isfinite().all() for value in method.state_dict().values())
    assert max(method.diagnostics()["memory_fill"]) <= method.spec.memory.length
    method.end_training()
    scores = method.eval().score(batch(9, length=length).features[0])
    assert all(value.isfinite().all() for value in [*scores.signals.values(), scores.video_scores])


def test_a_class_without_videos_has_no_slot_and_harms_nothing() -> None:
    method = ours()
    assert all(terms["total"].isfinite() for terms in train(method, seen=2))
    fill = method.diagnostics()["memory_fill"]
    assert fill[:2] == [5, 5]
    assert fill[2:CLASSES] == [0, 0]
    # then it comes: its anchors have no positive yet
    terms = method.losses(batch(9))
    terms["total"].backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in method.parameters())


@pytest.mark.parametrize("background", [True, False])
def test_a_batch_without_labels_changes_no_class(background: bool) -> None:
    method = ours(memory__background=background)
    train(method, range(1))
    before = copied(method.memory.state_dict())
    given = batch()
    terms = method.losses(Batch(given.features, torch.zeros_like(given.labels), given.videos))
    terms["total"].backward()
    method.end_step()
    assert all(value.isfinite() for value in terms.values())
    assert torch.equal(method.memory.slots[:CLASSES], before["slots"][:CLASSES])
    assert torch.equal(method.memory.slots[CLASSES], before["slots"][CLASSES]) != background


def test_diagnostics_have_the_same_names_from_the_first_epoch_on() -> None:
    method = ours()
    fresh = method.diagnostics()
    assert fresh == {"memory_fill": [0] * (CLASSES + 1), "memory_within": None, "memory_between": None}
    train(method)
    later = method.diagnostics()
    assert later.keys() == fresh.keys()
    assert -1 <= later["memory_between"] < later["memory_within"] <= 1
    assert ours(**OFF).diagnostics() == {}


# the options


def test_defaults_are_the_papers() -> None:
    options = RmgclGksa.recipe("thumos14").method
    assert isinstance(options, RmgclGksaOptions)
    assert (options.memory.length, options.memory.momentum, options.memory.threshold) == (500, 0.99, 0.75)
    assert (options.contrast.density, options.contrast.q, options.contrast.weight) == (0.5, 0.2, 0.1)
    assert (options.pseudo_label.rho, options.pseudo_label.weight) == (0.001, 1.0)
    assert options.memory.start * RmgclGksa.recipe("thumos14").train.epochs == 50


@pytest.mark.parametrize(
    ("dataset", "videos", "rows", "codewords"),
    [("thumos14", 16, 750, 40), ("activitynet13", 64, 75, 200), ("fineaction", 32, 400, 200)],
)
def test_recipes_are_the_papers(dataset: str, videos: int, rows: int, codewords: int) -> None:
    recipe = RmgclGksa.recipe(dataset)
    assert isinstance(recipe.method, RmgclGksaOptions)
    assert (recipe.train.batch_size, recipe.train.temporal_length, recipe.method.summary.count) == (
        videos,
        rows,
        codewords,
    )
    assert (recipe.train.epochs, recipe.train.learning_rate) == (200, 1e-4)
    assert (recipe.train.decay_every, recipe.train.decay_factor) == (100, 0.1)
    assert recipe.method.base == AcmNet.recipe(dataset).method
    assert recipe.localizer == AcmNet.recipe(dataset).localizer


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gka": False, "pseudo": False}, "gks without gka"),
        ({"gka": False, "gks": False}, "pseudo without gka"),
        ({"gks": False, "inference_branch": "fused"}, "inference_branch fused and mean need.*gks"),
        ({"gks": False, "inference_branch": "mean"}, "inference_branch fused and mean need.*gks"),
        ({"contrast.q": 1.0, "contrast.temperature": 0.01}, "method.contrast: .*q 1 with temperature 0.01 overflows"),
        ({"contrast.q": 0.0}, "method.contrast.q"),
        ({"contrast.temperature": 0.001}, "method.contrast.temperature"),
        ({"contrast.density": 0.0}, "method.contrast.density"),
        ({"summary.count": 0}, "method.summary.count"),
        ({"summary.kind": "k-means"}, "method.summary.kind.*'k_means'"),
        ({"memory.length": 0}, "method.memory.length"),
        ({"memory.update": "class_ema", "contrast.own_video": False}, "class_ema blends videos.*leave"),
        ({"memory.start": 1.0}, "method.memory.start"),
        ({"fusion_width": 0}, "method.fusion_width"),
        ({"base.dropout": 1.0}, "method.base.dropout"),
        ({"memory.lenght": 5}, "did you mean 'length'"),
    ],
    ids=str,
)
def test_options_refuse_what_cannot_be_run(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        override(RmgclGksa.recipe("thumos14"), {f"method.{name}": value for name, value in values.items()})


def test_overflow_is_no_matter_of_info_nce() -> None:
    values = {"method.contrast.q": 1.0, "method.contrast.temperature": 0.01, "method.contrast.loss": "info_nce"}
    assert override(RmgclGksa.recipe("thumos14"), values).method.contrast.loss == "info_nce"


def test_a_refusal_is_one_readable_line() -> None:
    with pytest.raises(UserError) as caught:
        override(RmgclGksa.recipe("thumos14"), {"method.gka": False})
    assert len(str(caught.value)) < 300


def test_heads_that_do_not_divide_the_width_are_the_users_mistake() -> None:
    with pytest.raises(UserError, match="heads"):
        ours(summary__kind="detr_layer", summary__heads=3)


OPTIONS: dict[str, dict[str, Any]] = {
    **{f"summary-{kind}": {"summary__kind": kind} for kind in get_args(SummaryKind)},
    **{f"update-{update}": {"memory__update": update} for update in ("slot_momentum", "fifo", "class_ema")},
    "entmax15": {"summary__attention": "entmax15"},
    "info_nce": {"contrast__loss": "info_nce"},
    "own_video": {"contrast__own_video": False},
    "without-summary": {"gks": False},
    "head_dropout": {"head_dropout": True},
    "long": {"memory__length": 50},
}


def on_meta(step: Batch) -> Batch:
    return Batch(step.features.to("meta"), step.labels.to("meta"), step.videos, labels_on_host=step.labels)


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=list(OPTIONS))
def test_no_step_asks_the_device(changes: dict[str, Any]) -> None:
    """On `meta` there are no values to ask for; its counters go on as in a step with values."""
    method = ours(**changes)
    train(method)
    method.start_epoch(3, 4)
    step, here = batch(), copy.deepcopy(method)
    here.losses(step)
    here.end_step()
    there = on_meta(step)
    method.to("meta").losses(there)["total"].backward()
    method.end_step()
    assert method.memory is not None
    assert here.memory is not None
    assert method.memory.slots.device.type == "meta"
    assert method.memory.filled.tolist() == here.memory.filled.tolist()
    assert method.memory.pointer.tolist() == here.memory.pointer.tolist()


def test_a_score_that_may_choose_nothing_has_to_be_asked() -> None:
    """Why only min_max avoids it: with the others a labelled class may have no snippet above the threshold."""
    method, step = ours(memory__score_scale="softmax"), batch()
    train(method)
    there = on_meta(step)
    with pytest.raises(NotImplementedError, match="no data"):
        method.to("meta").losses(there)
