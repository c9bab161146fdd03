"""TSCN: two-stream consensus network for weakly supervised temporal action localization.

Idea: an RGB and a flow network train apart, with video labels and a loss that pushes attention to 0 and 1. Then their
fused attention is a pseudo ground truth of each snippet, which both learn in the next round, and so on. What both take
for an action stays, what RGB alone does goes, and what flow alone does needs an attention of five sixths there.

Paper: Zhai et al., ECCV 2020, arXiv 2010.11594. No code was released. Stated:
- streams share no weights; each has temporal convolutions, a sigmoid attention a of one fully connected layer, the
  attention-weighted mean of its features, and a softmax classifier of C classes without background, whose slide over
  the snippets is the T-CAM;
- cross-entropy with normalised labels, plus alpha times the mean of the lowest attentions minus that of the highest;
- the pseudo ground truth fuses the attentions by beta and 1 - beta, and each stream's attention learns it with a mean
  squared error. A hard one, thresholded by theta, is better than the fused attention itself;
- rounds of refinement follow each other;
- detections are intervals above several thresholds of the fused attention. Their score is the attention-weighted T-CAM
  inside, minus that around.
Readings, for which the paper's text was not at hand; * are remembered from it, the others ours:
- one convolution of width 3 with a ReLU and as many columns as the stream has, and a dropout of half before the
  classifier (`layers`, `hidden`, `dropout`);
- *a k of T / 8, an alpha of 0.1, a beta of 0.4 for RGB and a theta of 0.5 (`ratio`, `normalization`, `fusion`,
  `threshold`);
- the pseudo ground truth has a weight of 1, and the other losses stay (`consensus`, `normalization_in_rounds`);
- the base trains for a third of the epochs, and four rounds share the rest (`base_share`, `rounds`). A round goes on
  from the weights before it, with new moments of Adam;
- the pseudo ground truth of a round is that of the networks as the round begins, without dropout, computed for the rows
  that a step sees;
- Adam at 1e-4, batches of 16, 750 rows sampled from a video (ActivityNet: 75) and as many steps on any data set;
- *classes above 0.1, eight samples a row and a margin of a quarter; thresholds from 0.1 to 0.9 by 0.05 and hard
  suppression at 0.5. A detection whose score is negative is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal.families import epochs_for, many_classes
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource
from wstal.losses.attention import normalization_loss
from wstal.losses.mil import cross_entropy
from wstal.method import Recipe, TrainSpec
from wstal.parts.attention_network import AttentionNetwork, Teacher
from wstal.parts.cosine import normalized, pool
from wstal.spec import Count
from wstal.streams import TwoStreamOptions, TwoStreams
from wstal.tensors import Embedded, Features, Foreground, VideoFeatures
from wstal.types import Batch, Paper, Scores, Video


class TscnOptions(TwoStreamOptions):
    """Options of TSCN."""

    layers: Count = Field(1, le=8, description="convolutions of each stream; the paper's number is not known here")
    hidden: Count | None = Field(None, description="columns of the embedding (not known); unset: the stream's own")
    dropout: float = Field(0.5, ge=0, lt=1, description="before the classifier (not known)")
    ratio: Count = Field(8, description="T / ratio lowest and as many highest attentions are pushed apart")
    normalization: float = Field(0.1, ge=0, description="weight of the attention normalization (alpha)")
    normalization_in_rounds: bool = Field(True, description="also in the rounds of refinement (not known)")
    fusion: float = Field(0.4, ge=0, le=1, description="share of the first stream, RGB, in what is fused (beta)")
    hard: bool = Field(True, description="threshold the pseudo ground truth; false: it is the fused attention")
    threshold: float = Field(0.5, ge=0, le=1, description="fused attention above which a snippet is foreground (theta)")
    consensus: float = Field(1.0, ge=0, description="weight of the pseudo ground truth's loss (not known)")
    base_share: float = Field(
        1 / 3, ge=0, le=1, description="share of the epochs, one at least, before there is a pseudo ground truth (ours)"
    )
    rounds: Count = Field(4, description="rounds of refinement, which share the other epochs (the number is ours)")


# 100 epochs of the base and four rounds of 50, of 200 videos in batches of 16
BATCH = 16
STEPS = 300 * 13
TRAINED_WITH = frozenset({"refined", "teachers"})  # of the state, what training alone needs
LOCALIZER = LocalizerSpec(
    class_threshold=0.1,
    upsampling=8,
    sources=(
        ProposalSource(
            signal="attention",
            thresholds=tuple(step / 20 for step in range(2, 19)),
            strict=True,
            score={"cas": 1.0},
        ),
    ),
    margin=0.25,
    nms=Nms(kind="hard", threshold=0.5),
    minimum_share=0.0,
)


class Tscn(TwoStreams):
    """TSCN over features `[B, T, D]` of two streams."""

    name = "tscn"
    title = "TSCN (from the paper)"
    source = "paper"
    paper = Paper(
        "Two-Stream Consensus Network for Weakly-Supervised Temporal Action Localization",
        "Yuanhao Zhai, Le Wang, Wei Tang, Qilin Zhang, Junsong Yuan, Gang Hua",
        "ECCV",
        2020,
        "https://arxiv.org/abs/2010.11594",
    )
    Options = TscnOptions
    spec: TscnOptions
    refined: Tensor

    def __init__(self, spec: TscnOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.networks: Sequence[AttentionNetwork] = nn.ModuleList(  # type: ignore[assignment]
            AttentionNetwork(width, spec.hidden, spec.layers, num_classes, spec.dropout) for width in self.widths
        )
        self.teachers: Sequence[Teacher] = nn.ModuleList(map(Teacher, self.networks))  # type: ignore[assignment]
        self._round = 0
        # the same in checkpoints: what scoring needs of it, which may continue after the last epoch
        self.register_buffer("refined", torch.zeros((), dtype=torch.bool))

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the recipe, which differs between families in the number of rows and of epochs alone."""
        rows = 75 if many_classes(dataset) else 750
        epochs = epochs_for(dataset, STEPS, BATCH)
        train = TrainSpec(epochs=epochs, batch_size=BATCH, temporal_length=rows, test_length=rows)
        return Recipe(method=TscnOptions(), train=train, localizer=LOCALIZER)

    def stage(self, epoch: int, epochs: int) -> int:
        """Return 0 for the base, and the number of the round from 1 for a refinement.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
        """
        base = max(round(self.spec.base_share * epochs), 1)
        return 0 if epoch < base else 1 + (epoch - base) * self.spec.rounds // (epochs - base)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Let the teachers be what the networks are, where a round begins.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: not used.
        """
        self._round = self.stage(epoch, epochs)
        self.refined.fill_(self._round > 0)
        if self._round and self.stage(epoch - 1, epochs) != self._round:
            for teacher, network in zip(self.teachers, self.networks, strict=True):
                teacher.follow(network)

    def export_state(self) -> dict[str, Tensor]:
        """Return the state without the teachers and whether they are in use, which scoring does not need."""
        return {name: value for name, value in self.state_dict().items() if name.split(".")[0] not in TRAINED_WITH}

    def pseudo_truth(self, parts: Sequence[Features]) -> Foreground:
        """Return the pseudo ground truth of the round, from the features of each stream."""
        fused = self.fused([teacher(part) for teacher, part in zip(self.teachers, parts, strict=True)])
        return (fused > self.spec.threshold).to(fused) if self.spec.hard else fused

    def pseudo_labels(self, videos: Iterable[VideoFeatures]) -> Iterator[dict[str, Tensor]]:
        """Yield the fused attention, as `main`, and the round's pseudo ground truth, as `consensus`, of each video.

        Both are the same for all classes. There is no pseudo ground truth before the first round.
        """
        for features in videos:
            parts = self.split(features.unsqueeze(0))
            own = [network(part)[1] for network, part in zip(self.networks, parts, strict=True)]
            found = {"main": self.fused(own).detach()}
            if self.refined:
                found["consensus"] = self.pseudo_truth(parts)
            yield {name: foreground[0].expand(-1, self.num_classes) for name, foreground in found.items()}

    def fused(self, streams: Sequence[Tensor]) -> Tensor:
        """Return beta of the first stream plus 1 - beta of the second."""
        return torch.lerp(streams[1], streams[0], self.spec.fusion)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over streams of `classification`, `normalization` and `consensus`, and the weighted `total`.

        `consensus` is 0 before the first round.
        """
        spec, parts = self.spec, self.split(batch.features)
        truth = self.pseudo_truth(parts) if self._round else None
        own = []
        for network, part in zip(self.networks, parts, strict=True):
            embedded, attention = network(part)
            logits = network.classify(weighted_mean(embedded, attention))
            own.append(
                {
                    "classification": cross_entropy(logits.log_softmax(dim=1), batch.labels),
                    "normalization": normalization_loss(attention, spec.ratio),
                    "consensus": (attention.new_zeros(()) if truth is None else functional.mse_loss(attention, truth)),
                }
            )
        terms = {name: torch.stack([one[name] for one in own]).sum() for name in own[0]}
        normalization = spec.normalization if spec.normalization_in_rounds or truth is None else 0.0
        terms["total"] = (
            terms["classification"] + normalization * terms["normalization"] + spec.consensus * terms["consensus"]
        )
        return terms

    def score(self, features: VideoFeatures) -> Scores:
        """Return the fused scores: the T-CAM times the attention as `cas`, the attention and the video's classes."""
        attention, tcam, videos = [], [], []
        for network, part in zip(self.networks, self.split(features.unsqueeze(0)), strict=True):
            embedded, one = network(part)
            attention.append(one[0])
            tcam.append(network.classify(embedded)[0].softmax(dim=1))
            videos.append(network.classify(weighted_mean(embedded, one))[0].softmax(dim=0))
        fused = self.fused(attention)
        return Scores({"cas": fused * self.fused(tcam), "attention": fused[:, 0]}, self.fused(videos))


def weighted_mean(embedded: Embedded, attention: Foreground) -> Float[Tensor, "batch dim"]:
    """Compute the foreground feature sum_t a_t x_t / sum_t a_t.

    Args:
        embedded: `[B, T, D]` x.
        attention: `[B, T, 1]` a.
    """
    return pool(embedded, normalized(attention)).squeeze(1)
