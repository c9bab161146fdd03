"""BMN: one network rates every start, every end and every pair of start and duration of a window.

Idea: each pair has a proposal feature, 32 points in and around it, so that convolutions over the map of all pairs look
at neighbouring proposals. Two maps predict a proposal's IoU with the truth, by regression and by classification.

Paper: Lin et al., ICCV 2019, arXiv 1907.09702. Facts: JJBOY/BMN-Boundary-Matching-Network at a92c1d7 (ActivityNet), and
OpenTAD at 3dd7b03 (windows of THUMOS14).
Fully supervised: it trains on times, and sees no class. Classes come from a video classifier trained beside it, a score
file, or the annotations as an oracle (`localizer.class_score`); the row's title says which.
Deviations:
- the layer that joins the 32 points comes before their sampling, which is linear too: the same numbers in a tenth of
  the time;
- windows are twice up-sampled rows of the features (about the published 4 to 5 frames a row), of 128 rows, and an
  instance is at most 64 of them;
- targets of boundaries are the unrounded overlaps of rows with regions, where OpenTAD rounds them down;
- of a kind of cell that a batch lacks nothing is learnt, where the released loss is NaN.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from wstal.boundaries import boundary_candidates, covered, iou_map, regions, valid_cells
from wstal.families import many_classes
from wstal.localize.given import GivenProposals, SoftSuppression
from wstal.localize.spec import LocalizerSpec
from wstal.losses.boundary_matching import EPSILON, balanced_cross_entropy, iou_regression, uniform_draws
from wstal.method import Recipe, TrainSpec
from wstal.parts.cell_sampling import folded, matching_samples
from wstal.proposal_generator import GeneratorOptions, ProposalGenerator, best_of_window
from wstal.spec import Count
from wstal.tensors import Features
from wstal.types import Floats, Paper, SupervisedBatch

HALF_REGION = 1.5  # rows to each side of a boundary that count as its region
REGRESSION = 10.0  # weight of the IoU regression
PER_POINT = 3  # positions averaged to a point
Maps = Float[Tensor, "batch 2 first second"]
Curve = Float[Tensor, "batch time"]

# sigma of the decay: the released code's on ActivityNet, OpenTAD's on THUMOS14
ACTIVITYNET_SUPPRESSION = SoftSuppression(sigma=0.4, low=0.5, high=0.9)
THUMOS_SUPPRESSION = SoftSuppression(sigma=0.3)


class BmnOptions(GeneratorOptions):
    """Options of BMN."""

    durations: Count = Field(64, description="longest proposal in rows of a window (D)")
    hidden: Count = Field(256, description="channels of the rows, divisible by 4")
    map_width: Count = Field(128, description="channels that are sampled: 128 in the paper, 256 in a re-implementation")
    fold: Count = Field(512, description="channels of a proposal's joined points")
    map_hidden: Count = Field(128, description="channels of the map")
    points: Count = Field(32, description="points of a proposal")
    layout: Literal["duration", "end"] = Field(
        "duration", description="axes of the map: (duration, start) as in the paper, or (start, end) as one code"
    )
    candidates: bool = Field(True, description="proposals join peaks and high values of start and end, not all rows")
    rating: Literal["rooted", "product", "iou"] = Field(
        "rooted",
        description="start x end x root of both IoU (paper), x both IoU (ActivityNet code), or both IoU (OpenTAD)",
    )


class BmnNetwork(nn.Module):
    """Network of BMN: curves of start and end, and a map of (regressed, classified) IoU, all as probabilities."""

    def __init__(self, spec: BmnOptions, feature_dim: int) -> None:
        super().__init__()
        width, rows = spec.hidden, spec.window
        self.layout = spec.layout
        self.shape = (rows, rows) if spec.layout == "end" else (spec.durations, rows)
        self.base = nn.Sequential(_rows(feature_dim, width, 4), nn.ReLU(), _rows(width, width, 4), nn.ReLU())
        self.start, self.end = (
            nn.Sequential(_rows(width, width, 4), nn.ReLU(), nn.Conv1d(width, 1, 1)) for _ in range(2)
        )
        self.map_in = nn.Sequential(_rows(width, spec.map_width, 1), nn.ReLU())
        self.fold = nn.Conv3d(spec.map_width, spec.fold, (spec.points, 1, 1))
        hidden = spec.map_hidden
        self.map = nn.Sequential(
            nn.Conv2d(spec.fold, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, 2, 1),
        )
        durations = rows if spec.layout == "end" else spec.durations
        self.sampling = matching_samples(rows, durations, spec.points, PER_POINT, by_end=spec.layout == "end")

    def forward(self, features: Features) -> tuple[Curve, Curve, Maps]:
        """Return start and end `[B, T]`, and the map `[B, 2, D, T]` (or `[B, 2, T, T]` of start and last row)."""
        base = self.base(features.transpose(1, 2))
        weight = self.fold.weight[..., 0, 0]
        joined = folded(self.sampling, self.map_in(base), weight)
        joined = joined.reshape(*joined.shape[:2], *self.shape)
        assert self.fold.bias is not None
        maps = self.map((joined + self.fold.bias[:, None, None]).relu())
        return self.start(base)[:, 0].sigmoid(), self.end(base)[:, 0].sigmoid(), maps.sigmoid()


class Bmn(ProposalGenerator):
    """BMN over windows of features `[B, T, D]`."""

    name = "bmn"
    title = "BMN"
    paper = Paper(
        "BMN: Boundary-Matching Network for Temporal Action Proposal Generation",
        "Tianwei Lin, Xiao Liu, Xin Li, Errui Ding, Shilei Wen",
        "ICCV",
        2019,
        "https://arxiv.org/abs/1907.09702",
    )
    Options = BmnOptions
    SCORING_OPTIONS = frozenset({"candidates", "rating", "window_proposals"})
    CHECK_OPTIONS: ClassVar = {"window": 16, "durations": 8, "hidden": 8, "map_width": 4, "fold": 8, "map_hidden": 4}
    spec: BmnOptions

    def __init__(self, spec: BmnOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.network = BmnNetwork(spec, feature_dim)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the paper's settings: windows on THUMOS14, each video rescaled to 100 rows where classes are many."""
        if many_classes(dataset):
            options = BmnOptions(rescale=True, window=100, durations=100, rating="product", window_proposals=100)
            train = TrainSpec(epochs=9, batch_size=16, learning_rate=1e-3, weight_decay=1e-4, decay_every=7)
            given = GivenProposals(suppression=ACTIVITYNET_SUPPRESSION, keep=100, classes=1)
        else:
            options = BmnOptions()
            train = TrainSpec(epochs=10, batch_size=16, learning_rate=1e-3, weight_decay=1e-4, decay_every=7)
            given = GivenProposals(suppression=THUMOS_SUPPRESSION)
        return Recipe(method=options, train=train, localizer=LocalizerSpec(class_threshold=0.0, given=given))

    def window_targets(self, instances: Tensor) -> dict[str, Tensor]:
        """Return `start` and `end` `[T]`, true near a boundary, and `iou` of each cell of the map with the truth."""
        rows = self.spec.window
        near = [covered(part, rows, shift=-0.5) > 0.5 for part in regions(instances, HALF_REGION)]
        if self.spec.layout == "end":
            iou = by_end(iou_map(instances, rows, rows))
        else:
            iou = iou_map(instances, rows, self.spec.durations)
        return {"start": near[0], "end": near[1], "iou": iou.float()}

    def window_losses(self, batch: SupervisedBatch) -> dict[str, Tensor]:
        """Return losses of boundaries, of both IoU maps and of the classifier, and their weighted sum."""
        start, end, maps = self.network(batch.features)
        iou = batch.targets["iou"]
        terms = map_losses(maps, iou, self.valid_cells().to(iou.device), uniform_draws(iou, self.training))
        terms["boundaries"] = balanced_cross_entropy(start, batch.targets["start"])
        terms["boundaries"] = terms["boundaries"] + balanced_cross_entropy(end, batch.targets["end"])
        terms["classification"] = self.classification_loss(batch)
        total = terms["boundaries"] + REGRESSION * terms["iou_regression"] + terms["iou_classification"]
        return terms | {"total": total + terms["classification"]}

    def valid_cells(self) -> Tensor:
        """Return which cells of the map are proposals within the window."""
        rows = self.spec.window
        if self.spec.layout == "end":
            return torch.ones(rows, rows, dtype=torch.bool).triu()
        return valid_cells(rows, self.spec.durations)

    def window_proposals(self, windows: Features) -> list[Floats]:
        """Return the best proposals of each window after suppression: [i, i + d + 1] rows of high start and end."""
        start, end, maps = (value.double().cpu().numpy() for value in self.network(windows))
        rule = None if self.spec.rescale else THUMOS_SUPPRESSION  # one window: the video's own suppression is enough
        found = []
        for one_start, one_end, (regressed, classified) in zip(start, end, maps, strict=True):
            first, last, score = self.rated(one_start, one_end, regressed, classified)
            keep = self.spec.window_proposals if rule else len(first)
            found.append(best_of_window(first, last, score, rule, keep))
        return found

    def rated(self, start: Floats, end: Floats, regressed: Floats, classified: Floats) -> tuple[Floats, Floats, Floats]:
        """Return start and end in rows and the score of a window's proposals.

        Args:
            start: `[T]`.
            end: `[T]`.
            regressed: the map's first channel.
            classified: its second.
        """
        rows = len(start)
        if self.spec.layout == "end":
            first, last = np.triu_indices(rows)
            stop, iou = last + 1, (regressed[first, last], classified[first, last])
        else:
            duration, first = np.nonzero(valid_cells(*regressed.shape[::-1]).numpy())
            stop, iou = first + duration + 1, (regressed[duration, first], classified[duration, first])
        use = stop < rows
        if self.spec.candidates:
            starts, ends = (boundary_candidates(torch.from_numpy(curve)).numpy() for curve in (start, end))
            use &= starts[first] & ends[np.minimum(stop, rows - 1)]
        first, stop, score = first[use], stop[use], iou[0][use] * iou[1][use]
        if self.spec.rating != "iou":
            score = start[first] * end[stop] * (np.sqrt(score) if self.spec.rating == "rooted" else score)
        return first.astype(np.float64), stop.astype(np.float64), score


def map_losses(
    maps: Maps,
    iou: Tensor,
    valid: Tensor,
    draws: list[Tensor] | None,
    zeros: bool = False,
    epsilon: float = EPSILON,
) -> dict[str, Tensor]:
    """Return the losses of the regressed and of the classified IoU.

    Args:
        maps: `[B, 2, ...]` predictions.
        iou: `[B, ...]` the truth.
        valid: `[...]` cells that are proposals.
        draws: as in `iou_regression`.
        zeros: as there.
        epsilon: as in `balanced_cross_entropy`.
    """
    within = valid.expand(iou.shape)
    return {
        "iou_regression": iou_regression(maps[:, 0], iou, within, draws, zeros),
        "iou_classification": balanced_cross_entropy(maps[:, 1], iou > 0.9, within, epsilon=epsilon),
    }


def by_end(iou: Tensor) -> Tensor:
    """Return a map `[T, T]` of (start, last row) from one of (duration, start)."""
    rows = iou.shape[1]
    start, last = torch.meshgrid(torch.arange(rows), torch.arange(rows), indexing="ij")
    return torch.where(last >= start, iou[(last - start).clamp(min=0), start], 0)


def _rows(inputs: int, outputs: int, groups: int) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, 3, padding=1, groups=groups)
