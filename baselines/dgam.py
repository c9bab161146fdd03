"""DGAM: generative attention modelling for weakly supervised temporal action localization.

Idea: attention is good if the features of a snippet are likely given it. A conditional variational auto-encoder (CVAE)
learns how features look at each attention. The attention is then trained to pool foreground that classifies the video
and background that does not, to follow the class activations, and to let the CVAE's decoder reconstruct the features.
CVAE and classifier train in turn, an epoch each. RGB and flow are two models, each localized with the other's help.

Paper: Shi et al., CVPR 2020, arXiv 2003.12424. Facts: its released code (bfshi/DGAM-Weakly-Supervised-Action-
Localization at 752bd45), checked against tensors recorded from it. Deviations:
- both streams train side by side, on the same rows (the released code trains each for ten epochs in turn, which only
  its tests can tell apart);
- a single stream has RGB's settings, and its proposals are scored as the released code does without the other stream;
- rows and batches are drawn anew in each epoch, a smaller last batch is kept, and weights ramp up epoch by epoch (the
  released code does each of these for blocks of ten epochs, and drops the last batch);
- a video whose only class is the first one has detections (the released code loses it: it tests the indices);
- the squared attention is interpolated between rows (the released code squares the interpolated attention, which
  differs by at most a twentieth of the squared change from row to row), and ActivityNet's signal is smoothed by row, as
  wide in time, before interpolation instead of after it;
- an unused clustering head is left out, and so is weight decay, which the released code sets and does not use;
- ActivityNet 1.2 and FineAction (not in the paper) train for as many steps as THUMOS14 (the released code has up to
  6,000 epochs of each part on any data);
- the last epoch counts (the released code keeps each stream's best of up to 600 tests with the other's best).
In evaluation mode nothing is drawn: the decoder gets the mean of the latent code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from baselines.facnet import ABOVE
from wstal import sampling
from wstal.errors import UserError
from wstal.families import epochs_for, many_classes
from wstal.localize.spec import LocalizerSpec, Nms, ProposalSource, Sides, StreamFusion
from wstal.losses.mil import cross_entropy, with_background
from wstal.method import Method, Recipe, TrainSpec
from wstal.spec import Count
from wstal.streams import StreamOptions, split_streams
from wstal.tensors import Cas, Features, Foreground, Labels, Scalar, VideoFeatures
from wstal.types import Batch, IntArray, Paper, Scores, Video

FOREGROUND_EPSILON, BACKGROUND_EPSILON = 1.0, 1e-6
GUIDE_SIGMA = 1.0  # rows
CVAE_WEIGHT = 10.0
TERMS = ("foreground", "background", "guide", "reconstruction", "cvae")

Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Latent = Float[Tensor, "batch time latent"]


class DgamOptions(StreamOptions):
    """Options of DGAM. The defaults are for THUMOS14. Pairs are of the streams, in joining order (RGB first)."""

    hidden: Count = Field(256, description="hidden columns of the attention")
    latent: Count = Field(128, description="columns of the latent code and of the CVAE's hidden layers")
    foreground: tuple[Weight, Weight] = Field((1.0, 1.0), description="weights of the foreground's classification")
    background: float = Field(0.03, ge=0, description="weight of the background's classification")
    guide: float = Field(0.1, ge=0, description="weight of the guide loss of attention")
    reconstruction: tuple[Weight, Weight] = Field((0.5, 0.3), description="weights of the reconstruction by attention")
    divergence: float = Field(0.1, ge=0, description="weight of the divergence in the CVAE's own loss")
    ramp: float = Field(
        0.05, ge=0, le=1, description="share of the epochs in which the CVAE's loss and the reconstruction gain weight"
    )
    reconstruction_ramp: bool = Field(True, description="false: the reconstruction has its full weight from the start")
    shortest: Count = Field(50, description="rows that a shorter test video is repeated to")
    smoothing: float = Field(0.0, ge=0, le=1000, description="sigma, in rows, of the thresholded signal's smoothing")
    own: tuple[Share, Share] = Field(
        (0.35, 0.65), description="share of each stream's own classifier in the scores of its proposals"
    )


# 6,000 epochs of each part, of 200 videos in batches of 32
EPOCHS, BATCH = 12_000, 32
STEPS = EPOCHS * 7
ACTIVITYNET_OPTIONS = DgamOptions(
    foreground=(1.0, 0.3),
    background=1.0,
    reconstruction=(0.1, 0.1),
    reconstruction_ramp=False,
    shortest=2,
    smoothing=1.25,
    own=(0.5, 0.5),
)


def localizer(*thresholds: float) -> LocalizerSpec:
    """Return the localizer with a threshold for each stream."""
    own = tuple((threshold,) for threshold in thresholds)
    nms = Nms(kind="hard", threshold=0.5 + ABOVE)  # drops what is above 0.5
    return LocalizerSpec(
        class_threshold=0.1,
        upsampling=20,
        sources=(ProposalSource(signal="activation", thresholds=own[0], strict=True, score={"mixed": 1.0}),),
        margin=0.25,
        sides=Sides(join="sum", plus=1),
        outer_weight=0.3,
        skip_lone_first_sample=True,
        fusion=StreamFusion(nms=nms, thresholds=own),
    )


class DgamNetwork(nn.Module):
    """Attention, classifier and CVAE of one stream. No layer reads neighbouring snippets.

    Args:
        width: columns of the stream.
        num_classes: C, action classes without background.
        spec: the method's options.
    """

    def __init__(self, width: int, num_classes: int, spec: DgamOptions) -> None:
        super().__init__()
        self.spec = spec
        self.attention = nn.Sequential(
            nn.Linear(width, spec.hidden), nn.ReLU(), nn.Linear(spec.hidden, 1), nn.Sigmoid()
        )
        self.classifier = nn.Linear(width, num_classes + 1)
        self.cvae = nn.ModuleDict(
            {
                "encoder": _three_layers(width + 1, spec.latent, 2 * spec.latent),
                "decoder": _three_layers(spec.latent + 1, spec.latent, width),
            }
        )

    def cas(self, features: Features) -> Cas:
        """Return the class activations: logits of the C classes and, last, background, without the bias."""
        return features @ self.classifier.weight.mT

    def attention_terms(self, features: Features, labels: Labels, noise: Latent) -> dict[str, Tensor]:
        """Return the losses of attention and classifier.

        Args:
            features: `[B, T, D]`.
            labels: `[B, C]` multi-hot.
            noise: `[B, T, L]` of the latent code.
        """
        attention = self.attention(features)
        foreground = weighted_mean(features, attention, FOREGROUND_EPSILON)
        background = weighted_mean(features, 1 - attention, BACKGROUND_EPSILON)
        actions, nothing = with_background(labels, False), with_background(torch.zeros_like(labels), True)
        decoded = self.cvae["decoder"](torch.cat([attention + noise, attention], dim=2))
        return {
            "foreground": cross_entropy(self.classifier(foreground).log_softmax(dim=1), actions),
            "background": cross_entropy(self.classifier(background).log_softmax(dim=1), nothing),
            "guide": guide_loss(attention, self.cas(features.detach()).detach(), labels),
            "reconstruction": functional.mse_loss(decoded, features),
        }

    def cvae_loss(self, features: Features, noise: Latent) -> Scalar:
        """Compute the reconstruction error plus the weighted divergence from N(a, 1), with a the attention.

        Args:
            features: `[B, T, D]`.
            noise: `[B, T, L]` of the latent code.
        """
        attention = self.attention(features).detach()
        mean, log_variance = self.cvae["encoder"](torch.cat([features, attention], dim=2)).chunk(2, dim=2)
        code = mean + noise * (log_variance / 2).exp()
        decoded = self.cvae["decoder"](torch.cat([code, attention], dim=2))
        divergence = ((mean - attention).square() + log_variance.exp() - 1 - log_variance).mean() / 2
        loss: Tensor = functional.mse_loss(decoded, features) + self.spec.divergence * divergence
        return loss


class Dgam(Method):
    """DGAM over features `[B, T, D]` of one or two streams."""

    name = "dgam"
    title = "DGAM"
    paper = Paper(
        "Weakly-Supervised Action Localization by Generative Attention Modeling",
        "Baifeng Shi, Qi Dai, Yadong Mu, Jingdong Wang",
        "CVPR",
        2020,
        "https://arxiv.org/abs/2003.12424",
    )
    Options = DgamOptions
    TRAIN_SAMPLER = sampling.grid_random
    SCORING_OPTIONS = frozenset({"shortest", "smoothing", "own"})
    spec: DgamOptions

    def __init__(self, spec: DgamOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.widths = spec.widths(feature_dim)
        if len(self.widths) > 2:
            raise UserError(
                f"DGAM takes one or two streams, method.streams={list(self.widths)} names {len(self.widths)}. "
                "Choose two with --streams."
            )
        self.networks: Sequence[DgamNetwork] = nn.ModuleList(  # type: ignore[assignment]
            DgamNetwork(width, num_classes, spec) for width in self.widths
        )
        self._trains_cvae = False
        self._ramp = 1.0

    @classmethod
    def recipe(cls, dataset: str) -> Recipe:
        """Return ActivityNet 1.2's settings for `activitynet*` and `fineaction`, otherwise THUMOS14's."""
        many = many_classes(dataset)
        train = TrainSpec(
            epochs=epochs_for(dataset, STEPS, BATCH),
            batch_size=BATCH,
            temporal_length=400,
            test_length=200 if many else 400,
            learning_rate=1e-3,
            betas=(0.8, 0.999),
        )
        if many:
            return Recipe(method=ACTIVITYNET_OPTIONS, train=train, localizer=localizer(0.01, 0.01))
        return Recipe(method=DgamOptions(), train=train, localizer=localizer(0.03, 0.08))

    def test_indices(self, length: int, at_most: int) -> IntArray:
        """Return evenly spaced rows: `at_most` of a longer video, at least `shortest` (rows repeat), otherwise all."""
        return sampling.grid(length, min(max(length, self.spec.shortest), at_most))

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        """Freeze either the CVAE or the rest, in turn so that the rest trains last, and set the ramp."""
        self._trains_cvae = (epochs - epoch) % 2 == 0
        rising = self.spec.ramp * epochs
        self._ramp = min(epoch // 2 * 2 / rising, 1.0) if rising else 1.0
        for network in self.networks:
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(name.startswith("cvae.") == self._trains_cvae)

    def end_training(self) -> None:
        """Free all parameters."""
        self.requires_grad_(True)

    def export_state(self) -> dict[str, Tensor]:
        """Return the state without the CVAE, which scoring does not need."""
        return {name: value for name, value in self.state_dict().items() if ".cvae." not in name}

    def noise(self, features: Features) -> Latent:
        """Return draws `[B, T, L]` of the standard normal distribution in training, otherwise zeros."""
        made = features.new_zeros(*features.shape[:2], self.spec.latent)
        return torch.randn_like(made) if self.training else made

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over streams of the terms, 0 for those of the frozen part, and their weighted `total`."""
        spec, zero = self.spec, batch.features.new_zeros(())
        terms, total = dict.fromkeys(TERMS, zero), zero
        parts = split_streams(batch.features, self.widths)
        for stream, (network, features) in enumerate(zip(self.networks, parts, strict=True)):
            noise = self.noise(features)
            if self._trains_cvae:
                own = {"cvae": network.cvae_loss(features, noise)}
            else:
                own = network.attention_terms(features, batch.labels, noise)
            weights = {
                "foreground": spec.foreground[stream],
                "background": spec.background,
                "guide": spec.guide,
                "reconstruction": spec.reconstruction[stream] * (self._ramp if spec.reconstruction_ramp else 1.0),
                "cvae": CVAE_WEIGHT * self._ramp,
            }
            for name, value in own.items():
                terms[name] = terms[name] + value
                total = total + weights[name] * value
        return terms | {"total": total}

    def score(self, features: VideoFeatures) -> Scores:
        """Return joint scores, and each stream's own for a localizer that fuses streams.

        With a the attention, p = sigmoid of the class activations and q that of the other stream, a stream's own
        signals are `activation` = 0.8 a p + 0.2 a^2, smoothed by `smoothing`, and `mixed` = a^2 (w p + (1 - w) q) with
        its share w (`own`), of a single stream a p.

        `cas` is a times the softmax of the activations without background. It, `attention` a and the video scores are
        means over streams.
        """
        parts = split_streams(features.unsqueeze(0), self.widths)
        runs = list(zip(self.networks, parts, strict=True))
        attention = [network.attention(part) for network, part in runs]
        cas = [network.cas(part) for network, part in runs]
        videos = [
            network.classifier(weighted_mean(part, a, 0.0)) for (network, part), a in zip(runs, attention, strict=True)
        ]
        likely = [one[..., :-1].sigmoid() for one in cas]
        signals: dict[str, Tensor] = {}
        for stream, (a, own) in enumerate(zip(attention, likely, strict=True)):
            activation = 0.8 * a * own + 0.2 * a.square()
            if self.spec.smoothing:
                activation = gaussian_smooth(activation, self.spec.smoothing)
            mixed = a * own
            if len(runs) == 2:
                mixed = a.square() * torch.lerp(likely[1 - stream], own, self.spec.own[stream])
            signals |= {f"stream{stream}/activation": activation[0], f"stream{stream}/mixed": mixed[0]}
        joint = [a * one.softmax(dim=2)[..., :-1] for a, one in zip(attention, cas, strict=True)]
        signals |= {"cas": torch.cat(joint).mean(dim=0), "attention": torch.cat(attention).mean(dim=0)[:, 0]}
        classes = torch.cat(videos).softmax(dim=1)[:, :-1]
        return Scores(signals, classes.mean(dim=0), {f"stream{stream}": one for stream, one in enumerate(classes)})


def _three_layers(columns: int, hidden: int, out: int) -> nn.Sequential:
    layers = nn.Linear(columns, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out)
    return nn.Sequential(*layers)


def weighted_mean(features: Features, weights: Foreground, epsilon: float) -> Float[Tensor, "batch in_dim"]:
    """Compute sum_t w_t x_t / (sum_t w_t + epsilon).

    Args:
        features: `[B, T, D]` x.
        weights: `[B, T, 1]` w.
        epsilon: added to the sum.
    """
    total = (weights.sum(dim=1) + epsilon).clamp(min=torch.finfo(features.dtype).tiny)
    return (weights.mT @ features).squeeze(1) / total


def guide_loss(attention: Foreground, cas: Cas, labels: Labels) -> Scalar:
    """Compute the mean of |a - P(class of the video)| + |a - (1 - P(background))|.

    P is the softmax of the activations, smoothed over time. Of the video's classes the most probable one counts.

    Args:
        attention: `[B, T, 1]` a.
        cas: `[B, T, C + 1]` logits, background last.
        labels: `[B, C]` multi-hot.
    """
    probability = gaussian_smooth(cas.softmax(dim=2), GUIDE_SIGMA)
    action = (probability[..., :-1] * labels.unsqueeze(1)).amax(dim=2, keepdim=True)
    return ((attention - action).abs() + (attention - (1 - probability[..., -1:])).abs()).mean()


def gaussian_smooth(values: Float[Tensor, "batch time columns"], sigma: float) -> Float[Tensor, "batch time columns"]:
    """Smooth over time with a Gaussian cut off at four sigma; past the ends the values are mirrored, as SciPy does.

    Args:
        values: `[B, T, columns]`.
        sigma: standard deviation in rows, above 0.
    """
    length, reach = values.shape[1], int(4 * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1, device=values.device)
    kernel = (-(offsets.to(values.dtype) / sigma).square() / 2).exp()
    rows = torch.arange(-reach, length + reach, device=values.device) % (2 * length)
    mirrored = values[:, torch.minimum(rows, 2 * length - 1 - rows)]
    return mirrored.unfold(1, len(kernel), 1) @ (kernel / kernel.sum())
