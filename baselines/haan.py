"""HAAN: hierarchical atomic action network for weakly supervised detection of fine-grained actions.

Idea: fine classes share atomic actions, visual concepts. K-means over the encoded snippets of all training videos finds
them every few epochs, and a second classifier learns the cluster of each snippet. A video's concepts are means over its
snippets of a cluster. The few concepts nearest to its weights represent a class, pooled classes a coarse class; both
are supervised. The fine classifier alone localizes. No layer reads neighbours, and nothing is background.

Paper: Li, He & Xu, ECCV 2022, arXiv 2207.11805. Facts: its released code (lizhi1104/HAAN at 354d822), checked against
tensors recorded from it. Deviations:
- data sets without coarse classes (`method.coarse_classes` states them) have no coarse loss and no coarse classifier;
- k-means starts once from k-means++ (there: the best of ten starts), and snippets are assigned when sampled, by a copy
  of the encoder that found the clusters; with fewer sampled snippets than clusters each is a cluster;
- videos are sampled to a fixed number of rows (there: 100 rows of FineAction's, FineGym's padded to 309);
- THUMOS14 and data sets like it, which are not in the paper, take FineGym's settings, and ActivityNet FineAction's;
- the last checkpoint counts (the released code keeps the best of an evaluation on the test set each epoch).
`attention` is the probability of the snippet's best class.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn
from torch.nn import functional

from wstal.errors import UserError
from wstal.families import many_classes
from wstal.localize.spec import LocalizerSpec, ProposalSource
from wstal.losses.balanced import balance, balanced_loss
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.cosine import cosines
from wstal.parts.pooling import above_mean, top_k_mean
from wstal.spec import ALL_ROWS, Count, EpochCount, HierarchyOptions
from wstal.summarize.clustering import k_means
from wstal.tensors import Cas, Embedded, Features, Labels, Scalar, VideoFeatures, VideoScores
from wstal.types import Batch, Paper, Scores, Video

Clusters = Int[Tensor, "batch time"]
Concepts = Float[Tensor, "batch concepts dim"]
ClassFeatures = Float[Tensor, "batch classes dim"]


class HaanOptions(HierarchyOptions):
    """Options of HAAN. The defaults are for FineAction."""

    width: Count = Field(1024, description="columns of the encoded snippets and of every hidden layer")
    dropout: float = Field(0.3, ge=0, lt=1, description="of every hidden layer")
    concepts: Count = Field(500, description="clusters of snippets")
    clustered: float = Field(0.03, gt=0, le=1, description="share of the training snippets that clusters are fitted to")
    refresh: EpochCount = Field(5, description="epochs from one clustering to the next")
    nearest: Count = Field(5, description="concepts that represent a class")
    pooling: Literal["max", "mean"] = Field("max", description="of the classes of a coarse class")
    pseudo: float = Field(0.001, ge=0, description="weight of the loss of the snippets' clusters")
    concept: float = Field(0.01, ge=0, description="weight of the distance of a class from its concepts")
    coarse: float = Field(1.0, ge=0, description="weight of the loss of the coarse classes")
    ratio: Count = Field(4, description="ceil(T / ratio) highest logits of a test video give a class's score")


FINEGYM_OPTIONS = HaanOptions(width=2048, dropout=0.5, clustered=0.1, pooling="mean", coarse=0.1, ratio=2)


def localizer(alpha: float) -> LocalizerSpec:
    """Return the settings for a threshold of a class's mean in the video plus `alpha` times its range."""
    score = {"logit": 1.0}
    source = ProposalSource(
        signal="relative", thresholds=(alpha,), strict=True, score=score, inside="max", video_score_weight=0.5
    )
    return LocalizerSpec(class_threshold=0.0, fallback_to_argmax=False, class_score="logit", sources=(source,))


class Perceptron(nn.Module):
    """Two linear layers with ReLU and dropout between them."""

    def __init__(self, in_dim: int, hidden: int, out_dim: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_dim, hidden)
        self.output = nn.Linear(hidden, out_dim)
        self.dropout = dropout

    def forward(self, features: Float[Tensor, "*rows in_dim"]) -> tuple[Tensor, Tensor]:
        """Return the hidden features and the output."""
        hidden = functional.dropout(self.hidden(features).relu(), self.dropout, self.training)
        return hidden, self.output(hidden)


class Haan(Method):
    """HAAN over features `[B, T, D]`."""

    name = "haan"
    title = "HAAN"
    paper = Paper(
        "Weakly-Supervised Temporal Action Detection for Fine-Grained Videos with Hierarchical Atomic Actions",
        "Zhi Li, Lu He, Huijuan Xu", "ECCV", 2022, "https://arxiv.org/abs/2207.11805",
    )  # fmt: skip
    Options = HaanOptions
    SCORING_OPTIONS = frozenset({"ratio"})
    spec: HaanOptions
    positives: Tensor
    coarse_positives: Tensor
    videos: Tensor
    centres: Tensor
    frequencies: Tensor
    groups: Tensor

    def __init__(self, spec: HaanOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        parents, width = spec.coarse_classes or (), spec.width
        if len(parents) not in (0, num_classes):
            raise UserError(
                f"method.coarse_classes has {len(parents)} entries for {num_classes} classes. "
                "Leave the option to the data set, or state the coarse class of each class."
            )
        self.encoder = Perceptron(feature_dim, width, width, spec.dropout)
        self.fine = Perceptron(width, width, num_classes, spec.dropout)
        self.pseudo = Perceptron(width, width, spec.concepts, spec.dropout)
        self.coarse = Perceptron(width, width, 1, spec.dropout) if parents else None
        for name, value in self.encoder.state_dict().items():
            self.register_buffer(_frozen(name), value.clone())
        self.register_buffer("centres", torch.zeros(spec.concepts, width))
        self.register_buffer("frequencies", torch.zeros(spec.concepts))
        self.register_buffer("videos", torch.zeros(()))
        self.register_buffer("positives", torch.zeros(num_classes))
        groups = torch.zeros(spec.coarse_count, num_classes)
        groups[list(parents), range(len(parents))] = 1
        self.register_buffer("groups", groups, persistent=False)  # the classes of each coarse class
        self.register_buffer("coarse_positives", torch.zeros(len(groups)))

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return FineAction's settings where there are many classes, otherwise FineGym's."""
        if many_classes(dataset):
            options, alpha, epochs, rows = HaanOptions(), -0.8, 50, 100
        else:
            options, alpha, epochs, rows = FINEGYM_OPTIONS, 0.1, 200, 309
        train = TrainSpec(epochs=epochs, batch_size=2, temporal_length=rows, test_length=ALL_ROWS, learning_rate=3e-5)
        return Recipe(method=options, train=train, localizer=localizer(alpha))

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Count the training videos of each class and, every few epochs, cluster their snippets.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: all training videos.
        """
        if not videos:
            return
        labels = torch.zeros(len(videos), self.num_classes)
        for row, video in enumerate(videos):
            labels[row, list(video.labels)] = 1
        labels = labels.to(self.positives)
        self.videos.fill_(len(videos))
        self.positives.copy_(labels.sum(dim=0))
        self.coarse_positives.copy_(self.coarse_labels(labels).sum(dim=0))
        if epoch % self.spec.refresh == 0 or not bool(self.frequencies.any()):
            self._cluster(videos)

    @torch.no_grad()
    def _cluster(self, videos: Sequence[Video]) -> None:
        """Fit clusters to a sample of the encoded snippets, and count the snippets of each."""
        for name, value in self.encoder.state_dict().items():
            self.get_buffer(_frozen(name)).copy_(value)
        lengths = [len(video.features) for video in videos]
        total = sum(lengths)
        sample = torch.randperm(total)[: max(int(self.spec.clustered * total), 1)].sort().values.numpy()
        ends = np.cumsum(lengths)
        rows = np.split(sample, np.searchsorted(sample, ends[:-1]))
        encoded = [
            self._frozen_encoding(self._read(video, chosen - end + length))
            for video, chosen, end, length in zip(videos, rows, ends, lengths, strict=True)
        ]
        with _libraries().limit(limits=1):  # scikit-learn adds threads' sums in whatever order they end
            centres = k_means(torch.cat(encoded).float().cpu().numpy(), self.spec.concepts, seed=0)
        self.centres.zero_()
        self.centres[: len(centres)] = torch.from_numpy(centres)
        self.frequencies.zero_()
        self.frequencies[: len(centres)] = 1.0
        counts = torch.zeros_like(self.frequencies)
        for video in videos:
            counts += torch.bincount(self.clusters(self._read(video, slice(None))), minlength=len(counts))
        self.frequencies.copy_(counts / total)

    def _read(self, video: Video, rows: np.ndarray | slice) -> VideoFeatures:
        return torch.from_numpy(np.asarray(video.features[rows], dtype=np.float32)).to(self.centres)

    def _frozen_encoding(self, features: Float[Tensor, "*rows in_dim"]) -> Float[Tensor, "*rows dim"]:
        """Return the snippets as the encoder of the last clustering encodes them, without dropout."""
        layer = {name: self.get_buffer(_frozen(name)) for name, _ in self.encoder.named_parameters()}
        hidden = functional.linear(features, layer["hidden.weight"], layer["hidden.bias"]).relu()
        return functional.linear(hidden, layer["output.weight"], layer["output.bias"])

    @torch.no_grad()
    def clusters(self, features: Float[Tensor, "*rows in_dim"]) -> Int[Tensor, "*rows"]:
        """Return each snippet's cluster in the last clustering, the nearest centre that has snippets at all."""
        distances = self.centres.square().sum(dim=1) - 2 * self._frozen_encoding(features) @ self.centres.T
        return distances.masked_fill(self.frequencies == 0, torch.inf).argmin(dim=-1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the videos, with each one's clusters and the weights of its classes (see `terms`)."""
        labels, coarse = batch.labels, self.coarse_labels(batch.labels)
        return self.terms(
            batch.features,
            labels,
            self.clusters(batch.features),
            self.frequencies,
            balance(labels, self.positives, self.videos),
            coarse,
            balance(coarse, self.coarse_positives, self.videos),
        )

    def terms(
        self,
        features: Features,
        labels: Labels,
        clusters: Clusters,
        frequencies: Float[Tensor, " concepts"],
        weights: Labels,
        coarse_labels: VideoScores,
        coarse_weights: VideoScores,
    ) -> dict[str, Tensor]:
        """Return `classification`, `pseudo`, `concept`, `coarse` and their weighted `total`, summed over the videos.

        Args:
            features: `[B, T, D]`.
            labels: `[B, C]` multi-hot.
            clusters: `[B, T]`.
            frequencies: `[K]` share of the training snippets in each cluster.
            weights: `[B, C]` of each class's loss.
            coarse_labels: `[B, G]` multi-hot.
            coarse_weights: `[B, G]` of each coarse class's loss.
        """
        encoded = self.encoder(features)[1]
        hidden, cas = self.fine(encoded)
        vectors = self.fine.output.weight.detach()
        classes = class_features(visual_concepts(hidden, clusters, len(frequencies)), vectors, self.spec.nearest)
        terms = {
            "classification": balanced_loss(above_mean(cas), labels, weights),
            "pseudo": pseudo_loss(self.pseudo(encoded)[1], clusters, frequencies),
            "concept": concept_loss(classes, vectors, labels),
            "coarse": torch.zeros_like(cas[0, 0, 0]),
        }
        if self.coarse is not None:
            logits = self.coarse(self.coarse_features(classes))[1]
            terms["coarse"] = balanced_loss(logits.squeeze(-1), coarse_labels, coarse_weights)
        terms["total"] = (
            terms["classification"]
            + self.spec.pseudo * terms["pseudo"]
            + self.spec.concept * terms["concept"]
            + self.spec.coarse * terms["coarse"]
        )
        return terms

    def coarse_labels(self, labels: Labels) -> VideoScores:
        """Return `[B, G]` multi-hot labels: a coarse class occurs where one of its classes does."""
        return (labels @ self.groups.T).clamp(max=1)

    def coarse_features(self, classes: ClassFeatures) -> Float[Tensor, "batch groups dim"]:
        """Return the maximum or the mean of the features of each coarse class's classes."""
        if self.spec.pooling == "mean":
            return self.groups @ classes / self.groups.sum(dim=1, keepdim=True)
        return classes.unsqueeze(1).where(self.groups.unsqueeze(-1) > 0, -torch.inf).amax(dim=2)

    def score(self, features: VideoFeatures) -> Scores:
        """Return `cas` and `attention`, and what the method's own localizer reads.

        It scores the signal `logit` and thresholds `relative`, a class's logits minus their mean in the video, divided
        by their range. The class scores `logit` are means of the highest snippets, and the video scores their sigmoid.
        """
        logits: Tensor = self.fine(self.encoder(features)[1])[1]
        span = logits.amax(dim=0) - logits.amin(dim=0)
        relative = ((logits - logits.mean(dim=0)) / span.where(span > 0, 1.0)).where(span > 0, -1.0)
        video = top_k_mean(logits.unsqueeze(0), -(-len(logits) // self.spec.ratio))[0]
        cas = logits.sigmoid()
        signals = {"cas": cas, "attention": cas.amax(dim=1), "logit": logits, "relative": relative}
        return Scores(signals, video.sigmoid(), {"logit": video})

    def export_state(self) -> dict[str, Tensor]:
        """Return the encoder and the fine classifier."""
        return {name: value for name, value in self.state_dict().items() if name.startswith(("encoder.", "fine."))}


@cache
def _libraries() -> ThreadpoolController:
    """Return the libraries with threads, found once, because that reads a file."""
    return ThreadpoolController()


def _frozen(name: str) -> str:
    return f"frozen_{name.replace('.', '_')}"


def pseudo_loss(logits: Cas, clusters: Clusters, frequencies: Float[Tensor, " concepts"]) -> Scalar:
    """Compute the sum over videos of the weighted mean cross-entropy of their snippets' clusters, divided by T.

    The weight of a snippet is the frequency of its cluster.

    Args:
        logits: `[B, T, K]`.
        clusters: `[B, T]` cluster of each snippet.
        frequencies: `[K]` share of the training snippets in each cluster.
    """
    weights = frequencies[clusters]
    costs = functional.cross_entropy(logits.mT, clusters, reduction="none")
    means = (weights * costs).sum(dim=1) / weights.sum(dim=1).clamp(min=torch.finfo(weights.dtype).tiny)
    return means.sum() / logits.shape[1]


def visual_concepts(features: Embedded, clusters: Clusters, count: int) -> Concepts:
    """Return the mean feature of each cluster's snippets in a video, zero where it has none.

    Args:
        features: `[B, T, D]`.
        clusters: `[B, T]` cluster of each snippet.
        count: K.
    """
    member = features.new_zeros(*clusters.shape, count).scatter(2, clusters.unsqueeze(-1), 1.0)
    return member.mT @ features / member.sum(dim=1).clamp(min=1).unsqueeze(-1)


def class_features(concepts: Concepts, vectors: Float[Tensor, "classes dim"], nearest: int) -> ClassFeatures:
    """Return for each class the mean of the concepts that have the largest cosine with its vector.

    Args:
        concepts: `[B, K, D]`.
        vectors: `[C, D]`, without gradient.
        nearest: number of concepts; all if there are fewer.
    """
    count = min(nearest, concepts.shape[1])
    chosen = cosines(vectors.expand(len(concepts), -1, -1), concepts.detach()).topk(count, dim=-1).indices
    member = concepts.new_zeros(len(concepts), len(vectors), concepts.shape[1]).scatter(2, chosen, 1.0)
    return member @ concepts / count


def concept_loss(classes: ClassFeatures, vectors: Float[Tensor, "classes dim"], labels: Labels) -> Scalar:
    """Compute the sum over videos of the mean of 1 - cos(vector, features) over the video's classes.

    Args:
        classes: `[B, C, D]` features that represent each class.
        vectors: `[C, D]`.
        labels: `[B, C]` multi-hot.
    """
    distances = 1 - functional.cosine_similarity(vectors, classes, dim=-1)
    return ((distances * labels).sum(dim=1) / labels.sum(dim=1).clamp(min=1)).sum()
