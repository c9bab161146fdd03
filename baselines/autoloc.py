"""AutoLoc: boundary regression supervised by the outer-inner contrast of a trained classifier's scores.

Idea: an UntrimmedNet, trained first and then frozen, gives a heat map of each class. A small convolutional network
regresses, at each snippet and for each of six anchor widths, the boundaries of a box. A box is good where the heat
inside is higher than around it (outer-inner contrast, OIC). The best boxes of the video's classes are selected, and
their mean OIC is the loss.

Paper: Shou et al., ECCV 2018. Facts: its released code (zhengshou/AutoLoc@82c7e51a28eb740a8f002a460ce5c918fc61731b),
whose Python layers are checked against tensors recorded from them. Deviations:
- anchors are chosen by OIC alone (the release's `org`, its setting on ActivityNet). Its setting on THUMOS14, `ref`,
  multiplies by a density of durations that is fitted to annotated instances of the training videos. That is temporal
  supervision, so it is not offered here;
- the UntrimmedNet is trained in the same run, in all epochs but the last ones, on the features that the regression
  reads. The release takes the scores of UntrimmedNets trained end to end;
- the release takes snippets as foreground whose attention logits exceed 7. The logits of a head on fixed features have
  another scale, so a quantile of the video's own logits is the threshold (a guess);
- the regression draws one video of each batch, in 16 epochs of batches of 16 about as many as there are videos. The
  release takes 200 steps on THUMOS14 and 4,706 on ActivityNet, where its learning rate decays every 500. Here it stays;
- of a batch of several videos the mean of their losses is taken. The release, and training here, has one video a batch;
- a box that has no duration once it is clipped to the video is no detection, because no instance could match it, and
  times begin at the start of the first snippet (the release adds a frame).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from baselines.untrimmednet import UntrimmedNet, UntrimmedNetOptions
from wstal import sampling
from wstal.families import many_classes
from wstal.localize.spec import LocalizerSpec, ProposalSource
from wstal.losses.outer_inner import INNER_MARGIN, Boxes, Contrast, Heat, floored, outer_inner_contrast
from wstal.method import Method, Recipe, TrainSpec
from wstal.spec import Count, EpochCount
from wstal.streams import StreamOptions
from wstal.tensors import Features, Scalar, VideoFeatures
from wstal.types import Batch, IntArray, Paper, Scores, Video

CLASSES_AT_TEST = 2
HEADS = ("classifier", "attention")  # of UntrimmedNet

LOCALIZER = LocalizerSpec(
    class_score="mean_heat",
    class_threshold=0.0,
    sources=(
        ProposalSource(
            signal="box_score",
            thresholds=(0.0,),
            strict=True,
            score={"box_score": 1.0},
            bounds=("box_start", "box_end"),
        ),
    ),
)


class AutoLocOptions(StreamOptions):
    """Options of AutoLoc. The defaults are for THUMOS14."""

    dropout: float = Field(0.8, ge=0, lt=1, description="of the UntrimmedNet")
    clips: Count = Field(7, description="clips that the UntrimmedNet cuts a training video into")
    regression: EpochCount = Field(16, description="last epochs, which train the regression on a video of each batch")
    learning_rate: PositiveFloat = Field(1e-3, description="of the regression's SGD")
    width: Count = Field(128, description="columns of the regression's hidden layers")
    anchors: tuple[Count, ...] = Field((1, 2, 4, 8, 16, 32), min_length=1, description="anchor widths in rows")
    foreground: float = Field(
        0.5, ge=0, lt=1, description="quantile of a video's attention logits above which a snippet is foreground"
    )
    heat: float = Field(0.1, ge=0, description="a class's boxes are taken at snippets whose masked heat exceeds this")
    oic: float = Field(0.7, gt=0, description="boxes of this OIC loss or a larger one are not taken")
    overlap: float = Field(0.4, gt=0, lt=1, description="tIoU with a better box above which a box is not taken")


class AutoLoc(Method):
    """AutoLoc over features `[B, T, D]`: an UntrimmedNet, one head a stream, and a regression on all columns."""

    name: ClassVar[str] = "autoloc"
    title: ClassVar[str] = "AutoLoc"
    paper: ClassVar[Paper | None] = Paper(
        "AutoLoc: Weakly-supervised Temporal Action Localization in Untrimmed Videos",
        "Zheng Shou, Hang Gao, Lei Zhang, Kazuyuki Miyazawa, Shih-Fu Chang",
        "ECCV",
        2018,
        "https://arxiv.org/abs/1807.08333",
    )
    Options = AutoLocOptions
    SMOOTH = False
    spec: AutoLocOptions

    def __init__(self, spec: AutoLocOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        options = UntrimmedNetOptions(streams=spec.streams, dropout=spec.dropout, clips=spec.clips)
        self.untrimmednet = UntrimmedNet(options, feature_dim, num_classes)
        self.regressor = BoundaryRegressor(feature_dim, spec.width, spec.anchors)
        self._regresses = False

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return UntrimmedNet's settings and the epochs of the regression, longer anchors where classes are many."""
        anchors = (16, 32, 64, 128, 256, 512) if many_classes(dataset) else (1, 2, 4, 8, 16, 32)
        options, train = AutoLocOptions(anchors=anchors), UntrimmedNet.recipe(dataset).train
        train = train.model_copy(update={"epochs": train.epochs + options.regression})
        return Recipe(method=options, train=train, localizer=LOCALIZER)

    def stage(self, epoch: int, epochs: int) -> int:
        """Return 1 in the epochs that train the regression, 0 before."""
        return int(epoch >= epochs - self.spec.regression)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Freeze the part that the epoch does not train."""
        self._regresses = bool(self.stage(epoch, epochs))
        self.untrimmednet.requires_grad_(not self._regresses)
        self.regressor.requires_grad_(self._regresses)

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        """Return Adam for the UntrimmedNet, or SGD without momentum for the regression."""
        if not self._regresses:
            return super().optimizers(train)
        return [torch.optim.SGD(self.regressor.parameters(), self.spec.learning_rate, weight_decay=train.weight_decay)]

    def train_batches(self, labels: Sequence[tuple[int, ...]], size: int, rng: np.random.Generator) -> list[IntArray]:
        """Return all videos shuffled; for the regression the first of each batch alone."""
        batches = super().train_batches(labels, size, rng)
        return [batch[:1] for batch in batches] if self._regresses else batches

    def train_indices(self, length: int, count: int, rng: np.random.Generator) -> IntArray:
        """Return the rows of the UntrimmedNet's clips, or the whole video for the regression."""
        if self._regresses:
            return sampling.whole(length, count)
        return self.untrimmednet.train_indices(length, count, rng)

    def test_indices(self, length: int, at_most: int) -> IntArray:
        """Return the UntrimmedNet's."""
        return self.untrimmednet.test_indices(length, at_most)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `classification`, `oic` and the `total`, which is the one of the two that is trained; the other is 0.

        `classification` is the UntrimmedNet's loss, `oic` that of the regression's boxes.
        """
        zero = batch.features.new_zeros(())
        if not self._regresses:
            loss = self.untrimmednet.losses(batch)["total"]
            return {"classification": loss, "oic": zero, "total": loss}
        deltas = self.regressor(batch.features)
        videos = zip(batch.features, deltas, batch.host_labels, strict=True)
        loss = torch.stack([self._oic_loss(features, given, labels) for features, given, labels in videos]).mean()
        return {"classification": zero, "oic": loss, "total": loss}

    def end_training(self) -> None:
        """Free both parts, so that they count as parameters."""
        self.requires_grad_(True)

    @torch.no_grad()
    def score(self, features: VideoFeatures) -> Scores:
        """Return the UntrimmedNet's `cas`, `attention` and video scores, and the selected boxes.

        Returns:
            Signals `box_start`, `box_end` (rows) and `box_score` (1 - OIC loss, 0 where no box is selected) of each
            snippet and class; class scores `mean_heat`, 0 but for the best two classes.
        """
        scores = self.untrimmednet.score(features)
        heat, masked = self._heat(features)
        mean_heat, classes = heat.mean(dim=1).topk(min(CLASSES_AT_TEST, len(heat)))
        inner = regressed_boxes(self.regressor(features[None])[0], self.regressor.anchors)
        contrast = outer_inner_contrast(inner, masked[classes])
        anchor, taken = self._select(inner, contrast, masked[classes])
        start, end = chosen(floored(inner, INNER_MARGIN).expand(len(classes), *inner.shape), anchor).unbind(dim=1)
        start, end = start.clamp(min=0), end.clamp(max=len(features))
        values = chosen(contrast, anchor) * (taken & (end > start))
        boxes = {}
        for name, value in {"box_start": start, "box_end": end, "box_score": values}.items():
            boxes[name] = value.new_zeros(heat.shape).index_copy(0, classes, value).T
        best = torch.zeros_like(heat[:, 0]).index_copy(0, classes, mean_heat)
        signals = {name: scores.signals[name] for name in ("cas", "attention")} | boxes
        return Scores(signals, scores.video_scores, {"mean_heat": best})

    def _oic_loss(
        self, features: VideoFeatures, deltas: Float[Tensor, "outputs time"], labels: Float[Tensor, " actions"]
    ) -> Scalar:
        """Return the mean OIC loss of the boxes selected for a video's classes, 1 if there are none."""
        classes = labels.nonzero()[:, 0].tolist()  # of labels on the host
        if not classes:
            return deltas.sum() * 0 + 1
        with torch.no_grad():
            _, masked = self._heat(features)
        heat = torch.stack([masked[label] for label in classes])
        inner = regressed_boxes(deltas, self.regressor.anchors)
        contrast = outer_inner_contrast(inner, heat)
        anchor, taken = self._select(inner, contrast, heat)
        return oic_loss(chosen(contrast, anchor), taken)

    def _select(self, inner: Boxes, contrast: Contrast, heat: Heat) -> tuple[Tensor, Tensor]:
        spec, boxes = self.spec, floored(inner, INNER_MARGIN)
        return select_boxes(boxes, contrast.detach(), heat, spec.heat, 1 - spec.oic, spec.overlap)

    def _heat(self, features: VideoFeatures) -> tuple[Heat, Heat]:
        """Return the mean over streams of the class probabilities `[C, T]`, and the same times the foreground mask."""
        parts = list(zip(self.untrimmednet.networks, self.untrimmednet.split(features), strict=True))
        classifiers, attentions = ([one.get_submodule(name)(part) for one, part in parts] for name in HEADS)
        heat = torch.stack([logits.softmax(dim=1) for logits in classifiers]).mean(dim=0).T
        logits = torch.stack(attentions).squeeze(-1)
        thresholds = logits.quantile(self.spec.foreground, dim=1, keepdim=True)
        return heat, masked_heat(heat, logits, thresholds)


class BoundaryRegressor(nn.Module):
    """Three convolutions over time, each normalised over the video's snippets, and a linear layer.

    Args:
        in_dim: columns of the features.
        width: columns of the hidden layers.
        anchors: anchor widths in rows.
    """

    anchors: Tensor

    def __init__(self, in_dim: int, width: int, anchors: Sequence[int]) -> None:
        super().__init__()
        layers = [nn.Conv1d(columns, width, 3, padding=1, bias=False) for columns in (in_dim, width, width)]
        self.convolutions = nn.ModuleList(layers)
        self.scales = nn.ParameterList(torch.ones(width, 1) for _ in self.convolutions)
        self.shifts = nn.ParameterList(torch.zeros(width, 1) for _ in self.convolutions)
        self.output = nn.Conv1d(width, 2 * len(anchors), 1)
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.get_parameter("bias"))

    def forward(self, features: Features) -> Float[Tensor, "batch outputs time"]:
        """Return, for each anchor, the shifts of the centre and, after those, the logarithms of the widths' factors."""
        values = features.mT
        for convolution, scale, shift in zip(self.convolutions, self.scales, self.shifts, strict=True):
            values = functional.leaky_relu(over_video(convolution(values)) * scale + shift, 0.1)
        outputs: Tensor = self.output(values)
        return outputs


def over_video(values: Float[Tensor, "batch columns time"]) -> Float[Tensor, "batch columns time"]:
    """Normalise each column of each video to mean 0 and variance 1 over time, as batch norm of a single video does."""
    centred = values - values.mean(dim=2, keepdim=True)
    return centred * (centred.square().mean(dim=2, keepdim=True) + 1e-5).rsqrt()


def masked_heat(heat: Heat, logits: Float[Tensor, "streams time"], thresholds: Float[Tensor, "streams 1"]) -> Heat:
    """Multiply a heat map by the share of streams whose attention logit exceeds its threshold.

    Args:
        heat: `[C, T]` class probabilities.
        logits: `[S, T]` attention of each stream.
        thresholds: `[S, 1]`.
    """
    return heat * (logits > thresholds).to(heat).mean(dim=0)


def regressed_boxes(deltas: Float[Tensor, "outputs time"], anchors: Float[Tensor, " anchors"]) -> Boxes:
    """Return boxes in rows: centre t + dx w and width w e^dw, for the anchor of width w at snippet t.

    Args:
        deltas: `[2A, T]`, dx of all anchors and then dw.
        anchors: A widths.
    """
    shift, log_factor = deltas.chunk(2)
    centre = torch.arange(deltas.shape[1], device=deltas.device) + shift * anchors[:, None]
    half = anchors[:, None] * log_factor.exp() / 2
    return torch.stack([centre - half, centre + half])


def select_boxes(
    boxes: Boxes, contrast: Contrast, heat: Heat, least_heat: float, least_contrast: float, overlap: float
) -> tuple[Int[Tensor, "classes time"], Bool[Tensor, "classes time"]]:
    """Select the best box of each snippet, and of these the ones without a better one that overlaps (greedy NMS).

    Args:
        boxes: `[2, A, T]` whole rows; a box's length is the difference of its bounds.
        contrast: `[K, A, T]`.
        heat: `[K, T]` masked heat.
        least_heat: snippets of at most this heat have no box.
        least_contrast: boxes of at most this contrast are left out.
        overlap: tIoU above which the worse box is left out. Of equal boxes the one of the later snippet stays.

    Returns:
        `[K, T]` anchor of each snippet's best box, and whether that box is selected.
    """
    best, anchor = contrast.max(dim=1)
    start, end = chosen(boxes.expand(len(anchor), *boxes.shape), anchor).unbind(dim=1)
    # later snippets first, so that they stay first among equals
    order = best.flip(1).argsort(dim=1, descending=True, stable=True)
    order = best.shape[1] - 1 - order
    stays = ((heat > least_heat) & (best > least_contrast)).gather(1, order)
    start, end = start.gather(1, order), end.gather(1, order)
    shared = torch.minimum(end[:, :, None], end[:, None]) - torch.maximum(start[:, :, None], start[:, None])
    length = end - start
    # two boxes at one row have no length, and a tIoU that is no number: they do not stay together either
    # row i has those that come after it and overlap it
    worse = (~(shared / (length[:, :, None] + length[:, None] - shared) <= overlap)).triu(1)
    for row in range(stays.shape[1] - 1):  # no result is read here, so a GPU is not waited for
        stays = stays & ~(worse[:, row] & stays[:, row, None])
    return anchor, torch.zeros_like(stays).scatter(1, order, stays)


def chosen(
    values: Float[Tensor, "classes *bounds anchors time"], anchor: Int[Tensor, "classes time"]
) -> Float[Tensor, "classes *bounds time"]:
    """Return the values of one anchor at each snippet, for each class.

    Args:
        values: `[K, A, T]` or `[K, 2, A, T]`.
        anchor: `[K, T]`.
    """
    index = anchor.unsqueeze(1) if values.ndim == 3 else anchor[:, None, None].expand(-1, values.shape[1], -1, -1)
    return values.gather(-2, index).squeeze(-2)


def oic_loss(contrast: Float[Tensor, "classes time"], taken: Bool[Tensor, "classes time"]) -> Scalar:
    """Compute the mean of 1 - contrast over the boxes that are taken, 1 if there are none.

    Args:
        contrast: `[K, T]` of each snippet's best box.
        taken: `[K, T]`.
    """
    return 1 - (contrast * taken).sum() / taken.sum().clamp(min=1)
