"""3C-Net: category, centre and count losses.

Idea: each stream has fully connected layers and a classifier, and learned weights of each class fuse the streams'
logits. Beside classification, a class's attended features are drawn to a learned centre, and the fused logits, summed
over time under their own softmax, are to be the number of the class's instances in the video.

Counts are more than video-level labels: the supervision is `weak+count`.

Paper: Narayan et al., ICCV 2019, arXiv 1908.08216. Facts: its released code (naraysa/3c-net at 8b1d4a9), checked
against tensors recorded from it. Deviations:
- the longer crops and the count loss alternate by epoch, not by step: the epochs 2, 4, ... count;
- videos with several labels join the centre loss after a tenth of the epochs (5,000 of 50,000 steps);
- each epoch shows each video once, with a smaller last batch (the released code draws 32 with replacement);
- videos of fewer than five snippets keep their classification loss;
- features of a single stream are classified twice, before and after the weights of the classes;
- a test video of fewer than 8 snippets is scored by its best one (as released, but for W-TALC's code it has none);
- detections in Ambiguous intervals stay: dropping them is part of an evaluation protocol here;
- trained on the data set's own videos and classes (the released code: 1,010 THUMOS14 videos of 101 classes);
- the last of 50,000 steps counts (the released code keeps the best of 100 evaluations on the test set).
The released code multiplies each distance to a centre by the number of its class, so the first class has no centre loss
and later ones have more. `centre_class_index` switches that off. All rows of a test video are scored, unless
`train.test_length`, which a data set's schedule may set, limits them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from wstal import sampling
from wstal.device import to_device_async
from wstal.families import epochs_for, many_classes
from wstal.localize.spec import LocalizerSpec, ProposalSource
from wstal.losses.mil import cross_entropy
from wstal.method import Method, Recipe, TrainSpec, adam
from wstal.parts.layers import StreamClassifier, depthwise_conv
from wstal.parts.padded import class_features, labelled_pairs, pooled_logits, rows_present, smoothed, softmax_over_time
from wstal.parts.pooling import above_half, logit_signals, top_k_share_mean
from wstal.spec import ALL_ROWS, Count
from wstal.streams import StreamOptions, split_streams
from wstal.tensors import Embedded, Features, Scalar, VideoFeatures
from wstal.types import Batch, CountedBatch, IntArray, Paper, Scores, Supervision, Video


class ThreeCNetOptions(StreamOptions):
    """Options of 3C-Net. The defaults are the released code's for THUMOS14."""

    dropout: float = Field(0.7, ge=0, lt=1, description="of the embedded snippets")
    ratio: int = Field(8, ge=1, description="a video's T / ratio highest logits are pooled, rounded up in training")
    smooth: bool = Field(False, description="convolve the fused logits of each class over time (ActivityNet)")
    counting_length: Count = Field(2800, description="rows that a video is cropped to in the epochs that count")
    count: float = Field(1.0, ge=0, description="weight of the count loss")
    centre: float = Field(1e-3, gt=0, description="weight of the centre loss")
    centre_rate: float = Field(0.1, gt=0, description="learning rate of the centres, of the loss before its weight")
    centre_class_index: bool = Field(True, description="multiply distances by the class's number, as released")
    several_labels_from: float = Field(
        0.1, ge=0, le=1, description="share of the epochs before the centre loss sees videos with several labels"
    )


STEPS, BATCH = 50_000, 32
THUMOS_SOURCE = ProposalSource(
    signal="above_midpoint",
    thresholds=(0.0,),
    strict=True,
    score={"logit": 1.0},
    inside="max",
    video_score_weight=1.0,
)
LOCALIZER = LocalizerSpec(
    class_threshold=0.0,
    fallback_to_argmax=False,
    class_score="logit_above_half",
    minimum_run=2,
    sources=(THUMOS_SOURCE,),
)
ACTIVITYNET_LOCALIZER = LOCALIZER.model_copy(
    update={"class_score": "logit", "sources": (THUMOS_SOURCE.model_copy(update={"signal": "logit"}),)}
)


class ThreeCNet(Method):
    """3C-Net over features `[B, T, D]` of one or two streams."""

    name = "threecnet"
    title = "3C-Net"
    paper = Paper(
        "3C-Net: Category Count and Center Loss for Weakly-Supervised Action Localization",
        "Sanath Narayan, Hisham Cholakkal, Fahad Shahbaz Khan, Ling Shao",
        "ICCV",
        2019,
        "https://arxiv.org/abs/1908.08216",
    )
    Options = ThreeCNetOptions
    supervision: ClassVar[Supervision] = "weak+count"
    PADS = True
    TRAIN_SAMPLER = sampling.crop
    spec: ThreeCNetOptions

    def __init__(self, spec: ThreeCNetOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.widths = spec.widths(feature_dim)
        self.networks = nn.ModuleList(StreamClassifier(width, num_classes, spec.dropout) for width in self.widths)
        self.fusion = nn.Parameter(torch.ones(len(self.widths), num_classes))
        self.smoothing = depthwise_conv(num_classes, kernel=13, dilation=2) if spec.smooth else None
        self.centres = nn.ParameterList(torch.randn(num_classes, width) for width in self.widths)
        self._counting = self._several_labels = False

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the settings of the released code, those for ActivityNet 1.2 on larger data sets."""
        many = many_classes(dataset)
        options = ThreeCNetOptions(smooth=True, counting_length=400, count=0.1) if many else ThreeCNetOptions()
        train = TrainSpec(
            epochs=epochs_for(dataset, STEPS, BATCH),
            batch_size=BATCH,
            temporal_length=200 if many else 750,
            test_length=ALL_ROWS,
            weight_decay=5e-4,
        )
        return Recipe(method=options, train=train, localizer=ACTIVITYNET_LOCALIZER if many else LOCALIZER)

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        """Return Adam for the network, and plain gradient descent for the centres."""
        network = [value for name, value in self.named_parameters() if not name.startswith("centres.")]
        # the rate is of the loss before its weight
        return [adam(network, train), torch.optim.SGD(self.centres, lr=self.spec.centre_rate / self.spec.centre)]

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Decide whether the epoch counts, and whether its centre loss sees videos with several labels.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: not used.
        """
        self._counting = epoch > 0 and epoch % 2 == 0
        self._several_labels = epoch >= self.spec.several_labels_from * epochs

    def train_indices(self, length: int, count: int, rng: np.random.Generator) -> IntArray:
        """Return neighbouring rows, more of them in an epoch that counts."""
        return sampling.crop(length, self.spec.counting_length if self._counting else count, rng)

    def streams(self, features: Features) -> list[tuple[Embedded, Float[Tensor, "batch time actions"]]]:
        """Return the embedded snippets and the logits of each stream."""
        return [
            network(part) for network, part in zip(self.networks, split_streams(features, self.widths), strict=True)
        ]

    def fuse(
        self, logits: Sequence[Float[Tensor, "batch time actions"]], present: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time actions"]:
        """Return the streams' logits, weighted for each class and summed.

        Args:
            logits: `[B, T, C]` of each stream.
            present: `[B, T]`, false where a row is padding.
        """
        fused = (torch.stack(list(logits), dim=-2) * self.fusion).sum(dim=-2)
        return fused if self.smoothing is None else smoothed(fused, present, self.smoothing)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `fused` and `streams` (classification), `centre`, `count` and their weighted `total`."""
        if not isinstance(batch, CountedBatch):
            raise TypeError("3C-Net trains on batches with counts.")
        spec, present = self.spec, rows_present(batch.features)
        streams = self.streams(batch.features)
        fused = self.fuse([logits for _, logits in streams], present)

        def classification(logits: Tensor) -> Tensor:
            return cross_entropy(pooled_logits(logits, present, spec.ratio).log_softmax(dim=1), batch.labels)

        pairs = labelled_pairs(batch.host_labels, self._several_labels)
        video, label = (to_device_async(numbers, fused.device) for numbers in pairs)
        factor = label.to(fused) if spec.centre_class_index else torch.ones_like(label, dtype=fused.dtype)
        terms = {
            "fused": classification(fused),
            "streams": torch.stack([classification(logits) for _, logits in streams]).sum(),
            "centre": fused.new_zeros(()),
            "count": fused.new_zeros(()),
        }
        if len(label):
            centre = [
                centre_loss(*attended(embedded, logits, present, video, label), centres[label], factor)
                for (embedded, logits), centres in zip(streams, self.centres, strict=True)
            ]
            terms["centre"] = torch.stack(centre).sum()
        if self._counting:
            predicted = (fused * softmax_over_time(fused, present)).sum(dim=1)
            terms["count"] = count_loss(predicted, batch.counts, present.sum(dim=1))
        total = terms["fused"] + terms["streams"] + spec.centre * terms["centre"] + spec.count * terms["count"]
        return terms | {"total": total}

    def score(self, features: VideoFeatures) -> Scores:
        """Return the scores of the fused logits.

        The localizer reads the signals of `logit_signals` and the class scores `logit`, means of the highest snippets,
        or `logit_above_half`, which has 0 for classes up to half of the best. As in W-TALC, `cas` is the position of a
        logit within its class's range in the video.
        """
        present = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
        logits = self.fuse([logits for _, logits in self.streams(features.unsqueeze(0))], present)
        video = top_k_share_mean(logits, self.spec.ratio)[0]
        probabilities = video.softmax(dim=0)
        choices = {"logit": video, "logit_above_half": above_half(video)}
        return Scores(logit_signals(logits[0], probabilities), probabilities, choices)

    def export_state(self) -> dict[str, Tensor]:
        """Return the state without the centres, which only losses read."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("centres.")}


def attended(
    embedded: Embedded,
    logits: Float[Tensor, "batch time actions"],
    present: Bool[Tensor, "batch time"],
    video: Int[Tensor, " pairs"],
    label: Int[Tensor, " pairs"],
) -> tuple[Float[Tensor, "pairs dim"], Bool[Tensor, " pairs"]]:
    """Compute the mean of a video's features under a class's attention, where that is not below its mean over time.

    Args:
        embedded: `[B, T, D]`.
        logits: `[B, T, C]`; their softmax over time is the attention.
        present: `[B, T]`, false where a row is padding.
        video: `[N]` numbers of the videos.
        label: `[N]` numbers of the classes.

    Returns:
        `[N, D]` features, and whether any attention was left.
    """
    weights = softmax_over_time(logits, present)
    mean = weights.sum(dim=1, keepdim=True) / present.sum(dim=1)[:, None, None]
    weights = weights * (weights >= mean)
    total = weights.sum(dim=1)[video, label].unsqueeze(1)
    features = class_features(embedded, weights, video, label) / total.where(total > 0, 1.0)
    return features, total.squeeze(1) > 0


def centre_loss(
    features: Float[Tensor, "pairs dim"],
    counted: Bool[Tensor, " pairs"],
    centres: Float[Tensor, "pairs dim"],
    factor: Float[Tensor, " pairs"],
) -> Scalar:
    """Compute the squared distance to the centres, averaged over pairs and divided by their number again, as released.

    Args:
        features: `[N, D]` one a (video, class) pair.
        counted: `[N]` whether the pair counts.
        centres: `[N, D]` centre of the pair's class.
        factor: `[N]` of each distance.
    """
    distances = ((features - centres).square().sum(dim=1) * factor).clamp(min=1e-12)
    return torch.where(counted, distances, 0.0).sum() / counted.sum().clamp(min=1).square()


def count_loss(
    predicted: Float[Tensor, "batch actions"], counts: Float[Tensor, "batch actions"], lengths: Int[Tensor, " batch"]
) -> Scalar:
    """Compute the mean over videos of the relative error of counts, and 0.001 of the predictions for other classes.

    Args:
        predicted: `[B, C]`.
        counts: `[B, C]` instances. A class that does not occur is another class, and so is one with as many instances
            as the video has snippets or more.
        lengths: `[B]` snippets.
    """
    occurs = (counts > 0) & (counts < lengths.unsqueeze(1))
    relative = (predicted - counts).abs() / counts.where(occurs, 1.0)
    return torch.where(occurs, relative, 0.001 * predicted.abs()).sum(dim=1).mean()
