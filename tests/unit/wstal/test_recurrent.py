"""The recurrent classifier against torch's LSTM cell, and its written-out gradient against autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wstal.parts.recurrent import LstmState, RecurrentClassifier

INPUTS, HIDDEN, OUTPUTS, BATCH = 5, 7, 3, 4


@pytest.fixture
def classifier() -> RecurrentClassifier:
    torch.manual_seed(0)
    return RecurrentClassifier(INPUTS, HIDDEN, OUTPUTS, dropout=0.5).double().eval()


def step_input() -> tuple[Tensor, LstmState]:
    generator = torch.Generator().manual_seed(1)
    given, hidden, cell = (
        torch.randn(BATCH, width, dtype=torch.float64, generator=generator) for width in (INPUTS, HIDDEN, HIDDEN)
    )
    return given, LstmState(hidden, cell)


def test_a_step_is_that_of_torchs_cell_and_two_layers(classifier) -> None:
    cell = nn.LSTMCell(INPUTS, HIDDEN).double()
    with torch.no_grad():
        cell.weight_ih.copy_(classifier.gates.weight[:, :INPUTS])
        cell.weight_hh.copy_(classifier.gates.weight[:, INPUTS:])
        cell.bias_ih.copy_(classifier.gates.bias)
        cell.bias_hh.zero_()
    given, state = step_input()
    outputs, after = classifier(given, state)
    hidden, content = cell(given, state)
    torch.testing.assert_close(after, LstmState(hidden, content))
    torch.testing.assert_close(outputs, classifier.output(classifier.layer(hidden).relu()))


def test_the_first_state_is_zero(classifier) -> None:
    state = classifier.start(2)
    assert [part.tolist() for part in state] == [[[0.0] * HIDDEN] * 2] * 2
    assert state.hidden.dtype == torch.float64


@pytest.mark.parametrize("output", range(OUTPUTS))
def test_the_gradient_is_autograds(classifier, output: int) -> None:
    given, state = step_input()
    outputs, _ = classifier(given.requires_grad_(), state)
    (expected,) = torch.autograd.grad(outputs[:, output].sum(), given)
    with torch.no_grad():
        found = classifier.gradient(given, state, output)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)


def test_the_gradient_leaves_dropout_out(classifier) -> None:
    given, state = step_input()
    expected = classifier.gradient(given, state, 0)
    torch.testing.assert_close(classifier.train().gradient(given, state, 0), expected)
