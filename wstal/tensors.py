"""Tensor types with named axes, as they occur in the signatures of methods and losses.

Axes of one name have the same size within a call: B videos (`batch`), T snippets (`time`), D columns (`in_dim` of the
features, `dim` of embeddings), C action classes (`actions`) or C + 1 with background last (`classes`).
"""

from __future__ import annotations

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
