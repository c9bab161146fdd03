"""ASM-Loc: action-aware segment modeling, in steps that each train a new network on proposals of the step before.

Idea: a network of two attentions (foreground, background) proposes segments, and the next step trains a new network.
Time is warped so that short proposals have more rows; self-attention within and between proposals models segments; and
proposals of the video's classes are pseudo labels, with a learned uncertainty. A test video passes through all steps.

Paper: He et al., CVPR 2022. Checked against tensors of its released code (boheumd/ASM-Loc at 4acb3c8). Deviations:
- log-probabilities come from log-softmax, where the released code raises probabilities to at least 1e-7;
- a test video passes through all steps when it is scored, in the released code when a step of the training begins;
- rows of 16 frames at 25 fps are assumed where the suppression between steps adds a second to lengths;
- a training video none of whose classes is predicted has proposals of the best of them, in the released code none;
- a proposal has at least one row, however short it is, and a video any number of proposals (200 at most there);
- warp and sampling are one interpolation (there: two in a row), and the last scores are localized on the video's own
  rows, not on warped ones; the last checkpoint counts (there: the last step's best on the test set).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from baselines.acmnet import ACTIVITYNET_LOCALIZER, THUMOS_LOCALIZER
from wstal import sampling
from wstal.device import to_device_async
from wstal.families import many_classes
from wstal.localize import localize
from wstal.localize.intervals import best_share, covered, outermost, whole_rows
from wstal.localize.spec import Nms, ProposalSource
from wstal.localize.time_warp import TimeWarp, interpolate, stretch
from wstal.losses.mil import cross_entropy, normalized, with_background
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.layers import TemporalConv, drop_snippets
from wstal.parts.pooling import top_k_share_mean
from wstal.parts.segment_attention import Inside, SegmentAttention
from wstal.spec import Count, Spec
from wstal.tensors import Cas, Features, Scalar, VideoFeatures
from wstal.types import Batch, Floats, IntArray, Paper, Scores, SnippetScores, Video

ROW_SECONDS = 0.64  # in the proposals between steps


def _source(like: ProposalSource, first: float, step: float, count: int) -> ProposalSource:
    return like.model_copy(update={"thresholds": tuple(round(first + step * i, 3) for i in range(count))})


_CAS, _ATTENTION = THUMOS_LOCALIZER.sources
LOCALIZER = THUMOS_LOCALIZER.model_copy(
    update={
        "sources": (_CAS, _source(_ATTENTION, 0.1, 0.025, 33)),
        "nms": Nms(kind="hard", threshold=0.45, plus_one="second"),
    }
)
BETWEEN = {  # of the proposals between steps
    "attention": LOCALIZER.model_copy(update={"sources": (_source(_ATTENTION, 0.4, 0.025, 21),)}),
    "cas": ACTIVITYNET_LOCALIZER.model_copy(
        update={"sources": (_source(ACTIVITYNET_LOCALIZER.sources[0], 0.1, 0.005, 41),)}
    ),
}


class AsmLocOptions(Spec):
    """Options of ASM-Loc. The defaults are for THUMOS14."""

    steps: tuple[float, ...] = Field(
        (0.125, 0.25, 0.375), min_length=1, description="shares of the epochs after which a new network begins"
    )
    rows: Count = Field(750, description="rows that training videos are interpolated to")
    heads: Count = Field(8, description="of both self-attentions; fewer where they do not divide the columns evenly")
    dropout: float = Field(0.7, ge=0, lt=1, description="of snippets and of classifier inputs alike")
    input_dropout: bool = Field(False, description="dropout on the features and before the attention (ActivityNet)")
    foreground_ratio: int = Field(8, ge=1, description="k = T / ratio snippets are pooled in the foreground branch")
    background_ratio: int = Field(3, ge=1, description="the same in the background branch")
    foreground: float = Field(1.0, ge=0, description="weight of the foreground branch's classification loss")
    background: float = Field(0.5, ge=0, description="weight of both losses of the background branch")
    uncertainty: float = Field(0.2, ge=0, description="weight of the mean uncertainty in the pseudo-label loss")
    proposals: Literal["attention", "cas"] = Field("attention", description="signal thresholded between the steps")
    kept: float = Field(0.7, gt=0, le=1, description="share of a class's score whose best proposals are stretched")
    extension: float = Field(0.5, ge=0, description="of proposals to either side, in their lengths (delta)")
    stretched: Count = Field(6, description="rows that a short proposal is stretched to, before extension (gamma)")


ACTIVITYNET_OPTIONS = AsmLocOptions(
    steps=(0.5,), rows=150, input_dropout=True, foreground_ratio=2, background_ratio=10, foreground=5.0,
    proposals="cas", kept=0.3, extension=0.0, stretched=10,
)  # fmt: skip


class Found(NamedTuple):
    """Proposals of one video for the next step, in warped times.

    Args:
        warp: of the video's time.
        segments: `[P, 2]` start and end of the proposals, extended, that self-attention looks at.
        label: `[N]` class of each proposal.
        times: `[N, 2]` start and end of each proposal.
        video_scores: `[C]` class probabilities by the step that proposes.
    """

    warp: TimeWarp
    segments: Floats
    label: IntArray
    times: Floats
    video_scores: Tensor


class AsmLoc(Method):
    """ASM-Loc over features `[B, T, D]`. The embeddings keep the width D."""

    name = "asmloc"
    title = "ASM-Loc"
    paper = Paper(
        "ASM-Loc: Action-aware Segment Modeling for Weakly-Supervised Temporal Action Localization",
        "Bo He, Xitong Yang, Le Kang, Zhiyu Cheng, Xin Zhou, Abhinav Shrivastava",
        "CVPR", 2022, "https://arxiv.org/abs/2203.15187",
    )  # fmt: skip
    Options = AsmLocOptions
    PADS = True
    TRAIN_SAMPLER = sampling.whole
    spec: AsmLocOptions

    def __init__(self, spec: AsmLocOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        segments = [False] + [True] * len(spec.steps)
        self.networks = nn.ModuleList(Network(spec, feature_dim, num_classes, one) for one in segments)
        self._step = self._found_for = 0
        self._lengths: dict[str, int] = {}
        self._found: dict[str, Found] = {}

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return ActivityNet's settings for `activitynet*` and (not in the paper) `fineaction`, or THUMOS14's."""
        if many_classes(dataset):
            train = TrainSpec(epochs=100, batch_size=64, temporal_length=150, test_length=150, weight_decay=1e-3)
            return Recipe(method=ACTIVITYNET_OPTIONS, train=train, localizer=ACTIVITYNET_LOCALIZER)
        return Recipe(method=AsmLocOptions(), train=TrainSpec(epochs=800, weight_decay=5e-5), localizer=LOCALIZER)

    def stage(self, epoch: int, epochs: int) -> int:
        """Return the step of an epoch: the number of shares of the epochs that have passed."""
        # 0.29 of 100 epochs is 28.999999999999996 in floats, and means 29
        return sum(epoch >= int(share * epochs + 1e-9) for share in self.spec.steps)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Train the step's network alone, on proposals that the steps before find in the training videos."""
        self._step = self.stage(epoch, epochs)
        for step, network in enumerate(self.networks):
            network.requires_grad_(step == self._step)
        if self._lengths and self._found_for == self._step:
            return
        training = self.training
        self.eval()
        for video in videos:
            features = torch.from_numpy(np.asarray(video.features, dtype=np.float32)).to(self.device)
            self._lengths[video.name] = len(features)
            found = None
            for step in range(self._step):
                found = self._propose(features, step, found, video.labels)
            if found is not None:
                self._found[video.name] = found
        self.train(training)
        self._found_for = self._step

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms of the current step's network and their weighted `total`.

        Returns:
            `foreground`; `background` and `context`, the background branch's loss against background and against the
            video's classes; `pseudo_label`, the snippets' loss with its uncertainty, 0 in the first step; `total`.
        """
        spec, labels, length = self.spec, batch.labels, batch.features.shape[1]
        found = [self._found.get(name) for name in batch.videos]
        lengths = [min(self._lengths.get(name, length), length) for name in batch.videos]
        positions = [self._positions(one, rows) for one, rows in zip(found, lengths, strict=True)]
        sampled = interpolate(batch.features, to_device_async(torch.stack(positions), self.device))
        inside = to_device_async(self._inside(found, spec.rows), self.device)
        out = self.networks[self._step](sampled, inside)
        actions, nothing = with_background(labels, False), with_background(torch.zeros_like(labels), True)
        terms = {
            "foreground": cross_entropy(out.foreground, actions),
            "background": cross_entropy(out.background, nothing),
            "context": cross_entropy(out.background, actions),
            "pseudo_label": sampled.new_zeros(()),
        }
        if out.uncertainty is not None:
            targets = to_device_async(torch.stack(list(map(self._pseudo_labels, found))), self.device).to(sampled)
            terms["pseudo_label"] = uncertain_cross_entropy(out.cas, targets, out.uncertainty, spec.uncertainty)
        total = spec.foreground * terms["foreground"] + spec.background * (terms["background"] + terms["context"])
        return terms | {"total": total + terms["pseudo_label"]}

    def end_training(self) -> None:
        """Free the networks of all steps, so that they count as parameters."""
        self.requires_grad_(True)

    @torch.no_grad()
    def score(self, features: VideoFeatures) -> Scores:
        """Return the last step's signals and class probabilities, and those by earlier steps as `step0`, ..."""
        found, of_steps = None, {}
        for step in range(len(self.networks) - 1):
            found = self._propose(features, step, found)
            of_steps[f"step{step}"] = found.video_scores
        scores, warp = self._pass(features, len(self.networks) - 1, found)
        # a row is where its warped duration ends, see `TimeWarp.positions`
        ends = np.clip((warp.edges[1:] - 1) * len(scores.signals["cas"]) / warp.length, 0, None)
        rows = torch.from_numpy(ends)[None].to(features)
        columns = torch.cat([scores.signals["cas"], scores.signals["attention"][:, None]], dim=1)
        mapped = interpolate(columns[None], rows)[0]
        return Scores({"cas": mapped[:, :-1], "attention": mapped[:, -1]}, scores.video_scores, of_steps)

    def _pass(self, features: VideoFeatures, step: int, found: Found | None) -> tuple[Scores, TimeWarp]:
        """Return a step's scores of the warped video, of at most `rows` or its own rows, and the warp."""
        warp = found.warp if found is not None else TimeWarp(np.arange(len(features) + 1.0))
        positions = warp.positions()[sampling.uniform(warp.length, max(self.spec.rows, len(features)))]
        sampled = interpolate(features[None], torch.from_numpy(positions)[None].to(features))
        out = self.networks[step](sampled, self._inside([found], len(positions)).to(features.device))
        foreground_cas = (out.cas * out.attention[..., :1]).softmax(dim=-1)[0, :, : self.num_classes]
        signals = {"cas": foreground_cas, "attention": out.attention[0, :, 0]}
        return Scores(signals, out.foreground[0, : self.num_classes].exp()), warp

    def _propose(
        self, features: VideoFeatures, step: int, found: Found | None, labels: Sequence[int] | None = None
    ) -> Found:
        """Return what the next step gets of a video.

        `labels`: the video's classes, the only ones to have proposals. None: any class may.
        """
        spec = self.spec
        scores, warp = self._pass(features, step, found)
        signals = {name: signal.double().cpu().numpy() for name, signal in scores.signals.items()}
        classes = np.arange(self.num_classes)
        allowed = np.isin(classes, classes if labels is None else labels)
        given = SnippetScores("", signals, np.where(allowed, scores.video_scores.cpu().numpy(), -1.0), ROW_SECONDS)
        proposals = localize([given], BETWEEN[spec.proposals], tuple(map(str, classes)))
        proposals = proposals.select(allowed[proposals.label])
        rows = np.stack([proposals.start, proposals.end], axis=1, dtype=np.float64) / ROW_SECONDS
        times = warp.unwarped(rows * (warp.length / len(signals["attention"])))
        extended = times + spec.extension * np.diff(times) * [-1, 1]
        stretched = best_share(proposals.label, proposals.score, spec.kept)
        intervals = whole_rows(extended[stretched], len(features))
        warp = stretch(len(features), intervals, spec.stretched * (2 * spec.extension + 1))
        segments = warp.warped(extended[outermost(times)])
        return Found(warp, segments, proposals.label, warp.warped(times), scores.video_scores)

    def _positions(self, found: Found | None, length: int) -> Tensor:
        """Return `[rows]` positions in a training video, evenly spaced, or in a longer one each drawn in a cell."""
        rows = self.spec.rows
        at = np.arange(length) if found is None else np.minimum(found.warp.positions(), length - 1)
        if len(at) <= rows:
            return torch.from_numpy(np.interp(np.linspace(0, len(at) - 1, rows), np.arange(len(at)), at))
        edges = torch.linspace(0, len(at) - 1, rows + 1, dtype=torch.float64).round()
        drawn = edges.diff() * (torch.rand(rows) if self.training else 0)
        return torch.from_numpy(at)[(edges[:-1] + drawn).long()].double()

    def _inside(self, found: Sequence[Found | None], rows: int) -> Inside:
        """Return which rows the segments of each video cover, padded with empty segments."""
        none = np.zeros((0, rows), dtype=np.bool_)
        inside = [none if one is None else covered(one.segments, one.warp.length, rows) for one in found]
        return nn.utils.rnn.pad_sequence([torch.from_numpy(one) for one in inside], batch_first=True)

    def _pseudo_labels(self, found: Found | None) -> Float[Tensor, "rows classes"]:
        """Return Y: 1 for each class of the proposals that cover a row, or for background, divided by their number."""
        targets = torch.zeros(self.spec.rows, self.num_classes + 1)
        if found is not None:
            inside = torch.from_numpy(covered(found.times, found.warp.length, self.spec.rows))
            for label in np.unique(found.label):
                targets[:, label] = inside[torch.from_numpy(found.label == label)].any(dim=0)
        targets[:, -1] = 1 - targets.amax(dim=1)
        return normalized(targets)


class Output(NamedTuple):
    """Output of a step's network.

    Args:
        attention: `[B, T, 2]` probability of foreground and of background.
        cas: `[B, T, C + 1]` logits, background last.
        foreground: `[B, C + 1]` log-probabilities of the video in the foreground branch.
        background: the same in the background branch.
        uncertainty: `[B, T]` u of each snippet; none in the first step.
    """

    attention: Tensor
    cas: Tensor
    foreground: Tensor
    background: Tensor
    uncertainty: Tensor | None


class Network(nn.Module):
    """Network of one step: embedding, attention and classifier; with `segments` also self-attention and uncertainty.

    Args:
        spec: the method's options.
        dim: D, columns of the features.
        num_classes: C.
        segments: whether an earlier step proposes some.
    """

    def __init__(self, spec: AsmLocOptions, dim: int, num_classes: int, segments: bool) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = TemporalConv(dim, dim, kernel_size=3, padding=1)
        heads = math.gcd(spec.heads, dim)
        self.within = SegmentAttention(dim, heads) if segments else None
        self.between = SegmentAttention(dim, heads) if segments else None
        self.attention = nn.Linear(dim, 2)
        self.classifier = nn.Linear(dim, num_classes + 1)
        self.uncertainty = nn.Linear(dim, 1, bias=False) if segments else None
        if self.uncertainty is not None:
            nn.init.normal_(self.uncertainty.weight, std=1e-4)

    def forward(self, features: Features, inside: Inside) -> Output:
        """Return what a step's losses and scores need.

        Args:
            features: `[B, T, D]`.
            inside: `[B, P, T]` which rows each proposal covers; not used without self-attention.
        """
        spec = self.spec
        embedded = self.embedding(self._input_dropout(features)).relu()
        if self.within is not None and self.between is not None:
            embedded = self.between.between_proposals(self.within.within_proposals(embedded, inside), inside)
        attention = self.attention(self._input_dropout(embedded)).softmax(dim=-1)
        cas = self.classifier(drop_snippets(embedded, spec.dropout, self.training))
        branches = zip(attention.split(1, dim=-1), (spec.foreground_ratio, spec.background_ratio), strict=True)
        foreground, background = (top_k_share_mean(cas * one, ratio).log_softmax(dim=1) for one, ratio in branches)
        uncertainty = None if self.uncertainty is None else self.uncertainty(embedded)[..., 0]
        return Output(attention, cas, foreground, background, uncertainty)

    def _input_dropout(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.spec.dropout, self.training and self.spec.input_dropout)


def uncertain_cross_entropy(cas: Cas, targets: Cas, uncertainty: Float[Tensor, "batch time"], weight: float) -> Scalar:
    """Compute the mean over snippets of exp(-u) CE(softmax A, Y) + weight * u.

    Args:
        cas: `[B, T, C + 1]` logits A, background last.
        targets: `[B, T, C + 1]` pseudo labels Y, of sum 1.
        uncertainty: `[B, T]` u, the logarithm of a variance.
        weight: of u.
    """
    entropy = -(targets * cas.log_softmax(dim=-1)).sum(dim=-1)
    return ((-uncertainty).exp() * entropy + weight * uncertainty).mean()
