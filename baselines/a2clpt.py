"""A2CL-PT: adversarial and angular centre loss with a pair of triplets.

Idea: attended features of a class lie closer, by angle, to a learned centre of the class than to any other centre, and
closer than the features of the same video under a nearly even attention, which contain background. A second classifier
of each stream sees the snippets that the first one does not find most telling, so that it finds the rest of an action.

Paper: Min & Corso, ECCV 2020, arXiv 2007.06643. Facts: its released code (kylemin/A2CL-PT at 53a56d1), checked against
tensors recorded from it. Deviations:
- the smaller last batch of an epoch is kept (the released code drops it);
- snippets are erased among a video's own, not among those of zeros that pad it, and at least one stays;
- centres are scaled to length 1 after each step, not before it: gradients are divided by 1 instead of up to 1.001;
- in evaluation mode, where tests of losses need one value, the even attention has the middle of its drawn temperatures;
- features of a single stream are classified twice, before and after the weights of the classes;
- the ActivityNet branch, of which only the convolution is described, cuts negative values off as 3C-Net's does;
- detections in Ambiguous intervals stay: dropping them is part of an evaluation protocol here;
- trained on the data set's own videos and classes (the released code: 1,010 THUMOS14 videos of 101 classes);
- the last of 45,000 steps counts (the released code keeps the best of 40 evaluations on the test set).
Videos with several labels join the centre loss after a ninth of the epochs (5,000 of 45,000 steps). All rows of a test
video are scored, unless `train.test_length`, which a data set's schedule may set, limits them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal import sampling
from wstal.device import to_device_async
from wstal.families import epochs_for, many_classes
from wstal.localize.spec import LocalizerSpec, ProposalSource
from wstal.losses.mil import cross_entropy
from wstal.method import Method, Recipe, TrainSpec, adam
from wstal.parts.layers import StreamClassifier, depthwise_conv
from wstal.parts.padded import class_features, labelled_pairs, pooled_logits, rows_present, smoothed, softmax_over_time
from wstal.parts.pooling import above_half, logit_signals
from wstal.spec import ALL_ROWS, Count
from wstal.streams import StreamOptions, split_streams
from wstal.tensors import Features, Scalar, VideoFeatures
from wstal.types import Batch, Paper, Scores, Video

ERASED = -100.0  # logit of an erased snippet
LARGEST_COSINE = 1 - 1e-6  # the gradient of an angle has no bound


class A2clPtOptions(StreamOptions):
    """Options of A2CL-PT. The defaults are the released code's for THUMOS14."""

    dropout: float = Field(0.7, ge=0, lt=1, description="of the embedded snippets")
    ratio: int = Field(8, ge=1, description="a video's T / ratio highest logits are pooled, rounded up (s)")
    smooth: bool = Field(False, description="convolve the fused logits of each class over time (ActivityNet)")
    erased: Count = Field(5, description="snippets that are erased for each class: T / 40 of 200")
    adversarial: float = Field(0.6, ge=0, description="weight of the second classifier's logits in the fusion (omega)")
    even: tuple[float, float] = Field(
        (0.001, 0.1), description="least and greatest factor of the logits in the nearly even attention (beta)"
    )
    margins: tuple[float, float] = Field(
        (2.0, 1.0), description="radians: to the nearly even attention (m1), to the nearest other centre (m2)"
    )
    even_weight: float = Field(0.6, ge=0, description="weight of the triplet with the nearly even attention (gamma)")
    centre: float = Field(1.0, ge=0, description="weight of the angular loss for features (alpha)")
    centre_rates: tuple[float, ...] = Field(
        (0.1, 0.2), min_length=1, description="learning rates of each stream's centres; the last is any further one's"
    )
    several_labels_from: float = Field(
        1 / 9, ge=0, le=1, description="share of the epochs before the centre loss sees videos with several labels"
    )


STEPS, BATCH = 45_000, 32
LOCALIZER = LocalizerSpec(
    class_threshold=0.0,
    fallback_to_argmax=False,
    class_score="logit_above_half",
    minimum_run=2,
    sources=(
        ProposalSource(
            signal="logit", thresholds=(0.0,), strict=True, score={"logit": 1.0}, inside="max", video_score_weight=1.0
        ),
    ),
)


class A2clPt(Method):
    """A2CL-PT over features `[B, T, D]` of one or two streams."""

    name = "a2clpt"
    title = "A2CL-PT"
    paper = Paper(
        "Adversarial Background-Aware Loss for Weakly-Supervised Temporal Activity Localization",
        "Kyle Min, Jason J. Corso",
        "ECCV",
        2020,
        "https://arxiv.org/abs/2007.06643",
    )
    Options = A2clPtOptions
    PADS = True
    TRAIN_SAMPLER = sampling.crop
    spec: A2clPtOptions

    def __init__(self, spec: A2clPtOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.widths = spec.widths(feature_dim)
        self.networks = nn.ModuleList(StreamClassifier(width, num_classes, spec.dropout) for width in self.widths)
        self.adversaries = nn.ModuleList(nn.Linear(width, num_classes) for width in self.widths)
        for layer in self.adversaries:
            for row in layer.get_parameter("weight").split(1):  # type: ignore[no-untyped-call]
                nn.init.xavier_uniform_(row)  # a layer of its own for each class
            nn.init.zeros_(layer.get_parameter("bias"))
        self.fusion = nn.Parameter(torch.ones(len(self.widths), num_classes))
        self.smoothing = depthwise_conv(num_classes, kernel=13, dilation=2) if spec.smooth else None
        # of the first and of the second classifier
        self.centres = nn.ParameterList(
            functional.normalize(torch.randn(2, num_classes, width), dim=-1) for width in self.widths
        )
        self._several_labels = False

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the settings of the released code, with the described branch on larger data sets."""
        train = TrainSpec(
            epochs=epochs_for(dataset, STEPS, BATCH),
            batch_size=BATCH,
            temporal_length=200,
            test_length=ALL_ROWS,
            weight_decay=5e-4,
        )
        return Recipe(method=A2clPtOptions(smooth=many_classes(dataset)), train=train, localizer=LOCALIZER)

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        """Return Adam for the network, and plain gradient descent for the centres with rates by stream."""
        network = [value for name, value in self.named_parameters() if not name.startswith("centres.")]
        rates = self.spec.centre_rates
        groups = [
            {"params": [centres], "lr": rates[min(stream, len(rates) - 1)]}
            for stream, centres in enumerate(self.centres)
        ]
        return [adam(network, train), torch.optim.SGD(groups)]

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Decide whether the centre loss sees videos with several labels.

        Args:
            epoch: number of the epoch, from 0.
            epochs: epochs of the whole training.
            videos: not used.
        """
        self._several_labels = epoch >= self.spec.several_labels_from * epochs

    def streams(self, features: Features) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return the embedded snippets of each stream, and the logits of its first and of its second classifier."""
        parts = split_streams(features, self.widths)
        found = []
        for network, adversary, part in zip(self.networks, self.adversaries, parts, strict=True):
            embedded, logits = network(part)
            found.append((embedded, logits, adversary(embedded)))
        return found

    def fuse(
        self, streams: Sequence[tuple[Tensor, Tensor, Tensor]], present: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time actions"]:
        """Return the logits of both classifiers of all streams, weighted for each class and summed.

        Args:
            streams: from `streams`.
            present: `[B, T]`, false where a row is padding.
        """
        both = [logits + self.spec.adversarial * second for _, logits, second in streams]
        fused = (torch.stack(both, dim=-2) * self.fusion).sum(dim=-2)
        return fused if self.smoothing is None else smoothed(fused, present, self.smoothing)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `fused`, `streams` and `adversarial` (classification), `centre`, and their weighted `total`."""
        spec, present = self.spec, rows_present(batch.features)
        streams = self.streams(batch.features)

        def classification(logits: Tensor) -> Tensor:
            return cross_entropy(pooled_logits(logits, present, spec.ratio).log_softmax(dim=1), batch.labels)

        video, label = (
            to_device_async(numbers, batch.features.device)
            for numbers in labelled_pairs(batch.host_labels, self._several_labels)
        )
        terms = {"fused": classification(self.fuse(streams, present))}
        none = terms["fused"].new_zeros(())
        first, second, centre, of_centres = [], [], [none], [none]
        for (embedded, logits, more), centres in zip(streams, self.centres, strict=True):
            rest = more.masked_fill(most_telling(logits, present, spec.erased), ERASED)
            first.append(classification(logits))
            second.append(classification(rest))
            if not len(label):
                continue
            for cas, own in ((logits, centres[0]), (rest, centres[1])):
                factor = self.even_factors(len(label)).to(cas)
                high = class_features(embedded, softmax_over_time(cas, present), video, label)
                # each pair has a softmax over time of its own
                flat = (factor.unsqueeze(1) * cas[video, :, label]).masked_fill(~present[video], -math.inf)
                low = (flat.softmax(dim=1).unsqueeze(1) @ embedded[video]).squeeze(1)
                loss, update = angular_loss(high, low, own, label, spec.margins, spec.even_weight)
                centre.append(loss)
                of_centres.append(update)
        terms["streams"], terms["adversarial"] = torch.stack(first).sum(), torch.stack(second).sum()
        terms["centre"] = torch.stack(centre).sum()
        update = torch.stack(of_centres).sum()
        total = terms["fused"] + terms["streams"] + terms["adversarial"] + spec.centre * terms["centre"]
        return terms | {"total": total + update - update.detach()}  # moves the centres, and is 0

    def even_factors(self, count: int) -> Float[Tensor, " pairs"]:
        """Draw the factors of the nearly even attention of (video, class) pairs (beta).

        In evaluation mode they are the middle.
        """
        least, greatest = self.spec.even
        drawn = (
            torch.rand(count, device=self.device) if self.training else torch.full((count,), 0.5, device=self.device)
        )
        return least + (greatest - least) * drawn

    def end_step(self) -> None:
        """Scale the centres to length 1."""
        with torch.no_grad():
            for centres in self.centres:
                centres.copy_(functional.normalize(centres, dim=-1))

    def score(self, features: VideoFeatures) -> Scores:
        """Return the scores of the fused logits.

        The localizer reads the signal `logit` of `logit_signals` and the class scores `logit_above_half`, means of the
        highest snippets, with 0 for classes up to half of the best. As in W-TALC, `cas` is the position of a logit
        within its class's range in the video.
        """
        present = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
        logits = self.fuse(self.streams(features.unsqueeze(0)), present)
        video = pooled_logits(logits, present, self.spec.ratio)[0]
        probabilities = video.softmax(dim=0)
        return Scores(logit_signals(logits[0], probabilities), probabilities, {"logit_above_half": above_half(video)})

    def export_state(self) -> dict[str, Tensor]:
        """Return the state without the centres, which only losses read."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("centres.")}


def most_telling(
    logits: Float[Tensor, "batch time actions"], present: Bool[Tensor, "batch time"], count: int
) -> Bool[Tensor, "batch time actions"]:
    """Return which `count` snippets of each video have a class's highest logits; the lowest is never one.

    Args:
        logits: `[B, T, C]`.
        present: `[B, T]`, false where a row is padding, which is never one.
        count: snippets; fewer where logits are equal.
    """
    rows = present.unsqueeze(-1)
    below = logits.masked_fill(~rows, -math.inf).topk(min(count + 1, logits.shape[1]), dim=1).values[:, -1:]
    lowest = logits.masked_fill(~rows, math.inf).amin(dim=1, keepdim=True)
    return (logits > torch.maximum(below, lowest)) & rows


def angular_loss(
    high: Float[Tensor, "pairs dim"],
    low: Float[Tensor, "pairs dim"],
    centres: Float[Tensor, "actions dim"],
    label: Int[Tensor, " pairs"],
    margins: tuple[float, float],
    even_weight: float,
) -> tuple[Scalar, Scalar]:
    """Compute the loss of a pair of triplets for features, and what to differentiate for the centres.

    For a pair of class c, with angles to centres, the loss is `gamma [ang(high, c) - ang(low, c) + m1]+
    + [ang(high, c) - min over c' != c of ang(high, c') + m2]+`, averaged over pairs. For the centres, each term that is
    active is divided by 1 + the number of active ones of its role and class: own class in the first or in the second
    bracket, or other class. Angles do not depend on the length of a centre.

    Args:
        high: `[N, D]` features under the attention of their class.
        low: `[N, D]` features of the same videos under a nearly even attention.
        centres: `[C, D]`.
        label: `[N]` number of the class.
        margins: (m1, m2) in radians.
        even_weight: gamma.
    """

    def angles(features: Tensor, to: Tensor) -> Tensor:
        cosines = functional.normalize(features, dim=1) @ functional.normalize(to, dim=1).T
        return cosines.clamp(-LARGEST_COSINE, LARGEST_COSINE).arccos()

    def terms(high: Tensor, low: Tensor, centres: Tensor, other: Tensor | None) -> tuple[Tensor, ...]:
        to_high, to_low = angles(high, centres), angles(low, centres).gather(1, own)
        if other is None:
            other = to_high.scatter(1, own, math.inf).argmin(dim=1, keepdim=True)
        return to_high.gather(1, own), to_low, to_high.gather(1, other), other

    own = label.unsqueeze(1)
    if len(centres) < 2:
        raise ValueError("The angular loss needs two classes.")
    near, even, far, other = terms(high, low, centres.detach(), None)
    first, second = near - even + margins[0], near - far + margins[1]
    loss = (even_weight * first.relu() + second.relu()).mean()
    near, even, far, _ = terms(high.detach(), low.detach(), centres, other)
    first_active, second_active = (first > 0).to(near), (second > 0).to(near)

    def share(active: Tensor, role: Tensor) -> Tensor:
        """Divide active pairs by 1 + the number of those of their class."""
        number = active.new_zeros(len(centres), 1).index_add(0, role.squeeze(1), active)
        return active / (1 + number[role.squeeze(1)])

    update = (
        even_weight * share(first_active, own) * (near - even)
        + share(second_active, own) * near
        - share(second_active, other) * far
    )
    return loss, update.mean()
