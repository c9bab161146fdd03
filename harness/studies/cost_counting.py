"""Multiply-adds of a module by two counters that check each other.

fvcore traces the module and counts one for each multiply-add; torch's counter watches it run and counts two. It is an
error if they differ by more than 0.1 %, or if an undeclared operator could weigh as much.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.random_streams import seed_torch
from wstal.errors import RunError

NEGLIGIBLE = 1e-3
# an undeclared operator is bounded as an elementwise one, by what fvcore counts for a norm with affine
OPERATIONS_AN_ELEMENT = 5

NOT_MULTIPLY_ADDS = {
    "moves, makes or picks values": """
        alias bernoulli broadcast_tensors broadcast_to clone diag diagonal diff empty_like expand_as eye fill_ flip
        index_add index_copy index_fill index_select lift_fresh linspace mT masked_scatter masked_select meshgrid
        movedim new_ones nonzero_numpy normal numpy_T one_hot ones_like pad rand rand_like randint randn randn_like
        repeat repeat_interleave scatter scatter_ scatter_add tensor_split tile tril triu unflatten unfold view_as where
        zero_
    """,
    "a few operations an element or pair of elements, no product over a shared dimension": """
        abs add add_ addcdiv addcmul bernoulli_ bitwise_and bitwise_or celu clamp_max clamp_min cos div div_ dropout_
        elu erf exp expm1 feature_dropout fmod gelu hardtanh huber_loss isfinite isinf isnan le leaky_relu lerp log
        log1p log2 log_sigmoid logaddexp logical_and logical_not logical_or logit lt masked_fill_ maximum minimum mish
        mul mul_ nan_to_num ne neg __or__ pow prelu reciprocal rsqrt rsub selu sigmoid sign silu sin smooth_l1_loss
        softplus special_expm1 sqrt square sub sub_ tan tanh threshold trunc xlogy
    """,
    "one or two operations an element on the way to fewer elements": """
        adaptive_avg_pool1d adaptive_max_pool1d all amax amin aminmax any argmax argmin argsort avg_pool1d
        binary_cross_entropy binary_cross_entropy_with_logits bincount count_nonzero cross_entropy_loss cumprod cumsum
        frobenius_norm kl_div kthvalue l1_loss linalg_vector_norm log_softmax logcumsumexp logsumexp margin_ranking_loss
        max_pool1d mean median min mse_loss nll_loss nll_loss_nd norm prod softmax sort std sum topk _unique2
        unique_consecutive upsample_linear1d upsample_nearest1d var
    """,
}
"""Operators unsupported by fvcore whose multiply-adds are negligible, by reason. A product hidden in one of them would
still make the two counters differ."""

KEEP_ELEMENTS = frozenset(
    ("add", "clone", "contiguous", "div", "dropout", "flatten", "masked_fill", "mul", "neg", "permute", "reshape",
     "squeeze", "sub", "to", "transpose", "unsqueeze", "view")
)  # fmt: skip
"""Operators between a product and its sum that keep its elements."""

IGNORABLE = frozenset(f"aten::{name}" for names in NOT_MULTIPLY_ADDS.values() for name in names.split())

# counted by fvcore, by elements or by a handle below, and not by torch's counter
NOT_SEEN_BY_TORCH = frozenset(
    ("layer_norm", "batch_norm", "group_norm", "instance_norm", "adaptive_avg_pool2d", "grid_sampler",
     "upsample_nearest2d", "upsample_bilinear2d", "linalg_solve", "cosine_similarity")
)  # fmt: skip


@dataclass(frozen=True)
class Count:
    """Multiply-adds of one forward pass.

    Args:
        operators: fvcore's count by operator.
        torch_macs: half of the count of torch's counter.
        unsupported: number of runs of each operator that fvcore does not count.
    """

    operators: dict[str, int]
    torch_macs: int
    unsupported: dict[str, int]

    @property
    def macs(self) -> int:
        """fvcore's total."""
        return sum(self.operators.values())

    @property
    def products(self) -> int:
        """fvcore's total of the operators that torch's counter counts too."""
        return sum(macs for name, macs in self.operators.items() if name not in NOT_SEEN_BY_TORCH)


def count(module: nn.Module, inputs: tuple[Tensor, ...], name: str) -> Count:
    """Count a module's forward pass by fvcore and by torch.

    Args:
        module: in the mode to be counted; takes and returns tensors.
        inputs: of `forward`.
        name: for messages.

    Raises:
        RunError: an operator without a handle or a product by broadcast is not negligible, or the two counters
            disagree.
    """
    operators, unsupported = fvcore_count(module, inputs)
    counted = Count(operators, torch_count(module, inputs), unsupported)
    unknown = sorted(unsupported.keys() - IGNORABLE)
    bounds = _bounds(module, inputs, unknown) if unknown else {}
    heavy = {operator: bound for operator, bound in bounds.items() if bound > NEGLIGIBLE * counted.torch_macs}
    if heavy:
        listed = ", ".join(f"{operator} ({unsupported[operator]} times)" for operator in heavy)
        raise RunError(
            f"Multiply-adds of {name} are not known: fvcore does not count {listed}, which may weigh more than 0.1 %. "
            "Add a handle or, if it has no multiply-adds, its name to harness/studies/cost_counting.py."
        )
    products = _broadcast_products(module, inputs)
    if products > NEGLIGIBLE * counted.torch_macs:
        raise RunError(
            f"Multiply-adds of {name} are not known: it multiplies by broadcast and sums, {products:,} products that "
            "no counter sees. Write them as matmul or einsum."
        )
    if abs(counted.products - counted.torch_macs) > NEGLIGIBLE * counted.torch_macs:
        suspects = ", ".join(f"{operator} ({times} times)" for operator, times in unsupported.items()) or "none"
        raise RunError(
            f"Multiply-adds of {name} are not known: fvcore counts {counted.products:,}, torch {counted.torch_macs:,}. "
            f"Operators that fvcore does not count: {suspects}. Add a handle in harness/studies/cost_counting.py."
        )
    return counted


def fvcore_count(
    module: nn.Module, inputs: tuple[Tensor, ...], handles: dict[str, Any] | None = None
) -> tuple[dict[str, int], dict[str, int]]:
    """Count multiply-adds by operator, and the runs of each unsupported operator, by fvcore.

    Args:
        module: to trace.
        inputs: of its `forward`.
        handles: of operators beside fvcore's own (default: `HANDLES`).
    """
    seed_torch(0, "dropout")
    analysis = _fvcore().FlopCountAnalysis(module, inputs).set_op_handle(**(HANDLES if handles is None else handles))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    operators = {name: round(macs) for name, macs in sorted(analysis.by_operator().items())}
    return operators, dict(sorted(analysis.unsupported_ops().items()))


def parameter_count(module: nn.Module) -> int:
    """Count all parameters of a module, by fvcore."""
    return int(_fvcore().parameter_count(module)[""])


def _fvcore() -> Any:
    with warnings.catch_warnings():
        # it scripts a loss when it is imported, which torch 2.13 calls deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        import fvcore.nn
    return fvcore.nn


def _of_vectors(first: int, *shapes: Any, **_: Any) -> int:
    """Count two operations for each element of the first factor of a product with a vector."""
    return 2 * int(torch.Size(shapes[first]).numel())


OF_VECTORS = {
    torch.ops.aten.mv: partial(_of_vectors, 0),
    torch.ops.aten.dot: partial(_of_vectors, 0),
    torch.ops.aten.addmv: partial(_of_vectors, 1),
}
"""Products that torch's counter has no formula for."""


def torch_count(module: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Count multiply-adds by torch's counter.

    Fused attention is replaced by its parts, since it has no formula on every device.

    Args:
        module: to run.
        inputs: of its `forward`.
    """
    seed_torch(0, "dropout")
    counter = FlopCounterMode(display=False, custom_mapping=OF_VECTORS)
    with _no_fused_attention(), counter:
        module(*inputs)
    return int(counter.get_total_flops()) // 2


@contextmanager
def _no_fused_attention() -> Iterator[None]:
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _broadcast_products(module: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Count the products of multiplications whose result is larger than both factors and is summed afterwards."""

    def handle(ins: list[Any], outs: list[Any]) -> Any:
        wider = _elements(outs[0]) > max(map(_elements, ins[:2]))
        return Counter({"broadcast": _elements(outs[0]) if wider and _summed(outs[0]) else 0})

    found, _ = fvcore_count(module, inputs, HANDLES | dict.fromkeys(("aten::mul", "aten::mul_"), handle))
    return found.get("broadcast", 0)


def _summed(value: Any) -> bool:
    """Return whether a traced tensor is summed, at once or after operations on its elements."""
    seen, pending = set(), [value]
    while pending:
        for use in pending.pop().uses():
            kind = use.user.kind().removeprefix("aten::").rstrip("_")
            if kind in ("sum", "mean"):
                return True
            if kind in KEEP_ELEMENTS and use.user not in seen:
                seen.add(use.user)
                pending += use.user.outputs()
    return False


def _bounds(module: nn.Module, inputs: tuple[Tensor, ...], operators: Sequence[str]) -> dict[str, int]:
    """Bound each operator: elements of the largest tensor of each call, summed over calls, times the cost of a norm."""
    handles = {operator: partial(_largest, operator) for operator in operators}
    found, _ = fvcore_count(module, inputs, HANDLES | handles)
    return {operator: found.get(operator, 0) for operator in operators}


def _largest(operator: str, inputs: list[Any], outputs: list[Any]) -> Any:
    return Counter({operator: OPERATIONS_AN_ELEMENT * max(map(_elements, (*inputs, *outputs)), default=0)})


def _shape(value: Any) -> list[int]:
    """Return the shape of a traced tensor."""
    return list(value.type().sizes())


def _elements(value: Any) -> int:
    return int(torch.Size(_shape(value)).numel()) if value.isCompleteTensor() else 0


def _product(first: int, inputs: list[Any], outputs: list[Any]) -> int:
    """Count a matrix product: each output element sums over the last dimension of the first factor."""
    return _elements(outputs[0]) * _shape(inputs[first])[-1]


def _convolution(inputs: list[Any], outputs: list[Any]) -> Any:
    """Count a convolution whose padding is a word: one kernel for each output element."""
    weight = _shape(inputs[1])
    return Counter({"conv": _elements(outputs[0]) * int(torch.Size(weight[1:]).numel())})


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Count softmax(Q K') V for `[..., L, E]`, `[..., S, E]`, `[..., S, V]`: L S (E + V) for each leading index."""
    query, key, out = _shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0])
    return _elements(outputs[0]) // out[-1] * key[-2] * (query[-1] + out[-1])


def _multi_head_attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Count fused attention of `[B, L, D]` on `[B, S, D]`: B D (2 D (L + S) + 2 L S), over all heads."""
    (batch, length, dim), keys = _shape(inputs[0]), _shape(inputs[1])[1]
    return batch * dim * (2 * dim * (length + keys) + 2 * length * keys)


def _solve(inputs: list[Any], outputs: list[Any]) -> Any:
    """Count A X = B for A `[..., N, N]`: LU, N^3 / 3 for each A, then N multiply-adds for each element of X."""
    rows = _shape(inputs[0])[-1]
    return Counter({"linalg_solve": _elements(outputs[0]) * rows + _elements(inputs[0]) * rows // 3})


def _cosines(inputs: list[Any], outputs: list[Any]) -> Any:
    """Count the products of cosines along a dimension, as of a matrix product; norms weigh little."""
    return Counter({"cosine_similarity": _elements(outputs[0]) * _shape(inputs[0])[inputs[2].toIValue()]})


HANDLES: dict[str, Any] = {
    **{f"aten::{name}": partial(_product, 0) for name in ("matmul", "mm", "bmm", "mv", "dot")},
    **{f"aten::{name}": partial(_product, 1) for name in ("addmm", "addmv", "baddbmm")},
    **{f"aten::{name}": _solve for name in ("linalg_solve", "linalg_solve_ex")},
    "aten::_convolution_mode": _convolution,
    "aten::cosine_similarity": _cosines,
    "aten::scaled_dot_product_attention": _attention,
    "aten::_native_multi_head_attention": _multi_head_attention,
}
"""Multiply-adds of operators that fvcore does not count, or not for every shape; tested against formulas by hand."""
