"""RMGCL+GKSA (Zhang & Zhao) around any base method.

Adds robust memory-guided contrastive learning (RMGCL), global knowledge summarization (GKS) and aggregation (GKA), and
learning from pseudo labels.

Paper: Zhang & Zhao, "Cross-Video Contextual Knowledge Exploration and Exploitation for Ambiguity Reduction in Weakly
Supervised Temporal Action Localization". Equation numbers refer to it. No code was released. Each choice that the paper
leaves open is an option marked "not stated", and `results/interpretations.md` shows how much many of them change the
result. The bank starts with an epoch, not in the midst of one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wstal.aggregate import Fusion
from wstal.cross_video_options import CrossVideoOptions
from wstal.device import to_device_async
from wstal.errors import UserError
from wstal.losses.contrast import NO_PAIR, bank_contrast, info_nce, info_nce_cost, robust_contrast, robust_cost
from wstal.losses.pseudo_label import pseudo_label_loss
from wstal.memory import MemoryBank, representative_features, scaled_scores, video_number
from wstal.method import BaseMethod, Method, TrainSpec, adam
from wstal.summarize.build import build_summarizer
from wstal.summarize.options import MANY_SLOTS
from wstal.tensors import Features, VideoFeatures, gradient_ratio
from wstal.types import Batch, IntArray, Scores, Snippets, Video


class CrossVideo(Method):
    """Base method with memory bank, contrast, summary, aggregation and pseudo labels. Subclasses set `Base`.

    Args:
        spec: the options, including those of the base method.
        feature_dim: D, columns of the features.
        num_classes: C, action classes without background.
    """

    Base: ClassVar[type[BaseMethod]]
    SCORING_OPTIONS: ClassVar[frozenset[str]] = frozenset({"inference_branch"})
    spec: CrossVideoOptions
    summary: Tensor
    summary_count: Tensor
    contrast_unit: Tensor | None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "Base" in vars(cls):
            cls.supervision = cls.Base.supervision
            cls.TRAIN_SAMPLER = vars(cls).get("TRAIN_SAMPLER", cls.Base.TRAIN_SAMPLER)

    def __init__(self, spec: CrossVideoOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.base = self.Base(spec.base, feature_dim, num_classes)
        if spec.auxiliary.attention == "own" and type(self.base).snippets is not BaseMethod.snippets:
            raise UserError(
                f"method.auxiliary.attention=own reads attention from F_fuse, but that of {self.base.title} comes from "
                "the features before F. Leave it shared."
            )
        dim, rows = self.base.embedding_dim, num_classes + 1
        owned = not spec.contrast.own_video
        self.memory = MemoryBank(rows, dim, spec.memory, owned) if spec.rmgcl or spec.gka else None
        self.register_buffer("contrast_unit", torch.zeros(()) if spec.contrast.balanced else None)  # 0: not known yet
        self.summarizer = build_summarizer(spec.summary, dim, rows) if spec.gks else None
        self.fusion = (
            Fusion(dim, spec.fusion_width, residual=spec.fusion_residual, norm=spec.fusion_norm) if spec.gka else None
        )
        # T_M for inference, where there is no bank
        self.register_buffer("summary", torch.zeros(spec.summary.count if spec.gks else 0, dim))
        self.register_buffer("summary_count", torch.zeros((), dtype=torch.int64))
        self._building = False
        self._unstored: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def pairs(self) -> int:
        """Number of leading pairs that the base method needs."""
        return self.base.pairs

    def train_batches(self, labels: Sequence[tuple[int, ...]], size: int, rng: np.random.Generator) -> list[IntArray]:
        """Return the base method's batches."""
        return self.base.train_batches(labels, size, rng)

    def train_indices(self, length: int, count: int, rng: np.random.Generator) -> IntArray:
        """Return the base method's training rows."""
        return self.base.train_indices(length, count, rng)

    def test_indices(self, length: int, at_most: int) -> IntArray:
        """Return the base method's test rows."""
        return self.base.test_indices(length, at_most)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Start the base method's epoch, enable the bank from `memory.start` of the epochs on, recompute clusterings.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: passed to the base method.

        Raises:
            UserError: the training is too short to reach the start of the memory bank.
        """
        start = self.spec.memory.start
        if self.memory is not None and start * epochs > epochs - 1 + 1e-9:
            raise UserError(
                f"The memory bank would never be built: it starts after {100 * start:g} % of {epochs} epochs. "
                "Raise train.epochs or lower method.memory.start."
            )
        self.base.start_epoch(epoch, epochs, videos)
        self._unstored.clear()
        # 0.07 of 100 epochs is 7.000000000000001 in floats, and means 7
        self._building = epoch >= start * epochs - 1e-9
        if self._building and self.memory is not None and self.summarizer is not None:
            tokens, row = self.memory.tokens()
            if len(tokens):
                self.summarizer.refresh(tokens, row)

    def stage(self, epoch: int, epochs: int) -> int:
        """Return the base method's stage.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
        """
        return self.base.stage(epoch, epochs)

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        """Return the base method's optimizers and one Adam for what is added here, or one for both if it is Adam."""
        if type(self.base).optimizers is Method.optimizers:
            return super().optimizers(train)
        own = [value for name, value in self.named_parameters() if not name.startswith("base.")]
        return [*self.base.optimizers(train), *([adam(own, train)] if own else [])]

    def shared_warmup(self, epochs: int) -> tuple[Method, int]:
        """Return the base method and the number of epochs before the bank starts, 0 if it never starts."""
        alone = max(0, math.ceil(self.spec.memory.start * epochs - 1e-9))
        return self.base, alone if alone < epochs else 0

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the base method's terms, the terms added here, and their weighted `total` (Eq. 17).

        Added terms: `contrast` (Eq. 9), `auxiliary` (the base's classification loss of A_hat), `pseudo_label` (Eq. 16)
        and `pseudo_label_weight` (mean of exp(-D_t)). Each is 0 while the bank is empty.
        """
        spec, labels = self.spec, batch.labels
        snippets = self.base.snippets(batch.features)
        terms = self.base.snippet_losses(snippets, labels)
        zero = torch.zeros_like(terms["total"])
        extra = {"contrast": zero} if spec.rmgcl else {}
        extra |= {"auxiliary": zero} if spec.gka else {}
        extra |= {"pseudo_label": zero, "pseudo_label_weight": zero} if spec.pseudo else {}
        if self._building and self.memory is not None:
            read = self._for_memory(snippets)
            features, row, owner = self._representatives(read, batch)
            tokens, token_row = self.memory.tokens()
            if len(tokens):
                if spec.rmgcl:
                    extra["contrast"] = self._contrast(features, row, owner, self.memory, tokens, token_row)
                    if self.contrast_unit is not None and self.training and not bool(self.contrast_unit):
                        ratio = gradient_ratio(terms["total"], extra["contrast"], snippets.embedded)
                        self.contrast_unit.copy_(ratio)
                if spec.gka:
                    knowledge = tokens if self.summarizer is None else self.summarizer(tokens, token_row)
                    extra |= self._auxiliary(read, knowledge, labels)
            if self.training:
                self._unstored.append((features.detach(), row, owner))
        terms |= extra
        terms["total"] = sum(self.added_terms(extra).values(), start=terms["total"])
        return terms

    def added_terms(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what is added to the base's total: contrast, auxiliary loss and L_ps, each with its weight (Eq. 17).

        Args:
            terms: of `losses`.
        """
        spec = self.spec
        weights = {
            "contrast": spec.contrast.weight * (1.0 if self.contrast_unit is None else self.contrast_unit),
            "auxiliary": spec.auxiliary.weight,
            "pseudo_label": spec.pseudo_label.weight,
        }
        return {name: weight * terms[name] for name, weight in weights.items() if name in terms}

    def end_step(self) -> None:
        """Finish the base method's step, and store the features of the step's batches.

        Storing them earlier would overwrite what the backward pass reads.
        """
        self.base.end_step()
        if self.memory is not None:
            for features, row, owner in self._unstored:
                self.memory.update(features, row, owner)
        self._unstored.clear()

    def score(self, features: VideoFeatures) -> Scores:
        """Return the base method's signals of A, of A_hat, or of their mean.

        A_hat reads the stored summary T_M, never the memory bank. Both branches share the base's head (Eq. 14).
        """
        return self._scores(self.base.snippets(features.unsqueeze(0)))

    def score_batch(self, features: Features) -> list[Scores]:
        """Return the scores of several videos of one length, which are embedded together (see `score`)."""
        return [self._scores(one) for one in self.base.snippets_of_each(features)]

    def _scores(self, snippets: Snippets) -> Scores:
        count = int(self.summary_count)
        if self.spec.inference_branch != "main" and self.fusion is not None and count:
            fused = self.base.classify(self.fusion(snippets.embedded, self.summary[:count]))
            cas = fused if self.spec.inference_branch == "fused" else (snippets.cas + fused) / 2
            snippets = Snippets(snippets.embedded, snippets.attention, cas)
        return self.base.snippet_scores(snippets)

    @torch.no_grad()
    def pseudo_labels(self, videos: Iterable[VideoFeatures]) -> Iterator[dict[str, Tensor]]:
        """Yield the class probabilities of A, as `main`, and of A_hat, as `auxiliary`, for each video.

        A_hat reads the memory bank of now or, where there is none, the stored T_M.
        """
        knowledge = self.summary[: int(self.summary_count)]
        if self.memory is not None and len((bank := self.memory.tokens())[0]):
            knowledge = bank[0] if self.summarizer is None else self.summarizer(*bank)
        for features in videos:
            snippets = self.base.snippets(features.unsqueeze(0))
            found = {"main": snippets.cas}
            if self.fusion is not None and len(knowledge):
                found["auxiliary"] = self.base.classify(self.fusion(snippets.embedded, knowledge))
            yield {name: cas.softmax(dim=-1)[0, :, : self.num_classes] for name, cas in found.items()}

    @torch.no_grad()
    def end_training(self) -> None:
        """Finish the base method's training, and store the summary T_M.

        Raises:
            UserError: `inference_branch` needs A_hat, but the memory bank is empty.
        """
        self.base.end_training()
        if self.memory is None or self.summarizer is None:
            return
        tokens, row = self.memory.tokens()
        if len(tokens):
            self.eval()
            self.summarizer.refresh(tokens, row)
            knowledge = self.summarizer(tokens, row)
            self.summary[: len(knowledge)] = knowledge
            self.summary_count.fill_(len(knowledge))
        if self.spec.inference_branch != "main" and not int(self.summary_count):
            raise UserError(
                f"method.inference_branch={self.spec.inference_branch} scores the auxiliary branch, but nothing was "
                "stored in the memory bank: no snippet's score was above method.memory.threshold="
                f"{self.spec.memory.threshold:g}. Lower it, or leave method.memory.score_scale at min_max."
            )

    def export_state(self) -> dict[str, Tensor]:
        """Return the state without the memory bank, which inference does not need."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("memory.")}

    def diagnostics(self) -> dict[str, Any]:
        """Return how full the memory bank is and how well it separates the classes.

        Returns:
            `memory_fill`: filled slots of each class and, last, of background. `memory_within`: mean cosine of slots to
            the centre of their own class. `memory_between`: mean cosine between centres of different classes. The
            cosines are None while there is nothing to compare.
        """
        if self.memory is None:
            return {}
        within, between = self.memory.separation()
        values = {"memory_within": within, "memory_between": between}
        return {"memory_fill": self.memory.filled.tolist()} | {
            name: None if math.isnan(value) else value for name, value in values.items()
        }

    def _representatives(self, snippets: Snippets, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        options, classes = self.spec.memory, self.num_classes
        branches = self.base.branch_cas(snippets.cas.detach(), snippets.attention.detach())
        instance, background = (scaled_scores(cas, options.score_scale) for cas in branches)
        scores = torch.cat([instance[..., :classes], background[..., classes:]], dim=-1)
        present = functional.pad(batch.host_labels > 0, (0, 1), value=options.background)
        sure = options.score_scale == "min_max"
        features, row, video = representative_features(snippets.embedded, scores, present, options.threshold, sure)
        return features, row, torch.tensor([video_number(name) for name in batch.videos])[video]

    def _contrast(
        self, features: Tensor, row: Tensor, owner: Tensor, bank: MemoryBank, tokens: Tensor, token_row: Tensor
    ) -> Tensor:
        options = self.spec.contrast
        if options.anchors == "actions":
            kept = (row < self.num_classes).nonzero().squeeze(1)
            features, row, owner = features[to_device_async(kept, features.device)], row[kept], owner[kept]
        owners = None if options.own_video else (owner, bank.owners())
        if len(tokens) >= MANY_SLOTS:
            robust = functools.partial(robust_cost, q=options.q, density=options.density)
            cost = robust if options.loss == "robust" else info_nce_cost
            return bank_contrast(
                features, row, tokens, bank.filled, cost, options.temperature, options.reduction, owners
            )
        lengths = torch.linalg.vector_norm(tokens, dim=1).clamp(min=1e-12)
        cosines = functional.normalize(features, dim=1) @ tokens.T / lengths
        positive = to_device_async(row, token_row.device).unsqueeze(1) == token_row.unsqueeze(0)
        if owners is not None:
            own = positive & to_device_async(owners[0].unsqueeze(1) == owners[1], positive.device)
            cosines, positive = cosines.masked_fill(own, NO_PAIR), positive & ~own
        if options.loss == "info_nce":
            return info_nce(cosines, positive, options.temperature, options.reduction)
        return robust_contrast(cosines, positive, options.q, options.density, options.temperature, options.reduction)

    def _for_memory(self, snippets: Snippets) -> Snippets:
        """Return the same pass with the CAS that the memory and the pseudo labels read."""
        # convolutions leave F transposed in memory; what follows are products over its columns
        embedded = snippets.embedded.contiguous()
        cas = snippets.cas if self.spec.head_dropout else self._classify_whole(embedded)
        return Snippets(embedded, snippets.attention, cas)

    def _classify_whole(self, embedded: Tensor) -> Tensor:
        """Run the head in evaluation mode, without dropout."""
        training = self.base.training
        self.base.eval()
        cas = self.base.classify(embedded)
        self.base.train(training)
        return cas

    def _auxiliary(self, snippets: Snippets, knowledge: Tensor, labels: Tensor) -> dict[str, Tensor]:
        if self.fusion is None or not len(knowledge):
            return {}
        fused = self.fusion(snippets.embedded, knowledge)
        own = self.spec.auxiliary
        teacher = self.base.classify(fused) if self.spec.head_dropout else self._classify_whole(fused)
        classified = self.base.classify(fused) if own.dropout and not self.spec.head_dropout else teacher
        attention = self.base.attend(fused) if own.attention == "own" else snippets.attention
        terms = {"auxiliary": self.base.classification_loss(classified, attention, labels)}
        if self.spec.pseudo:
            options, cas = self.spec.pseudo_label, snippets.cas
            if options.weighted:
                cas, _ = self.base.branch_cas(cas, snippets.attention)
                teacher, _ = self.base.branch_cas(teacher, attention)
            target = teacher if options.teacher_grad else teacher.detach()
            learned = pseudo_label_loss(cas, target, options.rho, options.detach_uncertainty)
            terms |= {"pseudo_label": learned.value, "pseudo_label_weight": learned.weight.mean()}
        return terms
