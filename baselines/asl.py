"""ASL: action selection learning for weakly supervised temporal action localization without a background class.

Idea: an actionness of each snippet, with one head per stream, is learned independently of the classes. It helps to
choose the top-k snippets of each class that vote on the video. The snippets that a video's true classes choose are the
positives of the actionness, which is learned with a noise-tolerant loss. So classifier and actionness teach each other.

Paper: Ma et al., CVPR 2021, arXiv 2105.02439. Facts: its released code (layer6ai-labs/ASL at eaffb20), checked against
tensors recorded from it. Deviations:
- any number of streams, with one actionness head for each (the released code has two, RGB and flow);
- k is computed from the snippets of the video (the released code always uses the 750 that it samples to);
- the target distribution is the normalised label, without the 1e-10 that the released code adds to each class: that
  changes the loss less than rounding does, and a video without labels has loss 0 instead of NaN;
- class scores stay probabilities (on a CPU the released code overwrites them with 0 and 1 before it localizes);
- the margin of a run's outside is 0.2 of its length and the class score's weight is 0.2, as the released code computes:
  it passes its option for the weight in place of the margin;
- the samplers draw anew in every epoch, and the last checkpoint counts (the released code keeps the best of many
  evaluations on the test set).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from wstal import sampling
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource
from wstal.losses.mil import cross_entropy
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.pooling import top_k_count
from wstal.spec import Count
from wstal.streams import StreamOptions, split_streams
from wstal.tensors import Cas, Features, Foreground, VideoFeatures, VideoScores
from wstal.types import Batch, Paper, Scores

EPSILON = 1e-7


class AslOptions(StreamOptions):
    """Options of ASL. The defaults are for THUMOS14."""

    hidden: Count = Field(512, description="columns of the hidden layer of the classifier and of each actionness head")
    ratio: Count = Field(8, description="k = T / ratio snippets are selected for each class")
    q: float = Field(0.7, gt=0, le=1, description="of the actionness loss; near 0 cross-entropy, 1 mean absolute error")


TRAIN = TrainSpec(epochs=100, weight_decay=5e-4)
LOCALIZER = LocalizerSpec(
    class_threshold=0.25,
    class_threshold_inclusive=True,
    upsampling=24,
    margin=0.2,
    skip_lone_first_sample=True,
    sources=(
        ProposalSource(
            signal="selection",
            thresholds=tuple(round(0.1 * step, 1) for step in range(1, 10)),
            score={"selection": 1.0},
            video_score_weight=0.2,
        ),
    ),
    nms=Nms(kind="hard-decayed", threshold=0.4, sigma=0.35, plus_one="second"),
)


class Asl(Method):
    """ASL over features `[B, T, D]`. No layer reads neighbouring snippets."""

    name = "asl"
    title = "ASL"
    paper = Paper(
        "Weakly Supervised Action Selection Learning in Video",
        "Junwei Ma, Satya Krishna Gorti, Maksims Volkovs, Guangwei Yu",
        "CVPR",
        2021,
        "https://arxiv.org/abs/2105.02439",
    )
    Options = AslOptions
    TRAIN_SAMPLER = sampling.grid_random
    TEST_SAMPLER = sampling.grid
    spec: AslOptions

    def __init__(self, spec: AslOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.widths = spec.widths(feature_dim)
        self.classifier = _two_layers(feature_dim, spec.hidden, num_classes)
        self.actionness: Sequence[nn.Module] = nn.ModuleList(  # type: ignore[assignment]
            _two_layers(width, spec.hidden, 1) for width in self.widths
        )

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return THUMOS14's settings for every data set, with its 100 epochs. Settings for others were not released."""
        return Recipe(method=AslOptions(), train=TRAIN, localizer=LOCALIZER)

    def cas_and_actionness(self, features: Features) -> tuple[Cas, Float[Tensor, "batch time streams"]]:
        """Return A, logits of the C classes, and each stream's probability that the snippet shows any action."""
        parts = split_streams(features, self.widths)
        heads = [head(part) for head, part in zip(self.actionness, parts, strict=True)]
        return self.classifier(features), torch.cat(heads, dim=-1).sigmoid()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the classification loss of the selected snippets, the actionness loss, and their sum `total`."""
        cas, actionness = self.cas_and_actionness(batch.features)
        selected = self._select(selection_scores(cas, actionness))
        foreground = pseudo_labels(selected, batch.labels, cas.shape[1]).unsqueeze(-1)
        terms = {
            "classification": cross_entropy(video_logits(cas, selected).log_softmax(dim=1), batch.labels),
            "actionness": generalized_cross_entropy(actionness, foreground, self.spec.q).sum(),
        }
        terms["total"] = terms["classification"] + terms["actionness"]
        return terms

    def score(self, features: VideoFeatures) -> Scores:
        """Return the signal `selection`, which the method's own localizer thresholds, and `cas` and `attention`.

        `attention` is the mean of the streams' actionness. `cas` is the class softmax times that, P(foreground)
        P(class | foreground). In the selection score, an absent class keeps what actionness adds to all classes.
        """
        cas, actionness = self.cas_and_actionness(features.unsqueeze(0))
        selection = selection_scores(cas, actionness)
        video_scores = video_logits(cas, self._select(selection)).softmax(dim=1)
        attention = actionness.mean(dim=-1)
        foreground_cas = cas.softmax(dim=-1) * attention.unsqueeze(-1)
        signals = {"selection": selection[0], "cas": foreground_cas[0], "attention": attention[0]}
        return Scores(signals, video_scores[0])

    def _select(self, scores: Tensor) -> Int[Tensor, "batch k classes"]:
        return scores.topk(top_k_count(scores.shape[1], self.spec.ratio), dim=1).indices


def _two_layers(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))


def selection_scores(cas: Cas, actionness: Float[Tensor, "batch time streams"]) -> Cas:
    """Compute s = (softmax(A) + sum of the streams' actionness) / (1 + streams), in [0, 1].

    Args:
        cas: `[B, T, C]` A.
        actionness: `[B, T, streams]` in [0, 1].
    """
    return (cas.softmax(dim=-1) + actionness.sum(dim=-1, keepdim=True)) / (1 + actionness.shape[-1])


def video_logits(cas: Cas, selected: Int[Tensor, "batch k classes"]) -> VideoScores:
    """Compute the mean of each class's logits at the snippets selected for it. The selection has no gradient.

    Args:
        cas: `[B, T, C]` logits.
        selected: `[B, k, C]` snippets of each class.
    """
    return cas.gather(1, selected).mean(dim=1)


def pseudo_labels(
    selected: Int[Tensor, "batch k classes"], labels: VideoScores, length: int
) -> Float[Tensor, "batch time"]:
    """Return 1 where a class of the video selected the snippet, otherwise 0.

    Args:
        selected: `[B, k, C]` snippets of each class.
        labels: `[B, C]` multi-hot.
        length: T.
    """
    votes = labels.unsqueeze(1).expand(selected.shape)
    chosen = labels.new_zeros(len(labels), length, labels.shape[1]).scatter(1, selected, votes)
    return chosen.amax(dim=2)


def generalized_cross_entropy(
    actionness: Float[Tensor, "batch time streams"], foreground: Foreground, q: float
) -> Float[Tensor, " streams"]:
    """Compute each stream's generalised cross-entropy with the pseudo labels.

    This is the mean over videos of the mean of (1 - p^q) / q over the positives plus that over the negatives.

    p is the probability of the pseudo label: actionness for a positive, 1 - actionness for a negative. The bounded cost
    tolerates wrong labels (Zhang & Sabuncu, NeurIPS 2018).

    Args:
        actionness: `[B, T, streams]` in [0, 1].
        foreground: `[B, T, 1]` pseudo labels, 0 or 1.
        q: exponent in (0, 1].
    """
    positive = _mean_cost(actionness, foreground, q)
    negative = _mean_cost(1 - actionness, 1 - foreground, q)
    return (positive + negative).mean(dim=0)


def _mean_cost(probability: Tensor, chosen: Tensor, q: float) -> Float[Tensor, "batch streams"]:
    """Return the mean over the chosen snippets, 0 if none is chosen."""
    cost = (1 - (probability + EPSILON) ** q) / q
    return (chosen * cost).sum(dim=1) / (chosen.sum(dim=1) + EPSILON)
