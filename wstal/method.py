"""Contract of every method, built in or third party.

A method is a torch module with its own `losses`, a `score` for the localizer, and a `recipe` of defaults for a data
set. A method that `CrossVideo` can wrap (`BaseMethod`) has three steps that these use: `embed`, `attend`, `classify`.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, SerializeAsAny
from torch import Tensor, nn

from wstal import sampling
from wstal.localize.spec import LocalizerSpec
from wstal.spec import Count, Spec
from wstal.tensors import Attention, Cas, Embedded, Features, Labels, Scalar, VideoFeatures
from wstal.types import Batch, IntArray, Paper, Scores, Snippets, Source, Supervision, Video

Beta = Annotated[float, Field(ge=0, lt=1)]
ADAM_BETAS = (0.9, 0.999)


class TrainSpec(Spec):
    """Training settings. Each epoch shows every training video once.

    Example:
        >>> TrainSpec(epochs=10).batch_size
        16
    """

    epochs: Count = Field(description="passes over the training videos; the last one's weights are scored")
    batch_size: Count = Field(16, description="videos a batch; the last, smaller batch of an epoch is kept")
    accumulate: Count = Field(
        1,
        exclude_if=lambda batches: batches == 1,  # newer than stored runs, so its default is not written
        description="batches whose gradients are summed for one step of the optimiser",
    )
    temporal_length: Count = Field(750, description="rows that a training video is sampled to (T)")
    test_length: Count = Field(750, description="rows above which a test video is sampled down")
    learning_rate: PositiveFloat = Field(1e-4, description="of Adam")
    betas: tuple[Beta, Beta] = Field(
        ADAM_BETAS, exclude_if=lambda betas: betas == ADAM_BETAS, description="of Adam (default: 0.9, 0.999)"
    )
    weight_decay: float = Field(0.0, ge=0, description="coupled L2, as torch.optim.Adam's")
    decay_every: Count | None = Field(None, description="epochs between decays of the learning rate; none: constant")
    decay_factor: PositiveFloat = Field(0.1, description="factor of the learning rate at each decay")
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        exclude_if=lambda precision: precision == "float32",
        description="of products and convolutions in training: tf32 needs a GPU, bfloat16 is torch's autocast; weights "
        "stay float32",
    )


class Recipe(Spec):
    """All settings of a run besides data and seed: resolved, typed, and part of the run's identity."""

    method: SerializeAsAny[Spec] = Field(description="the method's own options")
    train: TrainSpec
    localizer: LocalizerSpec


def adam(parameters: Iterable[nn.Parameter], train: TrainSpec) -> torch.optim.Adam:
    """Return Adam with the settings of a recipe.

    Args:
        parameters: what it trains.
        train: learning rate, betas and weight decay.

    Example:
        >>> adam([nn.Parameter(torch.zeros(2))], TrainSpec(epochs=1, learning_rate=0.01)).param_groups[0]["lr"]
        0.01
    """
    # fused: one pass over each parameter in place of about ten
    return torch.optim.Adam(
        parameters, lr=train.learning_rate, betas=train.betas, weight_decay=train.weight_decay, fused=True
    )


class Method(nn.Module, ABC):
    """Base class of methods.

    Args:
        spec: the method's options, an instance of `cls.Options`.
        feature_dim: D, columns of the features.
        num_classes: C, action classes without background.

    Attributes:
        supervision: what training is given besides features. `weak`: video-level labels. `weak+count`: also how often
            each class occurs, as `CountedVideo` and `CountedBatch`. `full`: times, see `wstal.supervised`.
        source: what the implementation follows. `paper, partly`: the paper leaves a part of the structure open.
        paper: publication of the method.
        chance: knows nothing of time by construction.
        SCORING_OPTIONS: options that only `score` reads. Runs that differ in nothing else have the same weights.
        PADS: rows of zeros at the end of a training video are padding, on whose number no loss depends. Only such a
            method may sample fewer than `temporal_length` rows of a short video in a batch of several videos.
        SMOOTH: the loss changes gradually with the weights, so that a small step against the gradient lowers it. Not
            where it is computed on whole rows.
        TRAIN_SAMPLER: sampler of `wstal.sampling` that `train_indices` calls.
        TEST_SAMPLER: sampler of `wstal.sampling` that `test_indices` calls.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    Options: ClassVar[type[Spec]]
    supervision: ClassVar[Supervision] = "weak"
    source: ClassVar[Source] = "released code"
    paper: ClassVar[Paper | None] = None
    chance: ClassVar[bool] = False
    SCORING_OPTIONS: ClassVar[frozenset[str]] = frozenset()
    PADS: ClassVar[bool] = False
    SMOOTH: ClassVar[bool] = True
    TRAIN_SAMPLER: ClassVar[Callable[[int, int, np.random.Generator], IntArray]] = sampling.stratified_random
    TEST_SAMPLER: ClassVar[Callable[[int, int], IntArray]] = sampling.uniform

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        old = vars(cls).get("trunk")
        if callable(old) and "epochs" in inspect.signature(old).parameters:
            raise TypeError(f"Method.trunk(epochs) is now called shared_warmup(epochs): rename it in {cls.__name__}.")
        if "score" in vars(cls) and "score_batch" not in vars(cls):  # a parent's would not give the new scores
            cls.score_batch = Method.score_batch  # type: ignore[method-assign]

    def __init__(self, spec: Spec, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.feature_dim = feature_dim
        self.num_classes = num_classes

    @classmethod
    @abstractmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the method's defaults for a family of data sets (`thumos14`, `activitynet13`, ...).

        A data set that the method's paper does not cover gets the recipe of the nearest one that it does.
        """

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return scalar losses by name, with the same names in every step.

        `total` is minimised. The others are its terms before weighting, or other values worth plotting.
        """

    @abstractmethod
    def score(self, features: VideoFeatures) -> Scores:
        """Return what localizers need of one video, computed in evaluation mode (see `Scores`)."""

    def score_batch(self, features: Features) -> list[Scores]:
        """Return the scores of several videos of one length, as `score` gives them.

        Override it where one pass can serve several videos. A class that overrides `score` alone scores one by one.
        """
        return [self.score(one) for one in features]

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Prepare an epoch.

        Called in training mode, also before the first epoch after a resume. Draws must come from torch's seeded
        generators. At the start of a `stage` parameters may be frozen, freed or set anew in place.

        Args:
            epoch: number of the coming epoch, from 0.
            epochs: epochs of the whole training.
            videos: all training videos, for a method that reads them outside its batches.
        """

    def stage(self, epoch: int, epochs: int) -> int:
        """Return the stage of an epoch, for a training that works on one part after another.

        Each stage has optimizers of its own: they are built anew where it differs from the epoch before, after
        `start_epoch`. It depends on the arguments and options alone.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
        """
        return 0

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        """Return the optimizers of a stage: by default one Adam over all parameters.

        All are zeroed and stepped together. A decay of the learning rate multiplies each group's own. Their state is
        kept in checkpoints by position, so the list is the same each time within a stage.
        """
        return [adam(self.parameters(), train)]

    def shared_warmup(self, epochs: int) -> tuple[Method, int]:
        """Return a part that trains alone in the first epochs, and the number of these epochs.

        Runs that differ only in the other parts share those epochs. Nothing but the part's options, the schedule, the
        seed and the data may decide them.
        """
        return self, 0

    def end_step(self) -> None:
        """Finish an optimiser step. State that the gradients still needed may change now."""

    def end_training(self) -> None:
        """Finish the training. Called once after the last epoch, before weights are stored and videos are scored."""

    def pseudo_labels(self, videos: Iterable[VideoFeatures]) -> Iterator[dict[str, Tensor]]:
        """Yield `[T, C]` class probabilities of each video's snippets by name, if the method teaches itself with them.

        By default nothing. An evaluation compares them with the ground truth of training videos. It is not in training,
        and training does not see its results. Called in evaluation mode.

        Args:
            videos: features of some videos.
        """
        return iter(())

    def diagnostics(self) -> dict[str, Any]:
        """Return numbers, or lists of numbers, to plot after each epoch, by the same names each time."""
        return {}

    def export_state(self) -> dict[str, Tensor]:
        """Return the state that scoring needs, which is stored with a finished run: by default all of it."""
        return self.state_dict()

    @property
    def pairs(self) -> int:
        """Number of video pairs that lead each batch (rows 0 and 1, 2 and 3, ...), for a loss that compares pairs."""
        return 0

    def train_batches(self, labels: Sequence[tuple[int, ...]], size: int, rng: np.random.Generator) -> list[IntArray]:
        """Return the video indices of each batch of an epoch: all videos shuffled, with a smaller last batch.

        Args:
            labels: class indices of each training video.
            size: videos per batch.
            rng: generator of the epoch.
        """
        order = rng.permutation(len(labels))
        return [order[start : start + size] for start in range(0, len(labels), size)]

    def train_indices(self, length: int, count: int, rng: np.random.Generator) -> IntArray:
        """Return the rows of a training video that a step sees.

        Args:
            length: rows of the video.
            count: rows to sample (T).
            rng: generator of the epoch.
        """
        return type(self).TRAIN_SAMPLER(length, count, rng)

    def test_indices(self, length: int, at_most: int) -> IntArray:
        """Return the rows of a test video that are scored.

        Args:
            length: rows of the video.
            at_most: rows above which a video is sampled down.
        """
        return type(self).TEST_SAMPLER(length, at_most)

    def parameter_count(self) -> int:
        """Return the number of parameters, also of those that are frozen at the moment."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device


class BaseMethod(Method):
    """Method whose losses and scores are functions of one pass (embed, attend, classify), as `CrossVideo` needs."""

    @property
    def embedding_dim(self) -> int:
        """Number of columns of F."""
        return self.feature_dim

    def snippets(self, features: Features) -> Snippets:
        """Return F, W and A of a batch."""
        embedded = self.embed(features)
        return Snippets(embedded, self.attend(embedded), self.classify(embedded))

    def snippets_of_each(self, features: Features) -> list[Snippets]:
        """Return `snippets` of each video alone (B = 1), for several videos of one length.

        They are embedded together, which takes 21 ms a video in place of 55 (a convolution 2,048 wide, 75 rows).
        Attention and classifier take 1 ms, and the attention's small product rounds otherwise for several videos.
        """
        if type(self).snippets is not BaseMethod.snippets:
            return [self.snippets(one.unsqueeze(0)) for one in features]
        each = (one.unsqueeze(0) for one in self.embed(features))
        return [Snippets(embedded, self.attend(embedded), self.classify(embedded)) for embedded in each]

    @abstractmethod
    def embed(self, features: Features) -> Embedded:
        """Return the snippet embeddings F."""

    @abstractmethod
    def attend(self, embedded: Embedded) -> Attention:
        """Return attention weights W in [0, 1]. Override `snippets` to compute them from the features instead of F."""

    @abstractmethod
    def classify(self, embedded: Embedded) -> Cas:
        """Return the class activation sequence A: logits, with background (if the method has it) last."""

    @abstractmethod
    def snippet_losses(self, snippets: Snippets, labels: Labels) -> dict[str, Tensor]:
        """Return the losses of one pass.

        Args:
            snippets: the pass.
            labels: `[B, C]` multi-hot.
        """

    @abstractmethod
    def classification_loss(self, cas: Cas, attention: Attention, labels: Labels) -> Scalar:
        """Return the weighted video-level classification loss (Eq. 5) of any CAS under any attention.

        Args:
            cas: `[B, T, C]` or, with background last, `[B, T, C + 1]` logits.
            attention: `[B, T, kinds]` weights in [0, 1].
            labels: `[B, C]` multi-hot.
        """

    @abstractmethod
    def branch_cas(self, cas: Cas, attention: Attention) -> tuple[Cas, Cas]:
        """Return A^ins and A^bak, the CAS weighted by foreground and by background attention (Eq. 4).

        Args:
            cas: `[B, T, C]` or, with background last, `[B, T, C + 1]` logits.
            attention: `[B, T, kinds]` weights in [0, 1].
        """

    @abstractmethod
    def snippet_scores(self, snippets: Snippets) -> Scores:
        """Return the scores of one pass over a single video (B = 1)."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of one pass."""
        return self.snippet_losses(self.snippets(batch.features), batch.labels)

    def score(self, features: VideoFeatures) -> Scores:
        """Return the scores of one pass."""
        return self.snippet_scores(self.snippets(features.unsqueeze(0)))

    def score_batch(self, features: Features) -> list[Scores]:
        """Return the scores of several videos of one length, which are embedded together."""
        return [self.snippet_scores(one) for one in self.snippets_of_each(features)]
