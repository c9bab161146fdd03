"""DCC: denoised cross-video contrast.

Idea: snippets get pseudo labels from the scores of a base method, which clusters of the snippets denoise. Neighbouring
snippets of one label are a region. A memory keeps regions of the whole data set, and a region is drawn to those of its
class in other videos, away from background and from other classes.

Paper: Li et al., CVPR 2022, pp. 19914-19924. No code was released and the text was not at hand. The abstract states:
- pseudo labels come from class activations and attention and are denoised by a confidence from clustering;
- what is contrasted are regions, connected snippets of one label, with a memory of regions of all videos;
- the contrast is of actions with background, and within and between classes.
All else is a reading of ours:
- the base is ACM-Net, over which the table that is reproduced here reports the variant of its authors;
- of each class of the video the T / 8 highest attended probabilities are its snippets (a snippet of several is of the
  highest one's), and the T / 8 lowest attentions are background where they are of no class (`labelled_ratio`);
- features are projected by two layers and normalised (`hidden`, `width`);
- a video's projected snippets are clustered by cosine, in k-means from evenly spaced snippets (`clusters`), and a label
  stays where it has a share of its cluster's labelled snippets (`purity`);
- a region is the mean of its snippets. A video gives its longest ones (`regions`);
- the memory is a queue of each class and of background, first in, first out (`length`), without momentum;
- both contrasts are InfoNCE of the regions of actions, whose positives are the class's regions of other videos in the
  memory. Negatives are the memory's background in one and its other classes in the other (`temperature`);
- both have one weight (`contrast`), after a warm-up (`start`). Training and localizer are ACM-Net's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from baselines.acmnet import ACTIVITYNET_OPTIONS, INSTANCE, AcmNet, AcmNetOptions
from wstal.device import to_device_async
from wstal.families import many_classes
from wstal.losses.contrast import info_nce
from wstal.memory import RegionQueues
from wstal.method import Recipe
from wstal.parts.cosine import cosines, unit
from wstal.parts.pooling import top_k_count
from wstal.spec import Count
from wstal.tensors import Embedded, Labels, Scalar
from wstal.types import Batch, Paper, Snippets, Video

ROUNDS = 10  # of k-means
ABSENT = -100.0  # cosine of a pair that is neither positive nor negative: exp(-100) is nothing
UNKNOWN = 1 << 40  # number of a video that no epoch has named

PseudoLabels = Bool[Tensor, "batch time classes"]


class DccOptions(AcmNetOptions):
    """Options of DCC. The defaults are for THUMOS14. None is stated in the abstract."""

    hidden: Count = Field(512, description="columns of the projection's hidden layer")
    width: Count = Field(128, description="columns of projected snippets")
    labelled_ratio: Count = Field(8, description="T / ratio snippets of each class, and of background, have its label")
    clusters: Count = Field(8, description="clusters of a video's snippets")
    purity: float = Field(
        0.7, ge=0, le=1, description="share of a cluster's labelled snippets from which their label is kept; 0: all"
    )
    regions: Count = Field(32, description="most regions of a video, the longest ones")
    length: Count = Field(200, description="regions that the memory keeps of each class and of background")
    temperature: float = Field(0.07, ge=0.01, le=1, description="tau of both contrasts")
    contrast: float = Field(0.1, ge=0, description="weight of both contrasts")
    start: float = Field(
        0.08, ge=0, le=1, description="share of the epochs before the contrasts (1,000 of 13,000 steps)"
    )


class Regions(NamedTuple):
    """Regions of B videos, R places for each.

    Args:
        features: `[B, R, D]` mean of the snippets; 0 where there is no region.
        row: `[B, R]` class, C for background; 0 where there is no region.
        counted: `[B, R]` whether there is a region.
    """

    features: Tensor
    row: Tensor
    counted: Tensor


class Dcc(AcmNet):
    """DCC over features `[B, T, D]`: ACM-Net and, in training, a projection and a memory of regions."""

    name = "dcc"
    title = "DCC (from the paper)"
    source = "paper, partly"
    paper = Paper(
        "Exploring Denoised Cross-Video Contrast for Weakly-Supervised Temporal Action Localization",
        "Jingjing Li, Tianyu Yang, Wei Ji, Jue Wang, Li Cheng",
        "CVPR",
        2022,
        "https://openaccess.thecvf.com/content/CVPR2022/html/Li_Exploring_Denoised_Cross-Video_Contrast_for_Weakly-Supervised_Temporal_Action_Localization_CVPR_2022_paper.html",
    )
    Options = DccOptions
    spec: DccOptions

    def __init__(self, spec: DccOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.projection = nn.Sequential(
            nn.Linear(feature_dim, spec.hidden), nn.ReLU(), nn.Linear(spec.hidden, spec.width)
        )
        self.memory = RegionQueues(num_classes + 1, spec.width, spec.length)
        self._contrasting = False
        self._numbers: dict[str, int] = {}
        self._unstored: list[tuple[Regions, Tensor]] = []

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return ACM-Net's recipe, with fewer regions where there are many classes."""
        base = super().recipe(dataset)
        options = DccOptions()
        if many_classes(dataset):
            options = DccOptions(**ACTIVITYNET_OPTIONS.model_dump(), regions=16, length=100)
        return base.model_copy(update={"method": options})

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Enable the contrasts from `start` of the epochs on, and number the training videos.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: all training videos, of which the names alone are read.
        """
        # 0.29 of 100 epochs is 28.999999999999996 in floats, and means 29
        self._contrasting = epoch >= int(self.spec.start * epochs + 1e-9)
        self._numbers = {video.name: number for number, video in enumerate(videos)}
        self._unstored.clear()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ACM-Net's terms, the contrasts (0 until they start), and the weighted `total`.

        Returns:
            Besides ACM-Net's, `from_background`, the contrast with background, and `from_classes`, that with other
            classes.
        """
        snippets = self.snippets(batch.features)
        terms = self.snippet_losses(snippets, batch.labels)
        if not self._contrasting:
            zero = torch.zeros_like(terms["total"])
            return terms | {"from_background": zero, "from_classes": zero}
        regions = self.regions(snippets, batch.labels)
        numbers = torch.tensor([self._numbers.get(name, UNKNOWN) for name in batch.videos])
        owner = to_device_async(numbers, batch.features.device).unsqueeze(1).expand_as(regions.row)
        terms["from_background"], terms["from_classes"] = region_contrast(
            regions, owner, self.memory, self.spec.temperature
        )
        terms["total"] = terms["total"] + self.spec.contrast * (terms["from_background"] + terms["from_classes"])
        if self.training:
            self._unstored.append((regions._replace(features=regions.features.detach()), owner))
        return terms

    def end_step(self) -> None:
        """Store the step's regions."""
        for regions, owner in self._unstored:
            self.memory.update(
                unit(regions.features).flatten(0, 1), regions.row.flatten(), owner.flatten(), regions.counted.flatten()
            )
        self._unstored.clear()

    def export_state(self) -> dict[str, Tensor]:
        """Return the state without projection and memory, which scoring does not need."""
        unused = ("projection.", "memory.")
        return {name: value for name, value in self.state_dict().items() if not name.startswith(unused)}

    def regions(self, snippets: Snippets, labels: Labels) -> Regions:
        """Return the regions of a batch's snippets, with gradient to the projection and the embedding.

        Args:
            snippets: ACM-Net's.
            labels: `[B, C]` multi-hot.
        """
        spec = self.spec
        projected = unit(self.projection(snippets.embedded))
        with torch.no_grad():
            attention = snippets.attention[..., INSTANCE]
            attended = attention.unsqueeze(2) * snippets.cas.softmax(dim=-1)[..., :-1]
            noisy = pseudo_labels(attended, attention, labels, top_k_count(attention.shape[1], spec.labelled_ratio))
            kept = denoised(noisy, clustered(projected, spec.clusters), spec.purity)
        return pooled_regions(projected, kept, spec.regions)


def pseudo_labels(
    attended: Float[Tensor, "batch time actions"], attention: Float[Tensor, "batch time"], labels: Labels, k: int
) -> PseudoLabels:
    """Return which snippets are of which of the video's classes, or, last, background. A snippet has one label or none.

    Args:
        attended: `[B, T, C]` attended class probabilities.
        attention: `[B, T]`.
        labels: `[B, C]` multi-hot.
        k: highest attended probabilities of each class, and lowest attentions.
    """
    high = torch.zeros_like(attended).scatter(1, attended.topk(k, dim=1).indices, 1.0) > 0
    low = torch.zeros_like(attention).scatter(1, (-attention).topk(k, dim=1).indices, 1.0) > 0
    chosen = high & (labels > 0).unsqueeze(1)
    best = attended.masked_fill(~chosen, -1.0).argmax(dim=2, keepdim=True)
    action = chosen & (torch.arange(labels.shape[1], device=labels.device) == best)
    background = low & ~chosen.any(dim=2)
    return torch.cat([action, background.unsqueeze(2)], dim=2)


def clustered(projected: Embedded, count: int) -> Bool[Tensor, "batch time clusters"]:
    """Return the cluster of each snippet: k-means by cosine for each video, from evenly spaced snippets.

    Args:
        projected: `[B, T, D]` of length 1.
        count: clusters, as many as there are snippets at most.
    """
    length, count = projected.shape[1], min(count, projected.shape[1])
    number = torch.arange(count, device=projected.device)
    centres = projected[:, (2 * number + 1) * length // (2 * count)]
    member = number == (projected @ centres.mT).argmax(dim=2, keepdim=True)
    for _ in range(ROUNDS):
        sums = member.to(projected.dtype).mT @ projected
        centres = torch.where(member.any(dim=1).unsqueeze(2), unit(sums), centres)
        member = number == (projected @ centres.mT).argmax(dim=2, keepdim=True)
    return member


def denoised(noisy: PseudoLabels, member: Bool[Tensor, "batch time clusters"], purity: float) -> PseudoLabels:
    """Return the pseudo labels of snippets whose label has at least a share of the labelled snippets of their cluster.

    Args:
        noisy: `[B, T, C + 1]`.
        member: `[B, T, K]` cluster of each snippet.
        purity: the share.
    """
    inside = member.float()
    counts = inside.mT @ noisy.float()
    shares = counts / counts.sum(dim=2, keepdim=True).clamp(min=1)
    # whole numbers divided, not sums of shares, so that 7 of 10 are 0.7; a snippet is in one cluster
    return noisy & ((inside @ (shares >= purity).float()) > 0)


def pooled_regions(projected: Embedded, kept: PseudoLabels, most: int) -> Regions:
    """Return the mean of each run of neighbouring snippets of one label, for the longest runs of each video.

    Of equally long ones the earlier comes first.

    Args:
        projected: `[B, T, D]`.
        kept: `[B, T, C + 1]` pseudo labels.
        most: R, regions of a video; as many as it has snippets at most.
    """
    labelled = kept.any(dim=2)
    row = torch.where(labelled, kept.int().argmax(dim=2), -1)
    begins = labelled & (row != functional.pad(row[:, :-1], (1, 0), value=-1))
    number = (begins.cumsum(dim=1) - 1).clamp(min=0)
    lengths = torch.zeros_like(row).scatter_add(1, number, labelled.long())
    longest = lengths.argsort(dim=1, descending=True, stable=True)[:, :most]
    inside = labelled.unsqueeze(1) & (number.unsqueeze(1) == longest.unsqueeze(2))
    size = inside.sum(dim=2)
    means = (inside.to(projected.dtype) @ projected) / size.clamp(min=1).unsqueeze(2)
    return Regions(means, torch.where(inside, row.unsqueeze(1), 0).amax(dim=2), size > 0)


def region_contrast(
    regions: Regions, owner: Int[Tensor, "batch places"], memory: RegionQueues, temperature: float
) -> tuple[Scalar, Scalar]:
    """Compute InfoNCE of the regions of actions with the memory: negatives are its background, or its other classes.

    Positives are the class's regions of other videos. A region without any is left out.

    Args:
        regions: of B videos.
        owner: `[B, R]` number of each region's video.
        memory: queues of the classes and, last, background.
        temperature: tau.
    """
    background, tau = len(memory.slots) - 1, temperature
    row, number = regions.row.flatten(), owner.flatten().unsqueeze(1)
    similarity = cosines(regions.features.flatten(0, 1), memory.slots.flatten(0, 1))
    similarity = similarity.view(-1, *memory.owner.shape).masked_fill(memory.owner < 0, ABSENT)
    # a whole queue as one negative, since negatives matter by the sum of their exponentials alone
    queues = tau * (similarity / tau).logsumexp(dim=2)
    own_queue = torch.arange(background, device=row.device) == row.unsqueeze(1)
    others = tau * (queues[:, :-1].masked_fill(own_queue, ABSENT) / tau).logsumexp(dim=1, keepdim=True)
    query = regions.counted.flatten() & (row < background)
    own, owners = similarity[torch.arange(len(row), device=row.device), row], memory.owner[row]
    positive = query.unsqueeze(1) & (owners >= 0) & (owners != number)
    own = torch.where(positive, own, ABSENT)
    positive = functional.pad(positive, (0, 1))
    from_background, from_classes = (
        info_nce(torch.cat([own, negative], dim=1), positive, tau) for negative in (queues[:, -1:], others)
    )
    return from_background, from_classes
