"""Features of synthetic videos: latents of what a row shows, mapped to the margins of I3D features.

A row is a Gaussian latent per dimension, the sum of what is shown (class phase, context, background), the video, the
shot and the snippet, mapped to a gamma margin. Margins and variance shares are those of I3D RGB features of UCF101
clips. Per-dimension scale does not depend on the width, so norms scale with sqrt(width / 1024).

The flow half of real features has the same statistics as the RGB half. Margins are less skewed than real ones (1.4
against 2.1), and at 1024 dimensions classes lie further apart (99 % nearest to their centroid).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.data.source import Subset
from harness.data.synthetic_spec import Purpose, SyntheticSpec, stream
from harness.data.synthetic_timeline import Kind, Timeline
from wstal.types import FloatArray

Latent = npt.NDArray[np.float32]

# Margins over 1024 dimensions of I3D RGB features (Kinetics-400 weights, 16-frame snippets at 25 fps) of 1,214 UCF101
# clips: quantiles over dimensions of a dimension's mean and standard deviation (their correlation is 0.09: none here).
MARGIN_LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
MARGIN_MEAN = (0.0743, 0.1314, 0.1657, 0.2535, 0.3489, 0.4468, 0.5371, 0.5942, 0.6984)
MARGIN_STD = (0.0916, 0.1116, 0.1318, 0.169, 0.2076, 0.2522, 0.3355, 0.4076, 0.494)

# Latent variances. Measured there: class 0.23, group of clips from one source 0.28, clip 0.18, snippet 0.32. Content's
# variance is above the class share because an instance's two phases differ: that part counts as snippet.
CONTENT_VARIANCE = 0.3
VIDEO_VARIANCE = 0.28
SHOT_VARIANCE = 0.14
SNIPPET_VARIANCE = 0.28
SNIPPET_SMOOTHING = np.array([1.0, 0.2, 0.1], dtype=np.float32)  # moving average over rows
RECURRING_BACKGROUNDS = 40
# What varies between and within videos lies mostly along few directions, one of them the overall level of all
# dimensions: this gives norms and cosines their measured spread. What is shown does not: drawn along the same few
# directions at width 128, it left 70 % of test snippets nearest to their class's training centroid (90 % now; measured
# 94 % for nine classes), and a supervised model at 38 mean mAP (55 now).
DIRECTIONS = 64
DIRECTION_DECAY = 0.35
DIRECTED_SHARE = 0.75
LEVEL_SHARE = 0.14


@dataclass(frozen=True, eq=False)
class World:
    """Latents and margins that all videos share.

    Args:
        directions: `[K, D]` common latent directions, scaled so that draws have unit variance in each dimension.
        mean: `[D]` margins' means.
        shape: `[D]` margins' gamma shapes.
        phases: `[4, C, D]` latents by `Kind` and class; background's row is unused.
        backgrounds: `[R, D]` latents of recurring backgrounds.
    """

    directions: Latent
    mean: Latent
    shape: Latent
    phases: Latent
    backgrounds: Latent

    @classmethod
    def of(cls, spec: SyntheticSpec) -> World:
        """Draw what the videos of a data set share."""
        rng = stream(spec, Purpose.WORLD)
        level = (np.arange(spec.width) + 0.5) / spec.width
        mean = rng.permutation(np.interp(level, MARGIN_LEVELS, MARGIN_MEAN))
        std = rng.permutation(np.interp(level, MARGIN_LEVELS, MARGIN_STD))
        count = min(DIRECTIONS, spec.width // 2)
        directions = rng.standard_normal((count, spec.width)) * np.arange(1, count + 1)[:, None] ** -DIRECTION_DECAY
        directions *= np.sqrt((DIRECTED_SHARE - LEVEL_SHARE) / (directions[1:] ** 2).sum(axis=0))
        directions[0] = math.sqrt(LEVEL_SHARE)

        own = [_independent(rng, spec.classes, spec.width) for _ in Kind]
        pair = np.repeat(_independent(rng, spec.classes // 2, spec.width), 2, axis=0)
        phases = np.zeros((len(Kind), spec.classes, spec.width), dtype=np.float32)
        prominent = own[Kind.PROMINENT]
        if spec.coarse:
            group = _independent(rng, len(spec.coarse), spec.width)[list(spec.coarse_classes)]
            prominent = _blend(group, prominent, spec.class_similarity**0.5)
        phases[Kind.PROMINENT] = prominent
        phases[Kind.CONTEXT] = _blend(prominent, own[Kind.CONTEXT], spec.context_strength)
        alone = _blend(prominent, own[Kind.NON_PROMINENT], spec.phase_similarity)
        phases[Kind.NON_PROMINENT] = _blend(pair, alone, spec.class_similarity**0.5)
        return cls(
            directions=directions.astype(np.float32),
            mean=mean.astype(np.float32),
            shape=((mean / std) ** 2).astype(np.float32),
            phases=phases,
            backgrounds=_independent(rng, RECURRING_BACKGROUNDS, spec.width),
        )


def _independent(rng: np.random.Generator, count: int, width: int) -> Latent:
    """Draw `[count, D]` standard normal latents, independent by dimension, for what is shown."""
    return rng.standard_normal((count, width), dtype=np.float32)


def _draw(rng: np.random.Generator, directions: Latent, count: int) -> Latent:
    """Draw `[count, D]` unit-variance latents of videos, shots or snippets, mostly along the common directions."""
    latents = _independent(rng, count, directions.shape[1])
    latents *= math.sqrt(1 - DIRECTED_SHARE)
    latents += _independent(rng, count, len(directions)) @ directions
    return latents


def _blend(first: Latent, second: Latent, correlation: float) -> Latent:
    """Mix independent unit-variance latents to the given correlation with the first."""
    return correlation * first + math.sqrt(1 - correlation**2) * second


def features(
    spec: SyntheticSpec, world: World, timeline: Timeline, subset: Subset, video: int, seconds: float
) -> FloatArray:
    """Generate `[T, D]` features of one video. An end shorter than a row has none.

    Args:
        spec: the data set.
        world: what its videos share.
        timeline: content of the video.
        subset: subset of the video.
        video: index of the video in its subset.
        seconds: time that one row advances.
    """
    rows = max(1, int(timeline.duration / seconds + 1e-9))
    content = world.phases[timeline.kind, timeline.label]
    background = timeline.kind == Kind.BACKGROUND
    content[background] = _backgrounds(spec, world, int(background.sum()), subset, video)

    rng = stream(spec, Purpose.SCENE, subset, video)
    scene = _draw(rng, world.directions, int(timeline.shot.max()) + 2)
    weight = _overlaps(timeline.span, rows, seconds)
    total = weight.sum(axis=1, keepdims=True)
    latent = _snippets(spec, world, rows, subset, video)
    latent *= spec.snippet_noise
    latent += spec.scene_noise * math.sqrt(VIDEO_VARIANCE) * scene[-1]
    # A row's contents average over time; two at once add up and keep their variance.
    latent += spec.content_strength * (weight * np.sqrt(CONTENT_VARIANCE / total)) @ content
    latent += (weight * (spec.scene_noise * math.sqrt(SHOT_VARIANCE) / total)) @ scene[timeline.shot]
    return _gamma(latent, spec.scale * world.mean, world.shape).astype(spec.dtype, copy=False)


def _backgrounds(spec: SyntheticSpec, world: World, shots: int, subset: Subset, video: int) -> Latent:
    """Draw `[shots, D]` latents, recurring and the video's own, of which the dial only chooses."""
    rng = stream(spec, Purpose.BACKGROUND, subset, video)
    recurring = rng.uniform(size=shots) < spec.recurring_background
    pool = world.backgrounds[rng.integers(len(world.backgrounds), size=shots)]
    return np.where(recurring[:, None], pool, _independent(rng, shots, spec.width))


def _snippets(spec: SyntheticSpec, world: World, rows: int, subset: Subset, video: int) -> Latent:
    """Draw `[rows, D]` noise that neighbouring rows share in part."""
    rng = stream(spec, Purpose.SNIPPET, subset, video)
    taps = SNIPPET_SMOOTHING * math.sqrt(SNIPPET_VARIANCE / (SNIPPET_SMOOTHING**2).sum())
    white = _draw(rng, world.directions, rows + len(taps) - 1)
    smooth: Latent = taps[0] * white[:rows]
    for lag, tap in enumerate(taps[1:], start=1):
        smooth += tap * white[lag : lag + rows]
    return smooth


def _overlaps(span: FloatArray, rows: int, seconds: float) -> Latent:
    """Compute the `[rows, S]` fraction of each row that each span covers."""
    start, end = span.T / seconds
    row = np.arange(rows)[:, None]
    overlap = np.minimum(end, row + 1) - np.maximum(start, row)
    fraction: Latent = np.maximum(overlap, 0).astype(np.float32)
    return fraction


def _gamma(latent: Latent, mean: Latent, shape: Latent) -> Latent:
    """Map standard normal latents to gamma margins by Wilson and Hilferty's cube (PNAS 1931), at least zero."""
    cube = latent / (3 * np.sqrt(shape))
    cube += 1 - 1 / (9 * shape)
    np.maximum(cube, 0, out=cube)
    result: Latent = cube * cube
    result *= cube
    result *= mean
    return result
