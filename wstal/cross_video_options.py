"""Options of RMGCL+GKSA around a base method (see `wstal.cross_video`, whose equation numbers they name)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SerializeAsAny, model_validator

from wstal.losses.contrast import ContrastOptions
from wstal.memory import MemoryOptions
from wstal.spec import Count, Spec
from wstal.summarize.options import SummaryOptions


class PseudoLabelOptions(Spec):
    """Options of learning from pseudo labels (Eq. 15-16)."""

    weight: float = Field(1.0, ge=0, description="gamma of Eq. 17")
    rho: float = Field(0.001, ge=0, description="rho of Eq. 16")
    teacher_grad: bool = Field(False, description="L_ps trains the auxiliary branch too (not stated)")
    detach_uncertainty: bool = Field(False, description="no gradient through exp(-D_t)")
    weighted: bool = Field(
        False,
        exclude_if=lambda weighted: not weighted,  # newer than stored runs, as the others of this kind below
        description="compare the CAS weighted by instance attention (Eq. 4), not the CAS itself (not stated)",
    )


class AuxiliaryOptions(Spec):
    """Options of the auxiliary branch's classification loss, which trains it with the labels."""

    weight: float = Field(1.0, ge=0, description="of the loss; Eq. 17 omits it, the text says that labels train both")
    dropout: bool = Field(
        False,
        description="the head's dropout for this loss, as for the main branch's; the CAS of Eq. 7 and 14-16 has none",
    )
    attention: Literal["shared", "own"] = Field(
        "shared", description="attention of this loss (not stated): the main branch's, or the head's on F_fuse"
    )


class CrossVideoOptions(Spec):
    """All options. The switches `rmgcl`, `gks`, `gka` and `pseudo` are the columns of Table IV."""

    base: SerializeAsAny[Spec] = Field(description="options of the base method")
    rmgcl: bool = Field(True, description="memory-guided contrast")
    gks: bool = Field(True, description="summarize the memory; without it GKA reads every slot")
    gka: bool = Field(True, description="the auxiliary branch: snippets read the memory, the shared head classifies")
    pseudo: bool = Field(True, description="the auxiliary branch teaches the main branch")
    memory: MemoryOptions = Field(MemoryOptions(), description="the memory bank (Eq. 6-8)")
    contrast: ContrastOptions = Field(ContrastOptions(), description="RMGCL's loss (Eq. 9)")
    summary: SummaryOptions = Field(SummaryOptions(), description="GKS (Eq. 10-11)")
    head_dropout: bool = Field(
        False,
        description="dropout in the head for the CAS of Eq. 7 and 14-16 (not stated): ACM-Net's drops 7 of 10 "
        "whole snippets, different ones in each branch, so D_t would be mostly noise",
    )
    fusion_width: Count = Field(
        128, description="hidden width of GKA's FFN (Eq. 13, not stated); a width of D costs more than ACM-Net"
    )
    fusion_residual: bool = Field(
        True, exclude_if=lambda residual: residual, description="add F to GKA's FFN (Eq. 13 writes the FFN alone)"
    )
    fusion_norm: bool = Field(
        True, exclude_if=lambda norm: norm, description="LayerNorm after GKA's FFN (Eq. 13 writes none)"
    )
    auxiliary: AuxiliaryOptions = Field(
        AuxiliaryOptions(),
        exclude_if=lambda auxiliary: auxiliary == AuxiliaryOptions(),
        description="the auxiliary branch's own classification loss",
    )
    pseudo_label: PseudoLabelOptions = Field(PseudoLabelOptions(), description="L_ps (Eq. 15-16)")
    inference_branch: Literal["main", "fused", "mean"] = Field(
        "main", description="CAS that is scored (not stated): A, A_hat from the stored T_M, or their mean"
    )

    @model_validator(mode="after")
    def _consistent(self) -> CrossVideoOptions:
        if not self.contrast.own_video and self.memory.update == "class_ema":
            raise ValueError(
                "memory.update=class_ema blends videos in every slot, so none is of an anchor's own video: leave "
                "contrast.own_video true, or choose slot_momentum or fifo"
            )
        if self.gks and not self.gka:
            raise ValueError("gks without gka: nothing would read the summary; switch gks off too")
        if self.pseudo and not self.gka:
            raise ValueError("pseudo without gka: the auxiliary branch is what gives pseudo labels; switch pseudo off")
        if self.inference_branch != "main" and not self.gks:
            raise ValueError("inference_branch fused and mean need the stored summary, so gks")
        return self


class BoundedCrossVideoOptions(CrossVideoOptions):
    """`CrossVideoOptions` for a base whose CAS for the memory is already between 0 and 1."""

    @model_validator(mode="after")
    def _scales_once(self) -> BoundedCrossVideoOptions:
        if self.memory.score_scale != "min_max":
            raise ValueError(
                f"this base's CAS is already from 0 to 1, and {self.memory.score_scale} of that stays below any useful "
                "memory.threshold: leave memory.score_scale at min_max"
            )
        return self
