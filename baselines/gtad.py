"""G-TAD: every interval of a window is a sub-graph of its snippets, whose overlap with the truth is regressed.

Idea: snippets are nodes. Edges lead to the next snippets and to the most similar ones, and a block adds what
convolutions along both see. The features in every interval (a duration and a start), and those of similar snippets,
are pooled together, and convolutions over the map of all intervals score it twice. Two heads for starts and ends help
the training alone.

Paper: Xu et al., CVPR 2020, arXiv 1911.11462. Facts: its released code (Frostinassiky/gtad at 6deb5b1 for THUMOS14, its
branch for ActivityNet), checked against tensors recorded from it.
Fully supervised: it trains on times, and sees no class. Classes come from a video classifier trained beside it, a score
file, or the annotations as an oracle (`localizer.class_score`); the row's title says which.
Deviations:
- the layer that joins an interval's 32 bins comes before their pooling, which is linear too: the same numbers in a
  fraction of the time, and no map of 8,192 channels;
- windows are twice up-sampled rows of the features (about the published 5 frames a row), of 128 rows, and an instance
  is at most 64 of them; the last window of a video is shifted back to end with it, where the released code may leave up
  to 51 rows unseen;
- targets of intervals are not half a row late (`method.offset`), and no interval is dropped for its length
  (`method.longest`);
- draws of the regression's loss are held to their groups of intervals, where the released code may count all.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from wstal.boundaries import boundary_candidates, covered, iou_map, regions, valid_cells
from wstal.families import many_classes
from wstal.localize.given import GivenProposals, SoftSuppression
from wstal.localize.spec import LocalizerSpec
from wstal.losses.boundary_matching import balanced_cross_entropy, iou_regression, uniform_draws
from wstal.method import Recipe, TrainSpec
from wstal.parts.cell_sampling import SparseSum, folded
from wstal.parts.segment_align import align_matrix
from wstal.proposal_generator import GeneratorOptions, ProposalGenerator, best_of_window, clip_gradients
from wstal.spec import Count
from wstal.tensors import Features
from wstal.types import Floats, Paper, SupervisedBatch

Nodes = Float[Tensor, "batch dim time"]
Map = Float[Tensor, "batch 2 durations time"]
GROUPS, GROUP_WIDTH = 32, 4  # of the convolutions of a graph block
INPUT_GROUPS = 4
HALF_REGION = 1.5  # rows to each side of a boundary that count as its region
HIGH = 0.9  # overlap above which an interval is a positive of the classified score
GRADIENT_NORM = 1.0


class GtadOptions(GeneratorOptions):
    """Options of G-TAD. The defaults are the released code's for THUMOS14, on windows of fewer rows."""

    width: Count = Field(256, description="columns of the encoded snippets")
    interval_width: Count = Field(512, description="columns of an interval's pooled features")
    map_width: Count = Field(128, description="columns of the convolutions over the map of intervals")
    kernel: Literal[1, 3, 5] = Field(3, description="size of these convolutions")
    neighbours: Count = Field(3, description="most similar snippets that edges lead to, the snippet itself included")
    durations: Count = Field(64, description="longest interval (D), in rows")
    inner_bins: Count = Field(16, description="bins that an interval's own features are pooled to")
    context_bins: Count = Field(16, description="bins that the features of similar snippets are pooled to")
    regressed: float = Field(1.0, ge=0, description="weight of the loss of the regressed overlap")
    classified: float = Field(10.0, ge=0, description="weight of the loss of the classified overlap")
    extra: float = Field(
        10.0, ge=0, description="added to the numbers of intervals that overlap enough, and that do not"
    )
    offset: float = Field(
        0.0,
        ge=0,
        description="rows that instances are late by in the targets of intervals; the released code: 0.4 to 0.6",
    )
    wide: bool = Field(False, description="rows count as twice as long in the targets of starts and ends")
    candidates: bool = Field(False, description="intervals join peaks and high values of start and end, not all rows")
    sigma: PositiveFloat = Field(0.46, description="width of the soft suppression within a window")
    longest: Count | None = Field(
        None, description="rows from which on an interval is dropped; the released code drops those of 10 seconds"
    )


ACTIVITYNET_OPTIONS = GtadOptions(
    rescale=True,
    window=100,
    durations=100,
    kernel=1,
    inner_bins=32,
    context_bins=4,
    regressed=10.0,
    classified=1.0,
    extra=0.0,
    wide=True,
    candidates=True,
    sigma=0.8,
    window_proposals=100,
)


def nearest_rows(nodes: Nodes, count: int) -> Int[Tensor, "batch time neighbours"]:
    """Return the rows at the smallest Euclidean distance from each row, nearest first, itself included."""
    squares = (nodes**2).sum(dim=1)
    closeness = 2 * nodes.transpose(1, 2) @ nodes - squares[:, :, None] - squares[:, None, :]
    return closeness.topk(min(count, nodes.shape[2]), dim=2).indices


def neighbours_of(
    nodes: Nodes, index: Int[Tensor, "batch time neighbours"]
) -> Float[Tensor, "batch dim time neighbours"]:
    """Return the columns of each row's neighbours."""
    flat = index.flatten(1)[:, None].expand(-1, nodes.shape[1], -1)
    return nodes.gather(2, flat).reshape(*nodes.shape[:2], *index.shape[1:])


class GraphBlock(nn.Module):
    """Residual block that adds convolutions over the next and over the most similar snippets (GCNeXt).

    Args:
        width: columns of the input and the output.
        neighbours: similar snippets.
    """

    def __init__(self, width: int, neighbours: int) -> None:
        super().__init__()
        inside = GROUPS * GROUP_WIDTH
        self.neighbours = neighbours
        self.temporal = nn.Sequential(
            nn.Conv1d(width, inside, 1),
            nn.ReLU(),
            nn.Conv1d(inside, inside, 3, padding=1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv1d(inside, width, 1),
        )
        self.semantic = nn.Sequential(
            nn.Conv2d(2 * width, inside, 1),
            nn.ReLU(),
            nn.Conv2d(inside, inside, 1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv2d(inside, width, 1),
        )

    def forward(self, nodes: Nodes) -> Nodes:
        """Return the nodes with what their edges add."""
        near = neighbours_of(nodes, nearest_rows(nodes, self.neighbours))
        edges = torch.cat([near, nodes[..., None].expand_as(near)], dim=1)
        next_ones: Tensor = self.temporal(nodes)
        similar_ones: Tensor = self.semantic(edges)
        return (next_ones + nodes + similar_ones.amax(dim=3)).relu()


def anchors(durations: int, length: int) -> tuple[Tensor, Tensor]:
    """Return where the features of each interval `[D, T]` begin and end: half its length before and after it.

    Intervals that would leave the window are [0, 0]. They are scored, but no loss or detection reads that.
    """
    duration = torch.arange(durations, dtype=torch.float64, device="cpu")[:, None]
    start = torch.arange(length, dtype=torch.float64, device="cpu")
    half, inside = (duration + 1) / 2, start + duration < length
    return torch.where(inside, start - half, 0.0), torch.where(inside, start + duration + half, 0.0)


def interval_bins(durations: int, length: int, bins: int) -> SparseSum:
    """Return the pooling of every interval to bins: each is a sum of entries (bin, row of the window)."""
    cells, entries, shares = [], [], []
    for duration, (start, end) in enumerate(zip(*anchors(durations, length), strict=True)):
        matrix = align_matrix(start, end, bins, length).flatten(1)  # one for all durations would be large
        interval, entry = matrix.nonzero(as_tuple=True)
        cells.append(interval + duration * length)
        entries.append(entry)
        shares.append(matrix[interval, entry])
    cell, entry, share = (torch.cat(parts) for parts in (cells, entries, shares))
    return SparseSum(cell.numpy(), entry.numpy(), share.numpy(), durations * length, bins * length)


class GtadNetwork(nn.Module):
    """Graph blocks, heads for starts and ends, and the map of intervals.

    Args:
        spec: the method's options.
        feature_dim: D, columns of the features.
    """

    def __init__(self, spec: GtadOptions, feature_dim: int) -> None:
        super().__init__()
        width, map_width, padding = spec.width, spec.map_width, spec.kernel // 2
        self.neighbours = spec.neighbours
        self.input = nn.Conv1d(feature_dim, width, 3, padding=1, groups=math.gcd(feature_dim, width, INPUT_GROUPS))
        self.base, self.backbone = GraphBlock(width, spec.neighbours), GraphBlock(width, spec.neighbours)
        self.start, self.end = (
            nn.Sequential(GraphBlock(width, spec.neighbours), nn.Conv1d(width, 1, 1)) for _ in range(2)
        )
        sizes = (spec.durations, spec.window)
        self.map_shape = sizes
        self.inner, self.context = (interval_bins(*sizes, bins) for bins in (spec.inner_bins, spec.context_bins))
        self.bins = spec.inner_bins
        self.pooled = nn.Linear(width * (spec.inner_bins + spec.context_bins), spec.interval_width)
        self.map = nn.Sequential(
            nn.Conv2d(spec.interval_width, map_width, 1),
            nn.ReLU(),
            nn.Conv2d(map_width, map_width, spec.kernel, padding=padding),
            nn.ReLU(),
            nn.Conv2d(map_width, map_width, spec.kernel, padding=padding),
            nn.ReLU(),
            nn.Conv2d(map_width, 2, 1),
        )

    def forward(self, features: Features) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"], Map]:
        """Return the probabilities of starts and ends, and the map of two scores of each interval."""
        base = self.base(self.input(features.transpose(1, 2)).relu())
        return self.start(base)[:, 0].sigmoid(), self.end(base)[:, 0].sigmoid(), self.score(self.backbone(base))

    def score(self, nodes: Nodes) -> Map:
        """Return the two scores of each interval, regressed and classified overlap with the truth."""
        similar = neighbours_of(nodes, nearest_rows(nodes, self.neighbours)).mean(dim=3)
        weight = self.pooled.weight.reshape(len(self.pooled.weight), nodes.shape[1], -1)
        inner, context = weight[..., : self.bins], weight[..., self.bins :]
        pooled = folded(self.inner, nodes, inner) + folded(self.context, similar, context) + self.pooled.bias[:, None]
        scores: Tensor = self.map(pooled.relu().reshape(*pooled.shape[:2], *self.map_shape))
        return scores.sigmoid()


def boundary_shares(intervals: Tensor, rows: int, wide: bool) -> Tensor:
    """Return `[T]`, the largest share of each row that one of the regions of boundaries covers.

    Args:
        intervals: `[N, 2]` regions, in rows.
        rows: T. Row i spans [i - 1/2, i + 1/2).
        wide: it spans [i - 1/2, i + 3/2).
    """
    shares = [torch.zeros(rows, dtype=intervals.dtype)]
    for one in intervals.unsqueeze(1):
        share = covered(one, rows, shift=-0.5)
        shares.append((share + covered(one, rows, shift=0.5)) / 2 if wide else share)
    return torch.stack(shares).amax(dim=0)


class Gtad(ProposalGenerator):
    """G-TAD over windows of features `[B, T, D]`."""

    name = "gtad"
    title = "G-TAD"
    paper = Paper(
        "G-TAD: Sub-Graph Localization for Temporal Action Detection",
        "Mengmeng Xu, Chen Zhao, David S. Rojas, Ali Thabet, Bernard Ghanem",
        "CVPR",
        2020,
        "https://arxiv.org/abs/1911.11462",
    )
    Options = GtadOptions
    SCORING_OPTIONS = frozenset({"candidates", "sigma", "longest", "window_proposals"})
    CHECK_OPTIONS: ClassVar = {
        "window": 15,  # 16 has an overlap of exactly 0.3, which is above 0.3 in one precision and not in the other
        "durations": 8,
        "width": 8,
        "interval_width": 8,
        "map_width": 4,
        "inner_bins": 4,
        "context_bins": 2,
    }
    spec: GtadOptions

    def __init__(self, spec: GtadOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.network = GtadNetwork(spec, feature_dim)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the released code's settings: of its branch for ActivityNet where classes are many."""
        if many_classes(dataset):
            options = ACTIVITYNET_OPTIONS
            train = TrainSpec(epochs=10, batch_size=16, learning_rate=4e-3, weight_decay=1e-4, decay_every=5)
        else:
            options = GtadOptions()
            train = TrainSpec(epochs=10, batch_size=8, learning_rate=4e-5, weight_decay=1e-4, decay_every=5)
        given = GivenProposals(suppression=SoftSuppression(sigma=options.sigma), keep=options.window_proposals)
        return Recipe(method=options, train=train, localizer=LocalizerSpec(class_threshold=0.0, given=given))

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        """Return the optimizer, which bounds the gradients of the generator."""
        (adam,) = super().optimizers(train)
        clip_gradients(adam, self.generator_parameters(), GRADIENT_NORM)
        return [adam]

    def window_targets(self, instances: Tensor) -> dict[str, Tensor]:
        """Return `start` and `end` `[T]`, true near a boundary, and `iou` of each interval with the truth."""
        rows = self.spec.window
        start, end = (boundary_shares(part, rows, self.spec.wide) > 0.5 for part in regions(instances, HALF_REGION))
        inside = (instances + self.spec.offset).clamp(0, rows)
        return {"start": start, "end": end, "iou": iou_map(inside, rows, self.spec.durations).float()}

    def window_losses(self, batch: SupervisedBatch) -> dict[str, Tensor]:
        """Return the losses of boundaries, of both scores of intervals and of the classifier, and their sum."""
        spec, iou = self.spec, batch.targets["iou"]
        start, end, scores = self.network(batch.features)
        valid = valid_cells(spec.window, spec.durations).to(iou.device).expand_as(iou)
        draws = uniform_draws(iou, self.training)
        terms = {
            "boundaries": balanced_cross_entropy(start, batch.targets["start"])
            + balanced_cross_entropy(end, batch.targets["end"]),
            "iou_regression": iou_regression(scores[:, 0], iou, valid, draws),
            "iou_classification": balanced_cross_entropy(scores[:, 1], iou > HIGH, valid, extra=spec.extra),
            "classification": self.classification_loss(batch),
        }
        intervals = spec.regressed * terms["iou_regression"] + spec.classified * terms["iou_classification"]
        return terms | {"total": terms["boundaries"] + intervals + terms["classification"]}

    def window_proposals(self, windows: Features) -> list[Floats]:
        """Return the best intervals of each window after suppression."""
        rule = None if self.spec.rescale else SoftSuppression(sigma=self.spec.sigma)  # a lone window's is the video's
        found = []
        for curves in zip(*(part.double().cpu().numpy() for part in self.network(windows)), strict=True):
            first, stop, score = self.rated(*curves)
            found.append(best_of_window(first, stop, score, rule, self.spec.window_proposals if rule else len(first)))
        return found

    def rated(self, start: Floats, end: Floats, scores: Floats) -> tuple[Floats, Floats, Floats]:
        """Return start and end in rows, and the product of both scores, of a window's intervals.

        Args:
            start: `[T]` probability of a start.
            end: `[T]` probability of an end.
            scores: `[2, D, T]`.
        """
        rows = len(start)
        duration, first = np.nonzero(valid_cells(rows, self.spec.durations).numpy())
        stop = first + duration + 1
        use = stop < rows
        if self.spec.candidates:
            starts, ends = (boundary_candidates(torch.from_numpy(curve)).numpy() for curve in (start, end))
            use &= starts[first] & ends[np.minimum(stop, rows - 1)]
        if self.spec.longest is not None:
            use &= stop - first < self.spec.longest
        product = scores[0, duration, first] * scores[1, duration, first]
        return first[use].astype(np.float64), stop[use].astype(np.float64), product[use]
