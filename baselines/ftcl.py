"""FTCL: fine-grained temporal contrastive learning by differentiable alignment of video pairs.

Idea: ACM-Net is trained first. Then videos come in pairs, of equal or of disjoint labels, and two dynamic programs
compare their most attended snippets. FSD, a soft edit distance of five snippets each, aligns actions of one class, and
keeps an action apart from what the other video attends to next. LCS, a longest common subsequence of thirty snippets
each, is long where videos share a class. Their values are raised for pairs that share a class and lowered for others.

Paper: Chen et al., CVPR 2022, arXiv 2203.16800. Facts: its released code (MengyuanChen21/CVPR2022-FTCL at cf607d6),
checked against tensors recorded from it. Deviations:
- both stages are one run, the second begins with new moments of Adam. The released code loads the checkpoint of a first
  one, the best on the test set, and keeps the best of the second; here the last one counts both times;
- the first stage is ACM-Net alone, as the released code's with its switches `without_lcs` and `without_fsd`;
- an epoch over pairs has as many steps as one over videos, and its pairs are drawn anew, half of equal and half of
  disjoint labels. The released code takes all pairs of equal labels and draws as many others, once, as it does the rows
  of videos. It goes through these 25 times, which is as many steps as here;
- a video of fewer than 30 rows is aligned with all of them, one of fewer than 10 with the better half against the rest
  (the released code fails on them), and a video without labels is in no pair;
- log-probabilities come from log-softmax (the released code adds 1e-10 to each probability);
- on ActivityNet the instance loss has ACM-Net's weight of 5, which the released code states but never reaches. It has
  no training and no localizer for this data set: the epochs are THUMOS14's, the localizer is ACM-Net's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from baselines.acmnet import (
    ACTIVITYNET_LOCALIZER,
    ACTIVITYNET_OPTIONS,
    INSTANCE,
    THUMOS_LOCALIZER,
    AcmNet,
    AcmNetOptions,
)
from wstal.families import many_classes
from wstal.method import Recipe, TrainSpec
from wstal.parts.cosine import cosines
from wstal.parts.pooling import take_rows
from wstal.spec import Count
from wstal.tensors import Scalar
from wstal.types import Batch, IntArray, Paper, Snippets, Video

Attended = Float[Tensor, "videos k dim"]
Ranked = Int[Tensor, "videos k"]
Same = Bool[Tensor, " pairs"]
PairScores = Float[Tensor, " pairs"]
Table = Float[Tensor, "pairs rows columns"]
Diagonal = Float[Tensor, "pairs rows"]


class FtclOptions(AcmNetOptions):
    """Options of FTCL. The defaults are for THUMOS14."""

    pair_start: float = Field(
        0.706, ge=0, le=1, description="share of the epochs, the first ones, that train ACM-Net alone, not over pairs"
    )
    pairs: Count = Field(16, description="pairs a batch over pairs, at most as many as train.batch_size")
    width: Count = Field(1024, ge=2, description="columns of the layer before FSD: half for matches, half for gaps")
    lcs: float = Field(0.1, ge=0, description="weight of the LCS loss")
    lcs_length: Count = Field(30, description="most attended snippets that LCS aligns")
    lcs_threshold: float = Field(0.92, ge=-1, le=1, description="cosine above which two snippets are common")
    fsd: float = Field(0.8, ge=0, description="weight of the FSD loss")
    fsd_length: Count = Field(5, description="most attended snippets that FSD aligns, and as many of the next ones")
    smoothness: float = Field(0.1, ge=0.01, description="temperature of FSD's soft maximum (gamma)")


# its 25 epochs over 1,722 pairs are 2,700 steps, as 208 epochs of 200 videos
EPOCHS = 500 + 208
THUMOS_TRAIN = TrainSpec(epochs=EPOCHS, weight_decay=5e-5)
ACTIVITYNET_TRAIN = TrainSpec(epochs=EPOCHS, temporal_length=75, test_length=75, weight_decay=1e-3)


class Ftcl(AcmNet):
    """FTCL over features `[B, T, D]`: ACM-Net and, in training, a linear layer for FSD."""

    name = "ftcl"
    title = "FTCL"
    paper = Paper(
        "Fine-grained Temporal Contrastive Learning for Weakly-supervised Temporal Action Localization",
        "Junyu Gao, Mengyuan Chen, Changsheng Xu",
        "CVPR",
        2022,
        "https://arxiv.org/abs/2203.16800",
    )
    Options = FtclOptions
    spec: FtclOptions

    def __init__(self, spec: FtclOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.transform = nn.Linear(feature_dim, spec.width)
        self._aligning = False

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return ActivityNet's settings for `activitynet*` and (not in the paper) FineAction, otherwise THUMOS14's."""
        if many_classes(dataset):
            options = FtclOptions(**ACTIVITYNET_OPTIONS.model_dump())
            return Recipe(method=options, train=ACTIVITYNET_TRAIN, localizer=ACTIVITYNET_LOCALIZER)
        return Recipe(method=FtclOptions(), train=THUMOS_TRAIN, localizer=THUMOS_LOCALIZER)

    def stage(self, epoch: int, epochs: int) -> int:
        """Return 0 in the epochs that train ACM-Net alone, and 1 in those over pairs, the last one at least.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
        """
        return int(epoch >= min(round(self.spec.pair_start * epochs), epochs - 1))

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Note the stage.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: not used.
        """
        self._aligning = self.stage(epoch, epochs) == 1

    @property
    def pairs(self) -> int:
        """Number of leading pairs, the option `pairs`."""
        return self.spec.pairs

    def train_batches(self, labels: Sequence[tuple[int, ...]], size: int, rng: np.random.Generator) -> list[IntArray]:
        """Return ACM-Net's batches and, in the second stage, as many of pairs, as `draw_pairs` gives them.

        Args:
            labels: class indices of each training video.
            size: videos per batch; pairs in the second stage.
            rng: generator of the epoch.
        """
        batches = super().train_batches(labels, size, rng)
        if self._aligning:
            pairs = draw_pairs(labels, len(batches) * min(size, self.spec.pairs), rng)
            if len(pairs):  # there are none if no two videos have equal labels
                return [part.reshape(-1) for part in np.split(pairs, len(batches))]
        return batches

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ACM-Net's terms, the contrasts `lcs` and `fsd` (0 in the first stage), and the weighted `total`."""
        spec = self.spec
        snippets = self.snippets(batch.features)
        terms = self.snippet_losses(snippets, batch.labels)
        pairs = min(spec.pairs, len(batch.labels) // 2)
        if not self._aligning or pairs == 0:
            zero = torch.zeros_like(terms["total"])
            return terms | {"lcs": zero, "fsd": zero}
        count = max(spec.lcs_length, 2 * spec.fsd_length)
        attended, ranked = (part[: 2 * pairs] for part in most_attended(snippets, count))
        labels = batch.labels[: 2 * pairs]
        same = (labels[0::2] * labels[1::2]).sum(dim=1) > 0
        terms["lcs"] = contrast(self.lcs(attended, ranked), same)
        terms["fsd"] = contrast(self.fsd(attended, ranked, same), same)
        terms["total"] = terms["total"] + spec.lcs * terms["lcs"] + spec.fsd * terms["fsd"]
        return terms

    def lcs(self, attended: Attended, ranked: Ranked) -> PairScores:
        """Return the soft length of the longest common subsequence of each pair.

        Args:
            attended: `[2 P, k, D]` as `most_attended` gives them, rows 0 and 1, 2 and 3, ... a pair.
            ranked: `[2 P, k]` their rows.
        """
        length = self.spec.lcs_length
        ordered = in_time(attended[:, :length], ranked[:, :length])
        return longest_common(cosines(ordered[0::2], ordered[1::2]), self.spec.lcs_threshold)

    def fsd(self, attended: Attended, ranked: Ranked, same: Same) -> PairScores:
        """Return the alignment of a pair's actions if it shares a class, else of an action and the other's background.

        Args:
            attended: `[2 P, k, D]` as `most_attended` gives them, rows 0 and 1, 2 and 3, ... a pair.
            ranked: `[2 P, k]` their rows.
            same: `[P]`, true for pairs that share a class.
        """
        count = min(2 * self.spec.fsd_length, ranked.shape[1])
        action = slice(0, (count + 1) // 2)
        background = slice(count // 2, count)
        actions = self.transform(in_time(attended[:, action], ranked[:, action]))
        backgrounds = self.transform(in_time(attended[1::2, background], ranked[1::2, background]))
        other = torch.where(same[:, None, None], actions[1::2], backgrounds)
        halves = zip(actions[0::2].chunk(2, dim=-1), other.chunk(2, dim=-1), strict=True)
        match, gap = (cosines(one, another) for one, another in halves)
        return soft_alignment(match, gap, self.spec.smoothness)


def most_attended(snippets: Snippets, count: int) -> tuple[Attended, Ranked]:
    """Return the embeddings of the snippets with the largest instance attention, in descending order, and their rows.

    Args:
        snippets: of B videos.
        count: number of snippets of a video; all of a shorter one.
    """
    attention = snippets.attention[..., INSTANCE]
    ranked = attention.topk(min(count, attention.shape[1]), dim=1).indices
    return take_rows(snippets.embedded, ranked), ranked


def in_time(attended: Attended, ranked: Ranked) -> Attended:
    """Return snippets in the order of time.

    Args:
        attended: `[B, k, D]`.
        ranked: `[B, k]` their rows.
    """
    return take_rows(attended, ranked.argsort(dim=1))


def longest_common(similarity: Table, threshold: float) -> PairScores:
    """Compute the soft length of the longest common subsequence of each pair.

    C(i, j) = C(i-1, j-1) + s_ij where s_ij > threshold, else max(C(i-1, j), C(i, j-1)). The length is the last cell.

    Args:
        similarity: `[P, rows, columns]` s.
        threshold: similarity above which two snippets are common.
    """
    return last_cell(
        lambda corner, above, left, s: torch.where(s > threshold, corner + s, torch.maximum(above, left)), similarity
    )


def soft_alignment(match: Table, gap: Table, smoothness: float) -> PairScores:
    """Compute the soft alignment score of each pair.

    C(i, j) = m_ij + smax(C(i-1, j-1), g_ij + C(i-1, j), g_ij + C(i, j-1)) with smax(x) = gamma logsumexp(x / gamma).
    The score is the last cell.

    Args:
        match: `[P, rows, columns]` m.
        gap: `[P, rows, columns]` g.
        smoothness: gamma.
    """
    # exponents reach 100: in single precision 3e-5 of the gradient would be rounding
    scores = last_cell(
        lambda corner, above, left, m, g: m + soft_max(torch.stack([corner, g + above, g + left]), smoothness),
        match.double(),
        gap.double(),
    )
    return scores.to(match.dtype)


def soft_max(ways: Float[Tensor, "3 pairs rows"], smoothness: float) -> Diagonal:
    """Return gamma logsumexp(x / gamma) over the first axis.

    Args:
        ways: x.
        smoothness: gamma.
    """
    return smoothness * (ways / smoothness).logsumexp(dim=0)


def last_cell(cell: Callable[..., Diagonal], *tables: Table) -> PairScores:
    """Compute the last cell of a recursion over tables, where C(0, .) = C(., 0) = 0.

    A cell reads its three neighbours above and left of it, so all cells of an anti-diagonal, of all pairs, are computed
    at once: rows + columns - 1 steps instead of rows * columns for each pair.

    Args:
        cell: C(i, j) of C(i-1, j-1), C(i-1, j), C(i, j-1) and the tables' values, each `[P, rows]`.
        tables: `[P, rows, columns]` each.
    """
    inside = torch.ones_like(tables[0][:1])
    border = tables[0].new_zeros(len(tables[0]), tables[0].shape[1] + 1)
    before, last = border, border
    for *values, valid in zip(*(skewed(table).unbind(dim=-1) for table in (*tables, inside)), strict=True):
        now = cell(before[:, :-1], last[:, :-1], last[:, 1:], *values) * valid
        before, last = last, functional.pad(now, (1, 0))
    return last[:, -1]


def skewed(table: Table) -> Float[Tensor, "pairs rows diagonals"]:
    """Shift row i by i columns, so that column d of the result is the anti-diagonal i + j = d, with zeros elsewhere."""
    pairs, rows, columns = table.shape
    diagonals = rows + columns - 1
    return functional.pad(table, (0, rows)).flatten(1)[:, : rows * diagonals].reshape(pairs, rows, diagonals)


def contrast(scores: PairScores, same: Same) -> Scalar:
    """Compute the mean score of the pairs that share no class minus that of those that do.

    A mean of none is 0.

    Args:
        scores: `[P]`.
        same: `[P]`, true for pairs that share a class.
    """
    means = [(scores * kind).sum() / kind.sum().clamp(min=1) for kind in (~same, same)]
    return means[0] - means[1]


def draw_pairs(labels: Sequence[tuple[int, ...]], count: int, rng: np.random.Generator) -> IntArray:
    """Draw `[count, 2]` pairs of videos, half of equal and half of disjoint labels, in a random order.

    All pairs of a kind are equally likely. A pair of equal labels repeats only if there are too few. If no pair has
    disjoint labels, all are of equal ones; if none has equal labels, there are no pairs.

    Args:
        labels: class indices of each video. Videos without labels are left out.
        count: number of pairs.
        rng: generator of the epoch.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for video, classes in enumerate(labels):
        if classes:
            groups.setdefault(tuple(classes), []).append(video)
    members = [np.array(group, dtype=np.int64) for group in groups.values()]
    equal = [np.stack([group[one] for one in np.triu_indices(len(group), 1)], axis=1) for group in members]
    positive = np.concatenate([np.empty((0, 2), dtype=np.int64), *equal])
    if len(positive) == 0:
        return positive
    size = np.array([len(group) for group in members])
    disjoint = np.array([[set(one).isdisjoint(other) for other in groups] for one in groups], dtype=bool)
    weights = np.triu(np.outer(size, size) * disjoint).ravel()  # pairs of videos of two groups
    negatives = count // 2 if weights.any() else 0
    drawn = positive[rng.choice(len(positive), count - negatives, replace=count - negatives > len(positive))]
    if negatives:
        both = np.stack(np.divmod(rng.choice(len(weights), negatives, p=weights / weights.sum()), len(size)), axis=1)
        first = np.cumsum(size) - size
        drawn = np.concatenate([drawn, np.concatenate(members)[first[both] + rng.integers(size[both])]])
    return rng.permutation(np.sort(drawn, axis=1))
