"""Layers with the initial weights and the order of axes that methods need."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from wstal.tensors import Embedded


class TemporalConv(nn.Conv1d):
    """`torch.nn.Conv1d` over time, for features `[B, T, D]`.

    Example:
        >>> import torch
        >>> TemporalConv(4, 8, kernel_size=3, padding="same")(torch.zeros(2, 5, 4)).shape
        torch.Size([2, 5, 8])
    """

    def forward(self, features: Float[Tensor, "batch time in_dim"]) -> Float[Tensor, "batch time out_dim"]:
        """Convolve over time."""
        return super().forward(features.transpose(1, 2)).transpose(1, 2)


def drop_snippets(embedded: Embedded, probability: float, training: bool) -> Embedded:
    """Apply dropout to whole snippets, then to single values (ACM-Net, ASM-Loc).

    Args:
        embedded: `[B, T, D]`.
        probability: of both.
        training: False: nothing is dropped.

    Example:
        >>> import torch
        >>> drop_snippets(torch.ones(1, 1, 2), 0.5, training=False).tolist()
        [[[1.0, 1.0]]]
    """
    kept = functional.dropout(embedded.new_ones(embedded.shape[:2]), probability, training)
    return functional.dropout(embedded * kept.unsqueeze(-1), probability, training)


def init_xavier(*layers: nn.Linear) -> None:
    """Set the weights of layers to Xavier-uniform values and their biases to 0.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> init_xavier(layer)
        >>> layer.bias.tolist()
        [0.0, 0.0, 0.0]
    """
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


def xavier_linear(in_dim: int, out_dim: int) -> nn.Linear:
    """Create a linear layer with Xavier-uniform weights and zero bias.

    Args:
        in_dim: input columns.
        out_dim: output columns.

    Example:
        >>> xavier_linear(2, 3).bias.tolist()
        [0.0, 0.0, 0.0]
    """
    layer = nn.Linear(in_dim, out_dim)
    init_xavier(layer)
    return layer


def dropout_layers(dim: int, dropout: float) -> nn.Sequential:
    """Create two linear layers that keep the width, each with ReLU and dropout (FAC-Net, RPN, SUB-ACT).

    Args:
        dim: columns of input and output.
        dropout: after each layer.

    Example:
        >>> import torch
        >>> dropout_layers(4, dropout=0.5)(torch.zeros(2, 5, 4)).shape
        torch.Size([2, 5, 4])
    """
    first, second = xavier_linear(dim, dim), xavier_linear(dim, dim)
    return nn.Sequential(first, nn.ReLU(), nn.Dropout(dropout), second, nn.ReLU(), nn.Dropout(dropout))


def he_conv(columns: int, out: int, kernel: int) -> nn.Conv1d:
    """Create a convolution that keeps T, with weights uniform within sqrt(6 / fan-in) (He et al., 2015) and zero bias.

    Args:
        columns: input columns.
        out: output columns.
        kernel: width of the kernel in rows.

    Example:
        >>> import torch
        >>> he_conv(4, 8, kernel=3)(torch.zeros(2, 4, 5)).shape
        torch.Size([2, 8, 5])
    """
    layer = nn.Conv1d(columns, out, kernel, padding="same")
    nn.init.kaiming_uniform_(layer.weight)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer


def depthwise_conv(columns: int, kernel: int, dilation: int) -> nn.Conv1d:
    """Create a convolution of each column alone that keeps T, with Xavier-uniform weights and no bias.

    Args:
        columns: columns of input and output.
        kernel: width of the kernel in rows.
        dilation: rows from one weight to the next.

    Example:
        >>> import torch
        >>> depthwise_conv(4, kernel=13, dilation=2)(torch.zeros(2, 4, 5)).shape
        torch.Size([2, 4, 5])
    """
    layer = nn.Conv1d(columns, columns, kernel, padding="same", dilation=dilation, groups=columns, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer


class StreamClassifier(nn.Module):
    """Classifier of a stream's snippets: two fully connected layers of its width, and a linear one for the classes.

    Args:
        width: columns of the stream.
        classes: C.
        dropout: of the embedded snippets.

    Example:
        >>> import torch
        >>> embedded, logits = StreamClassifier(4, 3, dropout=0.7)(torch.zeros(2, 5, 4))
        >>> embedded.shape, logits.shape
        (torch.Size([2, 5, 4]), torch.Size([2, 5, 3]))
    """

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        first, second = xavier_linear(width, width), xavier_linear(width, width)
        self.embedding = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Dropout(dropout))
        self.classifier = xavier_linear(width, classes)

    def forward(
        self, features: Float[Tensor, "batch time in_dim"]
    ) -> tuple[Float[Tensor, "batch time in_dim"], Float[Tensor, "batch time actions"]]:
        """Return the embedded snippets, with dropout, and their logits."""
        embedded = self.embedding(features)
        return embedded, self.classifier(embedded)
