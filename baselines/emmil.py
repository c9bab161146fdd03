"""EM-MIL: multiple-instance learning by expectation maximisation, with two networks that teach each other.

Idea: a key network says which snippets trigger the video's label, a class network which class a snippet shows. In E
epochs the key network learns from the snippets that the class network scores above average. In M epochs the class
network learns from the snippets that the key network picks, as positives of the video's classes; each absent class has
target 0 at every snippet. A third network, like UntrimmedNet's head, says which classes occur in a test video.

Paper: Luo et al., ECCV 2020, arXiv 2004.00163. Facts: its released code
(airmachine/EM-MIL-WeaklyActionDetection at 5c8fb59), checked against tensors recorded from it. Deviations:
- the third network trains beside the others, in the first 45 epochs (the released code trains it alone, towards wrong
  classes by a wrong sign, and cannot be run as released). Its attention has no bias, which would cancel in the softmax;
- Adam's moments start anew in the epoch in which the learning rate rises, and a frozen network stays as it is (in the
  torch versions of its time Adam goes on moving it);
- the test score weighs the class network by 0.2, as in the paper (the released code by 0.8), and a run of snippets that
  ends with the video is a detection (the released code drops it);
- detections are ranked by the video's score of the class plus the mean test score inside. The released code gives all
  of them confidence 1, so that their order in the file ranks them. On held-out training videos of THUMOS14 R(2+1)D this
  ranking has 21.7 mean mAP 0.1:0.7, with the outside subtracted 21.3, the video's score alone 16.7, confidence 1 13.9;
- any number of streams, whose outputs are averaged (the released code has RGB and flow);
- ActivityNet's settings are not released: it gets THUMOS14's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from wstal import sampling
from wstal.localize.spec import LocalizerSpec, ProposalSource
from wstal.losses.mil import cross_entropy
from wstal.method import Method, Recipe, TrainSpec, adam
from wstal.parts.layers import TemporalConv
from wstal.spec import ALL_ROWS, Count, EpochCount
from wstal.streams import StreamOptions, split_streams
from wstal.tensors import Foreground, Labels, Scalar, VideoFeatures, VideoScores
from wstal.types import Batch, Paper, Scores, Video

Probabilities = Float[Tensor, "batch time actions"]
Stream = Float[Tensor, "batch time _"]  # streams may differ in width
StreamLogits = Float[Tensor, "streams batch time outputs"]


class EmMilOptions(StreamOptions):
    """Options of EM-MIL. The defaults are for THUMOS14."""

    hidden: Count = Field(256, description="columns of the hidden layer of key and class network")
    phase_epochs: EpochCount = Field(10, description="epochs of each of the phases M (all snippets), E, M, E and so on")
    video_epochs: EpochCount = Field(45, description="first epochs, in which the network of the video's classes trains")
    late_rate: PositiveFloat = Field(4.0, description="factor of the others' learning rate from the second M phase on")
    key_margin: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="share of its range by which the key of a picked snippet is above the mean (gamma)",
    )
    key_weight: float = Field(0.8, ge=0, le=1, description="weight of the key in the test score (lambda)")


TRAIN = TrainSpec(epochs=65, batch_size=1, test_length=ALL_ROWS)
LOCALIZER = LocalizerSpec(
    class_threshold=0.15,
    class_threshold_inclusive=True,
    fallback_to_argmax=False,
    sources=(
        ProposalSource(
            signal="relative", thresholds=(0.05,), strict=True, score={"mixed": 1.0}, video_score_weight=1.0
        ),
    ),
)


class VideoNetwork(nn.Module):
    """Network of the video's classes, like UntrimmedNet's head: a class distribution of each snippet, and attention.

    Args:
        widths: columns of each stream.
        num_classes: C.
    """

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.attention = nn.ModuleList(nn.Linear(width, 1, bias=False) for width in widths)
        self.classes = nn.ModuleList(nn.Linear(width, num_classes) for width in widths)

    def forward(self, streams: Sequence[Stream]) -> VideoScores:
        """Return log sum_t a_t c_t. a and c are means over streams, of softmaxes over time and over classes."""
        attention = outputs(self.attention, streams).log_softmax(dim=2).logsumexp(dim=0)
        classes = outputs(self.classes, streams).log_softmax(dim=3).logsumexp(dim=0)
        return (attention + classes).logsumexp(dim=1) - 2 * math.log(len(streams))


class EmMil(Method):
    """EM-MIL over features `[B, T, D]`, with three networks for each stream."""

    name = "em-mil"
    title = "EM-MIL"
    paper = Paper(
        "Weakly-Supervised Action Localization with Expectation-Maximization Multi-Instance Learning",
        "Zhekun Luo, Devin Guillory, Baifeng Shi, Wei Ke, Fang Wan, Trevor Darrell, Huijuan Xu",
        "ECCV",
        2020,
        "https://arxiv.org/abs/2004.00163",
    )
    Options = EmMilOptions
    SCORING_OPTIONS = frozenset({"key_weight"})
    TRAIN_SAMPLER = sampling.whole
    TEST_SAMPLER = sampling.whole
    spec: EmMilOptions

    def __init__(self, spec: EmMilOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.widths = spec.widths(feature_dim)
        self.keys = nn.ModuleList(_snippet_network(width, spec.hidden, 1) for width in self.widths)
        self.classes = nn.ModuleList(_snippet_network(width, spec.hidden, num_classes) for width in self.widths)
        self.video = VideoNetwork(self.widths, num_classes)
        self._epoch = 0

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return one recipe for all data sets."""
        return Recipe(method=EmMilOptions(), train=TRAIN, localizer=LOCALIZER)

    def learns_keys(self, epoch: int) -> bool:
        """Return whether an epoch is an E epoch, which trains the key network and not the class network."""
        phase = epoch // self.spec.phase_epochs
        return phase == 1 if phase < 3 else (epoch - 3 * self.spec.phase_epochs) % 2 == 0

    def stage(self, epoch: int, epochs: int) -> int:
        """Return 0, and 1 from the second M phase on, where the learning rate is higher.

        Args:
            epoch: number of the epoch, from 0.
            epochs: not used.
        """
        return int(epoch >= 2 * self.spec.phase_epochs)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Freeze the networks that do not learn in this epoch.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: not used.
        """
        self._epoch = epoch
        self.keys.requires_grad_(self.learns_keys(epoch))
        self.classes.requires_grad_(not self.learns_keys(epoch))
        self.video.requires_grad_(epoch < self.spec.video_epochs)

    def end_training(self) -> None:
        """Free all networks: their parameters are those of the method."""
        self.requires_grad_(True)

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        """Return one Adam, in the second stage with `late_rate` times the learning rate for key and class network."""
        factor = self.spec.late_rate if self.stage(self._epoch, train.epochs) else 1.0
        others = {"params": [*self.keys.parameters(), *self.classes.parameters()], "lr": factor * train.learning_rate}
        optimizer = adam(self.video.parameters(), train)
        optimizer.add_param_group(others)
        return [optimizer]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `key` (0 in M epochs), `class` (0 in E epochs), `video`, and their sum `total`."""
        streams, labels = split_streams(batch.features, self.widths), batch.labels
        video = cross_entropy(self.video(streams), labels)
        terms = {"key": torch.zeros_like(video), "class": torch.zeros_like(video), "video": video}
        if self.learns_keys(self._epoch):
            positive = above_average(self.probabilities(self.classes, streams), labels)
            terms["key"] = snippet_loss(outputs(self.keys, streams), positive, labels)
        else:
            positive = torch.ones_like(batch.features[..., :1])
            if self._epoch >= self.spec.phase_epochs:
                positive = picked(self.probabilities(self.keys, streams), self.spec.key_margin)
            terms["class"] = snippet_loss(outputs(self.classes, streams), positive * labels.unsqueeze(1), labels)
        terms["total"] = terms["key"] + terms["class"] + terms["video"]
        return terms

    def score(self, features: VideoFeatures) -> Scores:
        """Return `cas` (key times class), `attention` (key), and what the method's own localizer reads.

        That is `mixed`, lambda key + (1 - lambda) class, and `relative`, the same without its mean and divided by its
        range.
        """
        streams = split_streams(features.unsqueeze(0), self.widths)
        key, classes = (self.probabilities(networks, streams)[0] for networks in (self.keys, self.classes))
        mixed = self.spec.key_weight * key + (1 - self.spec.key_weight) * classes
        signals = {"cas": key * classes, "attention": key[:, 0], "mixed": mixed, "relative": relative(mixed)}
        return Scores(signals, self.video(streams)[0].exp())

    def probabilities(self, networks: nn.ModuleList, streams: Sequence[Stream]) -> Float[Tensor, "batch time outputs"]:
        """Return the mean over streams of a network's probabilities.

        Args:
            networks: `keys` or `classes`.
            streams: `[B, T, D]` features of each stream.
        """
        return outputs(networks, streams).sigmoid().mean(dim=0)


def _snippet_network(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(TemporalConv(width, hidden, kernel_size=3, padding=1), nn.ReLU(), nn.Linear(hidden, out))


def outputs(networks: nn.ModuleList, streams: Sequence[Stream]) -> StreamLogits:
    """Return the logits of one network for each stream.

    Args:
        networks: one for each stream.
        streams: `[B, T, D]` features of each stream.
    """
    return torch.stack([network(stream) for network, stream in zip(networks, streams, strict=True)])


def above_average(classes: Probabilities, labels: Labels) -> Foreground:
    """Return the target of the key network: 1 where any of the video's classes is above its mean over time, else 0.

    Args:
        classes: `[B, T, C]` probabilities by the class network.
        labels: `[B, C]` multi-hot.
    """
    above = classes > classes.mean(dim=1, keepdim=True)
    return (above & (labels > 0).unsqueeze(1)).any(dim=2, keepdim=True).to(classes.dtype)


def picked(key: Foreground, margin: float) -> Foreground:
    """Return the target of the class network for a video's classes: 1 where the key is clearly above its mean, else 0.

    Args:
        key: `[B, T, 1]` probabilities by the key network.
        margin: gamma, the share of the key's range over the video that has to lie between.
    """
    low, high = key.aminmax(dim=1, keepdim=True)
    return (key > key.mean(dim=1, keepdim=True) + margin * (high - low)).to(key.dtype)


def snippet_loss(logits: StreamLogits, targets: Float[Tensor, "batch time outputs"], labels: Labels) -> Scalar:
    """Compute the binary cross-entropy: mean over time, sum over outputs and streams, mean over videos.

    A video without labels has no loss.

    Args:
        logits: `[streams, B, T, outputs]`.
        targets: `[B, T, outputs]` in {0, 1}, the same for all streams.
        labels: `[B, C]` multi-hot.
    """
    each = functional.binary_cross_entropy_with_logits(logits, targets.expand_as(logits), reduction="none")
    return (each.mean(dim=2).sum(dim=(0, 2)) * labels.amax(dim=1)).mean()


def relative(scores: Float[Tensor, "time actions"]) -> Float[Tensor, "time actions"]:
    """Return (score - mean) / (max - min) over time, and 0 for a constant."""
    low, high = scores.aminmax(dim=0)
    return (scores - scores.mean(dim=0)) / (high - low).where(high > low, math.inf)
