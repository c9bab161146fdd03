"""Self-attention of segments against plain loops over snippets, heads and proposals."""

from __future__ import annotations

import numpy as np
import torch

from wstal.parts.segment_attention import SegmentAttention

HEADS, WIDTH, ROWS = 2, 6, 8
INSIDE = torch.zeros(1, 3, ROWS, dtype=torch.bool)
INSIDE[0, 0, 1:4] = INSIDE[0, 1, 3:6] = True  # the third proposal is padding


def attention() -> SegmentAttention:
    torch.manual_seed(0)
    made = SegmentAttention(WIDTH, HEADS).double().eval()
    torch.nn.init.normal_(made.norm.weight)
    torch.nn.init.normal_(made.norm.bias)
    return made


def layer(module: torch.nn.Linear, values: np.ndarray) -> np.ndarray:
    result: np.ndarray = values @ module.weight.detach().numpy().T + module.bias.detach().numpy()
    return result


def attended(module: SegmentAttention, tokens: np.ndarray, sees: list[list[int]]) -> np.ndarray:
    query, key, value = (layer(one, tokens) for one in (module.query, module.key, module.value))
    found, size = np.zeros_like(tokens), WIDTH // HEADS
    for token, others in enumerate(sees):
        for part in (slice(head * size, (head + 1) * size) for head in range(HEADS)):
            if others:
                weights = np.exp(key[others, part] @ query[token, part] / size**0.5)
                found[token, part] = weights @ value[others, part] / weights.sum()
    return found


def added(module: SegmentAttention, embedded: np.ndarray, values: np.ndarray) -> np.ndarray:
    scale, shift = (one.detach().numpy() for one in (module.norm.weight, module.norm.bias))
    result: np.ndarray = embedded + layer(module.output, values) / np.sqrt(1 + 1e-5) * scale + shift
    return result


def test_within_proposals_is_the_plain_one() -> None:
    module, embedded = attention(), torch.rand(1, ROWS, WIDTH).double()
    proposals = [set(np.flatnonzero(one)) for one in INSIDE[0].numpy()]
    sees = [sorted(set().union(*(one for one in proposals if row in one))) for row in range(ROWS)]
    assert sees[3] == [1, 2, 3, 4, 5]  # both proposals cover it
    assert sees[0] == []
    expected = added(module, embedded[0].numpy(), attended(module, embedded[0].numpy(), sees))
    found = module.within_proposals(embedded, INSIDE)[0].detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_between_proposals_is_the_plain_one() -> None:
    module, embedded = attention(), torch.rand(1, ROWS, WIDTH).double()
    values = embedded[0].numpy()
    pooled = np.stack([values[1:4].mean(axis=0), values[3:6].mean(axis=0)])
    of_proposals = attended(module, pooled, [[0, 1], [0, 1]])
    spread = np.zeros_like(values)
    spread[1:3], spread[3], spread[4:6] = of_proposals[0], of_proposals.mean(axis=0), of_proposals[1]
    found = module.between_proposals(embedded, INSIDE)[0].detach().numpy()
    np.testing.assert_allclose(found, added(module, values, spread), rtol=1e-10)


def test_nothing_is_added_at_first_nor_without_proposals() -> None:
    embedded = torch.rand(2, ROWS, WIDTH)
    fresh = SegmentAttention(WIDTH, HEADS)
    assert torch.equal(fresh.within_proposals(embedded, INSIDE.expand(2, -1, -1)), embedded)
    module = attention().float()
    none = torch.zeros(2, 0, ROWS, dtype=torch.bool)
    for found in (module.within_proposals(embedded, none), module.between_proposals(embedded, none)):
        change = (found - embedded).detach()
        torch.testing.assert_close(change, change[:1, :1].expand_as(change))  # the output's bias alone
