"""STAR: formulas worked by hand, gradients by differences, training and decoding against plain loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from baselines.star import (
    IGNORED,
    LOCALIZER,
    Star,
    StarNetwork,
    StarOptions,
    mean_where,
    repetition_loss,
    repetitions,
    shared_attention,
    spread,
    st_gradcam,
    step_loss,
    step_targets,
)
from wstal.localize import localize
from wstal.localize.spec import Nms
from wstal.types import Batch, CountedBatch, SnippetScores

WIDTH, CLASSES, LENGTH = 6, 4, 9
TWO, ONE, NONE = [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [0.0] * 4


def network(**options: object) -> StarNetwork:
    torch.manual_seed(0)
    spec = StarOptions(hidden=8, attention_width=5, **options)
    return StarNetwork(spec, WIDTH, CLASSES).double().eval()


def batch(*labels: list[float], counts: float = 3.0) -> CountedBatch:
    generator = torch.Generator().manual_seed(2)
    features = torch.rand(len(labels), LENGTH, WIDTH, dtype=torch.float64, generator=generator)
    hot = torch.tensor(labels, dtype=torch.float64)
    return CountedBatch(features, hot, tuple("abcd"[: len(labels)]), counts=hot * counts)


def test_repetitions_by_hand() -> None:
    curves = torch.tensor([[0.0, 0.4, 0.0, 0.2, 0.4], [0.2, 0.2, 0.2, 0.2, 0.2], [0.5, 0.0, 0.0, 0.0, 0.5]])
    # 0 1 0 .5 1 goes up and down by 4 in all; a constant curve is one run; two runs at the ends are two
    torch.testing.assert_close(repetitions(curves, "absolute"), torch.tensor([2.0, 1.0, 2.0]))
    # 1 + 1 + 1/4 + 1/4 + 1
    torch.testing.assert_close(repetitions(curves, "squared"), torch.tensor([1.75, 1.0, 2.0]))


def test_repetition_loss_by_hand() -> None:
    found = torch.tensor([[3.0, 1.0], [7.0, 2.0]])
    counts = torch.tensor([[2.0, 4.0], [0.0, 2.0]])
    # 1/2, 3/4 and 0: nothing is known of the third
    assert repetition_loss(found, counts).item() == pytest.approx(1.25 / 3)
    assert repetition_loss(found, torch.zeros(2, 2)).item() == 0


def test_shared_attention_by_hand() -> None:
    curve, covered = torch.tensor([[0.5, 0.3, 0.2, 0.0]]), torch.tensor([[0.1, 0.6, 0.2, 0.1]])
    # minima .1 .3 .2 0
    assert shared_attention(curve, covered, 0.0).item() == pytest.approx(0.6)
    # above 1 / (2 * 4)
    assert shared_attention(curve, covered, 0.5).item() == pytest.approx(0.175 + 0.075)
    assert shared_attention(curve, covered, 1.0).item() == pytest.approx(0.05)


def test_spread_by_hand() -> None:
    log_curve = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.25] * 4]).clamp(min=1e-30).log()
    # 1.5 of 2 bits; mean of 1 .5 .5 0
    torch.testing.assert_close(spread(log_curve, "entropy"), torch.tensor([0.75, 1.0]))
    torch.testing.assert_close(spread(log_curve, "mean"), torch.tensor([0.5, 1.0]))


def test_st_gradcam_by_hand() -> None:
    curve, gradient = torch.tensor([0.5, 0.5]), torch.tensor([1.0, -2.0])
    features = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
    # xi = 0 and -2
    expected = torch.tensor([0.5 * 0.5, 0.5 / (1 + torch.e**2)])
    torch.testing.assert_close(st_gradcam(curve, gradient, features), expected)


def test_step_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]], [[0.1, 0.1, 0.8], [0.9, 0.05, 0.05]]]))
    targets = torch.tensor([[0, 2], [2, IGNORED]])
    expected = -(torch.tensor([0.5, 0.6, 0.8]).log().sum() / 3)
    torch.testing.assert_close(step_loss(logits, targets), expected)


def test_mean_where_nothing_counts() -> None:
    assert mean_where(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool)).item() == 0


def test_targets_are_the_labels_in_order_and_an_end_token() -> None:
    given = batch(TWO, ONE, NONE, [1.0] * 4)
    counts = given.labels * torch.tensor([2.0, 3.0, 1.0, 5.0])
    end, no = CLASSES, IGNORED
    assert step_targets(given.labels, counts, 3, "class").tolist() == [
        [1, 3, end],
        [2, end, no],
        [end, no, no],
        [0, 1, 2],
    ]
    assert step_targets(given.labels, counts, 3, "count").tolist() == [
        [3, 1, end],
        [2, end, no],
        [end, no, no],
        [3, 1, 0],
    ]
    assert step_targets(given.labels, counts, 5, "class")[3].tolist() == [0, 1, 2, 3, end]
    # a label without an instance still counts
    assert step_targets(given.labels, 0 * counts, 3, "count")[0].tolist() == [1, 3, end]


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda curve: repetitions(curve.softmax(dim=1), "squared"), [(2, 5)]),
        (lambda curve: repetitions(curve.softmax(dim=1), "absolute"), [(2, 5)]),
        (lambda found: repetition_loss(found, torch.tensor([[2.0, 4.0], [0.0, 2.0]]).double()), [(2, 2)]),
        (lambda curve, covered: shared_attention(curve.softmax(dim=1), covered.softmax(dim=1), 0.5), [(2, 5), (2, 5)]),
        (lambda curve: spread(curve.log_softmax(dim=1), "entropy"), [(2, 5)]),
        (lambda curve: spread(curve.log_softmax(dim=1), "mean"), [(2, 5)]),
        (lambda logits: step_loss(logits, torch.tensor([[0, 2], [2, IGNORED]])), [(2, 2, 3)]),
    ],
    ids=["squared", "absolute", "repetition", "coverage", "entropy", "mean", "classification"],
)
def test_gradients_by_differences(function: Callable[..., Tensor], shapes: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(function, [torch.randn(*shape).double().requires_grad_() for shape in shapes])


@pytest.mark.parametrize(
    "options", [{}, {"order": "count", "aligned": "output"}, {"aligned": "curve", "steps": 2, "variation": "squared"}]
)
def test_losses_are_those_of_a_plain_loop(options: dict[str, object]) -> None:
    """A video and a step at a time: the true action before, the state and the coverage go on to the next step."""
    model, given = network(sparse="mean", margin=0.5, **options), batch(TWO, ONE, NONE)
    given.counts[0, 3] = 5.0
    named: list[Tensor] = []
    errors: dict[str, list[Tensor]] = {"curve": [], "output": []}
    shared, sparse = [], []
    for features, labels, counts in zip(given.features, given.labels, given.counts, strict=True):
        actions = labels.nonzero().flatten().tolist()
        if model.spec.order == "count":
            actions.sort(key=lambda label, counts=counts: -counts[label].item())
        state, covered, previous = model.decoder.start(1), torch.zeros(1, LENGTH).double(), None
        for target in [*actions, CLASSES][: model.spec.steps]:
            curve = model.attend(model.of_snippet(features[None]), covered, state).exp()
            y = torch.eye(CLASSES)[previous].double() if previous is not None else torch.zeros(CLASSES).double()
            x = torch.stack([weight * snippet for weight, snippet in zip(curve[0], features, strict=True)]).sum(dim=0)
            ram = repetitions(curve, model.spec.variation)
            output, state = model.decoder(torch.cat([y, x, ram])[None], state)
            named.append(-output[0, :-1].log_softmax(dim=0)[target])
            if target < CLASSES:
                errors["curve"].append((ram[0] - counts[target]).abs() / counts[target])
                errors["output"].append((output[0, -1] - counts[target]).abs() / counts[target])
                shared.append(shared_attention(curve, covered, 0.5)[0])
                sparse.append(spread(curve.log(), "mean")[0])
            covered, previous = covered + curve, target
    kinds = {"both": ("curve", "output")}.get(model.spec.aligned, (model.spec.aligned,))
    means = [torch.stack(terms).mean() for terms in (named, *(errors[kind] for kind in kinds), shared, sparse)]
    losses = model.losses(given)
    torch.testing.assert_close(losses["classification"], means[0])
    torch.testing.assert_close(losses["repetition"], torch.stack(means[1:-2]).sum())
    torch.testing.assert_close(losses["coverage"], means[-2])
    torch.testing.assert_close(losses["sparsity"], means[-1])
    torch.testing.assert_close(losses["total"], means[0] + 0.1 * torch.stack(means[1:]).sum())


def test_without_the_repetition_loss_counts_change_nothing() -> None:
    model = network(repetition=0)
    few, many = batch(TWO, ONE, counts=1.0), batch(TWO, ONE, counts=50.0)
    assert model.losses(few)["repetition"].item() == 0
    for name, value in model.losses(few).items():
        assert torch.equal(model.losses(many)[name], value)
    assert network().losses(few)["total"].item() != network().losses(many)["total"].item()
    # nor does RAM go into the decoder
    given = model.given(few.labels, few.features, torch.rand(2, LENGTH).double())
    assert given[:, -1].tolist() == [0, 0]


def test_a_batch_without_counts_is_refused() -> None:
    given = batch(TWO)
    with pytest.raises(TypeError, match="counts"):
        network().losses(Batch(given.features, given.labels, given.videos))


def decoded(model: StarNetwork, features: Tensor, labels: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """CAS, attention and probabilities of a video whose steps name these labels, with the gradient by autograd."""
    cas, attention = torch.zeros(LENGTH, CLASSES).double(), torch.zeros(LENGTH).double()
    state, covered, y = model.decoder.start(1), torch.zeros(1, LENGTH).double(), torch.zeros(1, CLASSES).double()
    video = torch.zeros(CLASSES).double()
    for label in labels:
        curve = model.attend(model.of_snippet(features[None]), covered, state).exp().detach()
        x = (curve @ features).requires_grad_()
        output, state = model.decoder(torch.cat([y, x, repetitions(curve, model.spec.variation)[None]], dim=1), state)
        video = torch.maximum(video, output[0, :-1].softmax(dim=0)[:-1])
        if label == CLASSES:
            break
        (w,) = torch.autograd.grad(output[0, label], x, retain_graph=True)
        weighted = curve[0] * (features * w).sum(dim=1).sigmoid()
        scaled = (weighted - weighted.min()) / (weighted.max() - weighted.min())
        cas[:, label] = torch.maximum(cas[:, label], scaled)
        attention = torch.maximum(attention, curve[0] / curve.max())
        covered, y = covered + curve, functional.one_hot(torch.tensor([label]), CLASSES).double()
    return cas, attention, video


@pytest.mark.parametrize(
    ("bias", "labels"),
    [([0, 0, 9, 0, 20], [2, 4]), ([0, 9, 0, 0, -9], [1, 1, 1, 1])],
    ids=["the end token comes at once", "it never comes"],
)
def test_decoding_ends_with_the_end_token_after_the_first_action_or_with_the_steps(
    bias: list[float], labels: list[int]
) -> None:
    model = network()
    with torch.no_grad():
        model.decoder.output.bias.copy_(torch.tensor([*bias, 0.0]))
    features = batch(ONE).features[0]
    cas, attention, video = decoded(model, features, labels)
    with torch.no_grad():
        scores = model.score(features)
    torch.testing.assert_close(scores.signals, {"cas": cas, "attention": attention})
    torch.testing.assert_close(scores.video_scores, video.detach())
    assert scores.signals["cas"].amax(dim=0).nonzero().flatten().tolist() == sorted({*labels} - {CLASSES})


def test_a_video_of_one_snippet_is_scored() -> None:
    scores = network().score(torch.rand(1, WIDTH).double())
    assert scores.signals["attention"].tolist() == [1.0]


def test_streams_decode_apart_and_their_scores_are_averaged() -> None:
    torch.manual_seed(0)
    model = Star(StarOptions(hidden=8, attention_width=5, streams=(4, 2)), WIDTH, CLASSES).double().eval()
    features = batch(ONE).features[0]
    one, other = (net.score(part) for net, part in zip(model.networks, (features[:, :4], features[:, 4:]), strict=True))
    found = model.score(features)
    torch.testing.assert_close(found.signals["cas"], (one.signals["cas"] + other.signals["cas"]) / 2)
    torch.testing.assert_close(found.video_scores, (one.video_scores + other.video_scores) / 2)


def test_detections_of_a_curve_by_hand() -> None:
    cas = np.array([[0.0, 0.35, 1.0, 0.35, 0.0, 0.15], [0.0] * 6]).T
    one = SnippetScores("v", {"cas": cas}, np.array([0.5, 0.3]), seconds_per_snippet=2.0)
    found = localize([one], LOCALIZER, ("jump", "run"))
    # of jump: 0.5 and 0.4 give the peak, 0.1 to 0.3 its whole, which overlaps it by a third, and 0.1 the last row.
    # run is likely enough, but was not named
    assert (found.label.tolist(), found.start.tolist(), found.end.tolist()) == ([0] * 3, [4, 2, 10], [6, 8, 12])
    np.testing.assert_allclose(found.score, np.array([1.0, 1.7 / 3, 0.15]) + 0.2 * 0.5)


@pytest.mark.parametrize(("dataset", "rows"), [("thumos14", 750), ("activitynet13", 300), ("other", 750)])
def test_recipe(dataset: str, rows: int) -> None:
    recipe = Star.recipe(dataset)
    train, (source,) = recipe.train, recipe.localizer.sources
    assert (train.learning_rate, train.batch_size, train.epochs, train.weight_decay) == (1e-4, 16, 100, 0)
    assert (train.temporal_length, train.test_length) == (rows, rows)
    assert recipe.method == StarOptions(hidden=1024, steps=4, dropout=0.5, repetition=0.1, coverage=0.1, sparsity=0.1)
    assert recipe.localizer == LOCALIZER
    assert (LOCALIZER.class_threshold, LOCALIZER.nms) == (0.1, Nms(kind="hard", threshold=0.5))
    assert source.thresholds == (0.1, 0.2, 0.3, 0.4, 0.5)


def test_it_says_that_it_trains_on_counts_and_follows_the_paper_in_part() -> None:
    assert (Star.supervision, Star.title, Star.source) == ("weak+count", "STAR (from the paper)", "paper, partly")
