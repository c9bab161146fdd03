"""Loss of learning from the auxiliary branch's pseudo labels, weighted by their uncertainty (Eq. 15-16)."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from wstal.tensors import Cas, Scalar


class PseudoLabelLoss(NamedTuple):
    """Value of Eq. 16 and the weights of its snippets.

    Args:
        value: L_ps, the mean over snippets.
        weight: `[B, T]` exp(-D_t), in (0, 1].
    """

    value: Scalar
    weight: Float[Tensor, "batch time"]


def pseudo_label_loss(cas: Cas, teacher: Cas, rho: float, detach_uncertainty: bool = False) -> PseudoLabelLoss:
    """Compute L_ps = mean_t [exp(-D_t) CE(p_hat -> p) + rho D_t] with D_t = KL(p || p_hat) over softmaxes (Eq. 15-16).

    Args:
        cas: `[B, T, C + 1]` A, logits of the main branch.
        teacher: `[B, T, C + 1]` A_hat, logits of the auxiliary branch. Detach it if L_ps should not train the teacher.
        rho: weight of the regulariser D_t.
        detach_uncertainty: no gradient through exp(-D_t).

    Example:
        >>> import torch
        >>> loss = pseudo_label_loss(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2), rho=0.1)
        >>> round(loss.value.item(), 4), loss.weight.tolist()  # log(2), no uncertainty
        (0.6931, [[1.0, 1.0, 1.0]])
    """
    log_p, log_teacher = cas.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
    # rounding may leave a KL of equal distributions just below zero
    divergence = functional.kl_div(log_teacher, log_p, reduction="none", log_target=True).sum(dim=-1).clamp(min=0)
    cross_entropy = -(log_teacher.exp() * log_p).sum(dim=-1)
    weight = (-divergence).exp()
    factor = weight.detach() if detach_uncertainty else weight
    return PseudoLabelLoss((factor * cross_entropy + rho * divergence).mean(), weight.detach())
