"""The localizer against recorded released code, hand-worked cases and the user's mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.helpers.localizing import upsample
from tests.helpers.memory import traced_peak
from tests.helpers.plain_localize import ACM_ACTIVITYNET, ACM_THUMOS, BASNET
from tests.helpers.plain_localize import localize as reference
from wstal.errors import UserError
from wstal.localize import Localizer, LocalizerSpec, Nms, ProposalSource, StreamFusion, localize, proposals
from wstal.localize.tracks import lay_out
from wstal.types import Detections, SnippetScores

CLASSES = tuple(f"class {index}" for index in range(20))


def table(detections: Detections) -> np.ndarray:
    """`[N, 4]` class, score, start, end."""
    return np.stack([detections.label, detections.score, detections.start, detections.end], axis=1)


def scores(
    cas: Any,
    attention: Any = None,
    p: Any = (1.0,),
    seconds_per_snippet: float = 1.0,
    offset: float = 0.0,
    video: str = "v",
) -> SnippetScores:
    cas = np.asarray(cas, dtype=np.float64)
    signals = {"cas": cas[:, None] if cas.ndim == 1 else cas}
    if attention is not None:
        signals["attention"] = np.asarray(attention, dtype=np.float64)
    return SnippetScores(video, signals, np.asarray(p, dtype=np.float64), seconds_per_snippet, offset)


def spec(thresholds: tuple[float, ...] = (0.5,), **changes: Any) -> LocalizerSpec:
    source = {"signal": "cas", "thresholds": thresholds, "score": {"cas": 1.0}}
    source.update({key: changes.pop(key) for key in list(changes) if key in ProposalSource.model_fields})
    return LocalizerSpec.model_validate({"class_threshold": 0.25, "sources": (source,), **changes})


# --- recorded from released code ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(shared: Path) -> Mapping[str, np.ndarray]:
    return dict(np.load(shared / "fixtures" / "postproc_parity.npz"))


def acm_case(recorded: Mapping[str, np.ndarray], name: str) -> SnippetScores:
    """Signals of 90 rows; `vid_len` counts the rows of 16 frames at 25 fps before sampling down."""
    data = "acm_anet" if name == "acm_anet" else "acm_thumos"
    cas, p = recorded[f"{data}/cas"], recorded[f"{data}/score"]
    if name == "acm_thumos_argmax":  # the same signals, no class above the threshold
        p = p * (0.2 / p.max())
    seconds = 16 * float(recorded[f"{name}/vid_len"]) / (25 * len(cas))
    return SnippetScores("v", {"cas": cas, "attention": recorded[f"{data}/att"]}, p, seconds)


# Scores differ by 2e-9 (BaS-Net 6e-9) because released code subtracts neighbouring float32 rows before interpolating
# and, in BaS-Net, adds a float32 0.2. The reference, which rounds so too, shows that nothing else differs.
@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "settings"),
    [("acm_thumos", ACM_THUMOS), ("acm_anet", ACM_ACTIVITYNET), ("acm_thumos_argmax", ACM_THUMOS)],
)
def test_acmnet_released_rows(recorded: Mapping[str, np.ndarray], name: str, settings: LocalizerSpec) -> None:
    case, expected = acm_case(recorded, name), recorded[f"{name}/det"]
    found = table(localize([case], settings, CLASSES))
    by_class = expected[np.argsort(expected[:, 0], kind="stable")]
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found[:, 0], by_class[:, 0])
    np.testing.assert_allclose(found[:, 1], by_class[:, 1], rtol=0, atol=5e-9)
    np.testing.assert_allclose(found[:, 2:], by_class[:, 2:], rtol=1e-14, atol=0)
    np.testing.assert_allclose(np.array(reference([case], settings))[:, 1:], by_class, rtol=1e-14, atol=1e-14)


@pytest.mark.shared
def test_basnet_released_rows(recorded: Mapping[str, np.ndarray]) -> None:
    cas = recorded["bas/minmax"][0, :, :20]
    binary = (recorded["bas/score_supp"] >= 0.25).astype(np.float64)
    seconds = 16 * float(recorded["bas/vid_len"]) / (25 * len(cas))
    found = table(localize([SnippetScores("v", {"cas": cas}, binary, seconds)], BASNET, CLASSES))
    expected = recorded["bas/det"]
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found[:, 0], expected[:, 0])
    np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=0, atol=1e-8)
    np.testing.assert_allclose(found[:, 2:], expected[:, 2:], rtol=1e-14, atol=0)


# --- one rule at a time, worked by hand -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "changes", "labels"),
    [
        ((0.3, 0.25, 0.1), {}, [0]),
        ((0.3, 0.25, 0.1), {"class_threshold_inclusive": True}, [0, 1]),
        ((0.1, 0.2, 0.2), {}, [1]),  # no class passes: the first of the most probable
        ((0.1, 0.2, 0.2), {"fallback_to_argmax": False}, []),
    ],
)
def test_which_classes_are_kept(p: tuple[float, ...], changes: dict[str, Any], labels: list[int]) -> None:
    found = localize([scores(np.ones((4, 3)), p=p)], spec(**changes), CLASSES[:3])
    assert found.label.tolist() == labels


def test_bounds_make_every_active_row_a_proposal() -> None:
    cas, start, end = np.zeros((5, 2)), np.zeros((5, 2)), np.ones((5, 2))
    cas[1:4, 0], cas[3, 1] = (0.9, 0.6, 0.7), 0.8
    start[1:4, 0], end[1:4, 0] = (0.5, 0.0, 3.25), (2.5, 5.0, 4.0)
    start[3, 1], end[3, 1] = 2.0, 4.5
    given = replace(
        scores(cas, p=(1, 1), seconds_per_snippet=2.0, offset=0.1), signals={"cas": cas, "b": start, "e": end}
    )
    found = table(localize([given], spec(bounds=("b", "e"), score={"cas": 2.0}), CLASSES[:2]))
    expected = [[0, 1.8, 1.1, 5.1], [0, 1.4, 6.6, 8.1], [0, 1.2, 0.1, 10.1], [1, 1.6, 4.1, 9.1]]
    np.testing.assert_allclose(found, expected)
    # samples between rows have bounds between those of the rows
    half = localize([given], spec((0.74,), bounds=("b", "e"), upsampling=2), CLASSES[:1] + CLASSES[1:2])
    np.testing.assert_allclose(table(half)[:2], [[0, 0.9, 1.1, 5.1], [0, 0.75, 0.6, 7.6]])


def test_bounds_that_a_method_does_not_give_are_refused() -> None:
    with pytest.raises(UserError, match="'b'"):
        localize([scores(np.ones((4, 1)))], spec(bounds=("b", "e")), CLASSES[:1])


def test_score_is_inside_minus_outside() -> None:
    #        0  1    2    3    4    5    6    7    8  9
    cas = [0.0, 0.1, 0.2, 0.8, 0.6, 1.0, 0.7, 0.4, 0.3, 0]
    (row,) = table(localize([scores(cas)], spec(margin=0.3), CLASSES[:1]))
    # Run [3, 6], n = 4, reach 1.2: left from trunc(1.8) = 1, right to trunc(7.2) = 7, so the left has one sample more.
    assert row[1] == pytest.approx((0.8 + 0.6 + 1.0 + 0.7) / 4 - (0.1 + 0.2 + 0.4) / 3)
    assert row[2:].tolist() == [3.0, 7.0]


def test_dilation_widens_runs_within_the_video_and_joins_those_that_touch() -> None:
    #      0  1  2  3  4  5  6  7  8  9 10 11 12 13
    cas = [1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1]
    rows = table(localize([scores(cas)], spec(dilation=4), CLASSES[:1]))
    # two samples before a run and one after it: [0, 2), [4, 8) with [7, 11), [11, 14), which touches it
    assert sorted(rows[:, 2:].tolist()) == [[0.0, 2.0], [4.0, 14.0]]
    assert sorted(rows[:, 1].tolist()) == [pytest.approx(3 / 10), pytest.approx(1 / 2)]
    found = localize([scores(cas), scores(cas, video="w")], spec(dilation=1), CLASSES[:1])  # a box of one sample
    assert sorted(found.start.tolist()) == [0, 0, 6, 6, 9, 9, 13, 13]


def test_outside_stops_at_the_video_and_may_be_empty() -> None:
    cas = [0.9, 0.9, 0.3]
    assert localize([scores(cas)], spec(margin=5.0), CLASSES[:1]).score == pytest.approx([0.9 - 0.3])
    assert localize([scores(cas[:2])], spec(margin=5.0), CLASSES[:1]).score == pytest.approx([0.9])
    assert localize([scores(cas)], spec(margin=0.0), CLASSES[:1]).score == pytest.approx([0.9])


def test_masked_zeroes_the_outside() -> None:
    cas = [0.4, 0.4, 0.9, 0.9, 0.4, 0.4]
    assert localize([scores(cas)], spec(margin=0.5), CLASSES[:1]).score == pytest.approx([0.5])
    assert localize([scores(cas)], spec(margin=0.5, masked=True), CLASSES[:1]).score == pytest.approx([0.9])


def test_attention_runs_serve_every_kept_class() -> None:
    cas = np.array([[0.1, 0.2], [0.6, 0.5], [0.6, 0.3], [0.1, 0.2]])
    case = scores(cas, attention=[0.0, 1.0, 1.0, 0.0], p=(0.4, 0.6))
    settings = spec(signal="attention", score={"cas": 0.5, "attention": 0.5}, masked=True, video_score_weight=0.25)
    found = localize([case], settings, CLASSES[:2])
    assert found.label.tolist() == [0, 1]
    assert found.start.tolist() == [1.0, 1.0]
    assert found.end.tolist() == [3.0, 3.0]
    assert found.score == pytest.approx([0.5 * 0.6 + 0.5 + 0.25 * 0.4, 0.5 * 0.4 + 0.5 + 0.25 * 0.6])


@pytest.mark.parametrize(("strict", "end"), [(False, 3.0), (True, 2.0)])
def test_a_sample_at_the_threshold(strict: bool, end: float) -> None:
    assert localize([scores([0.9, 0.9, 0.5])], spec(strict=strict), CLASSES[:1]).end.tolist() == [end]


def test_short_runs_are_dropped() -> None:
    cas = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    assert localize([scores(cas)], spec(), CLASSES[:1]).start.tolist() == [0.0, 2.0, 5.0]
    assert localize([scores(cas)], spec(minimum_run=2), CLASSES[:1]).start.tolist() == [2.0]


@pytest.mark.parametrize(("cas", "starts"), [([1.0, 0, 0], []), ([1.0, 0, 1.0], [0.0, 2.0]), ([1.0, 1.0, 0], [0.0])])
def test_lone_first_sample(cas: list[float], starts: list[float]) -> None:
    assert localize([scores(cas)], spec(skip_lone_first_sample=True), CLASSES[:1]).start.tolist() == starts
    acmnet = spec(minimum_run=2)  # as ACM-Net's code, where the same quirk follows from the minimum
    assert localize([scores([1.0, 0, 0])], acmnet, CLASSES[:1]).start.tolist() == []


def test_runs_do_not_cross_from_one_video_or_class_into_the_next() -> None:
    found = localize(
        [scores(np.ones((3, 2)), p=(0.5, 0.5)), scores(np.ones((2, 2)), p=(0.5, 0.5), video="w")],
        spec(thresholds=(-1.0, 0.0)),  # zero between the videos would be active too
        CLASSES[:2],
    )
    assert found.video.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found.label.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert found.end.tolist() == [3.0] * 4 + [2.0] * 4
    assert found.score.tolist() == [1.0] * 8


def test_seconds() -> None:
    case = scores([0.0, 1.0, 0.0], seconds_per_snippet=0.64, offset=0.08)
    found = localize([case], spec(upsampling=4), CLASSES[:1])
    # Samples 2..6 of quarter rows reach 0.5.
    assert found.start.tolist() == [pytest.approx(0.08 + 2 * 0.16)]
    assert found.end.tolist() == [pytest.approx(0.08 + 7 * 0.16)]


def test_upsampling_goes_on_past_the_last_row() -> None:
    assert upsample(np.array([0.0, 4.0, 6.0]), 4).tolist() == [0, 1, 2, 3, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5]
    assert upsample(np.array([3.0]), 3).tolist() == [3.0] * 3


def test_overlapping_proposals_of_all_thresholds_are_suppressed_together() -> None:
    cas = [0.0, 0.6, 0.9, 0.9, 0.9, 0.6, 0.0]
    thresholds = (0.5, 0.8)
    both = localize([scores(cas)], spec(thresholds), CLASSES[:1])
    assert both.score == pytest.approx([0.9, 0.78])  # best first
    one = localize([scores(cas)], spec(thresholds, nms=Nms(kind="hard", threshold=0.6)), CLASSES[:1])
    assert one.score == pytest.approx([0.9])  # IoU 3 / 5
    soft = localize([scores(cas)], spec(thresholds, nms=Nms(kind="soft-gaussian", sigma=0.3)), CLASSES[:1])
    assert soft.score == pytest.approx([0.9, 0.78 * np.exp(-(0.6**2) / 0.3)])


@pytest.mark.parametrize(("plus_one", "kept"), [("no", 1), ("snippet", 1), ("second", 2)])
def test_plus_one_is_a_second_or_a_row(plus_one: str, kept: int) -> None:
    # Runs of 2 and 4 rows, half a second each: IoU 1/2, (1 + .5) / (2 + .5) with a row more, 2/3 with a second more.
    cas = [0.0, 0.6, 0.9, 0.9, 0.6, 0.0]
    threshold = {"no": 0.5, "snippet": 0.6, "second": 0.67}[plus_one]
    settings = spec((0.5, 0.8), nms=Nms.model_validate({"kind": "hard", "threshold": threshold, "plus_one": plus_one}))
    assert len(localize([scores(cas, seconds_per_snippet=0.5)], settings, CLASSES[:1])) == kept


def test_laid_out_in_chunks_or_at_once_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    cases = [
        scores(rng.random((rows, 3)), attention=rng.random(rows), p=rng.random(3), video=f"v{rows}")
        for rows in (30, 1, 2, 17, 40)
    ]
    at_once = localize(cases, ACM_THUMOS, CLASSES[:3])
    monkeypatch.setattr(proposals, "CHUNK", 500)
    in_chunks = localize(cases, ACM_THUMOS, CLASSES[:3])
    assert len(at_once) > 20
    np.testing.assert_allclose(table(in_chunks), table(at_once), rtol=0, atol=1e-13)


def test_detections_so_far_do_not_end_the_localizer() -> None:
    cases = [scores([0.0, 1.0, 0.0], video=f"v{number}") for number in range(4)]
    localizer = Localizer(spec(), CLASSES[:1])
    for number, case in enumerate(cases, 1):
        localizer.add(case)
        assert localizer.detections().video.tolist() == [*range(number)]
    np.testing.assert_array_equal(table(localizer.detections()), table(localize(cases, spec(), CLASSES[:1])))


def test_memory_does_not_grow_with_the_scores_of_all_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "CHUNK", 4000)
    rows, classes = 100, tuple(f"c{number}" for number in range(200))  # 160 kB of scores a video, of which 2 % count

    def localize_random(videos: int) -> None:
        rng = np.random.default_rng(0)
        localizer = Localizer(spec((0.5,), upsampling=2), classes)
        for number in range(videos):
            cas, chosen = rng.random((rows, 200)), np.eye(4, 200, k=number % 100).sum(axis=0)
            localizer.add(scores(cas, p=chosen, video=f"v{number}"))
        localizer.detections()

    few, many = traced_peak(lambda: localize_random(10)), traced_peak(lambda: localize_random(60))
    assert many - few < 50 * rows * 200 * 8 / 10


def test_nothing_to_localize() -> None:
    assert len(localize([], ACM_THUMOS, CLASSES)) == 0
    found = localize([scores(np.zeros((5, 20)), np.zeros(5), p=np.zeros(20))], ACM_THUMOS, CLASSES)
    assert len(found) == 0
    assert found.videos == ("v",)
    assert found.classes == CLASSES


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": np.array([0.1, np.nan, 0.3])}, "'attention' in the scores of video 'v' is not finite at row 1"),
        ({"attention": np.zeros((3, 1))}, r"'attention' .* shape \(3, 2\), got \(3, 1\)"),
        ({"attention": np.zeros(4)}, r"'cas' .* shape \(4, 2\), got \(3, 2\)"),
        ({"cas": np.zeros((3, 3))}, r"'cas' .* shape \(3, 2\), got \(3, 3\)"),
        ({"cas": np.zeros((0, 2)), "attention": np.zeros(0)}, "'attention' in the scores of video 'v' has no rows"),
    ],
)
def test_wrong_signals(change: dict[str, np.ndarray], message: str) -> None:
    case = scores(np.zeros((3, 2)), np.zeros(3), p=(0.5, 0.5))
    case.signals.update(change)
    with pytest.raises(UserError, match=message):
        localize([case], ACM_THUMOS, CLASSES[:2])


def test_missing_signal() -> None:
    with pytest.raises(UserError, match=r"name signal 'attention', but the scores of video 'v' have \['cas'\]"):
        localize([scores(np.zeros((3, 20)), p=np.zeros(20))], ACM_THUMOS, CLASSES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p": (0.5, 0.5)}, r"`video_scores` .* shape \(1,\), got \(2,\)"),
        ({"p": (np.nan,)}, "`video_scores` .* not finite"),
        ({"seconds_per_snippet": 0.0}, "`seconds_per_snippet` .* positive, got 0"),
        ({"offset": np.inf}, "`offset` .* finite, got inf"),
    ],
)
def test_wrong_scalars(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        localize([scores([1.0, 0.0], **changes)], spec(), CLASSES[:1])


def test_a_video_given_twice() -> None:
    with pytest.raises(UserError, match="'v' more than once"):
        localize([scores([1.0]), scores([1.0])], spec(), CLASSES[:1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": (0.1, float("nan"))}, "finite"),
        ({"thresholds": ()}, "at least 1"),
        ({"class_threshold": float("inf")}, "finite"),
        ({"upsampling": 0}, "greater than or equal to 1"),
        ({"masked": True, "score": {"attention": 1.0}}, "weigh the thresholded signal 'cas'"),
        ({"nms": {"kind": "hard", "sigma": 0.3}}, r"'hard' suppression to set \['threshold'\], got \['sigma'\]"),
        ({"nms": {"threshold": 0.3}}, "'none' suppression to set neither"),
        ({"kappa": 0.2}, "Extra inputs"),
        ({"past_end": True, "sides": {"join": "sum"}}, "`past_end` or `sides`, got both"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(**changes)


def test_settings_survive_json() -> None:
    for settings in (ACM_THUMOS, ACM_ACTIVITYNET, BASNET):
        assert LocalizerSpec.model_validate_json(settings.model_dump_json()) == settings


# --- what FAC-Net, RSKP, W-TALC and two-stream methods need, by hand -------------------------------------------------


def test_past_end_takes_one_sample_more_and_counts_the_margin_without_it() -> None:
    # run [1, 3): inside rows 1-3 (mean 2), outside row 0 and rows 4-4 (0.5 reaches one row); end at 4
    signal = [0.2, 3.0, 2.0, 1.0, 0.4, 0.0, 0.0]
    found = localize([scores(signal)], spec((1.5,), margin=0.5, past_end=True, outer_weight=0.6), ("a",))
    assert table(found).tolist() == [pytest.approx([0, 2 - 0.6 * 0.3, 1, 4])]


def test_past_end_reports_the_end_past_the_video_too() -> None:
    found = localize([scores([0.0, 0.0, 1.0, 1.0])], spec((0.5,), past_end=True), ("a",))
    assert table(found).tolist() == [[0, 1.0, 2, 5]]


def test_a_run_may_be_worth_its_maximum() -> None:
    found = localize([scores([0.0, 1.0, 3.0, 0.0, 2.0])], spec((0.5,), inside="max", video_score_weight=0.5), ("a",))
    assert table(found).tolist() == [[0, 3.5, 1, 3], [0, 2.5, 4, 5]]


def test_class_scores_by_name_choose_the_classes() -> None:
    one = scores(np.ones((3, 2)), p=(0.9, 0.9))
    one = replace(one, class_scores={"logit": np.array([-1.0, 2.0])})
    settings = spec((0.5,), class_score="logit", video_score_weight=1.0, fallback_to_argmax=False)
    assert table(localize([one], settings, ("a", "b"))).tolist() == [[1, 3.0, 0, 3]]
    with pytest.raises(UserError, match="class score 'other'"):
        localize([one], settings.model_copy(update={"class_score": "other"}), ("a", "b"))


def test_streams_are_localized_apart_and_suppressed_where_both_fire() -> None:
    # class a by both streams: overlapping, the better stays; class b by stream 1 alone: its two runs stay
    rgb = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    flow = np.array([[3.0, 1.0], [3.0, 0.0], [3.0, 1.0], [0.0, 0.0]])
    one = SnippetScores(
        "v", {"stream0/cas": rgb, "stream1/cas": flow}, np.zeros(2), 1.0,
        class_scores={"stream0": np.array([1.0, 0.0]), "stream1": np.array([1.0, 1.0])},
    )  # fmt: skip
    fusion = StreamFusion(weights=(4.0,), nms=Nms(kind="hard", threshold=0.5))
    found = localize([one], spec((0.5,), fusion=fusion), ("a", "b"))
    assert table(found).tolist() == [[0, 4.0, 0, 2], [1, 1.0, 0, 1], [1, 1.0, 2, 3]]


def test_streams_may_have_thresholds_of_their_own() -> None:
    signal = np.array([[0.0], [0.4], [0.8], [0.0]])
    one = SnippetScores(
        "v", {f"stream{i}/cas": signal for i in range(3)}, np.zeros(1), 1.0,
        class_scores={f"stream{i}": np.array([1.0]) for i in range(3)},
    )  # fmt: skip
    fusion = StreamFusion(nms=Nms(), thresholds=((0.7,), (0.3, 0.5)))
    found = localize([one], spec((0.2,), fusion=fusion, score={"cas": 1.0}), ("a",))
    assert sorted(map(tuple, table(found)[:, 2:].tolist())) == [(1, 3), (1, 3), (2, 3), (2, 3)]


@pytest.mark.parametrize(
    ("sides", "left", "right"),
    [
        # run [2, 7), n = 5, margin 0.5: two samples to either side, and one more
        ({"join": "mean"}, (0.1 + 0.3) / 2 / 2, (0.4 + 0.2) / 2 / 2),
        ({"join": "sum"}, (0.1 + 0.3) / 2, (0.4 + 0.2) / 2),
        ({"join": "sum", "plus": 1}, (0.1 + 0.3) / 2, (0.4 + 0.2 + 0.3) / 3),
    ],
)
def test_sides_of_a_run_have_a_mean_each(sides: dict[str, Any], left: float, right: float) -> None:
    cas = [0.1, 0.3, 0.9, 0.8, 1.0, 0.8, 0.9, 0.4, 0.2, 0.3]
    found = localize([scores(cas)], spec(margin=0.5, sides=sides, outer_weight=0.6), ("a",))
    assert table(found).tolist() == [pytest.approx([0, 4.4 / 5 - 0.6 * (left + right), 2, 7])]


@pytest.mark.parametrize(("join", "outside"), [("mean", 0.3), ("sum", 0.3)])
def test_a_side_that_the_video_lacks_does_not_count(join: str, outside: float) -> None:
    settings = spec(sides={"join": join})  # no margin: a side has one sample
    assert localize([scores([0.9, 0.9, 0.3])], settings, ("a",)).score == pytest.approx([0.9 - outside])
    assert localize([scores([0.9, 0.9])], settings, ("a",)).score == pytest.approx([0.9])


def test_a_share_of_the_best_score_of_its_class_is_needed() -> None:
    signal = np.array([[1.0, 0.9], [0.0, 0.0], [0.6, 0.6], [0.0, 0.0], [0.7, 0.3]])
    found = localize([scores(signal, p=(1.0, 1.0))], spec((0.2,), minimum_share=0.65), ("a", "b"))
    np.testing.assert_allclose(table(found), [[0, 1.0, 0, 1], [0, 0.7, 4, 5], [1, 0.9, 0, 1], [1, 0.6, 2, 3]])


def test_settings_that_fuse_streams_want_streams() -> None:
    settings = spec((0.5,), fusion=StreamFusion(nms=Nms()))
    with pytest.raises(UserError, match="no class scores"):
        localize([scores([1.0])], settings, ("a",))
    assert len(localize([], settings, ("a",))) == 0


def test_younger_fields_at_their_defaults_are_not_written() -> None:
    """Runs are named by a digest of these settings: what did not exist then must not rename them."""
    written = ACM_THUMOS.model_dump(mode="json")
    assert not {"class_score", "outer_weight", "past_end", "fusion", "sides", "minimum_share"} & written.keys()
    assert "inside" not in written["sources"][0]
    assert StreamFusion(nms=Nms()).model_dump().keys() == {"weights", "nms"}
    assert LocalizerSpec.model_validate(written) == ACM_THUMOS


@pytest.mark.parametrize("wrong", [{"masked": True}, {"score": {"cas": 1.0, "attention": 1.0}}])
def test_a_maximum_is_of_one_signal(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="one signal"):
        spec((0.5,), inside="max", **wrong)


def test_prefix_sums_add_one_sample_after_the_other() -> None:
    """The order of additions decides the last bits of scores, and records hold digests of detections."""
    tracks = lay_out([np.random.default_rng(seed).normal(size=300) for seed in range(5)], 20)
    terms = tracks.samples.copy()
    terms[tracks.gap, 0] = -np.add.reduceat(terms.reshape(-1), tracks.first)
    assert tracks.prefix_sums().tolist() == list(accumulate(terms.reshape(-1).tolist(), initial=0.0))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("upsampling", [1, 20, 1000])
def test_runs_of_signals_within_rounding_of_the_threshold(strict: bool, upsampling: int) -> None:
    """Runs found from rows are those of all samples, also where lines between rows are hardly more than one float."""
    rng = np.random.default_rng(0)
    tracks = lay_out([0.3 + rng.integers(-3, 4, rows) * 2.0**-54 for rows in (1, 2, 50, 1, 30)], upsampling)
    active = tracks.active(0.3, strict)
    active[tracks.gap] = False
    edges = np.flatnonzero(np.diff(active.reshape(-1), prepend=False))
    first, stop = tracks.edges(0.3, strict)
    np.testing.assert_array_equal(np.stack([first, stop], axis=1).reshape(-1), edges)
    assert len(first) > 10
