"""Learning from the auxiliary branch's pseudo labels, weighted by their uncertainty: Eq. 15-16."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class PseudoLabelLoss:
    """Eq. 16 and what it was made of.

    Args:
        value: L_ps, the mean over snippets.
        weight: `[B, T]` exp(-D_t), in (0, 1].
    """

    value: Float[Tensor, ""]
    weight: Float[Tensor, "batch time"]


def pseudo_label_loss(
    cas: Float[Tensor, "batch time classes"],
    teacher: Float[Tensor, "batch time classes"],
    rho: float,
    detach_uncertainty: bool = False,
) -> PseudoLabelLoss:
    """L_ps = mean_t [exp(-D_t) CE(p_hat -> p) + rho D_t], D_t = KL(p || p_hat), over softmaxes of the logits.

    Args:
        cas: A, the main branch's logits.
        teacher: A_hat, the auxiliary branch's; detach it for a teacher that L_ps does not train.
        rho: weight of the regulariser D_t.
        detach_uncertainty: no gradient through exp(-D_t).
    """
    log_p, log_teacher = cas.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
    # rounding may leave a KL of equal distributions just below zero
    divergence = functional.kl_div(log_teacher, log_p, reduction="none", log_target=True).sum(dim=-1).clamp(min=0)
    cross_entropy = -(log_teacher.exp() * log_p).sum(dim=-1)
    weight = (-divergence).exp()
    factor = weight.detach() if detach_uncertainty else weight
    return PseudoLabelLoss((factor * cross_entropy + rho * divergence).mean(), weight.detach())
