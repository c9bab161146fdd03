"""Networks of one stream and their teachers: formulas by hand, and what a teacher is not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from wstal.parts.attention_network import AttentionNetwork, Teacher


def network(width: int = 3, hidden: int | None = None, layers: int = 1, seed: int = 0) -> AttentionNetwork:
    torch.manual_seed(seed)
    return AttentionNetwork(width, hidden, layers, 4, 0.5)


@pytest.mark.parametrize(("hidden", "layers", "columns"), [(None, 1, [3, 3]), (5, 1, [3, 5]), (5, 3, [3, 5, 5, 5])])
def test_the_embedding_has_the_layers_asked_for(hidden: int | None, layers: int, columns: list[int]) -> None:
    convolutions = [layer for layer in network(3, hidden, layers).embedding if isinstance(layer, nn.Conv1d)]
    assert [columns[0], *(layer.out_channels for layer in convolutions)] == columns
    assert [layer.kernel_size for layer in convolutions] == [(3,)] * layers


def test_a_snippet_sees_its_neighbours_by_hand() -> None:
    made = AttentionNetwork(width=1, hidden=None, layers=1, outputs=2, dropout=0.5).eval()
    with torch.no_grad():
        made.embedding[0].weight.copy_(torch.tensor([[[1.0, 2.0, 4.0]]]))
        made.embedding[0].bias.fill_(-20.0)
        made.attention.weight.fill_(0.5)
        made.attention.bias.fill_(-1.0)
        made.classifier.weight.copy_(torch.tensor([[1.0], [-3.0]]))
        made.classifier.bias.copy_(torch.tensor([0.0, 1.0]))
    embedded, attention = made(torch.tensor([[[1.0], [2.0], [5.0]]]))
    # 2 + 8 - 20 < 0, 1 + 4 + 20 - 20 = 5, 2 + 10 - 20 < 0
    assert embedded.flatten().tolist() == [0.0, 5.0, 0.0]
    torch.testing.assert_close(attention.flatten(), torch.tensor([-1.0, 1.5, -1.0]).sigmoid())
    assert made.classify(embedded)[0].tolist() == [[0.0, 1.0], [5.0, -14.0], [0.0, 1.0]]


def test_dropout_is_of_what_is_classified_alone() -> None:
    made, features = network(8).train(), torch.rand(1, 6, 8)
    (embedded, attention), (again, other) = made(features), made(features)
    assert torch.equal(embedded, again)
    assert torch.equal(attention, other)
    assert not torch.equal(made.classify(embedded), made.classify(embedded))


def test_a_teacher_is_a_copy_that_nothing_trains() -> None:
    student = network()
    teacher, before = Teacher(student), copy.deepcopy(student)
    features = torch.rand(2, 5, 3, requires_grad=True)
    assert not list(teacher.parameters())
    assert not teacher(features).requires_grad
    assert torch.equal(teacher(features), student(features)[1])
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert torch.equal(teacher(features), before(features)[1])
    # as checkpoints need it
    restored = Teacher(network(seed=1))
    restored.load_state_dict(teacher.state_dict())
    assert torch.equal(restored(features), teacher(features))


def test_a_teacher_never_drops() -> None:
    teacher = Teacher(network(8))
    assert not teacher.train().network.training
    assert not nn.ModuleList([teacher]).train()[0].network.training


@pytest.mark.parametrize("share", [0.25, torch.tensor(0.25)])
def test_a_teacher_follows_by_a_share(share: float | torch.Tensor) -> None:
    first, second = network(), network(seed=1)
    teacher = Teacher(first)
    teacher.follow(second, share)
    for mine, one, other in zip(teacher.buffers(), first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(mine, 0.75 * one + 0.25 * other)
    teacher.follow(second)
    assert all(map(torch.equal, teacher.buffers(), second.parameters()))
