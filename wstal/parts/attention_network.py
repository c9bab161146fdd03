"""Network of one stream: temporal convolutions, a sigmoid attention and a linear classifier (TSCN, UGCT)."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from wstal.parts.layers import TemporalConv
from wstal.tensors import Embedded, Features, Foreground


class AttentionNetwork(nn.Module):
    """Embedding x, attention a = sigmoid(w x + b) and logits W x + c of the snippets of one stream.

    Args:
        width: columns of the stream.
        hidden: columns of the embedding; None: as many as the stream has.
        layers: convolutions of width 3, each with a ReLU.
        outputs: classes.
        dropout: of what is classified.

    Example:
        >>> network = AttentionNetwork(width=4, hidden=None, layers=1, outputs=3, dropout=0.5)
        >>> embedded, attention = network(torch.zeros(2, 5, 4))
        >>> embedded.shape, attention.shape, network.classify(embedded).shape
        (torch.Size([2, 5, 4]), torch.Size([2, 5, 1]), torch.Size([2, 5, 3]))
    """

    def __init__(self, width: int, hidden: int | None, layers: int, outputs: int, dropout: float) -> None:
        super().__init__()
        columns = [width, *[hidden or width] * layers]
        convolutions = (TemporalConv(one, other, 3, padding="same") for one, other in pairwise(columns))
        self.embedding = nn.Sequential(*(layer for convolution in convolutions for layer in (convolution, nn.ReLU())))
        self.attention = nn.Linear(columns[-1], 1)
        self.classifier = nn.Linear(columns[-1], outputs)
        self.dropout = dropout

    def forward(self, features: Features) -> tuple[Embedded, Foreground]:
        """Return x and a."""
        embedded = self.embedding(features)
        return embedded, self.attention(embedded).sigmoid()

    def classify(self, embedded: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows classes"]:
        """Return the logits of snippets or of videos that are pooled from them, with dropout."""
        logits: Tensor = self.classifier(functional.dropout(embedded, self.dropout, self.training))
        return logits


class Teacher(nn.Module):
    """Copy of a network that gives labels: without gradient and dropout, in buffers, so that checkpoints keep it.

    Args:
        network: what is copied.

    Example:
        >>> student = AttentionNetwork(width=4, hidden=None, layers=1, outputs=3, dropout=0.5)
        >>> teacher = Teacher(student)
        >>> sum(1 for _ in teacher.parameters()), teacher(torch.zeros(2, 5, 4)).shape
        (0, torch.Size([2, 5, 1]))
    """

    def __init__(self, network: AttentionNetwork) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        for module in self.network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach())

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, features: Features) -> Foreground:
        """Return the attention a of the copy."""
        attention: Tensor = self.network(features)[1]
        return attention

    @torch.no_grad()
    def follow(self, network: AttentionNetwork, share: float | Tensor = 1.0) -> None:
        """Move the weights towards those of a network.

        Args:
            network: of the same structure.
            share: of its weights in the new ones; 1: they are its.
        """
        for mine, theirs in zip(self.network.buffers(), network.parameters(), strict=True):
            mine.lerp_(theirs, share.to(mine) if isinstance(share, Tensor) else share)
