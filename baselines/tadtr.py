"""TadTR: action queries that read a window by deformable attention, each for one instance's class and segment.

An encoder of deformable attention lets every snippet read four points around it. A few learned queries are decoded:
they attend to each other, read four points in their present segment, and refine it, layer by layer. A query says which
class it holds, if any; instances are matched with queries one to one, so there are no duplicates to suppress. A last
head pools the encoded window in the segment and regresses its IoU, which multiplies the class scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from wstal.localize.given import GivenProposals
from wstal.localize.nms import Rows, suppress_where_windows_meet
from wstal.localize.spec import LocalizerSpec
from wstal.losses.set_prediction import Instances, MatchCosts, edges, segment_iou, set_losses
from wstal.method import Recipe, TrainSpec
from wstal.parts.deformable_attention import DeformableAttention
from wstal.parts.deformable_transformer import (
    DecoderLayer,
    EncoderLayer,
    LayerSizes,
    Memory,
    Padded,
    position_embedding,
)
from wstal.parts.segment_align import align_matrix
from wstal.proposal_generator import clip_gradients
from wstal.spec import ALL_ROWS, Count, Spec
from wstal.supervised import SupervisedMethod, snippet_signals
from wstal.tensors import Features, VideoFeatures
from wstal.types import Scores, SupervisedBatch, SupervisedVideo
from wstal.windows import Window, covering_starts, instances_in_rows, kept_instances, window_starts

GROUPS = 32  # of columns, which the input is normalised in
KEPT_SHARE = 0.75  # of an instance's length, with which a window keeps it
PREDICTIONS = 100  # of a window
ABOVE_NMS = np.nextafter(0.4, 1.0)  # overlaps above 0.4 are suppressed, and 0.4 itself is not
SLOW, GRADIENT_NORM = 0.1, 0.1
COSTS = MatchCosts(classification=6.0, segment=5.0, iou=2.0)
ROI_BINS, EXTENSION = 16, 0.75  # a segment's region reaches 0.75 of its width to both sides of its centre


class TadTrOptions(Spec):
    """Options of TadTR. The defaults are the released code's for THUMOS14."""

    window: Count = Field(128, description="rows of a window")
    train_overlap: float = Field(0.75, ge=0, lt=1, description="of training windows, as a fraction")
    test_overlap: float = Field(0.25, ge=0, lt=1, description="of test windows, as a fraction")
    width: Count = Field(256, description="columns of the encoded snippets and of the queries")
    heads: Count = Field(8, description="heads of every attention")
    points: Count = Field(4, description="points that a head reads")
    hidden: Count = Field(1024, description="hidden columns of the feed-forward layers")
    encoder_layers: Count = Field(4, description="layers of the encoder")
    decoder_layers: Count = Field(4, description="layers of the decoder; each refines the segments and has losses")
    queries: Count = Field(40, description="predictions of a window, more than it ever has instances")
    dropout: float = Field(0.1, ge=0, lt=1, description="after attention and in feed-forward layers")
    classification: float = Field(2.0, ge=0, description="weight of the focal loss of the classes")
    segment: float = Field(5.0, ge=0, description="weight of the distance of matched segments")
    iou: float = Field(2.0, ge=0, description="weight of 1 - IoU of matched segments")
    actionness: float = Field(4.0, ge=0, description="weight of the error of the predicted IoU")
    whole_batch: bool = Field(
        True,
        description="the IoU to predict is that with the nearest instance of the whole batch, as in the released code; "
        "else of the query's own window",
    )

    @model_validator(mode="after")
    def _divisible(self) -> TadTrOptions:
        if self.width % self.heads or self.width % GROUPS:
            raise ValueError(f"Expected `width` to be a multiple of {GROUPS} and of `heads`, got {self.width}")
        return self


def logit(fraction: Tensor) -> Tensor:
    """Return the inverse of the sigmoid, finite at 0 and 1."""
    return (fraction.clamp(min=1e-5) / (1 - fraction).clamp(min=1e-5)).log()


class Predictions(NamedTuple):
    """Predictions of one layer of the decoder.

    Args:
        logits: `[B, Q, C]` of the classes; there is no background.
        segments: `[B, Q, 2]` centre and width, as fractions of the window.
    """

    logits: Tensor
    segments: Tensor


class Output(NamedTuple):
    """Output of the network.

    Args:
        layers: predictions of each layer of the decoder.
        actionness: `[B, Q]` predicted IoU of the last layer's segments.
        memory: `[B, T, width]` encoded rows.
    """

    layers: list[Predictions]
    actionness: Tensor
    memory: Tensor


class TadTrNetwork(nn.Module):
    """Encoder, decoder and heads.

    Args:
        spec: the method's options.
        feature_dim: D, columns of the features.
        num_classes: C, action classes.
    """

    def __init__(self, spec: TadTrOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        width, layers = spec.width, range(spec.decoder_layers)
        sizes = LayerSizes(width, spec.heads, spec.points, spec.hidden, spec.dropout)
        self.input = nn.Conv1d(feature_dim, width, 1)
        self.input_norm = nn.GroupNorm(GROUPS, width)
        self.level = nn.Parameter(torch.randn(width))
        self.encoder = nn.ModuleList(EncoderLayer(sizes) for _ in range(spec.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(sizes) for _ in layers)
        self.queries = nn.Parameter(torch.randn(spec.queries, 2 * width))
        self.first_reference = nn.Linear(width, 1)
        self.classifiers = nn.ModuleList(nn.Linear(width, num_classes) for _ in layers)
        self.refiners = nn.ModuleList(perceptron(width, width, 2) for _ in layers)
        self.regressor = perceptron(ROI_BINS * width, width, 1)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Set the initial weights: all classes have a probability of 0.01, and no layer moves a segment."""
        for part in (self.encoder, self.decoder, self.first_reference):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
            for module in part.modules():
                if isinstance(module, DeformableAttention):
                    module.reset()
        nn.init.xavier_uniform_(self.input.weight)
        for zero in (self.first_reference.bias, self.input.bias):
            nn.init.zeros_(zero)
        for classifier in self.classifiers:
            nn.init.constant_(classifier.bias, -math.log(99))
        for refiner in self.refiners:
            nn.init.zeros_(refiner[-1].weight)
            nn.init.zeros_(refiner[-1].bias)
        self.refiners[0][-1].bias[1] = -2.0

    def forward(self, features: Features, padded: Padded | None = None) -> Output:
        """Return the predictions of windows.

        Args:
            features: of the windows.
            padded: true at rows that hold nothing. None: no row is padding.
        """
        rows = self.input_norm(self.input(features.transpose(1, 2))).transpose(1, 2)
        everywhere = features.new_zeros(features.shape[:2], dtype=torch.bool)
        mask = everywhere if padded is None else padded
        position = position_embedding(mask, rows.shape[2]).to(rows.dtype) + self.level
        for encode in self.encoder:
            rows = encode(rows, position, padded)
        valid = (~mask).to(rows.dtype).mean(dim=1)[:, None, None]
        place, queries = (part.expand(len(rows), -1, -1) for part in self.queries.chunk(2, dim=1))
        reference = self.first_reference(place).sigmoid()
        layers = []
        for decode, classify, refine in zip(self.decoder, self.classifiers, self.refiners, strict=True):
            queries = decode(queries, place, reference * valid, rows, padded)
            known = functional.pad(logit(reference), (0, 2 - reference.shape[2]))  # the first has a centre alone
            segments = (refine(queries) + known).sigmoid()
            layers.append(Predictions(classify(queries), segments))
            reference = segments.detach()
        return Output(layers, self.judge(rows, reference), rows)

    def judge(self, memory: Memory, segments: Tensor) -> Float[Tensor, "batch queries"]:
        """Return the predicted IoU of segments, from the encoded rows in and around them."""
        length = memory.shape[1]
        region = edges(segments * segments.new_tensor([1.0, 2 * EXTENSION]))
        start, end = ((edge * length).clamp(0, length) for edge in region)
        pooled = align_matrix(start, end, ROI_BINS, length).flatten(1, 2) @ memory
        pooled = pooled.unflatten(1, (-1, ROI_BINS)).transpose(2, 3).flatten(2)
        return self.regressor(pooled)[..., 0].sigmoid()


def perceptron(in_dim: int, hidden: int, out_dim: int) -> nn.Sequential:
    """Return three linear layers with ReLUs between them."""
    return nn.Sequential(
        nn.Linear(in_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out_dim)
    )


def actionness_loss(actionness: Tensor, segments: Tensor, instances: Sequence[Instances], whole_batch: bool) -> Tensor:
    """Return the mean error of the predicted IoU of all queries, 0 where there is no instance at all.

    Args:
        actionness: `[B, Q]` predicted IoU.
        segments: `[B, Q, 2]` the segments that it is of.
        instances: those of each window.
        whole_batch: compare with the instances of all windows.
    """
    everything = torch.cat([true.segments for true in instances])
    best = []
    for predicted, true in zip(segments.detach(), instances, strict=True):
        others = everything if whole_batch else true.segments
        none = predicted.new_zeros(len(predicted), 1)
        best.append(torch.cat([none, segment_iou(predicted[:, None], others)], dim=1).amax(dim=1))
    return (actionness - torch.stack(best)).abs().mean()


def tadtr_losses(output: Output, instances: Sequence[Instances], spec: TadTrOptions) -> dict[str, Tensor]:
    """Return the losses: `total`, and the terms of the last layer before weighting.

    Args:
        output: of the network.
        instances: those of each window.
        spec: weights.
    """
    layers = [set_losses(*layer, instances, COSTS) for layer in output.layers]
    weights = {"classification": spec.classification, "segment": spec.segment, "iou": spec.iou}
    last = layers[-1] | {
        "actionness": actionness_loss(output.actionness, output.layers[-1].segments, instances, spec.whole_batch)
    }
    total = spec.actionness * last["actionness"]
    for terms in layers:
        total = total + sum(weight * terms[name] for name, weight in weights.items())
    return last | {"total": total}


def ranked(logits: Tensor, segments: Tensor, actionness: Tensor) -> Tensor:
    """Return `[B, K, 4]` class, score, start and end of the best predictions of each window, best first.

    Args:
        logits: `[B, Q, C]`. A query may be predicted with several classes.
        segments: `[B, Q, 2]` centre and width, as fractions of the window.
        actionness: `[B, Q]` predicted IoU, which multiplies the class scores.
    """
    classes = logits.shape[2]
    score = (logits.sigmoid() * actionness[..., None]).flatten(1)
    best, place = score.sort(dim=1, descending=True, stable=True)
    best, place = best[:, :PREDICTIONS], place[:, :PREDICTIONS]
    start, end = (edge.gather(1, place // classes) for edge in edges(segments))
    return torch.stack([(place % classes).to(best.dtype), best, start, end], dim=2)


class TadTr(SupervisedMethod):
    """TadTR over windows of features `[B, T, D]`."""

    name = "tadtr"
    title = "TadTR"
    Options = TadTrOptions
    CHECK_OPTIONS: ClassVar = {
        "window": 12,
        "width": 32,
        "heads": 4,
        "hidden": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "queries": 6,
    }
    MATCHES_ON_HOST = True
    spec: TadTrOptions

    def __init__(self, spec: TadTrOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.network = TadTrNetwork(spec, feature_dim, num_classes)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the released code's recipe."""
        return Recipe(
            method=TadTrOptions(),
            train=TrainSpec(epochs=16, learning_rate=2e-4, weight_decay=1e-4, decay_every=14),
            localizer=LocalizerSpec(class_threshold=0.0, given=GivenProposals(keep=ALL_ROWS, classes=0)),
        )

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        """Return AdamW, with a tenth of the rate for what decides where queries look."""
        slow, other = [], []
        for name, parameter in self.named_parameters():
            (slow if ".offsets." in name or ".first_reference." in name else other).append(parameter)
        groups = [{"params": other}, {"params": slow, "lr": SLOW * train.learning_rate}]
        adam = torch.optim.AdamW(
            groups, lr=train.learning_rate, betas=train.betas, weight_decay=train.weight_decay, fused=True
        )
        clip_gradients(adam, [*self.parameters()], GRADIENT_NORM)
        return [adam]

    def windows(self, videos: Sequence[SupervisedVideo], stage: int) -> list[Window]:
        """Return the windows that keep an instance."""
        rows = self.spec.window
        stride = max(1, int(rows * (1 - self.spec.train_overlap)))
        return [
            Window(number, first, 1, rows)
            for number, video in enumerate(videos)
            for first in window_starts(video.video.length, rows, stride)
            if len(kept_instances(instances_in_rows(video) - first, rows, KEPT_SHARE)[0])
        ]

    def targets(self, video: SupervisedVideo, window: Window, stage: int) -> dict[str, Tensor]:
        """Return class and segment of each instance, padded to the number of queries with the class -1."""
        kept, segments = kept_instances(window.instances(video).numpy(), window.rows, KEPT_SHARE)
        count = min(len(kept), self.spec.queries)
        labels, padded = torch.full((self.spec.queries,), -1), torch.zeros(self.spec.queries, 2)
        labels[:count] = torch.from_numpy(video.label[kept[:count]])
        padded[:count] = torch.from_numpy(segments[:count]).float()
        return {"labels": labels, "segments": padded}

    def losses(self, batch: SupervisedBatch) -> dict[str, Tensor]:
        """Return the losses of matched queries."""
        pairs = zip(batch.targets["labels"], batch.targets["segments"], strict=True)
        instances = [Instances(labels[labels >= 0], segments[labels >= 0]) for labels, segments in pairs]
        return tadtr_losses(self.network(batch.features), instances, self.spec)

    def score(self, features: VideoFeatures) -> Scores:
        """Return the detections of all windows as proposals."""
        length, rows = len(features), self.spec.window
        starts = covering_starts(length, rows, max(1, int(rows * (1 - self.spec.test_overlap))))
        parts = (features[start : start + rows] for start in starts)
        output = self.network(torch.stack([functional.pad(part, (0, 0, 0, rows - len(part))) for part in parts]))
        found = ranked(*output.layers[-1], output.actionness).detach().double().cpu().numpy()
        edges_in_video = found[..., 2:] * rows + np.array(starts)[:, None, None]
        start, end = edges_in_video.clip(0, length).reshape(-1, 2).T
        label, score = found[..., :2].reshape(-1, 2).T
        one = Rows(start, end, score, label.astype(np.int64), np.zeros(len(start))).take(np.flatnonzero(end > start))
        ends = [min(start + rows, length) for start in starts]
        one = one.take(suppress_where_windows_meet(one, starts, ends, ABOVE_NMS))
        proposals = torch.from_numpy(np.stack([one.start, one.end, one.score, one.group], axis=1)).float()
        video_scores = proposals.new_zeros(self.num_classes)
        video_scores.scatter_reduce_(0, torch.from_numpy(one.group), proposals[:, 2], "amax")
        return Scores(snippet_signals(proposals, video_scores, length), video_scores, proposals=proposals)
