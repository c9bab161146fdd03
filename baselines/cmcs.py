"""CMCS: completeness modelling and context separation for weakly supervised temporal action localization.

Idea: several classification branches over one narrow embedding are driven apart by a diversity loss, while a norm
regulariser keeps them equally strong. Each finds other parts of an action, so their mean covers all of it. Context is
separated from actions by hard negatives: the static clips of a training video, those of low motion, are cut together to
a video of the class background. A softmax over time weights the snippets of a video.

Paper: Liu, Jiang & Wang, CVPR 2019. Facts: its released code (Finspire13/CMCS-Temporal-Action-Localization at d03f480),
checked against tensors recorded from it. Deviations:
- static clips are found in the features of the last of several streams, which is optical flow (the released code reads
  flow images): a snippet's motion is how far its flow feature is from those of its neighbours. In four videos of
  THUMOS14 a mean of 19 % of a video's lowest quarter shows an action, 24 % where the length of the feature is taken,
  and 28 % of the whole video. Features of one stream have none to find, and there is no background class, as in the
  released code without its `with_bg`;
- a video is visited once with all its classes, equally likely, and its static clips. That sums the gradients of the
  released code's copies, one for each class with a weight of 1 / classes and one of the static clips;
- one crop and one row every 16 frames (the released code draws one of 40 variants: ten crops, four offsets);
- one network for each stream, whose outputs are averaged, the released code's late fusion. It also has a network on
  joined columns, which is `method.streams` of a single stream;
- the attention's last layer has no bias: it would cancel in the softmax over time;
- the samples of a video's last row count too, on its last slope, and a margin that begins before the video is cut there
  (a negative index of the released code drops it);
- the last checkpoint counts, as in the released code, for as many steps of 24 videos (ActivityNet: 32).
`attention` is relative: a softmax over time has no scale, so it is divided by its maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from wstal import sampling
from wstal.device import to_device_async
from wstal.errors import UserError
from wstal.families import epochs_for, many_classes
from wstal.localize.spec import LocalizerSpec, ProposalSource
from wstal.losses.mil import cross_entropy, with_background
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.layers import TemporalConv
from wstal.parts.pooling import min_max
from wstal.spec import Count
from wstal.streams import SeparateStreams, StreamOptions
from wstal.tensors import Cas, Features, Foreground, Scalar, VideoFeatures, VideoScores
from wstal.types import Batch, FloatArray, Paper, Scores, Video

BranchScores = Float[Tensor, "branches batch time classes"]

EPSILON = 1e-6
FRAMES = 16  # of a row: the released code localizes in frames
LOW_MOTION, SMOOTHED_SECONDS, SHARES = 25, 2.0, (0.05, 0.30)


class CmcsOptions(StreamOptions):
    """Options of CMCS. The defaults are for THUMOS14."""

    base: Count = Field(32, description="columns of the embedding")
    hidden: Count = Field(16, description="hidden columns of each branch and of the attention")
    branches: Count = Field(4, description="classification branches, whose scores are averaged")
    dropout: float = Field(0.5, ge=0, lt=1, description="of whole feature columns, the same for all snippets")
    diversity: float = Field(0.2, ge=0, description="weight of the diversity loss and of the norm regulariser")
    static_clips: bool | None = Field(
        None,
        description="learn a class of background from static clips of training videos, which the flow stream finds; "
        "unset: if there are several streams",
    )

    @model_validator(mode="before")
    @classmethod
    def _decided_by_the_streams(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("streams") and data.get("static_clips") is None:
            return data | {"static_clips": len(data["streams"]) > 1}
        return data

    @property
    def background(self) -> bool:
        """Whether there is a class of background."""
        return len(self.streams) > 1 if self.static_clips is None else self.static_clips


ACTIVITYNET_OPTIONS = CmcsOptions(base=256, hidden=128)


def localizer(threshold: float) -> LocalizerSpec:
    """Return the settings for a threshold relative to the mean of a class's scores in the video."""
    source = ProposalSource(
        signal="relative", thresholds=(threshold,), strict=True, score={"metric": 1.0}, video_score_weight=0.25
    )
    return LocalizerSpec(
        class_threshold=0.1,
        fallback_to_argmax=False,
        upsampling=FRAMES,
        dilation=20,
        margin=0.25,
        sources=(source,),
    )


class Outputs(NamedTuple):
    """Output of one network.

    Args:
        branches: `[K, B, T, classes]` logits S^k of each branch, with background (if it is a class) last.
        attention: `[B, T, 1]` weights that sum to 1 over time.
        scores: `[B, T, classes]` S, the mean of the branches.
        video: `[B, classes]` logits of the video.
    """

    branches: BranchScores
    attention: Foreground
    scores: Cas
    video: VideoScores


class CmcsNetwork(Method):
    """Network of one stream over features `[B, T, D]`."""

    Options = CmcsOptions
    TRAIN_SAMPLER = sampling.whole
    TEST_SAMPLER = sampling.whole
    spec: CmcsOptions

    def __init__(self, spec: CmcsOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        base, hidden, outputs = spec.base, spec.hidden, num_classes + spec.background
        self.base = nn.Linear(feature_dim, base)
        self.branches = nn.ModuleList(
            nn.Sequential(TemporalConv(base, hidden, 3, padding="same"), nn.ReLU(), nn.Linear(hidden, outputs))
            for _ in range(spec.branches)
        )
        self.attention = nn.Sequential(nn.Linear(base, hidden), nn.ReLU(), nn.Linear(hidden, 1, bias=False))

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the released settings of THUMOS14 and ActivityNet; FineAction, not in the paper, has ActivityNet's."""
        if not many_classes(dataset):
            epochs = epochs_for(dataset, 15_000, 24)
            train = TrainSpec(epochs=epochs, batch_size=1, accumulate=24, learning_rate=1e-4, weight_decay=1e-3)
            return Recipe(method=CmcsOptions(), train=train, localizer=localizer(1.0))
        epochs = epochs_for(dataset, 20_000 if dataset.startswith("activitynet12") else 30_000, 32)
        train = TrainSpec(
            epochs=epochs,
            batch_size=1,
            accumulate=32,
            learning_rate=1e-3,
            weight_decay=1e-4,
            decay_every=-(-epochs // 2),  # once, at half of the steps
        )
        return Recipe(method=ACTIVITYNET_OPTIONS, train=train, localizer=localizer(1e-7))

    def outputs(self, features: Features) -> Outputs:
        """Return the branches' scores, their mean, and the video's logits under the attention."""
        columns = features.new_ones(len(features), 1, features.shape[2])
        kept = features * functional.dropout(columns, self.spec.dropout, self.training)
        embedded = self.base(kept).relu()
        branches = torch.stack([branch(embedded) for branch in self.branches])
        attention = self.attention(embedded).softmax(dim=1)
        scores = branches.mean(dim=0)
        return Outputs(branches, attention, scores, (attention * scores).sum(dim=1))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of videos with action labels (see `terms`)."""
        labels = with_background(batch.labels, False) if self.spec.background else batch.labels
        return self.terms(batch.features, labels)

    def terms(self, features: Features, labels: VideoScores) -> dict[str, Tensor]:
        """Return `classification`, `diversity`, `norm` and their weighted `total`.

        Args:
            features: `[B, T, D]`.
            labels: `[B, classes]` multi-hot, with background where it is a class.
        """
        outputs = self.outputs(features)
        terms = {
            "classification": cross_entropy(outputs.video.log_softmax(dim=1), labels),
            "diversity": diversity_loss(outputs.branches),
            "norm": norm_loss(outputs.branches),
        }
        terms["total"] = terms["classification"] + self.spec.diversity * (terms["diversity"] + terms["norm"])
        return terms

    def score(self, features: VideoFeatures) -> Scores:
        """Return the scores of this network alone."""
        return fused_scores([self.outputs(features.unsqueeze(0))], self.num_classes)


class Cmcs(SeparateStreams):
    """CMCS over features `[B, T, D]`: one network per stream, trained on the same videos and static clips."""

    name = "cmcs"
    title = "CMCS"
    paper = Paper(
        "Completeness Modeling and Context Separation for Weakly Supervised Temporal Action Localization",
        "Daochang Liu, Tingting Jiang, Yizhou Wang",
        "CVPR",
        2019,
        "https://openaccess.thecvf.com/content_CVPR_2019/html/Liu_Completeness_Modeling_and_Context_Separation_for_Weakly_Supervised_Temporal_Action_CVPR_2019_paper.html",
    )
    Options = CmcsOptions
    Network = CmcsNetwork
    networks: Sequence[CmcsNetwork]
    spec: CmcsOptions

    def __init__(self, spec: CmcsOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        if spec.background and len(spec.streams) == 1:
            raise UserError(
                "method.static_clips=true: CMCS finds static clips in the optical flow stream, and these features have "
                "one stream. Add the flow stream, or leave the option to the data set, which switches them off."
            )
        self.static: dict[str, list[int]] = {}  # rows by video; the same in every epoch, so no state of the training

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the network's recipe."""
        return CmcsNetwork.recipe(dataset)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Find the static clips of the training videos.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: all training videos.
        """
        super().start_epoch(epoch, epochs, videos)
        if self.spec.background and len(self.widths) > 1:
            for video in videos:
                if video.name not in self.static:
                    flow = video.features[:, -self.widths[-1] :]
                    self.static[video.name] = static_rows(flow, video.seconds_per_snippet)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the networks' losses of the videos, and `background`, the total of their static clips."""
        terms = super().losses(batch)
        background = torch.zeros_like(terms["total"])
        for row, name in enumerate(batch.videos):
            static = self.static.get(name, [])
            if rows := [at for at in static if at < batch.features.shape[1]]:
                index = to_device_async(torch.tensor(rows), batch.features.device)
                background = background + self._background_loss(batch.features[row : row + 1, index])
        terms["background"] = background / len(batch.videos)
        terms["total"] = terms["total"] + terms["background"]
        return terms

    def _background_loss(self, clips: Features) -> Scalar:
        """Return the networks' total loss of static clips, whose class is background."""
        label = with_background(clips.new_zeros(1, self.num_classes), True)
        parts = zip(self.networks, self.split(clips), strict=True)
        return torch.stack([network.terms(part, label)["total"] for network, part in parts]).sum()

    def score(self, features: VideoFeatures) -> Scores:
        """Return the scores of the networks' mean outputs."""
        parts = zip(self.networks, self.split(features.unsqueeze(0)), strict=True)
        return fused_scores([network.outputs(part) for network, part in parts], self.num_classes)


def fused_scores(outputs: Sequence[Outputs], num_classes: int) -> Scores:
    """Return the scores of one video from the mean outputs of networks.

    The method's own localizer thresholds `relative`, a class's probabilities scaled to [0, 1] (`metric`) and divided by
    their mean over all frames, and scores `metric`.

    Args:
        outputs: of each network.
        num_classes: C, action classes without background.
    """
    cas = torch.stack([one.scores[0] for one in outputs]).mean(dim=0).softmax(dim=1)[:, :num_classes]
    attention = torch.stack([one.attention[0, :, 0] for one in outputs]).mean(dim=0)
    video = torch.stack([one.video[0] for one in outputs]).mean(dim=0).softmax(dim=0)[:num_classes]
    metric = min_max(cas)
    mean = mean_over_frames(metric)
    relative = metric / mean.where(mean > 0, 1.0)
    return Scores({"cas": cas, "attention": attention / attention.max(), "metric": metric, "relative": relative}, video)


def mean_over_frames(values: Float[Tensor, "time classes"]) -> Float[Tensor, " classes"]:
    """Compute the mean of each class's values on the straight lines between rows, one value a frame."""
    total: Tensor = FRAMES * values.sum(dim=0) - (FRAMES - 1) / 2 * (values[0] + values[-1])
    return total / (FRAMES * (len(values) - 1) + 1)


def diversity_loss(branches: BranchScores) -> Scalar:
    """Compute the mean cosine of two branches' probabilities of a class over time, over classes and pairs of branches.

    Args:
        branches: `[K, B, T, classes]` logits of each branch.
    """
    count = len(branches)
    curves = branches.softmax(dim=-1).permute(1, 3, 0, 2)  # [B, classes, K, T]
    lengths: Tensor = torch.linalg.vector_norm(curves, dim=-1, keepdim=True)
    cosines = (curves @ curves.mT) / (lengths @ lengths.mT + EPSILON)
    others = (cosines - torch.eye(count, device=cosines.device, dtype=cosines.dtype)).relu()
    return others.sum(dim=(-2, -1)).mean() / max(count * (count - 1), 1)


def norm_loss(branches: BranchScores) -> Scalar:
    """Compute the mean difference between a branch's mean absolute logit of a class and that of all branches.

    Args:
        branches: `[K, B, T, classes]` logits of each branch.
    """
    norms = branches.abs().mean(dim=2)
    return (norms - norms.mean(dim=0)).abs().mean()


def static_rows(flow: FloatArray, seconds_per_snippet: float) -> list[int]:
    """Return the rows of a video's static clips, none if they are less than 5 % or more than 30 % of it.

    A row is static if its motion is in the lowest quarter, by majority within two seconds, for two seconds or longer.

    Args:
        flow: `[T, D]` features of the optical flow stream.
        seconds_per_snippet: time from one row to the next.
    """
    if len(flow) < 2:
        return []
    steps = np.linalg.norm(np.diff(flow.astype(np.float32), axis=0), axis=1)
    motion = (np.append(steps[:1], steps) + np.append(steps, steps[-1:])) / 2
    low = motion < np.percentile(motion, LOW_MOTION)
    rows = max(round(SMOOTHED_SECONDS / seconds_per_snippet), 1)
    smooth = ndimage.median_filter(low.astype(np.uint8), rows - 1 + rows % 2, mode="constant")
    static = ndimage.binary_opening(smooth, np.ones(rows, dtype=bool))
    return np.flatnonzero(static).tolist() if SHARES[0] <= static.mean() <= SHARES[1] else []
