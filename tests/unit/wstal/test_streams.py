"""Methods that train one network a stream: columns, losses, what is joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wstal.errors import UserError
from wstal.method import Method, Recipe
from wstal.streams import SeparateStreams, StreamOptions, TwoStreamOptions, TwoStreams
from wstal.types import Batch, IntArray, Scores, Video


class Linear(Method):
    """The least that a network can be."""

    def __init__(self, spec: StreamOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.layer = nn.Linear(feature_dim, num_classes)
        self.calls: list[object] = []

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        raise NotImplementedError

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        loss = (self.layer(batch.features).mean(dim=1) - batch.labels).square().sum()
        return {"classification": loss, "total": 2 * loss}

    def score(self, features: Tensor) -> Scores:
        cas = self.layer(features).sigmoid()
        return Scores({"cas": cas, "attention": cas.amax(dim=1)}, cas.mean(dim=0))

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        self.calls.append((epoch, epochs, len(videos)))

    def end_step(self) -> None:
        self.calls.append("step")

    def train_indices(self, length: int, count: int, rng: np.random.Generator) -> IntArray:
        return np.arange(count) % length

    def test_indices(self, length: int, at_most: int) -> IntArray:
        return np.arange(length)[::-1]


class Linears(SeparateStreams):
    Network: ClassVar[type[Method]] = Linear

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        raise NotImplementedError


def two(streams: tuple[int, ...] = (3, 2)) -> Linears:
    torch.manual_seed(0)
    return Linears(StreamOptions(streams=streams), 5, 4)


def test_each_network_learns_as_if_it_were_alone() -> None:
    model, features, labels = two(), torch.rand(2, 6, 5), torch.eye(4)[:2]
    losses = model.losses(Batch(features, labels, ("a", "b")))
    losses["total"].backward()
    alone = two()
    parts = [
        network.losses(Batch(part, labels, ("a", "b")))
        for network, part in zip(alone.networks, (features[..., :3], features[..., 3:]), strict=True)
    ]
    for name, value in losses.items():
        torch.testing.assert_close(value, parts[0][name] + parts[1][name])
    for number, part in enumerate(parts):
        part["total"].backward()
        torch.testing.assert_close(model.networks[number].layer.weight.grad, alone.networks[number].layer.weight.grad)


def test_scores_are_the_networks_and_their_means() -> None:
    model, features = two(), torch.rand(6, 5)
    rgb, flow = model.networks[0].score(features[:, :3]), model.networks[1].score(features[:, 3:])
    scores = model.score(features)
    assert set(scores.signals) == {f"stream{i}/{name}" for i in (0, 1) for name in rgb.signals} | set(rgb.signals)
    for name in ("cas", "attention"):
        assert torch.equal(scores.signals[f"stream0/{name}"], rgb.signals[name])
        assert torch.equal(scores.signals[f"stream1/{name}"], flow.signals[name])
        torch.testing.assert_close(scores.signals[name], (rgb.signals[name] + flow.signals[name]) / 2)
    torch.testing.assert_close(scores.video_scores, (rgb.video_scores + flow.video_scores) / 2)
    assert torch.equal(scores.class_scores["stream1"], flow.video_scores)
    assert list(scores.class_scores) == ["stream0", "stream1"]


def test_all_columns_are_one_stream_unless_stated() -> None:
    model = two(())
    assert len(model.networks) == 1
    assert model.networks[0].feature_dim == 5


def test_widths_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(UserError, match=r"method\.streams=\[3, 1\] are 4 columns, the features have 5"):
        two((3, 1))


def test_networks_hear_of_epochs_and_steps_and_choose_the_rows() -> None:
    model = two()
    model.start_epoch(3, 9, [Video("v", np.zeros((2, 5)), (0,), 1.0)])
    model.end_step()
    assert [network.calls for network in model.networks] == [[(3, 9, 0), "step"]] * 2
    assert model.train_indices(2, 3, np.random.default_rng(0)).tolist() == [0, 1, 0]
    assert model.test_indices(3, 2).tolist() == [2, 1, 0]


class Pair(TwoStreams):
    title = "Pair"

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        raise NotImplementedError

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def score(self, features: Tensor) -> Scores:
        raise NotImplementedError


def test_two_streams_are_those_of_the_data_set() -> None:
    model = Pair(TwoStreamOptions(streams=(3, 2)), 5, 4)
    assert [part.shape[-1] for part in model.split(torch.rand(2, 6, 5))] == [3, 2]
    assert model.spec.title_note == ""


@pytest.mark.parametrize("streams", [(), (5,)])
def test_one_stream_is_split_on_request_and_the_title_says_so(streams: tuple[int, ...]) -> None:
    model, features = Pair(TwoStreamOptions(streams=streams, split="halves"), 5, 4), torch.rand(2, 6, 5)
    first, second = model.split(features)
    assert torch.equal(first, features[..., :2])
    assert torch.equal(second, features[..., 2:])
    assert model.spec.title_note == ", halves of one stream"


@pytest.mark.parametrize(
    ("streams", "split", "width", "message"),
    [
        ((), "no", 5, r"Pair trains two streams .* have one stream\..*--set method\.split=halves"),
        ((5,), "no", 5, r"Pair trains two streams .* have one stream"),
        ((2, 2, 1), "no", 5, r"takes two streams, method\.streams=\[2, 2, 1\] names 3.*--streams"),
        ((2, 2, 1), "halves", 5, r"names 3"),
        ((3, 2), "halves", 5, r"method\.streams=\[3, 2\] are two\. Leave the option out"),
        ((1,), "halves", 1, r"needs two columns, the features have one"),
        ((3, 1), "no", 5, r"are 4 columns, the features have 5"),
    ],
)
def test_what_is_not_two_streams_is_refused_with_the_reason(
    streams: tuple[int, ...], split: Literal["no", "halves"], width: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Pair(TwoStreamOptions(streams=streams, split=split), width, 4)
