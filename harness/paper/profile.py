"""Model that the cells of Table IX fit, and its cost under torchinfo.

Of that model the paper says neither what "Params(M)" nor what "FLOPs(G)" counts. The sizes fit to the printed digit if
they are torchinfo's estimates in megabytes: parameters, and input + 2 x (outputs of layers with parameters) +
parameters. FLOPs are then torchinfo's mult-adds, in which a linear layer counts once a video, not once a segment.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor, nn

from harness.paper.tables import COSTS

Stage = Literal["train", "test"]
STAGES: tuple[Stage, ...] = ("train", "test")
STAGE_NAMES: dict[Stage, str] = {"train": "training", "test": "testing"}
WIDTH = 2048
LENGTHS = (750, 75, 400)
CLASSES, CODEWORDS, MEMORY_SLOTS, HEADS = 20, 40, 500, 8
FLOPS_TOLERANCE = 1e-3


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
        """Return CAS and attention of `[B, T, 2048]` features and, in training, T_M."""
        embedded = self.embedding(features.transpose(1, 2)).relu()
        outputs = (self.classifier(embedded.transpose(1, 2)), self.attention(embedded))
        if self.decoder is None:
            return outputs
        return (*outputs, self.decoder(self.codewords.unsqueeze(0), self.memory.unsqueeze(0)))


class ProfileCost(BaseModel):
    """Cost of the profile model under torchinfo, in the units and columns of Table IX."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stage: Stage
    length: PositiveInt
    """T."""
    parameters: PositiveInt
    """All of the model's parameters, with the attention projections and codewords that torchinfo's megabytes omit."""
    params: PositiveFloat
    """Params(M): megabytes of counted parameters."""
    flops: PositiveFloat
    """FLOPs(G): billions of mult-adds."""
    size: PositiveFloat
    """Model Size(MB)."""

    @property
    def row(self) -> str:
        """Id of the row of Table IX."""
        return f"{STAGE_NAMES[self.stage]}-{self.length}"

    @property
    def cells(self) -> dict[str, float]:
        """Values of the row, by column."""
        return dict(zip(COSTS, (self.params, self.flops, self.size), strict=True))


@cache
def profile_costs() -> tuple[ProfileCost, ...]:
    """Count the profile model under torchinfo at batch 1: both stages at T = 750, 75 and 400."""
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
