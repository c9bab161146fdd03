"""BSN: probabilities of start, end and action at each row; pairs of starts and ends; a rating of each pair.

Idea: a small convolutional network gives three curves (TEM). Peaks and high values of start and end are paired, and 32
values of the action curve in and around a pair describe it (PGM). A perceptron predicts its IoU with the truth from
these alone (PEM).

Paper: Lin et al., ECCV 2018, arXiv 1806.02964. Facts: wzmsltw/BSN-boundary-sensitive-network at e50d129 (PyTorch) and
f13707f (TensorFlow). Its form for THUMOS14 was not released: windows of 100 rows that overlap by half.
Fully supervised: it trains on times, and sees no class. Classes come from a video classifier trained beside it, a score
file, or the annotations as an oracle (`localizer.class_score`); the row's title says which.
Deviations:
- the second half of the epochs trains the rating, on pairs of the first half's network, which is then fixed; pairs are
  made in each step and not stored;
- the rating's loss is the sampled one that the paper means, where the PyTorch code averages all pairs
  (`rating_loss=mean`), and low pairs have an IoU below 0.2, where it says 2.2, a misprint;
- of a kind of row that a batch lacks nothing is learnt, where the released loss is not a number;
- both parts have one weight decay, 1e-4, the rating's; the TensorFlow code has 1e-3 for the curves.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from wstal.boundaries import boundary_candidates, covered, pairwise_iou, regions
from wstal.families import many_classes
from wstal.localize.given import GivenProposals, SoftSuppression
from wstal.localize.spec import LocalizerSpec
from wstal.losses.boundary_matching import balanced_cross_entropy, sampled_weights, uniform_draws
from wstal.method import Recipe, TrainSpec
from wstal.proposal_generator import GeneratorOptions, ProposalGenerator, best_of_window
from wstal.spec import Count
from wstal.tensors import Features, Scalar
from wstal.types import Floats, Paper, SupervisedBatch

EPSILON = 1e-5  # within the logarithms
REGION = 0.1  # of an instance's length is its boundary's region, at least a row
ACTION, EDGE = 16, 8  # samples of the action curve within a pair, and around each of its ends
AROUND = 0.2  # of a pair's length to each side of its ends
PER_SAMPLE = 3  # intervals between the points that a sample averages
INSTANCES = 256  # that a window's targets have room for
Curves = Float[Tensor, "batch 3 time"]
Pairs = Float[Tensor, "batch pairs 2"]


class BsnOptions(GeneratorOptions):
    """Options of BSN."""

    window: Count = Field(100, description="rows of a window, after up-sampling")
    window_proposals: Count = Field(500, description="proposals of a test window that stay")
    hidden: Count = Field(512, description="channels of the curves' network")
    curve_scale: PositiveFloat = Field(0.1, description="of its logits: 0.1 in TensorFlow, 0.01 in PyTorch")
    rating_hidden: Count = Field(256, description="width of the rating")
    train_pairs: Count = Field(500, description="best pairs of a window that train the rating")
    test_pairs: Count = Field(1000, description="best pairs of a window that are rated")
    rating_loss: Literal["sampled", "mean"] = Field(
        "sampled", description="over as many middle and twice as many low pairs as high ones, or over all"
    )


class BoundaryNetwork(nn.Module):
    """TEM: three convolutions, whose last gives action, start and end."""

    def __init__(self, feature_dim: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Conv1d(feature_dim, hidden, 3, padding=1)
        self.conv2 = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.conv3 = nn.Conv1d(hidden, 3, 1)

    def forward(self, features: Features) -> Curves:
        """Return `[B, 3, T]` probabilities of action, start and end."""
        found: Tensor = self.conv3(self.conv2(self.conv1(features.transpose(1, 2)).relu()).relu())
        return (self.scale * found).sigmoid()


class Rating(nn.Module):
    """PEM: a perceptron from 32 values of the action curve to the IoU with the truth."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(ACTION + 2 * EDGE, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, samples: Float[Tensor, "*pairs 32"]) -> Float[Tensor, "*pairs"]:
        """Return the IoU of each pair."""
        found: Tensor = self.fc2((0.1 * self.fc1(samples)).relu())
        return (0.1 * found)[..., 0].sigmoid()


class Bsn(ProposalGenerator):
    """BSN over windows of features `[B, T, D]`."""

    name = "bsn"
    title = "BSN"
    paper = Paper(
        "BSN: Boundary Sensitive Network for Temporal Action Proposal Generation",
        "Tianwei Lin, Xu Zhao, Haisheng Su, Chongjing Wang, Ming Yang",
        "ECCV",
        2018,
        "https://arxiv.org/abs/1806.02964",
    )
    Options = BsnOptions
    SCORING_OPTIONS = frozenset({"test_pairs", "window_proposals"})
    CHECK_OPTIONS: ClassVar = {"window": 16, "hidden": 8, "rating_hidden": 8, "train_pairs": 20, "test_pairs": 20}
    spec: BsnOptions

    def __init__(self, spec: BsnOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.curves = BoundaryNetwork(feature_dim, spec.hidden, spec.curve_scale)
        self.rating = Rating(spec.rating_hidden)
        self.rates = False  # whether the rating trains
        self.stage_start = 0

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the TensorFlow code's settings, with each video rescaled to 100 rows where classes are many."""
        train = TrainSpec(epochs=40, batch_size=16, learning_rate=1e-3, weight_decay=1e-4, decay_every=10)
        if many_classes(dataset):
            options = BsnOptions(rescale=True)
            suppression = SoftSuppression(sigma=0.75, low=0.65, high=0.9)
            given = GivenProposals(suppression=suppression, keep=100, classes=1)
        else:
            options = BsnOptions()
            given = GivenProposals(suppression=SoftSuppression(sigma=0.75, low=0.65, high=0.65))
        return Recipe(method=options, train=train, localizer=LocalizerSpec(class_threshold=0.0, given=given))

    def stage(self, epoch: int, epochs: int) -> int:
        """Return 0 while the curves train, 1 while the rating does."""
        return int(epoch >= max(epochs // 2, 1))

    def start_epoch(self, epoch: int, epochs: int, videos: object = ()) -> None:
        """Free the part that trains and freeze the other."""
        self.rates = bool(self.stage(epoch, epochs))
        self.stage_start = max(epochs // 2, 1) if self.rates else 0
        self.curves.requires_grad_(not self.rates)
        self.rating.requires_grad_(self.rates)

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        """Return Adam with the learning rate that the schedule states at the start of the stage."""
        made = super().optimizers(train)
        if train.decay_every is not None:
            for group in made[0].param_groups:
                group["initial_lr"] = group["lr"] * train.decay_factor ** -(self.stage_start // train.decay_every)
        return made

    def generator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the part that trains."""
        return [*(self.rating if self.rates else self.curves).parameters()]

    def window_targets(self, instances: Tensor) -> dict[str, Tensor]:
        """Return which rows are action, start and end, and the instances for the rating."""
        rows = self.spec.window
        half = (REGION * (instances[:, 1] - instances[:, 0])).clamp(min=1) / 2
        parts = {"action": instances} | dict(zip(("start", "end"), regions(instances, half), strict=True))
        room = torch.zeros(INSTANCES, 2, dtype=torch.float32)
        room[: len(instances)] = instances[:INSTANCES]
        return {name: covered(part, rows) > 0.5 for name, part in parts.items()} | {"instances": room}

    def window_losses(self, batch: SupervisedBatch) -> dict[str, Tensor]:
        """Return losses of the curves, of the rating and of the classifier; the `total` has those that train."""
        curves = self.curves(batch.features)
        terms = {
            name: balanced_cross_entropy(curves[:, number], batch.targets[name], epsilon=EPSILON)
            for number, name in enumerate(("action", "start", "end"))
        }
        terms["rating"] = torch.zeros_like(terms["action"])
        terms["classification"] = self.classification_loss(batch)
        total = 2 * terms["action"] + terms["start"] + terms["end"]
        if self.rates:
            pairs, score = pairs_of(curves, self.spec.train_pairs)
            iou = pairwise_iou(pairs, batch.targets["instances"].to(pairs.dtype)).amax(dim=2)
            rated = self.rating(action_samples(curves[:, 0], pairs))
            terms["rating"] = rating_loss(rated, iou, score >= 0, self.spec.rating_loss, self.training)
            total = terms["rating"]
        return terms | {"total": total + terms["classification"]}

    def window_proposals(self, windows: Features) -> list[Floats]:
        """Return the best pairs of each window, scored by start x end x rating."""
        curves = self.curves(windows)
        pairs, score = pairs_of(curves, self.spec.test_pairs)
        rated = score * self.rating(action_samples(curves[:, 0], pairs))
        found = []
        for own, value, valid in zip(pairs, rated, score >= 0, strict=True):
            start, end = own[valid].double().cpu().numpy().T
            kept = value[valid].double().cpu().numpy()
            found.append(best_of_window(start, end, kept, None, self.spec.window_proposals))
        return found


def pairs_of(curves: Curves, keep: int) -> tuple[Pairs, Float[Tensor, "batch pairs"]]:
    """Return the best pairs of a start and a later end, between the middles of rows, and start x end of each.

    Args:
        curves: probabilities of action, start and end.
        keep: pairs of a window at most. Where there are fewer, the others have the score -1.
    """
    _, start, end = curves.detach().unbind(dim=1)
    rows = start.shape[1]
    chosen = boundary_candidates(start)[:, :, None] & boundary_candidates(end)[:, None, :]
    later = torch.ones(rows, rows, dtype=torch.bool, device=start.device).triu(diagonal=1)
    score = torch.where(chosen & later, start[:, :, None] * end[:, None, :], -1)
    best, place = score.flatten(1).topk(min(keep, rows * rows), dim=1)
    return torch.stack([place // rows, place % rows], dim=2).to(curves.dtype) + 0.5, best


def action_samples(action: Float[Tensor, "batch time"], pairs: Pairs) -> Float[Tensor, "batch pairs 32"]:
    """Return 16 samples of the action curve within each pair, 8 around its start and 8 around its end.

    A sample is the mean of 4 points, which neighbouring samples share at their ends. The curve is linear between the
    middles of rows and 0 outside of the window.

    Args:
        action: the curve.
        pairs: starts and ends in rows.
    """
    start, end = pairs.unbind(dim=2)
    reach = AROUND * (end - start)
    samples = []
    for low, high, count in (
        (start, end, ACTION),
        (start - reach, start + reach, EDGE),
        (end - reach, end + reach, EDGE),
    ):
        step = (high - low) / (count - 1)
        steps = torch.arange(PER_SAMPLE * count + 1, device=low.device, dtype=low.dtype) / PER_SAMPLE - 0.5
        points = at(action, low[..., None] + step[..., None] * steps)
        samples.append(points.unfold(2, PER_SAMPLE + 1, PER_SAMPLE).mean(dim=3))
    return torch.cat(samples, dim=2)


def at(curve: Float[Tensor, "batch time"], places: Float[Tensor, "batch pairs points"]) -> Tensor:
    """Return a curve's values at places in rows, linear between the middles of rows, 0 outside of the window."""
    rows = curve.shape[1]
    padded = functional.pad(curve, (1, 1))
    index = (places + 0.5).clamp(0, rows + 1)  # of the padded curve
    low = index.floor().clamp(max=rows)
    place = low.flatten(1).long()
    here, there = (padded.gather(1, one).view_as(index) for one in (place, place + 1))
    return torch.lerp(here, there, index - low)


def rating_loss(rated: Tensor, iou: Tensor, valid: Tensor, kind: str, training: bool) -> Scalar:
    """Return the smooth-L1 loss of rated pairs.

    Args:
        rated: `[B, K]` predicted IoU.
        iou: `[B, K]` with the truth.
        valid: `[B, K]` the pairs.
        kind: `BsnOptions.rating_loss`.
        training: draws are made.
    """
    weights = valid.to(rated.dtype)
    if kind == "sampled":
        groups = (iou > 0.6) & valid, (iou > 0.2) & (iou <= 0.6) & valid, (iou < 0.2) & valid
        draws = uniform_draws(rated, training)
        weights = sampled_weights(groups[0], groups[1:], draws, ratios=(1.0, 2.0)).to(rated.dtype)
    error = functional.smooth_l1_loss(rated, iou.to(rated.dtype), reduction="none")
    return (weights * error).sum() / weights.sum().clamp(min=1)
