"""Feature streams (RGB, optical flow) within the joined columns, and methods with one network per stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from wstal.errors import UserError
from wstal.method import Method
from wstal.spec import Count, Spec
from wstal.tensors import Features, VideoFeatures
from wstal.types import Batch, IntArray, Scores, Video


class StreamOptions(Spec):
    """Options of a method that treats streams separately.

    Example:
        >>> StreamOptions(streams=(4, 2)).widths(6)
        (4, 2)
    """

    streams: tuple[Count, ...] = Field(
        (),
        description="columns of each stream, in joining order (RGB first); stated by the data set. "
        "(): all are one stream",
    )

    def widths(self, feature_dim: int) -> tuple[int, ...]:
        """Return the number of columns of each stream.

        Raises:
            UserError: the sum is not the number of feature columns.
        """
        widths = self.streams or (feature_dim,)
        if sum(widths) != feature_dim:
            raise UserError(
                f"method.streams={list(widths)} are {sum(widths)} columns, the features have {feature_dim}. "
                "Leave the option to the data set, or state each stream's columns."
            )
        return widths


def split_streams(features: Float[Tensor, ...], widths: Sequence[int], dim: int = -1) -> tuple[Tensor, ...]:
    """Split features into the columns of each stream.

    Args:
        features: columns of all streams, joined.
        widths: number of columns of each stream.
        dim: axis of the columns.

    Example:
        >>> [part.tolist() for part in split_streams(torch.tensor([1.0, 2.0, 3.0]), (1, 2))]
        [[1.0], [2.0, 3.0]]
    """
    parts: tuple[Tensor, ...] = features.split(list(widths), dim)  # type: ignore[no-untyped-call]
    return parts


class TwoStreamOptions(StreamOptions):
    """Options of a method whose two streams teach each other.

    Example:
        >>> TwoStreamOptions(streams=(4, 2)).pair(6, "TSCN"), TwoStreamOptions(split="halves").pair(5, "TSCN")
        ((4, 2), (2, 3))
    """

    split: Literal["no", "halves"] = Field(
        "no",
        description="no: refuse features of one stream. halves: take the first half of its columns and the rest as two "
        "pseudo-streams, which the title of the run then says",
    )

    @property
    def title_note(self) -> str:
        """That the streams are halves of one."""
        return ", halves of one stream" if self.split == "halves" else ""

    def pair(self, feature_dim: int, title: str) -> tuple[int, int]:
        """Return the number of columns of both streams.

        Args:
            feature_dim: D, columns of all streams.
            title: of the method, for messages.

        Raises:
            UserError: there is one stream and no request to split it, or there are more than two, or a request to split
                what is two streams already or a single column.
        """
        widths = self.widths(feature_dim)
        if len(widths) > 2:
            raise UserError(
                f"{title} takes two streams, method.streams={list(widths)} names {len(widths)}. "
                "Choose two with --streams."
            )
        if len(widths) == 2:
            if self.split == "halves":
                raise UserError(
                    f"method.split=halves splits features of one stream, and method.streams={list(widths)} are two. "
                    "Leave the option out."
                )
            return widths[0], widths[1]
        if self.split == "no":
            raise UserError(
                f"{title} trains two streams (RGB and optical flow) that teach each other, and these features have one "
                "stream. Add the other one, or ask for two halves of its columns with --set method.split=halves: such "
                "pseudo-streams show the same, and every table then says that they were used."
            )
        if feature_dim < 2:
            raise UserError("method.split=halves needs two columns, the features have one. Add the other stream.")
        return feature_dim // 2, feature_dim - feature_dim // 2


class TwoStreams(Method):
    """Method whose two streams teach each other. It refuses features of one stream, but for a request to split them.

    Args:
        spec: the method's options.
        feature_dim: D, columns of both streams.
        num_classes: C, action classes without background.
    """

    spec: TwoStreamOptions

    def __init__(self, spec: TwoStreamOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.widths = spec.pair(feature_dim, self.title)

    def split(self, features: Float[Tensor, "*rows in_dim"]) -> tuple[Tensor, ...]:
        """Return the columns of each stream."""
        return split_streams(features, self.widths)


class SeparateStreams(Method):
    """Method that trains one network per stream and fuses their scores. Subclasses set `Network`.

    The total loss is the sum of the networks' losses. They share no parameter, so each is trained as it would be alone,
    on the same samples.

    Args:
        spec: the options of the networks, with the streams.
        feature_dim: D, columns of all streams.
        num_classes: C, action classes without background.
    """

    Network: ClassVar[type[Method]]
    spec: StreamOptions

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "Network" in vars(cls):
            cls.TRAIN_SAMPLER = cls.Network.TRAIN_SAMPLER

    def __init__(self, spec: StreamOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.widths = spec.widths(feature_dim)
        self.networks: Sequence[Method] = nn.ModuleList(  # type: ignore[assignment]
            self.Network(spec, width, num_classes) for width in self.widths
        )

    def split(self, features: Float[Tensor, "*rows in_dim"]) -> tuple[Tensor, ...]:
        """Return the columns of each stream."""
        return split_streams(features, self.widths)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Start the epoch of each network. They get no videos, whose features have all streams.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: not used.
        """
        for network in self.networks:
            network.start_epoch(epoch, epochs)

    def end_step(self) -> None:
        """Finish the step of each network."""
        for network in self.networks:
            network.end_step()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the sum over networks of each loss term."""
        parts = self.split(batch.features)
        terms = [one.losses(replace(batch, features=part)) for one, part in zip(self.networks, parts, strict=True)]
        if len(terms) == 1:  # stacking and summing single tensors would take a tenth of a small network's step
            return terms[0]
        return {name: torch.stack([one[name] for one in terms]).sum() for name in terms[0]}

    def score(self, features: VideoFeatures) -> Scores:
        """Return the joined scores of the networks."""
        parts = self.split(features)
        return self.join([network.score(part) for network, part in zip(self.networks, parts, strict=True)])

    def score_batch(self, features: Features) -> list[Scores]:
        """Return the joined scores of the networks for several videos of one length."""
        parts = [one.score_batch(part) for one, part in zip(self.networks, self.split(features), strict=True)]
        return [self.join(scores) for scores in zip(*parts, strict=True)]

    def join(self, scores: Sequence[Scores]) -> Scores:
        """Join the scores of the networks.

        Returns:
            Signals and video scores of network i as `stream<i>/...`, for a localizer that fuses streams, and the means
            over networks of `cas`, `attention` and the video scores.
        """
        own = {f"stream{i}/{name}": signal for i, one in enumerate(scores) for name, signal in one.signals.items()}
        means = {name: torch.stack([one.signals[name] for one in scores]).mean(dim=0) for name in ("cas", "attention")}
        return Scores(
            own | means,
            torch.stack([one.video_scores for one in scores]).mean(dim=0),
            {f"stream{i}": one.video_scores for i, one in enumerate(scores)},
        )

    def train_indices(self, length: int, count: int, rng: np.random.Generator) -> IntArray:
        """Return the training rows of the first network: all networks see the same rows."""
        return self.networks[0].train_indices(length, count, rng)

    def test_indices(self, length: int, at_most: int) -> IntArray:
        """Return the test rows of the first network."""
        return self.networks[0].test_indices(length, at_most)
