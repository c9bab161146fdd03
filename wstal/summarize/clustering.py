"""Clusterings of the memory bank: the summaries of Table VI that are not learned.

Each is a function `(slots [S, D], N, seed) -> centres [at most N, D]`. Centres are means of slots. They are not
normalised, like the slots, because snippets read them by dot product (Eq. 12).
"""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN, KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits
from torch import Tensor

from wstal.device import CountsOnHost
from wstal.summarize.summarizer import Summarizer

ClusteringKind = Literal["k_means", "spectral", "dbscan", "optimal_transport"]
Array = NDArray[np.floating]

# slots that spectral and dbscan see: both need all S x S distances
LARGEST_DRAW = 2000
NEIGHBOURS, CORE_SHARE = 5, 0.5
TRANSPORT_STRENGTH, TRANSPORT_ROUNDS = 0.05, 10


class Clustering(CountsOnHost, Summarizer):
    """Summary by the centres of clusters of slots, computed once per epoch, without gradient.

    Args:
        kind: the clustering.
        dim: D.
        count: N, the largest number of centres.

    Example:
        >>> summary = Clustering("k_means", dim=2, count=4)
        >>> summary(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)).shape  # before the first refresh
        torch.Size([0, 2])
    """

    COUNTERS: ClassVar[tuple[str, ...]] = ("found",)
    centres: Tensor
    found: Tensor

    def __init__(self, kind: ClusteringKind, dim: int, count: int) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("centres", torch.zeros(count, dim))
        self.register_buffer("found", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def refresh(self, tokens: Float[Tensor, "slots dim"], row: Int[Tensor, " slots"]) -> None:
        """Cluster the slots on the CPU, with one number of torch's global generator as the seed.

        Args:
            tokens: `[S, D]` the filled slots.
            row: not used.
        """
        seed = int(torch.randint(2**31, ()))
        # one thread: scikit-learn adds its threads' partial sums in whatever order they end, so runs would not repeat
        with threadpool_limits(1):
            centres = _CLUSTERINGS[self.kind](tokens.float().cpu().numpy(), len(self.centres), seed)
        self.centres.zero_()
        self.centres[: len(centres)] = torch.from_numpy(centres)
        self.found.fill_(len(centres))

    def forward(self, tokens: Float[Tensor, "slots dim"], row: Int[Tensor, " slots"]) -> Float[Tensor, "centres dim"]:
        """Return T_M of the last refresh, without any centre before the first.

        Args:
            tokens: not used.
            row: not used.
        """
        return self.centres[: int(self.found)]


def k_means(slots: Array, count: int, seed: int) -> Array:
    """Cluster all slots with Lloyd's algorithm from one k-means++ start. Four starts lower the error by less than 1 %.

    Args:
        slots: `[S, D]`.
        count: N.
        seed: of the start.

    Example:
        >>> slots = np.array([[0.0, 1.0], [0.0, 3.0], [8.0, 0.0]])
        >>> sorted(k_means(slots, count=2, seed=0).tolist())
        [[0.0, 2.0], [8.0, 0.0]]
    """
    return _means(slots, _partition(slots, count, seed))


def spectral(slots: Array, count: int, seed: int) -> Array:
    """Cluster a seeded draw of 2,000 slots by k-means on rows of the leading eigenvectors (Ng, Jordan and Weiss, 2001).

    The affinity is 1 / (1 + d / mean d), with the cosine distance d. It needs no bandwidth and is never 0, so the graph
    is connected, which a nearest-neighbour graph is not where classes are far apart. All eigenvectors are computed:
    solvers for a few (ARPACK in scikit-learn's spectral clustering, and LAPACK's) fail where slots nearly repeat.

    Args:
        slots: `[S, D]`.
        count: N.
        seed: of the draw and the start.

    Example:
        >>> slots = np.array([[0.0, 1.0], [0.0, 3.0], [8.0, 0.0]])
        >>> sorted(spectral(slots, count=2, seed=0).tolist())
        [[0.0, 2.0], [8.0, 0.0]]
    """
    slots = _draw(slots, seed)
    distances = cosine_distances(slots)
    affinity = 1 / (1 + distances / max(distances.mean(), np.finfo(float).tiny))
    scale = 1 / np.sqrt(affinity.sum(axis=1))
    _, vectors = np.linalg.eigh(affinity * np.outer(scale, scale))
    return _means(slots, _partition(normalize(vectors[:, -count:]), count, seed))


def dbscan(slots: Array, count: int, seed: int) -> Array:
    """Return the N largest clusters of DBSCAN on a seeded draw of 2,000 slots, without noise.

    The metric is the cosine distance. A core slot has `NEIGHBOURS` slots (including itself) within eps. eps is the
    median over slots of the distance to that neighbour, so half of the slots are core and there is a cluster. (On
    THUMOS14 features a tenth would leave 86 % as noise, and nine tenths would make one cluster of everything.)

    Args:
        slots: `[S, D]`.
        count: N.
        seed: of the draw.

    Example:
        >>> slots = np.array([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 5)
        >>> sorted(dbscan(slots, count=4, seed=0).tolist())
        [[0.0, 1.0], [1.0, 0.0]]
    """
    slots = _draw(slots, seed)
    distances = cosine_distances(slots)
    neighbours = min(NEIGHBOURS, len(slots))
    reach = np.partition(distances, neighbours - 1, axis=1)[:, neighbours - 1]
    # slots of one direction are 0 apart up to rounding, and eps has to be positive
    eps = max(np.quantile(reach, CORE_SHARE, method="higher"), 1e-9)
    labels = DBSCAN(eps=eps, min_samples=neighbours, metric="precomputed").fit_predict(distances)
    largest = np.argsort(-np.bincount(labels[labels >= 0]), kind="stable")[:count]
    return _means(slots, np.where(np.isin(labels, largest), labels, -1))


def optimal_transport(slots: Array, count: int, seed: int) -> Array:
    """Cluster all slots by balanced self-labelling (Asano et al., ICLR 2020, without a network).

    Balanced assignment of slots to centres alternates with means of the slots by their assignment. Both lower one
    objective, the mean squared distance between a slot and its centres minus the plan's entropy. Distances are in units
    of the slots' variance, so the strength suits any scale of features. Up to N slots are their own centres.

    Args:
        slots: `[S, D]`.
        count: N.
        seed: of the k-means++ start.

    Example:
        >>> optimal_transport(np.array([[0.0, 1.0]]), count=4, seed=0).tolist()
        [[0.0, 1.0]]
    """
    if len(slots) <= count:
        return slots
    centres, _ = kmeans_plusplus(slots, count, random_state=seed)
    variance = max(slots.var(axis=0).sum(), np.finfo(np.float32).tiny)
    for _ in range(TRANSPORT_ROUNDS):
        plan = balanced_assignment(euclidean_distances(slots, centres, squared=True) / variance, TRANSPORT_STRENGTH)
        centres = (plan / plan.sum(axis=0)).astype(slots.dtype).T @ slots
    return np.asarray(centres)


def balanced_assignment(cost: Array, strength: float) -> NDArray[np.float64]:
    """Return the plan Q that minimises <Q, cost> + strength <Q, log Q> (Sinkhorn).

    Row sums are 1/S and column sums 1/N.

    Args:
        cost: `[S, N]` cost of assigning a slot to a centre.
        strength: weight of the entropy. At 0.05 a slot gives its first centre about 0.8 on THUMOS14 features.

    Returns:
        `[S, N]` plan. Rows are exact, columns to 0.1 %, or what 1,000 iterations reach.

    Example:
        >>> balanced_assignment(np.array([[0.0, 1.0], [1.0, 0.0]]), strength=0.05).round(3).tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    import ot  # takes two seconds, and only this clustering needs it

    slots, centres = cost.shape
    # a constant on a row leaves the plan as it is; 300 strengths above a slot's best centre are as good as infinite,
    # and exp(-300) leaves room for the plan's factors in double precision: an outlier would overflow them
    above = np.minimum(cost.astype(np.float64) - cost.min(axis=1, keepdims=True), 300 * strength)
    plan: NDArray[np.float64] = ot.sinkhorn(
        np.full(slots, 1 / slots),
        np.full(centres, 1 / centres),
        above,
        strength,
        stopThr=1e-3 / centres,
        warn=False,  # of the 1,000 iterations: a plan off balance still gives means of slots
    )
    return plan


_CLUSTERINGS = {function.__name__: function for function in (k_means, spectral, dbscan, optimal_transport)}


def _draw(slots: Array, seed: int) -> Array:
    """Return at most `LARGEST_DRAW` of the slots, in double precision."""
    if len(slots) > LARGEST_DRAW:
        slots = slots[np.random.default_rng(seed).choice(len(slots), LARGEST_DRAW, replace=False)]
    return slots.astype(np.float64)


def _partition(points: Array, count: int, seed: int) -> NDArray[np.integer]:
    with warnings.catch_warnings():
        # fewer distinct points than clusters: some numbers go unused
        warnings.filterwarnings("ignore", "Number of distinct clusters", ConvergenceWarning)
        labels: NDArray[np.integer] = KMeans(min(count, len(points)), n_init=1, random_state=seed).fit_predict(points)
    return labels


def _means(slots: Array, labels: NDArray[np.integer]) -> Array:
    """Return the mean slot of each label, ignoring noise (labels below 0)."""
    return np.stack([slots[labels == label].mean(axis=0, dtype=np.float64) for label in np.unique(labels[labels >= 0])])
