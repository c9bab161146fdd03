"""TadTR: action queries that read a window by deformable attention, each for one instance's class and segment.

Idea: an encoder of deformable attention lets every snippet read four points around it. A few learned queries are
decoded: they attend to each other, read four points in their present segment, and refine it, layer by layer. A query
says which class it holds, if any. Instances are matched with queries one to one, so there are no duplicates to
suppress. A last head pools the encoded window in the segment and regresses its IoU, which multiplies the class scores.

Paper: Liu et al., TIP 2022, arXiv 2106.10271. Facts: its released code (xlliu7/TadTR at 983ae14, THUMOS14), checked
against tensors recorded from it. Fully supervised: it trains on times. It classifies by itself.
Deviations:
- windows hold about as many seconds (41) as the released ones, on rows of 16 frames where those have 8;
- the last, smaller batch of an epoch is kept;
- a detection that reaches into two parts that test windows share is emitted once (the released code: twice);
- the last epoch counts (the released code keeps the one of 16 with the best test mAP);
- ActivityNet, for which nothing was released, takes each video as one window of 100 rows, whose queries find actions of
  any class (`method.class_free`) that a video classifier trained beside them names; so does FineAction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional

from wstal.families import many_classes
from wstal.localize.given import GivenProposals
from wstal.localize.nms import Rows, suppress_where_windows_meet
from wstal.localize.spec import LocalizerSpec
from wstal.losses.set_prediction import Instances, MatchCosts, edges, overlap_loss, set_losses
from wstal.method import Recipe, TrainSpec
from wstal.parts.deformable_transformer import (
    DecoderLayer,
    EncoderLayer,
    LayerSizes,
    Memory,
    Padded,
    logit,
    perceptron,
    position_embedding,
)
from wstal.parts.segment_align import align_matrix
from wstal.proposal_generator import CLIPS, VideoClassifier, clip_gradients, clips, video_loss
from wstal.spec import ALL_ROWS, Count, Spec
from wstal.supervised import SupervisedMethod, snippet_signals
from wstal.tensors import Features, VideoFeatures
from wstal.types import Floats, IntArray, Paper, Scores, SupervisedBatch, SupervisedVideo
from wstal.windows import Window, covering_starts, kept_instances, window_starts

GROUPS = 32  # of columns, which the input is normalised in
KEPT_SHARE = 0.75  # of an instance's length, with which a window keeps it
PREDICTIONS = 100  # of a window
ABOVE_NMS = np.nextafter(0.4, 1.0)  # overlaps above 0.4 are suppressed, and 0.4 itself is not
CLIP_ROWS = 21  # rows of a video that the classifier sees in a step
SLOW, GRADIENT_NORM = 0.1, 0.1
COSTS = MatchCosts(classification=6.0, segment=5.0, iou=2.0)
FIRST_WIDTH = -2.0  # logit of the first segments' width, before training
ROI_BINS, EXTENSION = 16, 0.75  # a segment's region reaches 0.75 of its width to both sides of its centre


class TadTrOptions(Spec):
    """Options of TadTR. The defaults are the released code's for THUMOS14."""

    window: Count = Field(128, description="rows of a window")
    train_overlap: float = Field(0.75, ge=0, lt=1, description="of training windows, as a fraction")
    test_overlap: float = Field(0.25, ge=0, lt=1, description="of test windows, as a fraction")
    rescale: bool = Field(False, description="each video to the rows of one window, in place of windows of its rows")
    class_free: bool = Field(
        False, description="queries find any action, and a video classifier names it (with localizer.given.classes=2)"
    )
    classifier_dropout: float = Field(0.8, ge=0, lt=1, description="of the video classifier's features")
    classifier_rate: PositiveFloat = Field(1e-3, description="learning rate of the video classifier")
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
        True, description="the IoU to predict is the best with the instances of all windows of a batch, as released"
    )

    @model_validator(mode="after")
    def _divisible(self) -> TadTrOptions:
        if self.width % math.lcm(self.heads, GROUPS):
            raise ValueError(f"Expected `width` to be a multiple of {GROUPS} and of `heads`, got {self.width}")
        return self


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
        classifiers = [nn.Linear(width, num_classes) for _ in layers]
        refiners = [perceptron(width, width, 2) for _ in layers]
        self.classifiers, self.refiners = nn.ModuleList(classifiers), nn.ModuleList(refiners)
        self.regressor = perceptron(ROI_BINS * width, width, 1)
        for parameter in (*self.first_reference.parameters(), *self.input.parameters()):
            _ = nn.init.xavier_uniform_(parameter) if parameter.dim() > 1 else nn.init.zeros_(parameter)
        for classify, refine in zip(classifiers, refiners, strict=True):  # all classes at 0.01, and no segment moves
            nn.init.constant_(classify.bias, -math.log(99))
            for parameter in refine[-1].parameters():
                nn.init.zeros_(parameter)
        nn.init.constant_([*refiners[0].parameters()][-1][1:], FIRST_WIDTH)

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
        pooled = align_matrix(start, end, ROI_BINS, length) @ memory[:, None]  # [B, Q, bins, width]
        found: Tensor = self.regressor(pooled.transpose(2, 3).flatten(2))
        return found[..., 0].sigmoid()


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
    paper = Paper(
        "End-to-End Temporal Action Detection with Transformer",
        "Xiaolong Liu, Qimeng Wang, Yao Hu, Xu Tang, Shiwei Zhang, Song Bai, Xiang Bai",
        "IEEE Transactions on Image Processing",
        2022,
        "https://arxiv.org/abs/2106.10271",
    )
    Options = TadTrOptions
    CHECK_OPTIONS: ClassVar = {"window": 12, "width": 32, "heads": 4, "hidden": 32, "queries": 6}
    MATCHES_ON_HOST = True
    spec: TadTrOptions

    def __init__(self, spec: TadTrOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.network = TadTrNetwork(spec, feature_dim, 1 if spec.class_free else num_classes)
        if spec.class_free:
            self.video_classifier = VideoClassifier(feature_dim, num_classes, spec.classifier_dropout)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the released code's recipe; where classes are many, one for whole videos."""
        whole = many_classes(dataset)
        given = GivenProposals(keep=ALL_ROWS, classes=2 if whole else 0)
        return Recipe(
            method=TadTrOptions(window=100, rescale=True, class_free=True) if whole else TadTrOptions(window=64),
            train=TrainSpec(epochs=16, learning_rate=2e-4, weight_decay=1e-4, decay_every=14),
            localizer=LocalizerSpec(class_threshold=0.0, given=given),
        )

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        """Return AdamW, with a tenth of the rate for what decides where queries look."""
        slow: list[nn.Parameter] = []
        other: list[nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            (slow if ".offsets." in name or "first_reference." in name else other).append(parameter)
        groups: list[dict[str, Any]] = [{"params": other}, {"params": slow, "lr": SLOW * train.learning_rate}]
        if self.spec.class_free:
            groups.append({"params": [*self.video_classifier.parameters()], "lr": self.spec.classifier_rate})
        adam = torch.optim.AdamW(
            groups, lr=train.learning_rate, betas=train.betas, weight_decay=train.weight_decay, fused=True
        )
        clip_gradients(adam, [*self.network.parameters()], GRADIENT_NORM)
        return [adam]

    def _windows_of(self, starts: Sequence[int], length: int, video: int = 0) -> list[Window]:
        """Return the windows of a video that start there, or the only one if it is rescaled."""
        rows = self.spec.window
        if self.spec.rescale:
            return [Window(video, 0, length / rows, rows)]
        return [Window(video, start, 1, rows) for start in starts]

    def windows(self, videos: Sequence[SupervisedVideo], stage: int) -> list[Window]:
        """Return the windows that keep an instance."""
        stride, made = self.stride(self.spec.train_overlap), []
        for number, length in enumerate(video.video.length for video in videos):
            made += self._windows_of(window_starts(length, self.spec.window, stride), length, number)
        return [window for window in made if len(kept_in(window, videos[window.video])[0])]

    def stride(self, overlap: float) -> int:
        """Return the rows from one window to the next."""
        return max(1, int(self.spec.window * (1 - overlap)))

    def targets(self, video: SupervisedVideo, window: Window, stage: int) -> dict[str, Tensor]:
        """Return class and segment of each instance, padded to the number of queries with the class -1."""
        kept, segments = kept_in(window, video)
        count = min(len(kept), self.spec.queries)
        labels, padded = torch.full((self.spec.queries,), -1), torch.zeros(self.spec.queries, 2)
        labels[:count] = 0 if self.spec.class_free else torch.from_numpy(video.label[kept[:count]])
        padded[:count] = torch.from_numpy(segments[:count]).float()
        return {"labels": labels, "segments": padded}

    def example(
        self, video: SupervisedVideo, window: Window, stage: int, rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return a window with its targets, and rows of the video for the classifier if there is one."""
        features, targets = super().example(video, window, stage, rng)
        if self.spec.class_free:
            targets[CLIPS] = clips(video.video.features, CLIP_ROWS, rng)
        return features, targets

    def window_losses(self, batch: SupervisedBatch) -> dict[str, Tensor]:
        """Return the losses of matched queries, and of the video classifier if there is one."""
        pairs = zip(batch.targets["labels"], batch.targets["segments"], strict=True)
        instances = [Instances(labels[labels >= 0], segments[labels >= 0]) for labels, segments in pairs]
        losses = self.terms(self.network(batch.features), instances)
        if self.spec.class_free:
            losses["video"] = video_loss(self.video_classifier, batch.targets[CLIPS], batch.labels)
            losses["total"] = losses["total"] + losses["video"]
        return losses

    def terms(self, output: Output, instances: Sequence[Instances]) -> dict[str, Tensor]:
        """Return the losses of the network: terms of the last layer before weighting, and `total` of all layers.

        Args:
            output: of the network.
            instances: those of each window.
        """
        spec, layers = self.spec, [set_losses(*layer, instances, COSTS) for layer in output.layers]
        weights = {"classification": spec.classification, "segment": spec.segment, "iou": spec.iou}
        actionness = overlap_loss(output.actionness, output.layers[-1].segments, instances, spec.whole_batch)
        total = spec.actionness * actionness
        for terms in layers:
            total = total + sum(weight * terms[name] for name, weight in weights.items())
        return layers[-1] | {"actionness": actionness, "total": total}

    def score(self, features: VideoFeatures) -> Scores:
        """Return the detections of all windows as proposals."""
        length, host = len(features), features.cpu().numpy()
        starts = covering_starts(length, self.spec.window, self.stride(self.spec.test_overlap))
        windows = self._windows_of(starts, length)
        output = self.network(torch.stack([window.features(host) for window in windows]).to(features))
        logits, segments = output.layers[-1]
        found = ranked(logits, segments, output.actionness).detach().double().cpu().numpy()
        span = np.array([(window.first, window.last) for window in windows])
        start, end = (span[:, :1, None] + found[..., 2:] * np.diff(span)[..., None]).clip(0, length).reshape(-1, 2).T
        label, score = found[..., :2].reshape(-1, 2).T
        one = Rows(start, end, score, label.astype(np.int64), np.zeros(len(start))).take(np.flatnonzero(end > start))
        one = one.take(suppress_where_windows_meet(one, span[:, 0], span[:, 1].clip(max=length), ABOVE_NMS))
        label = np.full(len(one.start), -1) if self.spec.class_free else one.group
        proposals = torch.from_numpy(np.stack([one.start, one.end, one.score, label], axis=1)).float()
        if self.spec.class_free:
            video_scores = self.video_classifier(features[None])[0].exp()
        else:
            best = proposals.new_zeros(self.num_classes)
            video_scores = best.scatter_reduce(0, torch.from_numpy(one.group), proposals[:, 2], "amax").to(features)
        signals = snippet_signals(proposals, video_scores.cpu(), length)
        return Scores(
            {name: signal.to(features) for name, signal in signals.items()}, video_scores, proposals=proposals
        )


def kept_in(window: Window, video: SupervisedVideo) -> tuple[IntArray, Floats]:
    """Return which instances of a video a window keeps, and their segments, as `kept_instances`."""
    return kept_instances(window.instances(video).numpy(), window.rows, KEPT_SHARE)
