"""TadTR: action queries that read a window by deformable attention, each for one instance's class and segment.

An encoder of deformable attention lets every snippet read four points around it. A few learned queries are decoded:
they attend to each other, read four points in their present segment, and refine it, layer by layer. A query says which
class it holds, if any; instances are matched with queries one to one, so there are no duplicates to suppress. A last
head pools the encoded window in the segment and regresses its IoU, which multiplies the class scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from wstal.losses.set_prediction import Instances, edges, segment_iou, set_losses
from wstal.parts.deformable_attention import DeformableAttention
from wstal.parts.segment_align import align_matrix
from wstal.spec import Count, Spec
from wstal.tensors import Features

Memory = Float[Tensor, "batch time dim"]
Queries = Float[Tensor, "batch queries dim"]
Padded = Bool[Tensor, "batch time"]
GROUPS = 32  # of columns, which the input is normalised in
ROI_BINS, EXTENSION = 16, 0.75  # a segment's region reaches 0.75 of its width to both sides of its centre


class TadTrOptions(Spec):
    """Options of TadTR. The defaults are the released code's for THUMOS14."""

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
        description="a query's true IoU is the best with any instance of the batch, as in the released code; else of its window",
    )

    @model_validator(mode="after")
    def _divisible(self) -> TadTrOptions:
        if self.width % self.heads or self.width % GROUPS:
            raise ValueError(f"Expected `width` to be a multiple of {GROUPS} and of `heads`, got {self.width}")
        return self


def position_embedding(padded: Padded, width: int) -> Memory:
    """Return sines and cosines of each row's place in the window, alternating, of `width / 2` frequencies."""
    valid = (~padded).float()
    angle = valid.cumsum(dim=1) / (valid.sum(dim=1, keepdim=True) + 1e-6) * (2 * math.pi)
    period = 10_000 ** (2 * torch.arange(width // 2, device=padded.device).float() / width)
    phases = angle[..., None] / period
    return torch.stack([phases.sin(), phases.cos()], dim=-1).flatten(2)


def logit(fraction: Tensor) -> Tensor:
    """Return the inverse of the sigmoid, finite at 0 and 1."""
    return (fraction.clamp(min=1e-5) / (1 - fraction).clamp(min=1e-5)).log()


class FeedForward(nn.Module):
    """Two linear layers around a ReLU, added to the input."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the input plus its change."""
        return rows + self.dropout(self.out(self.dropout(self.into(rows).relu())))


class EncoderLayer(nn.Module):
    """Every row reads points around itself."""

    def __init__(self, spec: TadTrOptions) -> None:
        super().__init__()
        self.attention = DeformableAttention(spec.width, spec.heads, spec.points)
        self.feed_forward = FeedForward(spec.width, spec.hidden, spec.dropout)
        self.after_attention, self.after_feed_forward = nn.LayerNorm(spec.width), nn.LayerNorm(spec.width)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, rows: Memory, position: Memory, padded: Padded | None) -> Memory:
        """Return the encoded rows."""
        middle = (torch.arange(rows.shape[1], device=rows.device, dtype=rows.dtype) + 0.5) / rows.shape[1]
        reference = middle[None, :, None].expand(len(rows), -1, -1)
        read = self.attention(rows + position, reference, rows, padded)
        return self.after_feed_forward(self.feed_forward(self.after_attention(rows + self.dropout(read))))


class DecoderLayer(nn.Module):
    """Queries attend to each other, then read points of the encoded rows in their segments."""

    def __init__(self, spec: TadTrOptions) -> None:
        super().__init__()
        self.among_queries = nn.MultiheadAttention(spec.width, spec.heads, spec.dropout, batch_first=True)
        self.attention = DeformableAttention(spec.width, spec.heads, spec.points)
        self.feed_forward = FeedForward(spec.width, spec.hidden, spec.dropout)
        self.after_queries, self.after_attention = nn.LayerNorm(spec.width), nn.LayerNorm(spec.width)
        self.after_feed_forward = nn.LayerNorm(spec.width)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(
        self, queries: Queries, place: Queries, reference: Tensor, memory: Memory, padded: Padded | None
    ) -> Queries:
        """Return the decoded queries."""
        placed = queries + place
        among = self.among_queries(placed, placed, queries, need_weights=False)[0]
        queries = self.after_queries(queries + self.dropout(among))
        read = self.attention(queries + place, reference, memory, padded)
        queries = self.after_attention(queries + self.dropout(read))
        return self.after_feed_forward(self.feed_forward(queries))


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
        self.input = nn.Conv1d(feature_dim, width, 1)
        self.input_norm = nn.GroupNorm(GROUPS, width)
        self.level = nn.Parameter(torch.randn(width))
        self.encoder = nn.ModuleList(EncoderLayer(spec) for _ in range(spec.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(spec) for _ in layers)
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
    layers = [set_losses(*layer, instances) for layer in output.layers]
    weights = {"classification": spec.classification, "segment": spec.segment, "iou": spec.iou}
    last = layers[-1] | {
        "actionness": actionness_loss(output.actionness, output.layers[-1].segments, instances, spec.whole_batch)
    }
    total = spec.actionness * last["actionness"]
    for terms in layers:
        total = total + sum(weight * terms[name] for name, weight in weights.items())
    return last | {"total": total}
