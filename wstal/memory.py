"""Class-wise memories: the bank of representative features of Eq. 6-8, and plain queues of regions (DCC)."""

from __future__ import annotations

import functools
import hashlib
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal.device import CountsOnHost, to_device_async
from wstal.spec import Count, Spec
from wstal.tensors import Cas, Embedded

ScoreScale = Literal["min_max", "softmax", "sigmoid", "none"]
SHORTEST = (
    1e-30  # a shorter vector has no direction; drifting towards features of zeros shortens a slot again and again
)

# slots that the diagnostics compare at once
SPLIT = 20_000


class MemoryOptions(Spec):
    """Options of the memory bank."""

    length: Count = Field(500, description="slots of each class (the paper's queue length)")
    momentum: float = Field(0.99, gt=0, le=1, description="alpha of Eq. 8")
    threshold: float = Field(0.75, ge=0, lt=1, description="zeta of Eq. 7, on the scaled attention-weighted CAS")
    score_scale: ScoreScale = Field(
        "min_max",
        description="how Eq. 7's CAS is scaled to 0-1 (not stated): min_max over the video's time, so that every "
        "labelled class contributes; softmax over classes; sigmoid; none: logits as they are",
    )
    update: Literal["slot_momentum", "fifo", "class_ema"] = Field(
        "slot_momentum",
        description="how Eq. 8 updates a queue (not stated): slot_momentum mixes into the slot at the class's "
        "pointer; fifo overwrites it; class_ema moves the nearest slot, m <- alpha m + (1 - alpha) beta",
    )
    background: bool = Field(True, description="store background features too (Table V)")
    start: float = Field(0.25, ge=0, lt=1, description="share of the epochs before the bank is built (50 of 200)")


@functools.cache
def video_number(name: str) -> int:
    """Return the number of a video that owns slots: of its name, so the same in every run and after a resume.

    Example:
        >>> video_number("a") == video_number("a"), video_number("a") == video_number("b")
        (True, False)
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest())


def scaled_scores(cas: Cas, scale: ScoreScale) -> Cas:
    """Scale an attention-weighted CAS to 0-1 for the threshold of Eq. 7. By `min_max` a constant CAS becomes 1.

    Args:
        cas: `[B, T, C]` attention-weighted logits.
        scale: `min_max` over time, `softmax` over classes, `sigmoid`, or `none`, which leaves them as they are.

    Example:
        >>> scaled_scores(torch.tensor([[[1.0], [3.0], [2.0]]]), "min_max").flatten().tolist()
        [0.0, 1.0, 0.5]
    """
    if scale == "softmax":
        return cas.softmax(dim=-1)
    if scale == "sigmoid":
        return cas.sigmoid()
    if scale == "none":
        return cas
    low, high = cas.amin(dim=1, keepdim=True), cas.amax(dim=1, keepdim=True)
    tiny = torch.finfo(cas.dtype).tiny
    # one snippet, or a flat CAS, has no range: 1, because Eq. 7 wants every labelled class to contribute
    return torch.where(high - low >= tiny, (cas - low) / (high - low).clamp(min=tiny), 1.0)


def representative_features(
    embedded: Embedded,
    scores: Float[Tensor, "batch time rows"],
    present: Bool[Tensor, "batch rows"],
    threshold: float,
    sure: bool = False,
) -> tuple[Float[Tensor, "entries dim"], Int[Tensor, " entries"], Int[Tensor, " entries"]]:
    """Compute beta of Eq. 6-7: the mean embedding of the snippets above the threshold, by video and present class.

    Args:
        embedded: `[B, T, D]` F.
        scores: `[B, T, C + 1]` scaled CAS, one column per memory row (class).
        present: `[B, C + 1]` rows that a video contributes to (its labels, and background), on the host.
        threshold: zeta.
        sure: each present row has a snippet above the threshold, as min_max scores do, so the device need not be asked.

    Returns:
        `[entries, D]` features with gradient, and on the host the memory row and the place in the batch of the video of
        each, sorted by video and class. A class without a snippet above the threshold gives no entry.

    Example:
        >>> embedded = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [0.0, 9.0]]])
        >>> scores = torch.tensor([[[0.8], [1.0], [0.0]]])
        >>> features, row, video = representative_features(embedded, scores, torch.tensor([[True]]), threshold=0.75)
        >>> features.tolist(), row.tolist(), video.tolist()
        ([[2.0, 0.0]], [0], [0])
    """
    chosen = (scores > threshold).to(embedded.dtype)
    counts = chosen.sum(dim=1)
    pairs = (present if sure else present & (counts > 0).cpu()).nonzero().T
    video, row = to_device_async(pairs, embedded.device)
    # sums of a video's own classes alone, not of all rows; two at least, as one has a product of other bits
    place = present.cumsum(dim=1)[pairs[0], pairs[1]] - 1
    most = max(2, int(present.sum(dim=1).max()))
    place = to_device_async(place, embedded.device)
    own = chosen.new_zeros(len(chosen), most, chosen.shape[1])
    own[video, place] = chosen.mT[video, row]
    sums = (own @ embedded)[video, place]
    return sums / counts[video, row].clamp(min=1).unsqueeze(-1), pairs[1], pairs[0]


class MemoryBank(CountsOnHost):
    """Queues of features, one per row (the C classes and, last, background), stored as buffers without gradient.

    The slots are on the module's device. Pointers, fill counts and owners, which every step reads, are on the host.

    Args:
        rows: C + 1.
        dim: D, columns of the features.
        options: length, momentum and update rule.
        owned: keep the number of the video that each slot's latest feature is of, in the buffer `owner`.

    Example:
        >>> bank = MemoryBank(rows=2, dim=3, options=MemoryOptions(length=4))
        >>> bank.update(torch.ones(1, 3), torch.tensor([1]))
        >>> [part.tolist() for part in bank.tokens()]
        [[[1.0, 1.0, 1.0]], [1]]
    """

    COUNTERS: ClassVar[tuple[str, ...]] = ("pointer", "filled", "owner")
    slots: Tensor
    pointer: Tensor
    filled: Tensor
    owner: Tensor | None

    def __init__(self, rows: int, dim: int, options: MemoryOptions, owned: bool = False) -> None:
        super().__init__()
        self.options = options
        # pages that are never written take no memory: inference never uses the bank
        self.register_buffer("slots", torch.from_numpy(np.zeros((rows, options.length, dim), dtype=np.float32)))
        self.register_buffer("pointer", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("filled", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("owner", torch.zeros(rows, options.length, dtype=torch.int64) if owned else None)

    def tokens(self) -> tuple[Float[Tensor, "slots dim"], Int[Tensor, " slots"]]:
        """Return `[S, D]` all filled slots, row by row in slot order, and `[S]` the row of each."""
        rows, length, dim = self.slots.shape
        row, place = (torch.arange(length) < self.filled.unsqueeze(1)).nonzero(as_tuple=True)
        if len(row) == rows * length:  # no copy of a full bank
            return self.slots.view(-1, dim), torch.arange(rows, device=self.slots.device).repeat_interleave(length)
        row, place = to_device_async(torch.stack([row, place]), self.slots.device)
        return self.slots[row, place], row

    def owners(self) -> Int[Tensor, " slots"]:
        """Return `[S]` the number of the video that each filled slot's latest feature is of, on the host."""
        assert self.owner is not None
        return self.owner[torch.arange(self.options.length) < self.filled.unsqueeze(1)]

    @torch.no_grad()
    def update(
        self,
        features: Float[Tensor, "entries dim"],
        row: Int[Tensor, " entries"],
        owner: Int[Tensor, " entries"] | None = None,
    ) -> None:
        """Apply Eq. 8 for each feature in turn. Features of one row are stored in their order.

        Args:
            features: `[entries, D]` beta, detached here.
            row: `[entries]` memory row of each, on the host.
            owner: `[entries]` number of each one's video, on the host, for a bank that keeps it.
        """
        features = features.detach().to(self.slots.dtype)
        # rank among this batch's entries of the same class: entries of one round never share a slot
        same = row.unsqueeze(0) == row.unsqueeze(1)
        rank = same.tril(diagonal=-1).sum(dim=1)
        drifting = self.options.update == "class_ema"
        width = 1 if drifting else self.options.length
        fullest = int(torch.bincount(row).max()) if len(row) else 0
        for number in range(-(-fullest // width)):
            now = ((rank // width) == number).nonzero().squeeze(1)
            met = features[to_device_async(now, features.device)]
            if drifting:
                self._drift(met, row[now])
            else:
                slot = (self.pointer[row[now]] + rank[now] % width) % width
                if self.owner is not None and owner is not None:
                    self.owner[row[now], slot] = owner[now]
                self._write(met, row[now], slot)

    def _write(self, features: Tensor, row: Tensor, slot: Tensor) -> None:
        """Mix into slots at and after the pointers. An empty slot takes the feature itself."""
        places = torch.stack([row, slot, slot >= self.filled[row]])
        self._advance(row)
        row, slot, empty = to_device_async(places, self.slots.device)
        alpha = 1.0 if self.options.update == "fifo" else self.options.momentum
        mixed = torch.lerp(self.slots[row, slot], features, alpha)
        self.slots[row, slot] = torch.where(empty.bool().unsqueeze(1), features, mixed)

    def _drift(self, features: Tensor, row: Tensor) -> None:
        """Fill empty slots first. In a full row, move the slot of largest cosine towards the feature."""
        places = torch.stack([row, self.filled[row]])
        self._advance(row)
        row, next_slot = to_device_async(places, self.slots.device)
        full = next_slot == self.options.length
        cosines = functional.cosine_similarity(self.slots[row], features.unsqueeze(1), dim=-1, eps=SHORTEST)
        slot = torch.where(full, cosines.argmax(dim=1), next_slot)
        drifted = torch.lerp(features, self.slots[row, slot], self.options.momentum)
        self.slots[row, slot] = torch.where(full.unsqueeze(1), drifted, features)

    def _advance(self, row: Tensor) -> None:
        added = torch.bincount(row, minlength=len(self.filled))
        self.pointer.copy_((self.pointer + added) % self.options.length)
        self.filled.copy_((self.filled + added).clamp(max=self.options.length))

    @torch.no_grad()
    def separation(self) -> tuple[float, float]:
        """Return the mean cosine of slots to their own class's centre, and between centres of different classes.

        Returns:
            The two cosines. Both are NaN if no row is filled, the second is NaN if only one is.
        """
        tokens, row = self.tokens()
        unit = functional.normalize(tokens, dim=1, eps=SHORTEST)
        members = functional.one_hot(row, len(self.filled)).to(unit.dtype)
        centres = functional.normalize(members.T @ unit, dim=1, eps=SHORTEST)
        # by parts: of a bank of 100,500 slots the products alone would be a second and third bank
        parts = zip(torch.split(unit, SPLIT), torch.split(row, SPLIT), strict=True)
        within = torch.cat([(part * centres[of]).sum(dim=1) for part, of in parts]).mean()
        seen = centres[self.filled.nonzero().squeeze(1).to(centres.device)]
        count = len(seen)
        if count < 2:
            return float(within), float("nan")
        pairs = (seen @ seen.T).sum() - seen.square().sum()
        return float(within), float(pairs / (count * (count - 1)))


class RegionQueues(nn.Module):
    """Queues of features, one per row (class), first in, first out, for entries that only the device can tell apart.

    `MemoryBank` has its counts on the host. Here the device decides which entries count and of which class they are, so
    that a training step need not wait for it.

    Args:
        rows: number of queues.
        dim: D, columns of the features.
        length: entries that a queue keeps.

    Example:
        >>> queues = RegionQueues(rows=2, dim=1, length=2)
        >>> features = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        >>> counted = torch.tensor([True, True, True, False])
        >>> queues.update(features, torch.tensor([1, 1, 1, 0]), torch.tensor([7, 7, 8, 8]), counted)
        >>> queues.slots[..., 0].tolist(), queues.owner.tolist()  # the latest is last
        ([[0.0, 0.0], [2.0, 3.0]], [[-1, -1], [7, 8]])
    """

    slots: Tensor
    owner: Tensor

    def __init__(self, rows: int, dim: int, length: int) -> None:
        super().__init__()
        self.register_buffer("slots", torch.zeros(rows, length, dim))
        self.register_buffer("owner", torch.full((rows, length), -1))

    @torch.no_grad()
    def update(
        self,
        features: Float[Tensor, "entries dim"],
        row: Int[Tensor, " entries"],
        owner: Int[Tensor, " entries"],
        counted: Bool[Tensor, " entries"],
    ) -> None:
        """Append entries to the queues of their rows, in their order.

        Args:
            features: `[E, D]`.
            row: `[E]` queue of each.
            owner: `[E]` number of each one's video, from 0.
            counted: `[E]` false where there is no entry.
        """
        rows, length, dim = self.slots.shape
        number = torch.arange(rows, device=row.device).unsqueeze(1)
        present = torch.cat([self.owner >= 0, counted & (row == number)], dim=1)
        # of the old entries and the new ones, those that are none first: the last ones are the new queue
        order = present.int().argsort(dim=1, stable=True)[:, -length:]
        old = number * length + order
        source = torch.where(order < length, old, (rows - 1) * length + order)
        everything = torch.cat([self.slots.view(-1, dim), features.to(self.slots.dtype)])
        owners = torch.cat([self.owner.view(-1), owner])
        kept = present.gather(1, order)
        self.slots.copy_(torch.where(kept.unsqueeze(2), everything[source], 0.0))
        self.owner.copy_(torch.where(kept, owners[source], -1))
