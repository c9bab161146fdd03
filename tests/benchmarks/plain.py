"""ACM-Net's and our training step as their equations read: loops over videos, classes, anchors, slots.

The networks' own parameters are used and the same numbers come out, so that only the way of computing differs. Each
loss takes the method late in its training, where the memory bank is full.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from baselines.acmnet import AcmNet
from baselines.rmgcl_gksa import RmgclGksa
from wstal.memory import MemoryBank
from wstal.summarize.codewords import Codewords
from wstal.types import Batch

RATIOS = (8, 3, 3)


def acmnet_pass(base: AcmNet, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """F, W and A."""
    conv = functional.conv1d(features.transpose(1, 2), base.embedding.weight, base.embedding.bias, padding=1)
    embedded = conv.transpose(1, 2).relu()
    logits = functional.conv1d(embedded.transpose(1, 2), base.attention.weight, base.attention.bias)
    whole = functional.dropout(embedded.new_ones(embedded.shape[:2]), 0.7, base.training)
    dropped = functional.dropout(embedded * whole[..., None], 0.7, base.training)
    return embedded, logits.softmax(dim=1).transpose(1, 2), head(base, dropped)


def head(base: AcmNet, embedded: Tensor) -> Tensor:
    return functional.linear(embedded, base.classifier.weight, base.classifier.bias)


def video_scores(cas: Tensor, attention: Tensor, kind: int) -> Tensor:
    """Softmax over classes of the mean of each class's k largest values, of one video."""
    weighted = cas * attention[:, kind : kind + 1]
    k = max(len(cas) // RATIOS[kind], 1)
    return torch.stack([weighted[:, c].sort(descending=True).values[:k].mean() for c in range(cas.shape[1])]).softmax(0)


def classification(cas: Tensor, attention: Tensor, labels: Tensor) -> Tensor:
    """The three cross entropies of Eq. 5, video by video."""
    total = cas.new_zeros(())
    for video, own in enumerate(labels):
        for kind, background in enumerate(([0.0], [1.0], [1.0])):
            target = torch.cat([own if kind < 2 else torch.zeros_like(own), own.new_tensor(background)])
            p = video_scores(cas[video], attention[video], kind)
            total = total - (target / target.sum() * p.log()).sum() / len(labels)
    return total


def acmnet_losses(base: AcmNet, embedded: Tensor, attention: Tensor, cas: Tensor, labels: Tensor) -> Tensor:
    """ACM-Net's whole loss."""
    videos = len(labels)
    guide = feature = sparse = cas.new_zeros(())
    for video in range(videos):
        instance = attention[video, :, 0]
        background = (cas[video] * instance[:, None]).softmax(dim=1)[:, -1]
        guide = guide + (1 - background - instance.detach()).abs().sum() / videos
        sparse = sparse + attention[video, :, :2].sum() / 2 / videos
        norms = []
        for kind, ratio in enumerate(RATIOS):
            best = attention[video, :, kind].sort(descending=True).indices[: max(len(cas[video]) // ratio, 1)]
            norms.append(embedded[video, best].mean(dim=0).norm())
        ordered = (50 - norms[0] + norms[1]).relu() + (50 - norms[1] + norms[2]).relu() + norms[2]
        feature = feature + ordered**2 / videos
    spec = base.spec
    return classification(cas, attention, labels) + spec.guide * guide + spec.feature * feature + spec.sparse * sparse


def contrast(features: Tensor, rows: list[int], tokens: Tensor, token_row: Tensor) -> Tensor:
    """Eq. 9 with q = 0.2, lambda = 0.5, tau = 0.1, one anchor after the other."""
    total = features.new_zeros(())
    for anchor, row in zip(features, rows, strict=True):
        cosines = tokens @ anchor / (tokens.norm(dim=1) * anchor.norm())
        exponentials = (cosines / 0.1).exp()
        own, others = exponentials[token_row == row], exponentials[token_row != row]
        total = total + ((0.5 * (own + others.sum())) ** 0.2 - own**0.2).mean() / 0.2
    return total / len(rows)


def representatives(embedded: Tensor, attention: Tensor, cas: Tensor, labels: Tensor) -> tuple[Tensor, list[int]]:
    """Eq. 6-7: the mean snippet of each video's classes and of background, and the class."""
    found, rows, classes = [], [], labels.shape[1]
    for video, row in ((b, c) for b in range(len(labels)) for c in range(classes + 1)):
        if row < classes and not labels[video, row]:
            continue
        weighted = (cas[video, :, row] * attention[video, :, 0 if row < classes else 2]).detach()
        scaled = (weighted - weighted.min()) / (weighted.max() - weighted.min())
        found.append(embedded[video, scaled > 0.75].mean(dim=0))
        rows.append(row)
    return torch.stack(found), rows


def codewords(summarizer: Codewords, tokens: Tensor, row: Tensor) -> Tensor:
    """Eq. 10-11: every slot is projected to a key and to a value."""
    assert summarizer.memory_rows is not None
    keys = torch.cat([summarizer.memory_key(tokens), summarizer.memory_rows[row]], dim=1)
    queries = summarizer.queries()
    logits = torch.cat([queries, summarizer.positions], dim=1) @ keys.T / keys.shape[1] ** 0.5
    best, place = logits.topk(min(summarizer.options.neighbours, len(tokens)), dim=1)
    weights = torch.zeros_like(logits).scatter(1, place, best.softmax(dim=1))
    read = summarizer.memory_norm(queries + weights @ summarizer.memory_value(tokens))
    summary: Tensor = summarizer.summary_norm(read + summarizer.feed_forward(read))
    return summary


def fused(method: RmgclGksa, embedded: Tensor, knowledge: Tensor) -> Tensor:
    """Eq. 12-13."""
    fusion = method.fusion
    assert fusion is not None
    context = (embedded @ knowledge.T / embedded.shape[-1] ** 0.5).softmax(dim=-1) @ knowledge
    hidden = fusion.hidden(torch.cat([context, embedded], dim=-1)).relu()
    result: Tensor = fusion.norm(embedded + fusion.output(hidden))
    return result


def update(memory: MemoryBank, features: Tensor, rows: list[int]) -> None:
    """Eq. 8, one feature after the other."""
    length, alpha = memory.options.length, memory.options.momentum
    for feature, row in zip(features.detach(), rows, strict=True):
        slots, filled, pointer = memory.slots[row], int(memory.filled[row]), int(memory.pointer[row])
        if memory.options.update == "class_ema" and filled == length:
            nearest = int(functional.cosine_similarity(slots, feature[None]).argmax())
            slots[nearest] = alpha * slots[nearest] + (1 - alpha) * feature
        elif filled < length:
            slots[filled] = feature
        elif memory.options.update == "fifo":
            slots[pointer] = feature
        else:
            slots[pointer] = (1 - alpha) * slots[pointer] + alpha * feature
        memory.pointer[row] = (pointer + 1) % length
        memory.filled[row] = min(filled + 1, length)


def losses(method: Any, batch: Batch) -> tuple[Tensor, tuple[Tensor, list[int]] | None]:
    """The total loss of `AcmNet` or `RmgclGksa`, and of the latter what the bank is to store."""
    base = method if isinstance(method, AcmNet) else method.base
    embedded, attention, cas = acmnet_pass(base, batch.features)
    total = acmnet_losses(base, embedded, attention, cas, batch.labels)
    if base is method:
        return total, None
    whole = head(base, embedded)
    features, rows = representatives(embedded, attention, whole, batch.labels)
    tokens, token_row = method.memory.slots.flatten(0, 1), torch.arange(len(method.memory.slots))
    token_row = token_row.repeat_interleave(method.memory.options.length)
    teacher = head(base, fused(method, embedded, codewords(method.summarizer, tokens, token_row)))
    p, q = whole.softmax(dim=-1), teacher.detach().softmax(dim=-1)
    divergence = (p * (p / q).log()).sum(dim=-1)
    pseudo = ((-divergence).exp() * -(q * p.log()).sum(dim=-1) + method.spec.pseudo_label.rho * divergence).mean()
    extra = classification(teacher, attention, batch.labels) + method.spec.pseudo_label.weight * pseudo
    total = total + method.spec.contrast.weight * contrast(features, rows, tokens, token_row) + extra
    return total, (features, rows)
