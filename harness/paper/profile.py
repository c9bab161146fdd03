"""Table IX as the paper counted: the model that its cells fit, under torchinfo, beside what was printed.

Of that model the paper says neither what "Params(M)" nor what "FLOPs(G)" counts. The sizes fit to the printed digit if
they are torchinfo's estimates in megabytes: parameters, and input + 2 x (outputs of layers with parameters) +
parameters. FLOPs are then torchinfo's mult-adds, in which a linear layer counts once a video, not once a segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Literal

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor, nn

from harness.paper.audit.costs import off_line
from harness.paper.audit.intervals import interval

Stage = Literal["train", "test"]
STAGES: tuple[Stage, ...] = ("train", "test")
STAGE_NAMES: dict[Stage, str] = {"train": "training", "test": "testing"}
WIDTH = 2048
LENGTHS = (750, 75, 400)
CLASSES, CODEWORDS, MEMORY_SLOTS, HEADS = 20, 40, 500, 8
TOLERANCE = 1e-3


class ProfileModel(nn.Module):
    """Embedding, CAS head and attention; in training one decoder layer more, codewords reading a memory.

    Args:
        stage: the paper's testing stage has no decoder layer.
    """

    memory: Tensor

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.embedding = nn.Conv1d(WIDTH, WIDTH, kernel_size=3, padding=1)
        self.attention = nn.Conv1d(WIDTH, 3, kernel_size=1)
        self.classifier = nn.Linear(WIDTH, CLASSES + 1)
        self.decoder: nn.TransformerDecoderLayer | None = None
        if stage == "train":
            self.codewords = nn.Parameter(torch.zeros(CODEWORDS, WIDTH))
            self.decoder = nn.TransformerDecoderLayer(WIDTH, HEADS, dim_feedforward=WIDTH, batch_first=True)
            self.register_buffer("memory", torch.zeros(MEMORY_SLOTS, WIDTH))

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """CAS and attention of `[B, T, 2048]` features and, in training, T_M."""
        embedded = self.embedding(features.transpose(1, 2)).relu()
        outputs = (self.classifier(embedded.transpose(1, 2)), self.attention(embedded))
        if self.decoder is None:
            return outputs
        return (*outputs, self.decoder(self.codewords.unsqueeze(0), self.memory.unsqueeze(0)))


class ProfileCost(BaseModel):
    """What torchinfo says of the profile model, in the units and columns of Table IX."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stage: Stage
    length: PositiveInt
    """T."""
    parameters: PositiveInt
    """All of the model's parameters; torchinfo's megabytes leave out attention projections and codewords."""
    params: PositiveFloat
    """Params(M): megabytes of counted parameters."""
    flops: PositiveFloat
    """FLOPs(G): billions of mult-adds."""
    size: PositiveFloat
    """Model Size(MB)."""

    @property
    def row(self) -> str:
        """The row of Table IX."""
        return f"{STAGE_NAMES[self.stage]}-{self.length}"


@cache
def profile_costs() -> tuple[ProfileCost, ...]:
    """The profile model under torchinfo at batch 1: both stages at T = 750, 75 and 400."""
    import torchinfo

    costs = []
    for stage in STAGES:
        model = ProfileModel(stage)
        for length in LENGTHS:
            seen = torchinfo.summary(model, input_size=(1, length, WIDTH), verbose=0, device="cpu")
            costs.append(
                ProfileCost(
                    stage=stage,
                    length=length,
                    parameters=seen.total_params,
                    params=seen.total_param_bytes / 1e6,
                    flops=seen.total_mult_adds / 1e9,
                    size=(seen.total_input + seen.total_output_bytes + seen.total_param_bytes) / 1e6,
                )
            )
    return tuple(costs)


Published = Mapping[str, Sequence[str]]
"""Table IX's cells as printed (params, flops, size) by row: `training-750` to `testing-400`."""


def size_frame(published: Published, costs: Sequence[ProfileCost]) -> pd.DataFrame:
    """The 12 size cells: printed, as the paper counted, and whether they agree to the printed digit.

    Args:
        published: the printed cells.
        costs: of `profile_costs`.
    """
    rows = []
    for cost in costs:
        params, _, size = published[cost.row]
        for column, text, value in (("Params(M)", params, cost.params), ("Model Size(MB)", size, cost.size)):
            rows.append(_row(cost, column, text, value, _difference(text, value) or "to the printed digit"))
    return pd.DataFrame(rows)


def flops_frame(published: Published, costs: Sequence[ProfileCost]) -> pd.DataFrame:
    """The six FLOPs cells: printed, as the paper counted, and how far they agree.

    A cell that is off by more than 0.1 % is unexplained where its stage's cells lie on no line in T: the mult-adds of
    convolutions and linear layers are affine in T, so no such model prints all three.
    """
    rows = []
    for cost in costs:
        stage = {other.length: published[other.row][1] for other in costs if other.stage == cost.stage}
        text = stage[cost.length]
        rows.append(_row(cost, "FLOPs(G)", text, cost.flops, _flops_agreement(text, cost.flops, stage)))
    return pd.DataFrame(rows)


def _flops_agreement(printed: str, value: float, stage: Mapping[int, str]) -> str:
    difference = _difference(printed, value)
    if not difference:
        return "to the printed digit"
    if abs(value / float(printed) - 1) <= TOLERANCE:
        return f"within 0.1 % ({difference})"
    cells = {length: found for length, text in stage.items() if (found := interval(text))}
    if any(off_line(cells)):
        return f"unexplained ({difference}): no count affine in T gives this stage's three cells"
    return f"differs ({difference})"


def _difference(printed: str, value: float) -> str:
    """How far a value is from what is printed; empty where it rounds to it."""
    if Decimal(value).quantize(_unit(printed)) == Decimal(printed):
        return ""
    return f"{100 * (value / float(printed) - 1):+.2f} %"


def _unit(printed: str) -> Decimal:
    exponent = Decimal(printed).as_tuple().exponent
    assert isinstance(exponent, int)  # neither NaN nor infinite: a printed number
    return Decimal(1).scaleb(exponent)


def _row(cost: ProfileCost, column: str, printed: str, value: float, agreement: str) -> dict[str, str]:
    decimals = -int(_unit(printed).adjusted())
    return {
        "stage": STAGE_NAMES[cost.stage],
        "input": f"[1, {cost.length}, {WIDTH}]",
        "column": column,
        "published": printed,
        "as the paper counted": f"{value:.{decimals}f}",
        "agreement": agreement,
    }
