"""AUMN: action unit memory network.

Idea: a memory that all videos share holds action units, each a template and a classifier. A snippet is compared with
the templates, and classified by the classifiers of the units that it resembles.

Paper: Luo et al., CVPR 2021, arXiv 2104.14135. No code was released and its text was not at hand, but for its abstract
and what others wrote about it. Stated:
- the memory is learned, and holds templates of appearance and of motion together with their classifiers;
- two attention modules: one updates the memory, the other derives the classifiers of a snippet's units;
- the memory is guided by diversity, homogeneity and sparsity.

Readings, ours:
- each stream has a memory and a network of its own, and their scores are averaged;
- a convolution over three snippets embeds them, x;
- update: the templates attend to each other, K' = LayerNorm(K + self-attention(K)), with one head;
- read: w = softmax over units of <x W_q, k' W_k> / sqrt(d), and the logits X = sum over units of w_n Theta_n x;
- a unit's classifier Theta_n scales the columns of one that the units share, or is free (`classifiers`);
- background is one more class, and foreground attention is read from the snippet or from the memory (`foreground`);
- classification of a X without background and of X with it, pooled as in HAM-Net;
- diversity: distance of the templates' cosines from the identity. Homogeneity: divergence of the units' mean weights
  in a batch from uniform ones. Sparsity: entropy of a snippet's weights, and mean attention (weights 0.1 each);
- training and localization as similar methods have them.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal.families import epochs_for, many_classes
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource
from wstal.losses.attention import attended_scores, video_loss
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.layers import TemporalConv
from wstal.spec import Count
from wstal.streams import SeparateStreams, StreamOptions
from wstal.tensors import Cas, Embedded, Features, Foreground, Scalar, VideoFeatures
from wstal.types import Batch, Paper, Scores

Templates = Float[Tensor, "units dim"]
Read = Float[Tensor, "batch time units"]


class AumnOptions(StreamOptions):
    """Options of AUMN. The paper's text was not at hand: all are readings."""

    width: Count = Field(512, description="columns of embedding and templates (not known)")
    units: Count = Field(32, description="action units in the memory of a stream (not known)")
    classifiers: Literal["scaled", "free"] = Field(
        "scaled",
        description="how the memory holds classifiers (not known). scaled: values that scale the columns of one "
        "classifier; free: a whole classifier for each unit",
    )
    foreground: Literal["snippet", "memory"] = Field(
        "snippet",
        description="what foreground attention is read from (not known). snippet: its embedding; memory: its "
        "similarity to the nearest template",
    )
    ratio: int = Field(8, ge=1, description="k = T / ratio snippets are pooled (not known)")
    diversity: float = Field(0.1, ge=0, description="weight of the templates' diversity (not known)")
    homogeneity: float = Field(0.1, ge=0, description="weight of the units' even use (not known)")
    sparsity: float = Field(0.1, ge=0, description="weight of the entropy of a snippet's units (not known)")
    norm: float = Field(0.1, ge=0, description="weight of the mean attention, the other reading of sparsity; 0: none")


STEPS, BATCH = 6000, 16
THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))
LOCALIZER = LocalizerSpec(
    class_threshold=0.2,
    margin=0.25,
    sources=tuple(
        ProposalSource(signal=signal, thresholds=THRESHOLDS, score={"cas": 1.0}, video_score_weight=0.2)
        for signal in ("attention", "cas")
    ),
    nms=Nms(kind="hard", threshold=0.5),
)


class UnitMemory(nn.Module):
    """Memory of action units.

    Args:
        units: N, number of units.
        dim: d, columns of templates and of the embedding.
        classes: outputs of a classifier.
        free: each unit has a whole classifier, instead of values that scale the columns of a shared one.
    """

    def __init__(self, units: int, dim: int, classes: int, free: bool) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(units, dim))
        # a bias of keys adds the same to all similarities of a query, which the softmax takes away
        self.update_query, self.update_value = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.update_key = nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.read_query, self.read_key = (nn.Linear(dim, dim, bias=False) for _ in range(2))
        if free:
            self.values = nn.Parameter(torch.randn(units, classes, dim) / math.sqrt(dim))
            self.scale = self.shared = None
        else:
            self.values = nn.Parameter(torch.randn(units, dim))
            self.scale = nn.Linear(dim, dim, bias=False)
            self.shared = nn.Parameter(torch.randn(classes, dim) / math.sqrt(dim))

    def templates(self) -> Templates:
        """Return K', the templates after they attended to each other."""
        keys = self.keys
        attended = functional.scaled_dot_product_attention(
            self.update_query(keys)[None], self.update_key(keys)[None], self.update_value(keys)[None]
        )
        updated: Tensor = self.norm(keys + attended[0])
        return updated

    def similarities(self, embedded: Embedded, templates: Templates) -> Read:
        """Return the scaled similarities of snippets to templates, whose softmax is w.

        Args:
            embedded: `[B, T, d]` x.
            templates: `[N, d]` K'.
        """
        similarities: Tensor = self.read_query(embedded) @ (self.read_key(templates) / math.sqrt(embedded.shape[2])).mT
        return similarities

    def classifiers(self) -> Float[Tensor, "units classes dim"]:
        """Return Theta, the classifier of each unit."""
        if self.scale is None or self.shared is None:
            return self.values
        scales: Tensor = self.scale(self.values)
        return self.shared * scales.unsqueeze(1)


class Outputs(NamedTuple):
    """Output of one network.

    Args:
        attention: `[B, T, 1]` a in [0, 1].
        cas: `[B, T, C + 1]` X, logits with background last.
        log_read: `[B, T, N]` log w.
        templates: `[N, d]` K'.
    """

    attention: Foreground
    cas: Cas
    log_read: Read
    templates: Templates


class AumnNetwork(Method):
    """Network of one stream over features `[B, T, D]`."""

    Options = AumnOptions
    spec: AumnOptions

    def __init__(self, spec: AumnOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.embedding = TemporalConv(feature_dim, spec.width, 3, padding="same")
        self.memory = UnitMemory(spec.units, spec.width, num_classes + 1, spec.classifiers == "free")
        self.attention = nn.Linear(spec.width, 1) if spec.foreground == "snippet" else None

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return THUMOS14's settings, and ActivityNet's usual number of rows where there are many classes."""
        rows = 75 if many_classes(dataset) else 750
        train = TrainSpec(
            epochs=epochs_for(dataset, STEPS, BATCH),
            batch_size=BATCH,
            temporal_length=rows,
            test_length=rows,
            weight_decay=5e-4,
        )
        return Recipe(method=AumnOptions(), train=train, localizer=LOCALIZER)

    def outputs(self, features: Features) -> Outputs:
        """Embed snippets, read the memory, and classify each snippet by the classifiers of its units."""
        memory = self.memory
        embedded = self.embedding(features).relu()
        templates = memory.templates()
        similarities = memory.similarities(embedded, templates)
        log_read = similarities.log_softmax(dim=2)
        cas = unit_logits(embedded, log_read.exp(), memory.classifiers())
        nearest = similarities.amax(dim=2, keepdim=True)
        attention = (nearest if self.attention is None else self.attention(embedded)).sigmoid()
        return Outputs(attention, cas, log_read, templates)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `attended` and `whole` (classification), the terms that guide the memory, and their `total`."""
        spec, outputs = self.spec, self.outputs(batch.features)
        attended = outputs.attention * outputs.cas
        terms = {
            "attended": video_loss(attended, batch.labels, background=False, ratio=spec.ratio),
            "whole": video_loss(outputs.cas, batch.labels, background=True, ratio=spec.ratio),
            "diversity": diversity_loss(outputs.templates),
            "homogeneity": homogeneity_loss(outputs.log_read),
            "sparsity": sparsity_loss(outputs.log_read),
            "norm": outputs.attention.mean(),
        }
        guided = sum(getattr(spec, name) * terms[name] for name in ("diversity", "homogeneity", "sparsity", "norm"))
        return terms | {"total": terms["attended"] + terms["whole"] + guided}

    def score(self, features: VideoFeatures) -> Scores:
        """Return the scores of this network alone: those of a X, with background removed at the end."""
        outputs = self.outputs(features.unsqueeze(0))
        return attended_scores(outputs.cas, outputs.attention, self.spec.ratio)


class Aumn(SeparateStreams):
    """AUMN over features `[B, T, D]`: one network with a memory per stream."""

    name = "aumn"
    title = "AUMN (from the paper)"
    source = "paper, partly"
    paper = Paper(
        "Action Unit Memory Network for Weakly Supervised Temporal Action Localization",
        "Wang Luo, Tianzhu Zhang, Wenfei Yang, Jingen Liu, Tao Mei, Feng Wu, Yongdong Zhang",
        "CVPR",
        2021,
        "https://arxiv.org/abs/2104.14135",
    )
    Options = AumnOptions
    Network = AumnNetwork
    spec: AumnOptions

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the network's recipe."""
        return AumnNetwork.recipe(dataset)


def unit_logits(embedded: Embedded, read: Read, classifiers: Float[Tensor, "units classes dim"]) -> Cas:
    """Compute X_tc = sum_n w_tn <Theta_nc, x_t>.

    Args:
        embedded: `[B, T, d]` x.
        read: `[B, T, N]` w, weights of the units.
        classifiers: `[N, C + 1, d]` Theta.
    """
    of_units = (embedded @ classifiers.flatten(0, 1).mT).view(*read.shape, -1)
    return (read.unsqueeze(3) * of_units).sum(dim=2)


def diversity_loss(templates: Templates) -> Scalar:
    """Compute the squared Frobenius norm of the templates' cosines minus the identity: 0 if they are orthogonal.

    Args:
        templates: `[N, d]`.
    """
    unit = functional.normalize(templates, dim=1)
    cosines = unit @ unit.mT
    return (cosines - torch.eye(len(cosines), dtype=cosines.dtype, device=cosines.device)).square().sum()


def homogeneity_loss(log_read: Read) -> Scalar:
    """Compute KL(u || 1/N), where u is the mean weight of each unit over the batch: 0 if units are used evenly.

    Args:
        log_read: `[B, T, N]` log w.
    """
    units, snippets = log_read.shape[2], log_read.shape[0] * log_read.shape[1]
    log_use = log_read.flatten(0, 1).logsumexp(dim=0) - math.log(snippets)
    return (log_use.exp() * log_use).sum() + math.log(units)


def sparsity_loss(log_read: Read) -> Scalar:
    """Compute the mean entropy of a snippet's weights: 0 if each snippet uses one unit.

    Args:
        log_read: `[B, T, N]` log w.
    """
    return -(log_read.exp() * log_read).sum(dim=2).mean()
