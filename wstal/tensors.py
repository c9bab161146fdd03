"""Tensor types with named axes, as they occur in the signatures of methods and losses, and a ratio of gradients.

Axes of one name have the same size within a call: B videos (`batch`), T snippets (`time`), D columns (`in_dim` of the
features, `dim` of embeddings), C action classes (`actions`) or C + 1 with background last (`classes`).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Features = Float[Tensor, "batch time in_dim"]
VideoFeatures = Float[Tensor, "time in_dim"]
Embedded = Float[Tensor, "batch time dim"]
Attention = Float[Tensor, "batch time kinds"]
Foreground = Float[Tensor, "batch time 1"]
Cas = Float[Tensor, "batch time classes"]
VideoScores = Float[Tensor, "batch classes"]
Labels = Float[Tensor, "batch actions"]
Scalar = Float[Tensor, ""]


def gradient_ratio(first: Scalar, second: Scalar, values: Tensor) -> Scalar:
    """Return how many times longer the gradient of `first` on `values` is than that of `second`, 0 if that has none.

    Example:
        >>> values = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> gradient_ratio((3 * values).sum(), values.sum(), values).item()
        3.0
    """
    lengths = [torch.autograd.grad(one, values, retain_graph=True)[0].norm() for one in (first, second)]
    return torch.where(lengths[1] > 0, lengths[0] / lengths[1], 0.0)
