"""RSKP: representative snippet knowledge propagation.

Idea: two steps of expectation maximisation turn a few learned prototypes into those of a video. A random walk in closed
form propagates them to its snippets. A memory of the best prototypes of each class does the same across videos. The
predictions of the two propagated branches teach the plain branch.

Paper: Huang, Wang & Li, CVPR 2022, arXiv 2203.02925. Facts: its released code
(LeonHLJ/RSKP@38a8ad7b1f3f6abdb4512ac83f27954a8cb10a32), checked against tensors recorded from it. Deviations:
- the random walk's T x T system is solved as a system of one row per prototype (Woodbury), with the same result;
- the memory is read for the video's classes. The released code takes the wrong axis of the labels and reads and writes
  class 0 for every video, which its author calls an upload of the wrong version (issue 7);
- the memory stores the videos of an optimiser step after it, the released code does so after each video;
- log-probabilities come from log-softmax, so the loss is never infinite;
- the released code keeps the epoch that is best on the test set, here the last one counts;
- detections that overlap an Ambiguous interval stay: dropping them is part of an evaluation protocol here;
- ActivityNet's code is not released: its options are the author's (issue 3, which refers to ACM-Net's code, so
  gradients of 64 videos), on whole videos, with THUMOS14's epochs and localizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from baselines.facnet import ABOVE, LABEL_EPSILON
from wstal import sampling
from wstal.families import many_classes
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource
from wstal.losses.attention import normalization_loss
from wstal.losses.mil import cross_entropy, with_background
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.cosine import ClassVectors, cosines, normalized, pool, unit
from wstal.parts.layers import xavier_linear
from wstal.spec import Count, Spec
from wstal.tensors import Cas, Embedded, Labels, Scalar, VideoScores
from wstal.types import Batch, Paper, Scores, Video

TIME_EPSILON = 1e-5
ATTENTION_RATIO = 8
EMPTY = -1.0  # score of an empty slot; other scores are probabilities

# gradients of 10 single videos are summed: 200 epochs of 200 videos are 4,000 steps of 10
THUMOS_TRAIN = TrainSpec(
    epochs=200, batch_size=1, accumulate=10, learning_rate=5e-5, betas=(0.9, 0.99), weight_decay=5e-4
)
# 1e-3 for the mean of 64 gradients is 0.064 for their sum
ACTIVITYNET_TRAIN = THUMOS_TRAIN.model_copy(update={"accumulate": 64, "learning_rate": 2e-5, "weight_decay": 0.064})
LOCALIZER = LocalizerSpec(
    class_threshold=0.1,
    class_threshold_inclusive=True,
    fallback_to_argmax=False,
    sources=(
        ProposalSource(
            signal="cas",
            thresholds=tuple(round(0.001 + 0.002 * step, 3) for step in range(20)),
            strict=True,
            score={"cas": 1.0},
        ),
    ),
    margin=0.25,
    past_end=True,
    minimum_run=2,
    nms=Nms(kind="hard", threshold=0.5 + ABOVE, overlap="own", plus_one="snippet"),
)


class RskpOptions(Spec):
    """Options of RSKP. The defaults are for THUMOS14."""

    dropout: float = Field(0.6, ge=0, lt=1, description="of the embedding")
    scale: PositiveFloat = Field(20.0, description="of the cosines that classify and attend")
    prototypes: Count = Field(8, description="prototypes of a video")
    iterations: Count = Field(2, description="steps of expectation maximisation")
    assignment_scale: PositiveFloat = Field(5.0, description="of the cosines that assign snippets to prototypes")
    walk: float = Field(0.5, ge=0, lt=1, description="w, how far the random walk mixes prototypes in")
    slots: Count = Field(5, description="prototypes that the memory keeps of each class")
    memory_start: float = Field(
        0.505, ge=0, lt=1, description="share of the epochs before the memory is filled and used (101 of 200)"
    )
    memory: float = Field(0.5, ge=0, description="weight of the memory's branch in both classification losses")
    background: float = Field(0.2, ge=0, description="weight of the class-wise classification loss (lambda b)")
    attention: float = Field(0.1, ge=0, description="weight of the attention loss (lambda a)")
    first_pseudo_label: float = Field(1.0, ge=0, description="weight of the pseudo-label loss before the memory")
    pseudo_label: float = Field(0.5, ge=0, description="the same from then on")
    memory_target: float = Field(0.2, ge=0, le=1, description="share of the memory's branch in the pseudo labels")
    temperature: PositiveFloat = Field(0.2, description="of the pseudo-label loss")
    fusion: float = Field(0.6, ge=0, le=1, description="share of the plain branch in the scores of a test video")


ACTIVITYNET_OPTIONS = RskpOptions(dropout=0.7, scale=10.0, background=0.1, pseudo_label=1.0, fusion=0.8)


Prototypes = Float[Tensor, "batch slots dim"]


class Branch(NamedTuple):
    """Output of the head for the features of one branch.

    Args:
        cas: `[B, T, C + 1]` logits, background last.
        attention: `[B, T, 1]` foreground probability.
        foreground: `[B, C + 1]` log-probabilities of the video, pooled by foreground attention.
    """

    cas: Tensor
    attention: Tensor
    foreground: Tensor


class Rskp(Method):
    """RSKP over features `[B, T, D]` of all streams. The embedding keeps the width D."""

    name = "rskp"
    title = "RSKP"
    paper = Paper(
        "Weakly Supervised Temporal Action Localization via Representative Snippet Knowledge Propagation",
        "Linjiang Huang, Liang Wang, Hongsheng Li",
        "CVPR",
        2022,
        "https://arxiv.org/abs/2203.02925",
    )
    Options = RskpOptions
    TRAIN_SAMPLER = sampling.whole
    TEST_SAMPLER = sampling.whole
    SCORING_OPTIONS = frozenset({"fusion"})
    spec: RskpOptions
    slots: Tensor
    slot_scores: Tensor

    def __init__(self, spec: RskpOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.embedding = nn.Sequential(xavier_linear(feature_dim, feature_dim), nn.ReLU(), nn.Dropout(spec.dropout))
        self.prototypes = nn.Parameter(torch.empty(spec.prototypes, feature_dim))
        nn.init.xavier_uniform_(self.prototypes)
        self.vectors = ClassVectors(feature_dim, num_classes)
        self.register_buffer("slots", torch.zeros(num_classes, spec.slots, feature_dim))
        self.register_buffer("slot_scores", torch.full((num_classes, spec.slots), EMPTY))
        self._remembers = False
        # number of filled slots of each class, which come first; on the host, where the slots to read are chosen
        self._taken = [0] * num_classes
        self._unstored: list[tuple[Tensor, Tensor, Tensor]] = []

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return ActivityNet's options for `activitynet*` and (not in the paper) `fineaction`, otherwise THUMOS14's.

        All train for 200 epochs.
        """
        if many_classes(dataset):
            return Recipe(method=ACTIVITYNET_OPTIONS, train=ACTIVITYNET_TRAIN, localizer=LOCALIZER)
        return Recipe(method=RskpOptions(), train=THUMOS_TRAIN, localizer=LOCALIZER)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Enable the memory from `memory_start` of the epochs on, and fill it from all videos before its first use."""
        self._unstored.clear()
        # 0.29 of 100 epochs is 28.999999999999996 in floats, and means 29
        self._remembers = epoch >= int(self.spec.memory_start * epochs + 1e-9)
        self._taken = (self.slot_scores > EMPTY).sum(dim=1).tolist()
        if self._remembers and not any(self._taken):
            self._fill(videos)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms and their weighted `total`.

        Returns:
            `foreground` and `class_wise`: classification losses, summed over the plain branch and the video's own
            branch. `memory_foreground` and `memory_class_wise`: the same for the memory's branch, 0 until there is a
            memory. `attention`, `pseudo_label` and `total`.
        """
        spec, labels = self.spec, batch.labels
        actions, everything = (with_background(labels, present) for present in (False, True))
        embedded, prototypes = self._represent(batch.features)
        propagated = self._propagate(embedded, prototypes)
        plain, own = self._head(embedded), self._head(propagated)
        zero = embedded.new_zeros(())
        terms = {
            "foreground": _nce(plain.foreground, actions) + _nce(own.foreground, actions),
            "class_wise": _nce(self._class_wise(embedded, plain.cas), everything)
            + _nce(self._class_wise(propagated, own.cas), everything),
            "memory_foreground": zero,
            "memory_class_wise": zero,
            "attention": normalization_loss(plain.attention, ATTENTION_RATIO),
        }
        target, pseudo_label = own.cas, spec.first_pseudo_label
        if self._remembers:
            by_memory = self._propagate_memory(embedded, prototypes, batch.host_labels)
            remembered = self._head(by_memory)
            terms["memory_foreground"] = _nce(remembered.foreground, actions)
            terms["memory_class_wise"] = _nce(self._class_wise(by_memory, remembered.cas), everything)
            target, pseudo_label = torch.lerp(own.cas, remembered.cas, spec.memory_target), spec.pseudo_label
            if self.training:
                # the class vectors that the optimiser has not moved yet
                vectors = self.vectors.classes.detach().clone()
                self._unstored.append((prototypes.detach().to(vectors), vectors, batch.host_labels))
        terms["pseudo_label"] = soft_cross_entropy(plain.cas, target.detach(), spec.temperature)
        terms["total"] = (
            terms["foreground"]
            + spec.memory * terms["memory_foreground"]
            + spec.background * (terms["class_wise"] + spec.memory * terms["memory_class_wise"])
            + spec.attention * terms["attention"]
            + pseudo_label * terms["pseudo_label"]
        )
        return terms

    def end_step(self) -> None:
        """Offer the step's prototypes to the memory."""
        for prototypes, vectors, labels in self._unstored:
            self._store(prototypes, vectors, labels)
        self._unstored.clear()

    def score(self, features: Float[Tensor, "time dim"]) -> Scores:
        """Return the fused scores of the plain branch and the video's own branch. The memory is not used.

        Returns:
            Signals `cas` (softmax of the fused branches times attention, without background) and `attention` (of the
            plain branch), and the class probabilities of the fused branches.
        """
        embedded, prototypes = self._represent(features.unsqueeze(0))
        plain, own = self._head(embedded), self._head(self._propagate(embedded, prototypes))
        cas = torch.lerp(own.cas.softmax(dim=-1), plain.cas.softmax(dim=-1), self.spec.fusion)
        video_scores = torch.lerp(own.foreground.exp(), plain.foreground.exp(), self.spec.fusion)
        attention, classes = plain.attention[0], self.num_classes
        signals = {"cas": cas[0, :, :classes] * attention, "attention": attention[:, 0]}
        return Scores(signals, video_scores[0, :classes])

    def export_state(self) -> dict[str, Tensor]:
        """Return the state without the memory, which scoring does not need."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("slot")}

    def _represent(self, features: Tensor) -> tuple[Embedded, Prototypes]:
        """Return the embedding, and each video's prototypes, adapted from the learned ones by EM."""
        embedded: Tensor = self.embedding(features)
        prototypes = self.prototypes.expand(len(embedded), -1, -1)
        for _ in range(self.spec.iterations):
            prototypes = pool(embedded, normalized(assign(embedded, prototypes, self.spec.assignment_scale)))
        return embedded, prototypes

    def _propagate(self, embedded: Tensor, prototypes: Tensor) -> Tensor:
        return random_walk(embedded, prototypes, self.spec.walk, self.spec.assignment_scale)

    def _propagate_memory(self, embedded: Tensor, prototypes: Tensor, labels: Tensor) -> Tensor:
        """Apply the random walk with the slots of each video's classes, or its own prototypes if there are none."""
        propagated = []
        for features, own, video_labels in zip(embedded, prototypes, labels, strict=True):
            chosen = [label for (label,) in video_labels.nonzero().tolist() if self._taken[label]]
            known = [self.slots[label, : self._taken[label]] for label in chosen] or [own]
            propagated.append(self._propagate(features[None], torch.cat(known)[None]))
        return torch.cat(propagated)

    def _head(self, features: Embedded) -> Branch:
        scale, vectors = self.spec.scale, self.vectors
        cas = scale * cosines(features, vectors.classes)
        attention = (scale * cosines(features, vectors.foreground)).sigmoid()
        by_foreground = pool(features, normalized(attention, TIME_EPSILON)).squeeze(1)
        return Branch(cas, attention, (scale * cosines(by_foreground, vectors.classes)).log_softmax(-1))

    def _class_wise(self, features: Embedded, cas: Cas) -> VideoScores:
        """Return log p_cw: each class's vector compared with the snippets that its CAS selects."""
        by_class = pool(features, normalized(cas.sigmoid(), TIME_EPSILON))
        return (self.spec.scale * (unit(by_class) * unit(self.vectors.classes)).sum(dim=-1)).log_softmax(-1)

    @torch.no_grad()
    def _fill(self, videos: Sequence[Video]) -> None:
        """Offer the prototypes of all training videos, in evaluation mode."""
        training = self.training
        self.eval()
        for video in videos:
            features = torch.from_numpy(np.asarray(video.features, dtype=np.float32)).to(self.prototypes)
            labels = torch.zeros(1, self.num_classes)
            labels[0, list(video.labels)] = 1
            self._store(self._represent(features[None])[1], self.vectors.classes, labels)
        self.train(training)

    @torch.no_grad()
    def _class_scores(self, prototypes: Prototypes, vectors: Tensor) -> Float[Tensor, "batch slots classes"]:
        return (self.spec.scale * cosines(prototypes, vectors)).softmax(dim=-1)

    def _store(self, prototypes: Tensor, vectors: Tensor, labels: Labels) -> None:
        """Keep the most probable of the slots and the prototypes of each class of a video. `labels` are on the host."""
        scores = self._class_scores(prototypes, vectors)
        for video, label in labels.nonzero().tolist():
            best = torch.cat([self.slot_scores[label], scores[video, :, label]]).topk(self.spec.slots)
            self.slots[label] = torch.cat([self.slots[label], prototypes[video]])[best.indices]
            self.slot_scores[label] = best.values
            self._taken[label] = min(self.spec.slots, self._taken[label] + prototypes.shape[1])


def assign(features: Embedded, prototypes: Prototypes, scale: float) -> Float[Tensor, "batch time slots"]:
    """Return Z^T: how much each snippet belongs to each prototype, a softmax over the prototypes of scaled cosines.

    Args:
        features: `[B, T, D]`.
        prototypes: `[B, K, D]`.
        scale: factor of the cosines.
    """
    return (scale * cosines(features, prototypes)).softmax(dim=-1)


def random_walk(features: Embedded, prototypes: Prototypes, walk: float, scale: float) -> Embedded:
    """Compute (1 - w) (I - w^2 A)^-1 (w Z^T mu + x), A = Z^T Z' with Z' the assignment Z divided by its sums over time.

    A has only as many dimensions as there are prototypes: (I - w^2 Z^T Z')^-1 = I + w^2 Z^T (I - w^2 Z' Z^T)^-1 Z'.

    Args:
        features: `[B, T, D]` x.
        prototypes: `[B, K, D]` mu, of each video.
        walk: w.
        scale: factor of the cosines that assign.
    """
    assignment = assign(features, prototypes, scale)
    mixed = walk * (assignment @ prototypes) + features
    shares = normalized(assignment).mT
    # there is no solver in half precision
    precision = torch.promote_types(features.dtype, torch.float32)
    eye = torch.eye(prototypes.shape[1], dtype=precision, device=features.device)
    system, right = eye - walk**2 * (shares @ assignment), shares @ mixed
    # `solve` would wait for a GPU to check for a singular system; its loss is not finite, which training detects
    solved: Tensor = torch.linalg.solve_ex(system, right.to(precision)).result
    return (1 - walk) * (mixed + walk**2 * (assignment @ solved))


def soft_cross_entropy(cas: Cas, target: Cas, temperature: float) -> Scalar:
    """Compute the cross-entropy of softmaxes of logits, both divided by the temperature, averaged over snippets.

    Args:
        cas: `[B, T, C + 1]` logits.
        target: `[B, T, C + 1]` logits of the target.
        temperature: divisor of both.
    """
    return -((target / temperature).softmax(dim=-1) * (cas / temperature).log_softmax(dim=-1)).sum(dim=-1).mean()


def _nce(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(log_probabilities, labels, LABEL_EPSILON)
