"""The localizer equals the plain reference on random videos and random settings."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.localizing import upsample
from tests.helpers.plain_localize import localize as reference
from wstal.localize import Localizer, LocalizerSpec, Nms, ProposalSource, Sides, StreamFusion, localize
from wstal.types import DETECTION_COLUMNS, SnippetScores

SIGNALS = ("attention", "cas", "motion")  # `cas` has a column for each class

nms = st.one_of(
    st.just(Nms()),
    st.builds(
        Nms,
        kind=st.just("hard"),
        threshold=st.sampled_from([0.2, 0.5, 0.55, 0.9, 1.0]),
        overlap=st.sampled_from(["iou", "own"]),
        plus_one=st.sampled_from(["no", "second", "snippet"]),
    ),
    st.builds(
        Nms,
        kind=st.just("soft-gaussian"),
        sigma=st.sampled_from([0.3, 0.5]),
        plus_one=st.sampled_from(["no", "second", "snippet"]),
    ),
    st.builds(
        Nms,
        kind=st.just("hard-decayed"),
        threshold=st.sampled_from([0.2, 0.5]),
        sigma=st.sampled_from([0.35, 0.5]),
        plus_one=st.sampled_from(["no", "second"]),
    ),
)


@st.composite
def sources(draw: st.DrawFn) -> ProposalSource:
    score = draw(st.dictionaries(st.sampled_from(SIGNALS), st.sampled_from([-0.5, 0.25, 0.5, 1.0]), min_size=1))
    masked = draw(st.booleans())
    return ProposalSource(
        signal=draw(st.sampled_from(sorted(score) if masked else SIGNALS)),
        thresholds=tuple(draw(st.lists(st.integers(-4, 12).map(lambda k: k / 8), min_size=1, max_size=3))),
        strict=draw(st.booleans()),
        score=score,
        masked=masked,
        video_score_weight=draw(st.sampled_from([0.0, 0.25])),
        inside="max" if len(score) == 1 and not masked and draw(st.booleans()) else "mean",
    )


fusions = st.builds(
    StreamFusion,
    weights=st.sampled_from([(), (0.5,), (0.5, 2.0)]),
    nms=nms,
    thresholds=st.sampled_from([(), ((0.25,),), ((0.25,), (0.0, 0.5))]),
)
sides = st.builds(Sides, join=st.sampled_from(["mean", "sum"]), plus=st.integers(0, 2))


def specs(upsampling: st.SearchStrategy[int]) -> st.SearchStrategy[LocalizerSpec]:
    return st.builds(
        LocalizerSpec,
        class_threshold=st.integers(0, 8).map(lambda k: k / 8),
        class_threshold_inclusive=st.booleans(),
        fallback_to_argmax=st.booleans(),
        upsampling=upsampling,
        sources=st.lists(sources(), min_size=1, max_size=3).map(tuple),
        margin=st.sampled_from([0.0, 0.2, 0.25, 1.5]),
        minimum_run=st.integers(1, 3),
        skip_lone_first_sample=st.booleans(),
        nms=nms,
        class_score=st.sampled_from([None, None, "logit"]),
        outer_weight=st.sampled_from([1.0, 0.5]),
        dilation=st.sampled_from([0, 0, 1, 2, 5, 20]),
        past_end=st.booleans(),
        minimum_share=st.sampled_from([None, None, 0.25, 1.0]),
        fusion=st.one_of(st.none(), fusions),
    ).flatmap(variants)


def variants(spec: LocalizerSpec) -> st.SearchStrategy[LocalizerSpec]:
    """With the sides of a run apart, where that is allowed."""
    spec = spec.model_copy(update={"class_score": None}) if spec.fusion else spec
    if spec.past_end:
        return st.just(spec)
    return st.one_of(st.none(), sides).map(lambda one: spec.model_copy(update={"sides": one}))


def videos(rng: np.random.Generator, eighths: bool, streams: int = 0) -> list[SnippetScores]:
    def values(*shape: int) -> np.ndarray:
        return rng.integers(-4, 13, shape) / 8 if eighths else rng.random(shape) * 2 - 0.5

    def signals(rows: int) -> dict[str, np.ndarray]:
        return {"attention": values(rows), "cas": values(rows, 3), "motion": values(rows)}

    lengths = rng.integers(1, 16, rng.integers(1, 5))
    return [
        SnippetScores(
            video=f"video {index}",
            signals=signals(rows)
            | {f"stream{i}/{name}": value for i in range(streams) for name, value in signals(rows).items()},
            video_scores=rng.integers(0, 9, 3) / 8,
            seconds_per_snippet=float(rng.choice([0.25, 0.5, 4.0])),
            offset=float(rng.choice([0.0, 0.125])),
            class_scores={name: rng.integers(-4, 9, 3) / 8 for name in (f"stream{i}" for i in range(streams))}
            if streams
            else {"logit": rng.integers(-4, 9, 3) / 8},
        )
        for index, rows in enumerate(lengths)
    ]


def streams_of(spec: LocalizerSpec, seed: int) -> int:
    return 1 + seed % 3 if spec.fusion else 0


def as_array(scores: list[SnippetScores], spec: LocalizerSpec) -> tuple[np.ndarray, np.ndarray]:
    """Rows (video, class, score, start, end) of the localizer and of the reference."""
    found = localize(scores, spec, ("a", "b", "c"))
    rows = np.stack([found.video, found.label, found.score, found.start, found.end], axis=1)
    return rows, np.array(reference(scores, spec)).reshape(-1, 5)


@given(specs(st.sampled_from([1, 2, 4])), st.integers(0, 2**32 - 1))
def test_equals_reference_to_the_last_bit(spec: LocalizerSpec, seed: int) -> None:
    """Multiples of 1/8 add up without rounding in any order, so ties are real ties and every decision must agree."""
    rows, expected = as_array(videos(np.random.default_rng(seed), True, streams_of(spec, seed)), spec)
    # but for the last bit of exp, which NumPy computes otherwise for many values than for one
    decays = spec.nms.sigma is not None or (spec.fusion is not None and spec.fusion.nms.sigma is not None)
    np.testing.assert_allclose(rows, expected, rtol=1e-14 if decays else 0, atol=0)


@given(specs(st.sampled_from([1, 3, 20])), st.integers(0, 2**32 - 1))
def test_equals_reference_on_real_numbers(spec: LocalizerSpec, seed: int) -> None:
    """Without what makes runs tie but for rounding, which then decides who stays: maxima, and simple outer weights on
    the straight lines between rows.
    """
    sources = tuple(source.model_copy(update={"inside": "mean"}) for source in spec.sources)
    spec = spec.model_copy(update={"sources": sources, "outer_weight": 1.0 if spec.outer_weight == 1 else 0.5361})
    rows, expected = as_array(videos(np.random.default_rng(seed), False, streams_of(spec, seed)), spec)
    np.testing.assert_allclose(by_time(rows), by_time(expected), rtol=0, atol=1e-12)


def by_time(rows: np.ndarray) -> np.ndarray:
    """Runs whose scores would be equal but for rounding come in one order."""
    return rows[np.lexsort((rows[:, 2], rows[:, 4], rows[:, 3], rows[:, 1], rows[:, 0]))]


@given(specs(st.sampled_from([1, 4])), st.integers(0, 2**32 - 1))
def test_a_video_alone_is_localized_as_among_others(spec: LocalizerSpec, seed: int) -> None:
    scores = videos(np.random.default_rng(seed), True, streams_of(spec, seed))
    together = localize(scores, spec, ("a", "b", "c"))
    for index, one in enumerate(scores):
        own = together.select(together.video == index)
        alone = localize([one], spec, ("a", "b", "c"))
        for column in ("label", "score", "start", "end"):
            np.testing.assert_array_equal(getattr(own, column), getattr(alone, column))


@given(specs(st.sampled_from([1, 4])), st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_videos_laid_out_in_any_blocks_have_the_same_detections(spec: LocalizerSpec, seed: int, samples: int) -> None:
    scores = videos(np.random.default_rng(seed), True, streams_of(spec, seed))
    at_once = localize(scores, spec, ("a", "b", "c"))
    with mock.patch("wstal.localize.proposals.CHUNK", samples), mock.patch("wstal.localize.localizer.FUSED", 1):
        localizer = Localizer(spec, ("a", "b", "c"))
        for one in scores:
            localizer.add(one)
        in_blocks = localizer.detections()
    assert in_blocks.videos == at_once.videos
    for column in DETECTION_COLUMNS:
        np.testing.assert_array_equal(getattr(in_blocks, column), getattr(at_once, column))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 25))
def test_upsampling_is_linear_inside_and_past_the_end(seed: int, rows: int, factor: int) -> None:
    signal = np.random.default_rng(seed).normal(size=rows)
    samples = upsample(signal, factor)
    at = np.arange(rows * factor) / factor
    inside = at <= rows - 1
    assert len(samples) == rows * factor
    np.testing.assert_allclose(samples[inside], np.interp(at[inside], np.arange(rows), signal), rtol=0, atol=1e-14)
    slope = signal[-1] - signal[-2] if rows > 1 else 0.0
    np.testing.assert_allclose(samples[~inside], signal[-1] + slope * (at[~inside] - rows + 1), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(samples[::factor], signal)
