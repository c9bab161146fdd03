"""SSN head: proposals of actionness grouping, classified by their course and judged complete by their surroundings.

Idea: a proposal and half its length to each side are three stages, whose rows are averaged. The course alone decides
the class. All three together decide, class by class, whether the proposal is a complete instance, and how to move its
ends. Proposals are runs of an actionness curve above thresholds, with gaps (TAG).

Paper: Zhao et al., ICCV 2017, arXiv 1704.06228. Facts: yjxiong/action-detection at 3d8ff83.
Fully supervised: it trains on times. It gives classes itself.
Deviations:
- the head alone is trained, on fixed features, where the paper trains a network on frames of two streams. The row's
  title says so, and less than the published numbers is to be expected;
- rows of 16 frames are up-sampled twice, and the nine rows of a proposal are linear between them: half of the
  instances have fewer than nine rows;
- a third of the epochs trains the actionness; both Adams have one rate (released: SGD, two decays, biases apart);
- lengths have no frame added to them, and a video without proposals of a kind has none of it in a step, where the
  released code takes those of other videos.
As in the released code, proposals are suppressed before their ends are moved, and pooled scores of a video have the
bias of each stage scaled with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal.actionness_grouping import actionness_proposals
from wstal.families import epochs_for, many_classes
from wstal.localize.given import GivenProposals
from wstal.localize.nms import Rows, hard_nms
from wstal.localize.spec import LocalizerSpec
from wstal.method import Recipe, TrainSpec
from wstal.proposal_pools import COURSE, SIDE, Pool, joined, places_of, pools
from wstal.spec import Count, Spec
from wstal.supervised import SupervisedMethod, snippet_signals
from wstal.tensors import Scalar, VideoFeatures
from wstal.types import FloatArray, Floats, IntArray, Paper, Scores, SupervisedBatch, SupervisedVideo
from wstal.windows import Window, instances_in_rows, rows_at

STAGES, ROWS = 3, COURSE + 2 * SIDE
FOREGROUND, INCOMPLETE, BACKGROUND, NONE = 0, 1, 2, -1
OF_HEAD = (1, 6, 1)  # foreground, incomplete and background proposals of a video in a step
OF_ACTIONNESS = (3, 0, 9)
HARD = 0.17  # share of incomplete proposals that count, the hardest
THUMOS_STEPS = 5_600


class SsnOptions(Spec):
    """Options of SSN's head."""

    upsampling: Count = Field(2, description="rows for each row of the features, by linear interpolation")
    dropout: float = Field(0.8, ge=0, lt=1, description="of the rows")
    smoothing: float = Field(2.25, gt=0, description="of the actionness, in up-sampled rows (18 frames in the paper)")
    passes: Count = Field(10, description="times that an epoch shows each video")
    incomplete_overlap: float = Field(0.01, ge=0, lt=1, description="share of an incomplete proposal that is action")
    pairs: Count = Field(2000, description="best pairs of proposal and class of a video, before suppression")
    overlap: float = Field(0.2, gt=0, lt=1, description="IoU above which the worse of two of a class is dropped")


class SsnHead(nn.Module):
    """Heads of SSN on frozen rows: class of the course, completeness and moves of the three stages."""

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.activity = nn.Linear(feature_dim, num_classes + 1)  # background first
        self.completeness = nn.Linear(STAGES * feature_dim, num_classes)
        self.regression = nn.Linear(STAGES * feature_dim, 2 * num_classes)
        for layer in (self.activity, self.completeness, self.regression):
            nn.init.normal_(layer.weight, std=0.001)
            nn.init.zeros_(layer.bias)

    def forward(
        self, rows: Float[Tensor, "proposals 9 in_dim"], scaling: Float[Tensor, "proposals 2"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return `[P, C + 1]` activity, `[P, C]` completeness and `[P, C, 2]` moves.

        Args:
            rows: of the start's side, the course and the end's side.
            scaling: share of each side that lies in the video.
        """
        before, course, after = (part.mean(dim=1) for part in (rows[:, :SIDE], rows[:, SIDE:-SIDE], rows[:, -SIDE:]))
        pyramid = torch.cat([before * scaling[:, :1], course, after * scaling[:, 1:]], dim=1)
        return self.activity(course), self.completeness(pyramid), self.regression(pyramid).unflatten(1, (-1, 2))


class Ssn(SupervisedMethod):
    """SSN's head over features `[B, T, D]`."""

    name = "ssn"
    title = "SSN head (frozen features)"
    paper = Paper(
        "Temporal Action Detection with Structured Segment Networks",
        "Yue Zhao, Yuanjun Xiong, Limin Wang, Zhirong Wu, Xiaoou Tang, Dahua Lin",
        "ICCV",
        2017,
        "https://arxiv.org/abs/1704.06228",
    )
    Options = SsnOptions
    SCORING_OPTIONS = frozenset({"pairs", "overlap"})
    spec: SsnOptions
    moves: Tensor

    def __init__(self, spec: SsnOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.actionness = nn.Linear(feature_dim, 2)
        nn.init.normal_(self.actionness.weight, std=0.001)
        nn.init.zeros_(self.actionness.bias)
        self.head = SsnHead(feature_dim, num_classes)
        # mean and standard deviation of moves, by centre and size
        self.register_buffer("moves", torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        self.pools: list[list[Pool]] = []  # by kind and video

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the released settings, with an own optimiser."""
        options = SsnOptions(incomplete_overlap=0.7, overlap=0.6) if many_classes(dataset) else SsnOptions()
        epochs = epochs_for(dataset, THUMOS_STEPS, 16) // options.passes
        train = TrainSpec(epochs=max(epochs, 3), batch_size=16, learning_rate=1e-3, weight_decay=5e-4)
        given = GivenProposals(keep=1000, classes=0)
        return Recipe(method=options, train=train, localizer=LocalizerSpec(class_threshold=0.0, given=given))

    def stage(self, epoch: int, epochs: int) -> int:
        """Return 0 while the actionness trains, 1 while the head does."""
        return int(epoch >= max(epochs // 3, 1))

    def windows(self, videos: Sequence[SupervisedVideo], stage: int) -> list[Window]:
        """Return each video several times, and sort its proposals: sliding windows, or those of the actionness."""
        self.pools = [[], [], []]
        for video in videos:
            proposals = self._proposals(video.video.features)[:, :2] if stage else self._sliding(video)
            kinds = pools(proposals, self._instances(video), self._length(video), self.spec.incomplete_overlap)
            for kind, pool in enumerate(kinds):
                self.pools[kind].append(pool)
        if stage:
            moves = joined(self.pools[FOREGROUND]).moves
            moves = moves[moves.any(axis=1)]  # those of instances themselves are 0 and do not count
            if len(moves) > 1:
                made = np.stack([moves.mean(axis=0), np.maximum(moves.std(axis=0), 1e-3)])
                self.moves.copy_(torch.from_numpy(made))
        return [
            Window(number, 0, 1, video.video.length) for _ in range(self.spec.passes)
            for number, video in enumerate(videos) if len(video.start)
        ]  # fmt: skip

    def targets(self, video: SupervisedVideo, window: Window, stage: int) -> dict[str, Tensor]:
        """Return nothing: what a step sees is drawn (`example`)."""
        return {}

    def example(
        self, video: SupervisedVideo, window: Window, stage: int, rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return nine rows (five, of a course alone, for the actionness) of drawn proposals, and what they are."""
        counts = OF_HEAD if stage else OF_ACTIONNESS
        drawn = joined([self.pools[kind][window.video].draw(count, rng) for kind, count in enumerate(counts)])
        start, end = drawn.spans.T
        kind = np.where(end > start, np.repeat([FOREGROUND, INCOMPLETE, BACKGROUND], counts), NONE)
        places, scaling = places_of(start, end, self._length(video), rng)
        places = places if stage else places[:, SIDE : SIDE + COURSE]
        rows = rows_at(video.video.features, places.reshape(-1) / self.spec.upsampling - 0.5)
        mean, deviation = self.moves.double().cpu().numpy()
        targets = {"kind": torch.from_numpy(kind)}
        if stage:
            moves = (drawn.moves - mean) / deviation
            targets |= {
                "label": torch.from_numpy(drawn.label), "scaling": torch.from_numpy(scaling).float(),
                "moves": torch.from_numpy(moves).float(),
            }  # fmt: skip
        return rows, targets

    def window_losses(self, batch: SupervisedBatch) -> dict[str, Tensor]:
        """Return the losses of the part that trains; those of the other are 0."""
        zero = batch.features.new_zeros(())
        terms = dict.fromkeys(("actionness", "activity", "completeness", "regression"), zero)
        kind = batch.targets["kind"].flatten()
        rows = functional.dropout(batch.features, self.spec.dropout, self.training)
        if "moves" not in batch.targets:
            logits = self.actionness(rows.reshape(len(kind), COURSE, -1).mean(dim=1))
            loss = _cross_entropy(logits, (kind == FOREGROUND).long(), kind != NONE)
            return terms | {"actionness": loss, "total": loss}
        label, moves, scaling = (batch.targets[name].flatten(0, 1) for name in ("label", "moves", "scaling"))
        activity, completeness, found = self.head(rows.reshape(len(kind), ROWS, -1), scaling)
        terms |= head_losses(activity, completeness, found, kind, label, moves)
        total = terms["activity"] + 0.1 * terms["completeness"] + 0.1 * terms["regression"]
        return terms | {"total": total}

    @torch.no_grad()
    def score(self, features: VideoFeatures) -> Scores:
        """Return the detections of a video, already suppressed within each class."""
        host = features.detach().cpu().numpy()
        rows, upsampling = len(host), self.spec.upsampling
        proposals = self._proposals(host)[:, :2].clip(0, rows * upsampling)
        fine = self._upsampled(host).to(features)
        spans = proposals / len(fine)
        activity, completeness, moves = pooled_scores(self.head, fine, spans)
        mean, deviation = self.moves.double().cpu().numpy()
        moves = mean + moves * deviation
        found = detections(spans, activity, completeness, moves, self.spec.pairs, self.spec.overlap)
        label, score, start, end = found.T
        given = np.column_stack([start * rows, end * rows, score, label])[end > start]
        video_scores = self.head.activity(features).mean(dim=0)[1:].softmax(dim=0)
        found_in_rows = torch.from_numpy(given)
        signals = snippet_signals(found_in_rows, video_scores.double().cpu(), rows)
        return Scores({n: s.to(features) for n, s in signals.items()}, video_scores, proposals=found_in_rows)

    def _upsampled(self, features: FloatArray) -> Tensor:
        count = len(features) * self.spec.upsampling
        return Window(0, 0, 1 / self.spec.upsampling, count).features(features)

    @torch.no_grad()
    def _proposals(self, features: FloatArray) -> Floats:
        """Return `[P, 3]` start, end and score of actionness grouping, in up-sampled rows; at least the whole video."""
        fine = self._upsampled(features).to(self.actionness.weight)
        found = actionness_proposals(self.actionness(fine).double().cpu().numpy(), self.spec.smoothing)
        found[:, 1] = found[:, 1].clip(max=len(fine))
        return found if len(found) else np.array([[0.0, len(fine), 0.0]])

    def _sliding(self, video: SupervisedVideo) -> Floats:
        """Return windows of 1 to 128 seconds, whose starts are 0.3 of that apart, in up-sampled rows."""
        second = self.spec.upsampling / video.video.seconds_per_snippet
        length = self._length(video)
        found = []
        for size in 2.0 ** np.arange(8):
            start = np.arange(0, max(length - size * second, 1e-6), np.ceil(0.3 * size) * second)
            found.append(np.column_stack([start, np.minimum(start + size * second, length)]))
        return np.concatenate(found)

    def _instances(self, video: SupervisedVideo) -> tuple[Floats, IntArray]:
        spans = (instances_in_rows(video) * self.spec.upsampling).clip(0, self._length(video))
        keep = spans[:, 1] > spans[:, 0]
        return spans[keep], video.label[keep]

    def _length(self, video: SupervisedVideo) -> int:
        return video.video.length * self.spec.upsampling


def head_losses(
    activity: Tensor, completeness: Tensor, moves: Tensor, kind: Tensor, label: Tensor, target: Tensor
) -> dict[str, Tensor]:
    """Return the losses of SSN's heads, over groups of one foreground and six incomplete proposals of a video.

    Args:
        activity: `[P, C + 1]`.
        completeness: `[P, C]`.
        moves: `[P, C, 2]`.
        kind: `[P]` foreground, incomplete, background, or none.
        label: `[P]` class; of background anything.
        target: `[P, 2]` true moves, standardised.
    """
    foreground = kind == FOREGROUND
    own = label.clamp(min=0)[:, None]
    named = torch.where(foreground, label + 1, 0)
    of_class = completeness.gather(1, own)[:, 0]
    error = functional.smooth_l1_loss(
        moves.gather(1, own[:, :, None].expand(-1, -1, 2))[:, 0], target.to(moves.dtype), reduction="none"
    )
    count = foreground.sum()
    return {
        "activity": _cross_entropy(activity, named, foreground | (kind == BACKGROUND)),
        "completeness": completeness_loss(of_class, kind),
        "regression": 2 * (error * foreground[:, None]).sum() / (2 * count).clamp(min=1),
    }


def completeness_loss(scores: Tensor, kind: Tensor) -> Scalar:
    """Return a hinge loss that wants foreground above 1 and the hardest incomplete proposal of each video below -1.

    Args:
        scores: `[P]` completeness for the proposal's class.
        kind: `[P]`, one foreground, six incomplete and one background proposal of each video in turn.
    """
    by_video = kind.view(-1, sum(OF_HEAD))
    scores = scores.view_as(by_video)
    foreground, incomplete = by_video == FOREGROUND, by_video == INCOMPLETE
    hits = (foreground * (1 - scores).clamp(min=0)).sum()
    hardest = (incomplete * (1 + scores).clamp(min=0)).topk(int(HARD * OF_HEAD[INCOMPLETE]), dim=1).values.sum()
    counted = foreground.sum() + (HARD * incomplete.sum()).floor()
    return (hits + hardest) / counted.clamp(min=1)


def _cross_entropy(logits: Tensor, target: Tensor, counted: Tensor) -> Scalar:
    loss = functional.cross_entropy(logits, target, reduction="none")
    return (loss * counted).sum() / counted.sum().clamp(min=1)


def pooled_scores(head: SsnHead, rows: VideoFeatures, proposals: Floats) -> tuple[Floats, Floats, Floats]:
    """Return `[P, C + 1]` activity, `[P, C]` completeness and `[P, C, 2]` moves of proposals in a video.

    The heads are applied to each row first. A stage without a row adds nothing, not even its part of the bias.

    Args:
        head: the heads.
        rows: `[T, D]`.
        proposals: `[P, 2]` as shares of the video.
    """
    count = len(rows)
    half = (proposals[:, 1] - proposals[:, 0]) / 2
    low, high = np.maximum(0, proposals[:, 0] - half), np.minimum(1, proposals[:, 1] + half)
    ticks = (count * np.column_stack([low, proposals, high])).astype(np.int64)
    scaling = np.column_stack([proposals[:, 0] - low, high - proposals[:, 1]]) / np.maximum(half, 1e-9)[:, None]
    scaling = np.column_stack([scaling[:, 0], np.ones(len(half)), scaling[:, 1]])
    activity = _means(head.activity(rows), ticks[:, 1], ticks[:, 2])
    parts = []
    for layer in (head.completeness, head.regression):
        total = np.zeros((len(ticks), layer.out_features))
        for stage, weight in enumerate(layer.weight.chunk(STAGES, dim=1)):
            each = functional.linear(rows, weight, layer.bias / STAGES)
            total += scaling[:, stage, None] * _means(each, ticks[:, stage], ticks[:, stage + 1])
        parts.append(total)
    return activity, parts[0], parts[1].reshape(len(ticks), -1, 2)


def _means(values: Tensor, first: IntArray, stop: IntArray) -> Floats:
    """Return means of rows [first, max(first + 1, stop)) of each proposal, 0 past the end."""
    total = np.concatenate([np.zeros((1, values.shape[1])), values.double().cpu().numpy().cumsum(axis=0)])
    first, stop = (np.minimum(edge, len(values)) for edge in (first, np.maximum(first + 1, stop)))
    found: Floats = (total[stop] - total[first]) / np.maximum(stop - first, 1)[:, None]
    return found


def detections(
    proposals: Floats, activity: Floats, completeness: Floats, moves: Floats, pairs: int, overlap: float
) -> Floats:
    """Return `[N, 4]` class, score, start and end of detections as shares of the video, by class and score.

    Args:
        proposals: `[P, 2]` as shares of the video.
        activity: `[P, C + 1]` logits, background first, which is left out before their softmax.
        completeness: `[P, C]`.
        moves: `[P, C, 2]`.
        pairs: best pairs of proposal and class that stay before suppression.
        overlap: IoU above which the worse of two of a class is dropped.
    """
    of_action = np.exp(activity[:, 1:] - activity[:, 1:].max(axis=1, keepdims=True))
    score = (of_action / of_action.sum(axis=1, keepdims=True) * np.exp(completeness)).ravel()
    best = np.argsort(-score, kind="stable")[:pairs]
    proposal, label = np.divmod(best, completeness.shape[1])
    start, end = proposals[proposal].T
    rows = Rows(start, end, score[best], label, np.zeros(len(best)))
    kept = hard_nms(rows, np.nextafter(overlap, 1))[0]
    kept = kept[np.lexsort((end[kept], start[kept], -score[best][kept], label[kept]))]
    centre, length = (start[kept] + end[kept]) / 2, end[kept] - start[kept]
    shift, growth = moves[proposal[kept], label[kept]].T
    centre, length = centre + shift * length, length * np.exp(growth)
    ends = np.column_stack([centre - length / 2, centre + length / 2]).clip(0, 1)
    return np.column_stack([label[kept], score[best][kept], ends])
