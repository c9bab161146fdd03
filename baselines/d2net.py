"""D2-Net: discriminative embeddings and denoised activations for weakly supervised temporal action localization.

Idea: class activations are sigmoids, averaged over streams that never mix. A focal loss on the pooled activations is
inflated by distances of embeddings: foregrounds of two videos should be alike, backgrounds too, and foreground should
differ from background. A running mean of background embeddings gives a bottom-up attention. Later in the training two
denoising losses maximise a mutual information, of foreground and activation across snippets, and of label and
activation across videos. It is the log ratio of the extreme singular values of their joint matrix.

Paper: Narayan et al., ICCV 2021, arXiv 2012.06440. Facts: its released code (naraysa/D2-Net at 28b9e4f), checked
against tensors recorded from it. Deviations:
- any number of streams of equal width (the released code has two, RGB and flow). A single one is its own mean;
- a separation distance counts for the video whose foreground it is (the released code writes it to another video, where
  some of a batch lack foreground);
- a video whose joint matrix is singular has a snippet denoising loss of 0 (in the released code, the whole batch has);
- a loss that is not finite stops the run (the released code skips the step);
- rows of padding stay zero between layers, so that no loss depends on their number (in the released code they become
  what the biases make of them, which their neighbours read);
- denoising begins after a twentieth of the epochs, 1,000 of 20,000 steps, and takes every second step of an epoch;
- the released filter of proposals by outer-inner contrast is left out: what it drops, the pruning drops too;
- detections in Ambiguous intervals stay: dropping them is part of an evaluation protocol here;
- ActivityNet's videos of up to 5 snippets are kept, FineAction (not in the paper) has ActivityNet 1.2's settings, and
  there every class above its threshold is kept (the released code also asks for more than the third best, which is 0);
- the last of 20,000 steps counts (the released code keeps the best of 39 evaluations on the test set).
In evaluation mode nothing is drawn: a video is compared with all others alike. All rows of a test video are scored,
unless `train.test_length`, which a data set's schedule may set, limits them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal import sampling
from wstal.errors import UserError
from wstal.families import epochs_for, many_classes
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource, Sides
from wstal.losses.denoising import snippet_denoising, video_denoising
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.cosine import cosines
from wstal.parts.padded import pooled_logits, rows_present
from wstal.parts.pooling import take_rows, top_k_mean, top_k_share_mean
from wstal.spec import ALL_ROWS, Count
from wstal.streams import StreamOptions, split_streams
from wstal.tensors import Cas, Embedded, Features, Labels, Scalar, VideoFeatures
from wstal.types import Batch, IntArray, Paper, Scores, Video

SLOPE = 0.2
SHORTEST = 5  # rows below which a video has no loss
FOREGROUND = 0.5  # activation or attention from which a snippet counts as foreground
CLAMP = 1e-3
MOMENTUM = 0.1
CHOICE_RATIO = 8  # snippets per pooled snippet when `few_classes` chooses two


class D2NetOptions(StreamOptions):
    """Options of D2-Net. The defaults are for THUMOS14."""

    kernel: Count = Field(3, description="width in rows of both convolutions (ActivityNet 5)")
    classifier_kernel: Count = Field(1, description="width in rows of the classifier (ActivityNet 5)")
    dilation: Count = Field(1, description="rows between those that all three read (ActivityNet 2)")
    dropout: float = Field(0.7, ge=0, lt=1, description="of the embedded snippets")
    ratio: Count = Field(8, description="a video's T / ratio highest activations are pooled, rounded up in training")
    grouping: float = Field(0.01, ge=0, description="weight of grouping distances in the focal loss (gamma)")
    background: float = Field(0.5, gt=0, lt=1, description="1 - activation from which a snippet is background")
    background_attention: float = Field(
        0.5, ge=0, le=1, description="bottom-up attention below which snippet denoising takes a snippet as background"
    )
    snippet_denoising: float = Field(0.1, ge=0, description="weight of the denoising loss across snippets")
    video_denoising: float = Field(0.1, ge=0, description="weight of the denoising loss across videos")
    denoising_start: float = Field(0.05, ge=0, le=1, description="share of the epochs before the denoising losses")
    few_classes: bool = Field(
        False,
        description="at test keep a video's two best classes, take the attention relative to half of its maximum, and "
        "detect classes above 0.5, or above 1 if any is (ActivityNet); false: classes above half of the best one",
    )


STEPS, BATCH = 20_000, 20
ACTIVITYNET_OPTIONS = D2NetOptions(
    kernel=5, classifier_kernel=5, dilation=2, ratio=4, background=0.8, background_attention=0.3, few_classes=True
)
LOCALIZER = LocalizerSpec(
    class_threshold=1.0,
    fallback_to_argmax=False,
    class_score="relative",
    sources=(
        ProposalSource(
            signal="weighted",
            thresholds=tuple(step / 40 for step in range(1, 20)),
            strict=True,
            score={"weighted": 1.0},
        ),
    ),
    margin=0.25,
    sides=Sides(join="mean"),
    minimum_run=2,
    # overlaps are fractions of whole snippets, of which 0.3 is one that must not be missed by rounding
    nms=Nms(kind="hard", threshold=0.3 - 1e-6),
    minimum_share=0.1,
)


class D2Net(Method):
    """D2-Net over features `[B, T, D]` of one or more streams of equal width."""

    name = "d2net"
    title = "D2-Net"
    paper = Paper(
        "D2-Net: Weakly-Supervised Action Localization via Discriminative Embeddings and Denoised Activations",
        "Sanath Narayan, Hisham Cholakkal, Munawar Hayat, Fahad Shahbaz Khan, Ming-Hsuan Yang, Ling Shao",
        "ICCV",
        2021,
        "https://arxiv.org/abs/2012.06440",
    )
    Options = D2NetOptions
    PADS = True
    TRAIN_SAMPLER = sampling.crop
    SCORING_OPTIONS = frozenset({"few_classes"})
    spec: D2NetOptions
    background: Tensor

    def __init__(self, spec: D2NetOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.widths = spec.widths(feature_dim)
        if len(set(self.widths)) > 1:
            raise UserError(
                f"D2-Net averages the embeddings of its streams, which have {list(self.widths)} columns "
                "(method.streams). Choose one stream, or streams of equal width, with --streams."
            )

        def conv(out: int, kernel: int) -> nn.Conv1d:
            layer = nn.Conv1d(feature_dim, out, kernel, padding="same", dilation=spec.dilation, groups=len(self.widths))
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.get_parameter("bias"))
            return layer

        self.residuals: Sequence[nn.Module] = nn.ModuleList(  # type: ignore[assignment]
            conv(feature_dim, spec.kernel) for _ in range(2)
        )
        self.classifier = conv(len(self.widths) * num_classes, spec.classifier_kernel)
        self.register_buffer("background", torch.zeros(self.widths[0]))
        self._unstored: list[tuple[Tensor, Tensor]] = []
        self._denoises = False
        self._step = 0

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return ActivityNet 1.2's settings for `activitynet*` and `fineaction`, otherwise THUMOS14's."""
        options = ACTIVITYNET_OPTIONS if many_classes(dataset) else D2NetOptions()
        epochs = epochs_for(dataset, STEPS, BATCH)
        train = TrainSpec(epochs=epochs, batch_size=BATCH, test_length=ALL_ROWS, weight_decay=5e-4)
        return Recipe(method=options, train=train, localizer=LOCALIZER)

    def train_batches(self, labels: Sequence[tuple[int, ...]], size: int, rng: np.random.Generator) -> list[IntArray]:
        """Return batches of any videos, drawn anew. A video may repeat."""
        return sampling.paired_batches(labels, size, 0, rng, distinct=False)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Enable the denoising losses from `denoising_start` of the epochs on."""
        # 0.29 of 100 epochs is 28.999999999999996 in floats, and means 29
        self._denoises = epoch >= int(self.spec.denoising_start * epochs + 1e-9)
        self._step = 0
        self._unstored.clear()

    def end_step(self) -> None:
        """Store the running mean of the background."""
        for quietest, has_background in self._unstored:
            self.background.copy_(running_mean(self.background, quietest, has_background))
        self._unstored.clear()
        self._step += 1

    def cas_and_embedding(
        self, features: Features, present: Bool[Tensor, "batch time"] | None = None
    ) -> tuple[Cas, Embedded]:
        """Return A, sigmoid activations of the C classes, and X, the embedding, both averaged over streams.

        Args:
            features: `[B, T, D]`.
            present: `[B, T]`, false where a row is padding. None: no padding.
        """
        columns = features.transpose(1, 2)
        for conv in self.residuals:
            columns = functional.leaky_relu(conv(columns), SLOPE) + columns
            columns = columns if present is None else columns * present.unsqueeze(1)
        columns = functional.dropout(columns, self.spec.dropout, self.training)
        classes = [self.num_classes] * len(self.widths)
        logits = torch.stack(split_streams(self.classifier(columns), classes, dim=1))
        embedded = torch.stack(split_streams(columns, self.widths, dim=1))
        return logits.sigmoid().mean(dim=0).transpose(1, 2), embedded.mean(dim=0).transpose(1, 2)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `discriminative`, `snippet_denoising` and `video_denoising` (0 while inactive), and their `total`."""
        present = rows_present(batch.features)
        return self.terms(batch.labels, present, *self.cas_and_embedding(batch.features, present))

    def partners(self, one: Bool[Tensor, " batch"], other: Bool[Tensor, " batch"]) -> Float[Tensor, "batch others"]:
        """Return weights of the videos of `other` that each of `one` is compared with (see `random_matching`).

        In training it is a random one, in evaluation mode all alike.
        """
        if self.training:
            return random_matching(one, other).float()
        return (one.unsqueeze(1) & other) / other.sum().clamp(min=1)

    def terms(
        self, labels: Labels, present: Bool[Tensor, "batch time"], cas: Cas, embedded: Embedded
    ) -> dict[str, Tensor]:
        """Return the losses of one pass.

        Args:
            labels: `[B, C]` multi-hot.
            present: `[B, T]`, false where a row is padding.
            cas: `[B, T, C]` A.
            embedded: `[B, T, D]` X.
        """
        spec = self.spec
        counted = (present.sum(dim=1) >= SHORTEST) & (labels > 0).any(dim=1)
        active, snippets = cas.amax(dim=2), present & counted.unsqueeze(1)
        foreground, has_foreground = weighted_mean(embedded, active * (snippets & (active >= FOREGROUND)))
        background, has_background = weighted_mean(
            embedded, (1 - active) * (snippets & (1 - active >= spec.background))
        )
        together = self.partners(has_foreground, has_foreground) * (1 - cosines(foreground, foreground))
        alike = self.partners(has_background, has_background) * (1 - cosines(background, background))
        near = self.partners(has_foreground, has_background) * cosines(foreground, background).relu()
        pooled = pooled_logits(cas, present, spec.ratio).clamp(CLAMP, 1 - CLAMP)
        inflation = spec.grouping * torch.stack([together, alike]).sum(dim=2) + near.sum(dim=1)
        terms = {"discriminative": focal_loss(pooled, labels, counted, inflation)}
        terms |= dict.fromkeys(("snippet_denoising", "video_denoising"), pooled.new_zeros(()))

        quietest = take_rows(embedded, active.masked_fill(~present, math.inf).argmin(dim=1, keepdim=True))
        update = quietest.squeeze(1).detach(), has_background
        if self.training:
            self._unstored.append(update)
        if self._denoises and self._step % 2 == 0:
            attention = bottom_up_attention(embedded, running_mean(self.background, *update))
            high, low = attention > FOREGROUND, attention < spec.background_attention
            terms["snippet_denoising"] = snippet_denoising(cas, labels, high & snippets, low & snippets)
            terms["video_denoising"] = video_denoising(pooled, labels * counted.unsqueeze(1))
        terms["total"] = (
            terms["discriminative"]
            + spec.snippet_denoising * terms["snippet_denoising"]
            + spec.video_denoising * terms["video_denoising"]
        )
        return terms

    def score(self, features: VideoFeatures) -> Scores:
        """Return the scores of one pass (see `scores`)."""
        cas, embedded = self.cas_and_embedding(features.unsqueeze(0))
        return self.scores(cas[0], bottom_up_attention(embedded, self.background)[0])

    def scores(self, cas: Float[Tensor, "time classes"], attention: Float[Tensor, " time"]) -> Scores:
        """Return the scores of one video.

        `cas` is A times the bottom-up attention, and `attention` is that attention. The method's own localizer reads
        the signal `weighted`, and detects classes whose score `relative` is above 1: the mean of the highest of
        `weighted`, relative to its threshold. Both follow `few_classes`.

        Args:
            cas: `[T, C]` A.
            attention: `[T]` bottom-up attention in [0, 1].
        """
        spec, ratio = self.spec, self.spec.ratio
        signals = {"cas": cas * attention.unsqueeze(1), "attention": attention}
        if spec.few_classes:
            chosen = top_k_mean(cas.unsqueeze(0), -(-len(cas) // CHOICE_RATIO))[0]
            best = chosen >= chosen.topk(min(2, len(chosen))).values[-1]
            scale = attention.amax() / 2
            signals["weighted"] = torch.where(best, signals["cas"], 0.0) / scale.where(scale > 0, 1.0)
        else:
            signals["weighted"] = signals["cas"]
        score = top_k_share_mean(signals["weighted"].unsqueeze(0), ratio)[0]
        threshold = (1 + (score > 1).any()) / 2 if spec.few_classes else score.amax() / 2
        relative = score / threshold.where(threshold > 0, 1.0)
        return Scores(signals, top_k_share_mean(cas.unsqueeze(0), ratio)[0], {"relative": relative})


def weighted_mean(
    embedded: Embedded, weights: Float[Tensor, "batch time"]
) -> tuple[Float[Tensor, "batch dim"], Bool[Tensor, " batch"]]:
    """Return the weighted mean of each video's snippets, 0 without any weight, and which videos have one."""
    total = weights.sum(dim=1, keepdim=True)
    mean = (weights.unsqueeze(1) @ embedded).squeeze(1) / total.where(total > 0, 1.0)
    return mean, total.squeeze(1) > 0


def random_matching(one: Bool[Tensor, " batch"], other: Bool[Tensor, " batch"]) -> Bool[Tensor, "batch others"]:
    """Draw a one-to-one matching between two sets of videos, of as many as the smaller set has.

    Args:
        one: `[B]` videos of the first set (rows).
        other: `[B]` videos of the second set (columns).
    """
    # those of a set come first, in random order
    first, second = ((torch.rand(len(some), device=some.device) + ~some).argsort() for some in (one, other))
    partner = torch.empty_like(first).scatter(0, first, second)
    chosen = partner.unsqueeze(1) == torch.arange(len(one), device=one.device)
    return chosen & one.unsqueeze(1) & other


def focal_loss(
    scores: Labels, labels: Labels, counted: Bool[Tensor, " batch"], inflation: Float[Tensor, "2 batch"]
) -> Scalar:
    """Compute L_dis, a focal binary cross-entropy in which distances d of a video add to its errors.

    For a score s, a class of the video costs (1 - s + d_1)^2 (-log s) times the number of classes, another one
    (s + d_0)^2 (-log(1 - s)). The mean is over classes and counted videos, and 0 without these.

    Args:
        scores: `[B, C]` s in (0, 1).
        labels: `[B, C]` multi-hot.
        counted: `[B]` videos that have a loss.
        inflation: `[2, B]` d_1 and d_0.
    """
    missed = (1 - scores + inflation[0].unsqueeze(1)).square() * -scores.log()
    wrong = (scores + inflation[1].unsqueeze(1)).square() * -(-scores).log1p()
    cost = (labels * missed * labels.shape[1] + (1 - labels) * wrong).mean(dim=1)
    return (cost * counted).sum() / counted.sum().clamp(min=1)


def running_mean(
    mean: Float[Tensor, " dim"], rows: Float[Tensor, "batch dim"], counted: Bool[Tensor, " batch"]
) -> Float[Tensor, " dim"]:
    """Return 0.9 times the running mean plus 0.1 times the mean of the counted rows, or without these the old one.

    Args:
        mean: `[D]` running mean.
        rows: `[B, D]` rows of a batch.
        counted: `[B]` rows that count.
    """
    count = counted.sum()
    batch_mean = (rows * counted.unsqueeze(1)).sum(dim=0) / count.clamp(min=1)
    return torch.where(count > 0, mean.lerp(batch_mean.to(mean), MOMENTUM), mean)


def bottom_up_attention(embedded: Embedded, background: Float[Tensor, " dim"]) -> Float[Tensor, "batch time"]:
    """Compute (1 - cos(x_t, background)) / 2 in [0, 1].

    Args:
        embedded: `[B, T, D]` x.
        background: `[D]` mean embedding of background.
    """
    return ((1 - cosines(embedded, background.unsqueeze(0)).squeeze(-1)) / 2).clamp(0, 1)
