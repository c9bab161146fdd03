"""STAR: segregated temporal assembly recurrent network.

Idea: a recurrent network names a video's actions one after the other. For each it attends to the snippets once more,
assembles them to one feature, and says which action it is and how often it occurs. The gradient of the action's logit
by the assembled feature tells how much each snippet speaks for the action.

Counts are more than video-level labels: the supervision is `weak+count`.

Paper: Xu et al., AAAI 2019, arXiv 1811.07460. No code was released, and its text was not at hand, but for its abstract
and its authors' slides. Stated:
- one attention curve a step; the assembled feature x_t is the mean of the snippets s_i under it, alpha;
- h_t = LSTM(h_{t-1}, y_{t-1}, x_t, RAM_t), then a layer of 1,024 columns and the outputs: action and repetition;
- RAM (repetition alignment): a number computed from the curve, related to how often the action occurs;
- COV: a permissive penalty of attending to the same snippets again. SPA: sparsity of the curve;
- localization by alpha sigmoid(xi), ST-GradCAM, with xi_i = <d logit_t / d x_t, s_i>.

Readings, ours:
- each stream has a network of its own, and their scores are averaged;
- the curve is the softmax over snippets of v tanh(W_s s + W_h h_{t-1} + W_c cov), with cov the attention so far;
- the order of a video's actions (`order`), then an end token. Training is told the true y_{t-1};
- RAM is half of the `variation` of the curve, whose maximum is scaled to 1: a plain curve's number of peaks. Its
  relative error is a loss, and so is that of the repetition that the network puts out (`aligned`);
- attention and coverage are in units of the mean attention 1 / T, so that a video's length does not matter;
- COV is the attention that a step has in common with those before it, above `margin` at each snippet;
- SPA is an entropy or a mean (`sparse`); the weights of the losses; Adam, its rate, batch, epochs and dropout;
- at test the most probable action is taken at each step, up to the end token; the first step is always an action;
- detections: thresholds 0.1 to 0.5 of an action's curve, scaled to 0-1. A score is the curve's mean and 0.2 of the
  action's probability; NMS at 0.5.

`repetition=0` runs it without counts: no loss of RAM, and none of it in the network.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from wstal.families import many_classes
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource
from wstal.method import Method, Recipe, TrainSpec
from wstal.parts.pooling import min_max
from wstal.parts.recurrent import LstmState, RecurrentClassifier
from wstal.spec import Count
from wstal.streams import SeparateStreams, StreamOptions
from wstal.tensors import Features, Labels, Scalar, VideoFeatures
from wstal.types import Batch, CountedBatch, Paper, Scores, Supervision

IGNORED = -100  # target of a step after the end token, as `torch.nn.functional.cross_entropy` has it

Curve = Float[Tensor, "batch time"]
Steps = Float[Tensor, "batch steps"]
Targets = Int[Tensor, "batch steps"]
Order = Literal["class", "count"]
Sparse = Literal["entropy", "mean"]
Variation = Literal["squared", "absolute"]


class StarOptions(StreamOptions):
    """Options of STAR. The defaults are readings, but for the width of the hidden layer."""

    hidden: Count = Field(1024, description="columns of the recurrent state and of the layer on top")
    attention_width: Count = Field(512, description="hidden columns of the attention (not known)")
    steps: Count = Field(4, description="steps at most, the end token's included (not known)")
    dropout: float = Field(0.5, ge=0, lt=1, description="before the output layer (not known)")
    order: Order = Field(
        "class",
        description="in which order training names a video's actions (not known). class: by their number; "
        "count: those with the most instances first",
    )
    aligned: Literal["both", "curve", "output"] = Field(
        "both",
        description="which repetition is held to the count (not known). curve: RAM, computed from attention; "
        "output: the network's own",
    )
    variation: Variation = Field(
        "absolute",
        description="steps of a curve that RAM adds up (not known). absolute: all count; squared: small ones hardly do",
    )
    repetition: float = Field(0.1, ge=0, description="weight of the repetition loss (not known); 0: no counts, no RAM")
    coverage: float = Field(0.1, ge=0, description="weight of the coverage loss (not known)")
    margin: float = Field(
        1.0, ge=0, description="attention, in units of the mean one, that steps may share at a snippet (not known)"
    )
    sparsity: float = Field(0.1, ge=0, description="weight of the sparsity loss (not known)")
    sparse: Sparse = Field(
        "entropy", description="sparsity of a curve (not known). entropy: of it; mean: of it over its maximum"
    )


LOCALIZER = LocalizerSpec(
    class_threshold=0.1,
    sources=(
        ProposalSource(signal="cas", thresholds=(0.1, 0.2, 0.3, 0.4, 0.5), score={"cas": 1.0}, video_score_weight=0.2),
    ),
    nms=Nms(kind="hard", threshold=0.5),
)


class StarNetwork(Method):
    """Network of one stream over features `[B, T, D]`."""

    Options = StarOptions
    supervision: ClassVar[Supervision] = "weak+count"
    spec: StarOptions

    def __init__(self, spec: StarOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.of_snippet = nn.Linear(feature_dim, spec.attention_width)
        self.of_state = nn.Linear(spec.hidden, spec.attention_width, bias=False)
        self.of_coverage = nn.Linear(1, spec.attention_width, bias=False)
        self.energy = nn.Linear(spec.attention_width, 1, bias=False)
        # of y, x and RAM to logits of actions and end token, and the repetition
        self.decoder = RecurrentClassifier(num_classes + feature_dim + 1, spec.hidden, num_classes + 2, spec.dropout)

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return THUMOS14's settings, with fewer rows where there are many classes."""
        rows = 300 if many_classes(dataset) else 750
        train = TrainSpec(epochs=100, temporal_length=rows, test_length=rows)
        return Recipe(method=StarOptions(), train=train, localizer=LOCALIZER)

    def attend(self, projected: Float[Tensor, "batch time width"], covered: Curve, state: LstmState) -> Curve:
        """Return the logarithm of the next curve.

        Args:
            projected: `[B, T, width]` W_s s.
            covered: `[B, T]` sum of the curves so far.
            state: of the decoder.
        """
        relative = covered.unsqueeze(2) * covered.shape[1]
        hidden = projected + self.of_state(state.hidden).unsqueeze(1) + self.of_coverage(relative)
        energies: Tensor = self.energy(hidden.tanh()).squeeze(2)
        return energies.log_softmax(dim=1)

    def given(self, previous: Labels, features: Features, curve: Curve) -> Float[Tensor, "batch inputs"]:
        """Return the decoder's input: y_{t-1}, x_t and RAM_t, which is 0 where the network goes without it.

        Args:
            previous: `[B, C]` y_{t-1}, one-hot, or zeros at the first step.
            features: `[B, T, D]` s.
            curve: `[B, T]` alpha_t.
        """
        spec = self.spec
        ram = repetitions(curve, spec.variation) if spec.repetition else curve.new_zeros(len(curve))
        return torch.cat([previous, (curve.unsqueeze(1) @ features).squeeze(1), ram.unsqueeze(1)], dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `classification`, `repetition`, `coverage`, `sparsity` and their weighted `total`."""
        spec, features = self.spec, batch.features
        if not isinstance(batch, CountedBatch):
            raise TypeError("STAR trains on batches with counts.")
        steps = min(int(batch.host_labels.sum(dim=1).max()) + 1, spec.steps)
        targets = step_targets(batch.labels, batch.counts, steps, spec.order)
        classes = torch.arange(self.num_classes, device=features.device)
        named = targets.unsqueeze(2) == classes  # nowhere at the end token and after it
        logits, rams, outputs, shared, sparse = [], [], [], [], []
        covered, state = features.new_zeros(features.shape[:2]), self.decoder.start(len(features))
        projected, previous = self.of_snippet(features), torch.zeros_like(batch.labels)
        for step in range(steps):
            log_curve = self.attend(projected, covered, state)
            curve = log_curve.exp()
            given = self.given(previous, features, curve)
            output, state = self.decoder(given, state)
            logits.append(output[:, :-1])
            outputs.append(output[:, -1])
            rams.append(given[:, -1])
            shared.append(shared_attention(curve, covered, spec.margin))
            sparse.append(spread(log_curve, spec.sparse))
            covered = covered + curve
            previous = named[:, step].to(features)
        counts = (named * batch.counts.unsqueeze(1)).sum(dim=2)
        is_action = named.any(dim=2)
        repetition = features.new_zeros(())
        if spec.repetition and spec.aligned != "output":
            repetition = repetition + repetition_loss(torch.stack(rams, dim=1), counts)
        if spec.repetition and spec.aligned != "curve":
            repetition = repetition + repetition_loss(torch.stack(outputs, dim=1), counts)
        terms = {
            "classification": step_loss(torch.stack(logits, dim=1), targets),
            "repetition": repetition,
            "coverage": mean_where(torch.stack(shared, dim=1), is_action),
            "sparsity": mean_where(torch.stack(sparse, dim=1), is_action),
        }
        weighted = sum(getattr(spec, name) * terms[name] for name in ("repetition", "coverage", "sparsity"))
        return terms | {"total": terms["classification"] + weighted}

    def score(self, features: VideoFeatures) -> Scores:
        """Name the video's actions step by step, and return for each its ST-GradCAM under its attention.

        `cas` is alpha sigmoid(xi), scaled to 0-1 over time, of the steps that named the class, and 0 for other classes.
        `attention` is a curve over its maximum, the highest of all steps. The video scores are the highest
        probabilities of all steps.
        """
        snippets, actions = features.unsqueeze(0), self.num_classes
        covered, state = features.new_zeros(1, len(features)), self.decoder.start(1)
        projected, previous = self.of_snippet(snippets), features.new_zeros(1, actions)
        cas, attention = features.new_zeros(len(features), actions), features.new_zeros(len(features))
        video = features.new_zeros(actions)
        for step in range(self.spec.steps):
            curve = self.attend(projected, covered, state).exp()
            given = self.given(previous, snippets, curve)
            output, after = self.decoder(given, state)
            likely = output[0, :-1].softmax(dim=0)
            video = video.maximum(likely[:actions])
            label = int((likely if step else likely[:actions]).argmax())
            if label == actions:
                break
            gradient = self.decoder.gradient(given, state, label)[0, actions:-1]
            scaled = min_max(st_gradcam(curve[0], gradient, features))
            cas[:, label] = cas[:, label].maximum(scaled)
            attention = attention.maximum(curve[0] / curve.amax())
            covered, state = covered + curve, after
            previous = torch.zeros_like(previous)
            previous[0, label] = 1
        return Scores({"cas": cas, "attention": attention}, video)


class Star(SeparateStreams):
    """STAR over features `[B, T, D]`: one network per stream."""

    name = "star"
    title = "STAR (from the paper)"
    source = "paper, partly"
    paper = Paper(
        "Segregated Temporal Assembly Recurrent Networks for Weakly Supervised Multiple Action Detection",
        "Yunlu Xu, Chengwei Zhang, Zhanzhan Cheng, Jianwen Xie, Yi Niu, Shiliang Pu, Fei Wu",
        "AAAI",
        2019,
        "https://arxiv.org/abs/1811.07460",
    )
    Options = StarOptions
    supervision: ClassVar[Supervision] = "weak+count"
    Network = StarNetwork
    spec: StarOptions

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return the network's recipe."""
        return StarNetwork.recipe(dataset)


def step_targets(labels: Labels, counts: Labels, steps: int, order: Order) -> Targets:
    """Return what each step should name: the video's actions, then C for the end token, then `IGNORED`.

    Args:
        labels: `[B, C]` multi-hot.
        counts: `[B, C]` instances.
        steps: number of steps; further actions are left out.
        order: `class`: actions by their number. `count`: those with the most instances first.
    """
    keys = labels if order == "class" else labels * (1 + counts)
    ranked = functional.pad(keys.argsort(dim=1, descending=True, stable=True), (0, 1))[:, :steps]
    position, number = torch.arange(steps, device=labels.device), labels.sum(dim=1, keepdim=True)
    after = torch.where(position == number, labels.shape[1], IGNORED)
    return torch.where(position < number, ranked, after)


def repetitions(curve: Curve, variation: Variation) -> Float[Tensor, " batch"]:
    """Compute RAM = sum_i |b_i - b_{i-1}|^p / 2 with b = alpha / max alpha, and 0 before and after the video.

    It is the number of runs of a curve that is constant on some runs of snippets, and 0 elsewhere.

    Args:
        curve: `[B, T]` alpha.
        variation: `absolute`: p = 1. `squared`: p = 2.
    """
    steps = functional.pad(curve / curve.amax(dim=1, keepdim=True), (1, 1)).diff(dim=1)
    return (steps.square() if variation == "squared" else steps.abs()).sum(dim=1) / 2


def repetition_loss(found: Steps, counts: Steps) -> Scalar:
    """Compute the mean of |found - count| / count over steps with a count.

    Args:
        found: `[B, steps]` repetitions.
        counts: `[B, steps]` instances of the action to be named; 0 where none is or they are not known.
    """
    counted = counts > 0
    return mean_where((found - counts).abs() / counts.where(counted, 1.0), counted)


def shared_attention(curve: Curve, covered: Curve, margin: float) -> Float[Tensor, " batch"]:
    """Compute COV = sum_i max(0, min(alpha_i, cov_i) - margin / T).

    Args:
        curve: `[B, T]` alpha.
        covered: `[B, T]` cov, sum of the curves before.
        margin: in units of the mean attention.
    """
    return (torch.minimum(curve, covered) - margin / curve.shape[1]).relu().sum(dim=1)


def spread(log_curve: Curve, sparse: Sparse) -> Float[Tensor, " batch"]:
    """Compute SPA, which is lower for a sparser curve, and 1 for a constant one.

    Args:
        log_curve: `[B, T]` log alpha.
        sparse: `entropy` of alpha over that of a constant curve, or `mean` of alpha / max alpha.
    """
    if sparse == "mean":
        return (log_curve - log_curve.amax(dim=1, keepdim=True)).exp().mean(dim=1)
    return -(log_curve.exp() * log_curve).sum(dim=1) / math.log(max(log_curve.shape[1], 2))


def step_loss(logits: Float[Tensor, "batch steps outputs"], targets: Targets) -> Scalar:
    """Compute the cross-entropy of what the steps should name, averaged over steps up to the end token.

    Args:
        logits: `[B, steps, C + 1]` of the actions and, last, the end token.
        targets: `[B, steps]` of `step_targets`.
    """
    loss: Tensor = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    return loss


def mean_where(values: Steps, counted: Bool[Tensor, "batch steps"]) -> Scalar:
    """Compute the mean of the values that count, 0 if none does.

    Args:
        values: `[B, steps]`.
        counted: `[B, steps]`.
    """
    return (values * counted).sum() / counted.sum().clamp(min=1)


def st_gradcam(
    curve: Float[Tensor, " time"], gradient: Float[Tensor, " in_dim"], features: VideoFeatures
) -> Float[Tensor, " time"]:
    """Compute alpha_i sigmoid(xi_i) with xi_i = sum_k w_k s_ik.

    Args:
        curve: `[T]` alpha.
        gradient: `[D]` w, of the action's logit by the assembled feature.
        features: `[T, D]` s.
    """
    return curve * (features @ gradient).sigmoid()
