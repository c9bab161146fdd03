"""Overlap, matching, average precision and protocols, against numbers worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from wstal.errors import UserError
from wstal.evaluation import (
    ACTIVITYNET_TIOUS,
    PROTOCOLS,
    THUMOS_TIOUS,
    class_average_precision,
    default_tious,
    evaluate,
    evaluate_all,
    get_protocol,
    parse_tious,
    protocols_for,
    sharing,
    tiou_key,
    to_json,
)
from wstal.evaluation.absent_videos import ACTIVITYNET13_ABSENT
from wstal.evaluation.average_precision import average_precision
from wstal.evaluation.matching import Intervals, Pairs, match, meeting
from wstal.evaluation.ties import released_order
from wstal.evaluation.tiou import hull_overlap, tiou
from wstal.types import Detections, GroundTruth

Row = tuple[str, str, float, float, float]
THUMOS = ("video_test_0000004", "video_test_0000006", "video_test_0000270")


def truth(
    rows: list[tuple[str, str, float, float]],
    videos: tuple[str, ...] = ("v1", "v2"),
    ambiguous: tuple[tuple[int, float, float], ...] = (),
) -> GroundTruth:
    classes = tuple(sorted({row[1] for row in rows} | {"VolleyballSpiking"}))
    return GroundTruth(
        videos=videos,
        classes=classes,
        video=np.array([videos.index(row[0]) for row in rows], dtype=np.int64),
        label=np.array([classes.index(row[1]) for row in rows], dtype=np.int64),
        start=np.array([row[2] for row in rows], dtype=float),
        end=np.array([row[3] for row in rows], dtype=float),
        ambiguous=np.array(ambiguous, dtype=float).reshape(-1, 3),
    )


def found(rows: list[Row]) -> Detections:
    videos = tuple(dict.fromkeys(row[0] for row in rows))
    classes = tuple(dict.fromkeys(row[1] for row in rows))
    return Detections(
        videos=videos,
        classes=classes,
        video=np.array([videos.index(row[0]) for row in rows], dtype=np.int64),
        label=np.array([classes.index(row[1]) for row in rows], dtype=np.int64),
        start=np.array([row[2] for row in rows], dtype=float),
        end=np.array([row[3] for row in rows], dtype=float),
        score=np.array([row[4] for row in rows], dtype=float),
    )


def mean_ap(rows: list[Row], wanted: GroundTruth, protocol: str = "anet", at: float = 0.5) -> float:
    return evaluate(found(rows), wanted, PROTOCOLS[protocol], (at,)).mean_ap[tiou_key(at)]


class TestTiou:
    def test_by_hand(self) -> None:
        start, end = np.array([0.0, 0.0, 0.0, 2.0]), np.array([10.0, 10.0, 2.0, 4.0])
        # half of it, none, touching only, inside
        np.testing.assert_array_equal(
            tiou(start, end, np.array([5.0, 20.0, 2.0, 0.0]), np.array([15.0, 30.0, 4.0, 8.0])), [1 / 3, 0, 0, 0.25]
        )

    def test_two_empty_intervals_do_not_overlap(self) -> None:
        empty = np.array([3.0])
        assert tiou(empty, empty, empty, empty) == 0
        assert hull_overlap(empty, empty, empty, empty) == 0

    def test_hull_equals_union_where_intervals_touch(self) -> None:
        rng = np.random.default_rng(0)
        a, b = np.sort(rng.random((2, 100, 2)), axis=-1)
        np.testing.assert_allclose(
            hull_overlap(a[:, 0], a[:, 1], b[:, 0], b[:, 1]), tiou(a[:, 0], a[:, 1], b[:, 0], b[:, 1]), atol=1e-12
        )


class TestThresholds:
    def test_ranges_are_those_of_the_released_evaluators_and_lists_the_decimals(self) -> None:
        assert parse_tious("0.1:0.1:0.7") == tuple(np.arange(0.1, 0.75, 0.1))
        assert parse_tious("0.5:0.05:0.95") == tuple(0.5 + step * 0.05 for step in range(10))
        assert parse_tious("0.1:0.1:0.7")[2] > 0.3
        assert parse_tious("0.3, 0.5") == (0.3, 0.5)
        assert parse_tious("0.5") == (0.5,)
        assert parse_tious("1") == (1.0,)

    def test_keys_have_no_rounding_error(self) -> None:
        assert [tiou_key(value) for value in np.arange(0.1, 0.75, 0.1)] == [
            "0.1",
            "0.2",
            "0.3",
            "0.4",
            "0.5",
            "0.6",
            "0.7",
        ]
        assert tiou_key(1.0) == "1"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "a",
            "0.5,0.3",
            "0.5,0.5",
            "0",
            "1.1",
            "-0.1",
            "nan",
            "0.1:0.7",
            "0.1:0:0.7",
            "0.1:0.4:0.7",
            "0.7:0.1:0.1",
        ],
    )
    def test_what_does_not_increase_within_0_and_1_is_an_error(self, text: str) -> None:
        with pytest.raises(UserError, match=r"tIoU|tious|steps"):
            parse_tious(text)

    def test_defaults(self) -> None:
        assert default_tious("thumos14") == THUMOS_TIOUS == parse_tious("0.1:0.1:0.7")
        assert default_tious("activitynet13") == default_tious("fineaction") == ACTIVITYNET_TIOUS
        assert default_tious("mine") == THUMOS_TIOUS


class TestAveragePrecision:
    # hits at ranks 1, 3, 4 of 5; 4 instances: precision 1, 1/2, 2/3, 3/4, 3/5
    hit = np.array([True, False, True, True, False])[:, None]

    def ap(self, precision: str, positives: float = 4, weight: np.ndarray | None = None) -> float:
        return float(average_precision(self.hit, None, positives, precision, weight)[0])

    def test_envelope(self) -> None:
        assert self.ap("envelope") == pytest.approx((1 + 3 / 4 + 3 / 4) / 4)

    def test_raw(self) -> None:
        assert self.ap("raw") == pytest.approx((1 + 2 / 3 + 3 / 4) / 4)

    def test_eleven_point(self) -> None:
        # recall 0, .1, .2 are reached at precision 1; .3 to .7 at 3/4; .8 to 1 never
        assert self.ap("eleven-point") == pytest.approx((3 * 1 + 5 * 3 / 4) / 11)

    def test_a_recall_of_three_tenths_misses_the_recall_point_of_the_kit(self) -> None:
        hit = np.ones((3, 1), dtype=bool)
        assert average_precision(hit, None, 10, "eleven-point")[0] == pytest.approx(3 / 11)

    def test_without_hits_or_detections_it_is_zero(self) -> None:
        for precision in ("envelope", "raw", "eleven-point"):
            assert average_precision(np.zeros((3, 2), dtype=bool), None, 4, precision).tolist() == [0, 0]
            assert average_precision(np.zeros((0, 2), dtype=bool), None, 4, precision).tolist() == [0, 0]

    def test_excused_detections_are_not_seen(self) -> None:
        counted = np.array([True, False, True, True, True])[:, None]
        assert average_precision(self.hit, counted, 4, "raw")[0] == pytest.approx((1 + 1 + 1) / 4)

    def test_weight_counts_detections_so_often(self) -> None:
        assert self.ap("envelope", 4, np.ones(5)) == self.ap("envelope")
        # the first hit's video twice: precision 2/2, 2/3, 3/4, 4/5, 4/6 with 5 instances
        assert self.ap("envelope", 5, np.array([2, 1, 1, 1, 1])) == pytest.approx((2 * 1 + 4 / 5 + 4 / 5) / 5)


class TestMatching:
    wanted = truth([("v1", "Diving", 0, 10), ("v1", "Diving", 10, 20)])

    def test_an_instance_is_found_once(self) -> None:
        # the second hit on the first instance is a false positive: precision 1, 1/2, 2/3
        rows = [("v1", "Diving", 0, 10, 0.9), ("v1", "Diving", 0, 9, 0.8), ("v1", "Diving", 10, 20, 0.7)]
        assert mean_ap(rows, self.wanted) == pytest.approx((1 + 2 / 3) / 2)

    def test_a_detection_takes_the_best_free_instance(self) -> None:
        rows = [("v1", "Diving", 0, 10, 0.9), ("v1", "Diving", 2, 14, 0.8)]
        assert mean_ap(rows, self.wanted, at=0.2) == pytest.approx(1)  # 8/14 is taken, 4/18 is free

    def test_a_tiou_that_equals_the_threshold_is_enough_but_for_the_kit(self) -> None:
        wanted = truth([(THUMOS[0], "Diving", 0, 10)], THUMOS, ((1, 0, 1),))
        rows = [(THUMOS[0], "Diving", 0.0, 5.0, 0.9)]
        assert mean_ap(rows, wanted, "anet") == 1
        assert mean_ap(rows, wanted, "thumos14-kit-2014") == 0
        assert mean_ap(rows, wanted, "thumos14-kit-2014", at=0.4) == pytest.approx(1)

    def test_a_detection_of_another_class_or_video_is_false(self) -> None:
        rows = [("v2", "Diving", 0, 10, 0.9), ("v1", "VolleyballSpiking", 0, 10, 0.9), ("v1", "Diving", 0, 10, 0.5)]
        assert mean_ap(rows, self.wanted) == pytest.approx((1 / 2) / 2)  # Zumba has no instance: left out

    def test_equal_tious_go_to_the_later_instance_and_under_segments_best_to_the_earlier(self) -> None:
        # [0, 32] holds two instances of one length; the second detection finds the first one only
        wanted = truth([(THUMOS[0], "Diving", 0, 16), (THUMOS[0], "Diving", 16, 32)], THUMOS, ((1, 0, 1),))
        rows = [(THUMOS[0], "Diving", 0.0, 32.0, 0.9), (THUMOS[0], "Diving", 0.0, 16.0, 0.8)]
        assert mean_ap(rows, wanted, "anet") == pytest.approx(1)
        assert mean_ap(rows, wanted, "segments-best") == pytest.approx(1 / 2)

    def test_first_match_takes_the_first_listed(self) -> None:
        wanted = truth([(THUMOS[0], "Diving", 0, 16), (THUMOS[0], "Diving", 0, 32)], THUMOS, ((1, 0, 1),))
        rows = [(THUMOS[0], "Diving", 0.0, 32.0, 0.9), (THUMOS[0], "Diving", 0.0, 16.0, 0.8)]
        assert mean_ap(rows, wanted, "segments-best", at=0.6) == pytest.approx(1)
        assert mean_ap(rows, wanted, "segments-first", at=0.5) == pytest.approx(1)  # the second takes the other at 1/2
        assert mean_ap(rows, wanted, "segments-first", at=0.4) == pytest.approx(1)
        third = [*rows, (THUMOS[0], "Diving", 1.0, 16.0, 0.85)]
        # at .4 the best detection has the short instance, the next (15/32) the long one
        assert mean_ap(third, wanted, "segments-first", at=0.4) == pytest.approx(1)
        assert mean_ap(third, wanted, "segments-best", at=0.6) == pytest.approx(1)

    def test_in_the_kit_an_instance_takes_its_largest_overlap_whatever_the_score(self) -> None:
        wanted = truth([(THUMOS[0], "Diving", 0, 10)], THUMOS, ((1, 0, 1),))
        rows = [(THUMOS[0], "Diving", 0.0, 8.0, 0.9), (THUMOS[0], "Diving", 0.0, 10.0, 0.1)]
        assert mean_ap(rows, wanted, "anet") == pytest.approx(1)
        assert mean_ap(rows, wanted, "thumos14-kit-2014") == pytest.approx(1 / 2)

    def test_in_the_kit_hits_precede_misses_of_the_same_score(self) -> None:
        wanted = truth([(THUMOS[1], "Diving", 0, 10)], THUMOS, ((2, 0, 1),))
        rows = [(THUMOS[0], "Diving", 0.0, 8.0, 0.9), (THUMOS[1], "Diving", 0.0, 10.0, 0.9)]
        assert mean_ap(rows, wanted, "anet") == pytest.approx(1 / 2)  # by video name
        assert mean_ap(rows, wanted, "thumos14-kit-2014") == pytest.approx(1)

    def test_whole_segments(self) -> None:
        # 16/25 s a segment: [0.2, 1.5] is segments 0 and 1, as is [0, 1.28]
        wanted = truth([(THUMOS[0], "Diving", 0, 1.28)], THUMOS, ((1, 0, 1),))
        rows = [(THUMOS[0], "Diving", 0.2, 1.5, 0.9)]
        assert mean_ap(rows, wanted, "segments-best", at=1.0) == 1
        assert mean_ap(rows, wanted, "anet", at=0.7) == pytest.approx(1)
        assert mean_ap(rows, wanted, "anet", at=0.75) == 0

    def test_an_instance_of_length_zero_counts_and_is_never_found(self) -> None:
        wanted = truth([("v1", "Diving", 5, 5), ("v1", "Diving", 10, 20)])
        assert mean_ap([("v1", "Diving", 4, 6, 0.9), ("v1", "Diving", 10, 20, 0.8)], wanted, at=0.1) == pytest.approx(
            1 / 4
        )


class TestMeeting:
    def test_is_every_pair_of_one_group_that_shares_time(self) -> None:
        rng = np.random.default_rng(0)

        def some(count: int) -> Intervals:
            # whole numbers: intervals often touch, and many are empty
            start = rng.integers(0, 20, count).astype(float)
            return Intervals(rng.integers(0, 6, count), start, start + rng.integers(0, 5, count))

        left, right = some(300), some(40)
        row, column = meeting(left, right)
        expected = [
            (i, j)
            for i in range(300)
            for j in range(40)
            if left.group[i] == right.group[j]
            and min(left.end[i], right.end[j]) - max(left.start[i], right.start[j]) > 0
        ]
        assert list(zip(row.tolist(), column.tolist(), strict=True)) == expected
        assert len(expected) > 100

    def test_of_nothing_is_nothing(self) -> None:
        nothing = Intervals(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
        one = Intervals(np.zeros(1, dtype=np.int64), np.zeros(1), np.ones(1))
        for pair in ((nothing, one), (one, nothing)):
            assert [len(part) for part in meeting(*pair)] == [0, 0]


class TestSharing:
    wanted = truth([(THUMOS[0], "Diving", 0, 10), (THUMOS[2], "Diving", 0, 10)], THUMOS, ((0, 50, 60),))
    rows: tuple[Row, ...] = ((THUMOS[2], "Diving", 0.0, 10.0, 0.9), (THUMOS[0], "Diving", 0.0, 10.0, 0.8))

    def test_protocols_of_one_rule_are_matched_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []

        def counted(pairs: Pairs, choosers: int, options: int) -> object:
            calls.append(choosers)
            return match(pairs, choosers, options)

        monkeypatch.setattr(sharing, "match", counted)
        evaluate_all(found(list(self.rows)), self.wanted, protocols_for(self.wanted), (0.3, 0.5))
        # anet, anet-210 and anet-212 are one matching, as the two lists of an evaluator in segments; two more are one
        # each; two thresholds
        assert len(calls) == (1 + 4) * 2

    def test_a_protocol_that_cannot_judge_these_videos_is_an_error(self) -> None:
        without = replace(self.wanted, ambiguous=np.zeros((0, 3)))
        with pytest.raises(UserError, match="segments-best does not apply"):
            evaluate_all(found(list(self.rows)), without, [PROTOCOLS["anet"], PROTOCOLS["segments-best"]], (0.5,))

    def test_of_no_protocol_is_no_result(self) -> None:
        assert evaluate_all(found(list(self.rows)), self.wanted, [], (0.5,)) == {}


class TestReleasedOrder:
    @pytest.mark.parametrize("count", [1, 2, 16, 17, 18, 40, 130, 500])
    def test_is_numpy_s_sort_without_vector_instructions(self, count: int) -> None:
        rng = np.random.default_rng(count)
        for levels in (2, 3, 1000):
            for _ in range(20):
                values = rng.integers(0, levels, count) / levels
                # long double has no vector version
                expected = values.astype(np.longdouble).argsort()[::-1].tolist()
                assert released_order(values.tolist()) == expected

    def test_up_to_16_is_the_later_of_equals_first(self) -> None:
        assert released_order([0.5, 0.2, 0.5, 0.0]) == [2, 0, 1, 3]


class TestProtocols:
    def test_two_videos_are_removed_from_the_truth(self) -> None:
        wanted = truth([(THUMOS[0], "Diving", 0, 10), (THUMOS[2], "Diving", 0, 10)], THUMOS, ((0, 50, 60),))
        rows = [(THUMOS[2], "Diving", 0.0, 10.0, 0.9), (THUMOS[0], "Diving", 0.0, 10.0, 0.8)]
        result = evaluate(found(rows), wanted, PROTOCOLS["anet-210"], (0.5,))
        assert (result.videos, result.instances, result.detections, result.unlisted) == (2, 1, 2, 1)
        # the detection in the removed video ranks first and is false
        assert result.mean_ap == {"0.5": 0.5}
        segments = evaluate(found(rows), wanted, PROTOCOLS["segments-best"], (0.5,))
        assert (segments.detections, segments.mean_ap) == (1, {"0.5": 1.0})
        assert evaluate(found(rows), wanted, PROTOCOLS["anet-212"], (0.5,)).instances == 2

    @pytest.mark.parametrize("protocol", ["anet", "anet-210", "anet-212", "anet-210-ambiguous"])
    def test_detections_in_other_videos_are_false_positives_under_anet(self, protocol: str) -> None:
        wanted = truth([(THUMOS[0], "Diving", 0, 10)], THUMOS, ((0, 50, 60),))
        rows = [("elsewhere", "Diving", 0.0, 10.0, 0.9), (THUMOS[0], "Diving", 0.0, 10.0, 0.8)]
        anet = evaluate(found(rows), wanted, PROTOCOLS[protocol], (0.5,))
        listed = evaluate(found(rows), wanted, PROTOCOLS["segments-first"], (0.5,))
        assert (anet.mean_ap["0.5"], anet.unlisted, anet.detections) == (0.5, 1, 2)
        assert (listed.mean_ap["0.5"], listed.unlisted, listed.detections) == (1, 1, 1)

    def test_ambiguous_detections_are_dropped_or_excused(self) -> None:
        # the first instance's detection touches an Ambiguous interval, and so does a false one
        wanted = truth([(THUMOS[0], "Diving", 0, 10), (THUMOS[0], "Diving", 30, 40)], THUMOS, ((0, 9, 25),))
        rows = [
            (THUMOS[0], "Diving", 20.0, 25.0, 0.9),
            (THUMOS[0], "Diving", 0.0, 10.0, 0.8),
            (THUMOS[0], "Diving", 30.0, 40.0, 0.7),
        ]
        dropped = evaluate(found(rows), wanted, PROTOCOLS["anet-210-ambiguous"], (0.5,))
        assert (dropped.dropped, dropped.detections, dropped.mean_ap["0.5"]) == (2, 1, 0.5)
        assert mean_ap(rows, wanted, "anet") == pytest.approx(2 / 3)
        assert mean_ap(rows, wanted, "thumos14-kit-2014") == pytest.approx(1)

    def test_ambiguous_overlap_of_whole_segments_needs_a_segment(self) -> None:
        # seconds touch by 0.1, segments (1.5625 a second) do not
        wanted = truth([(THUMOS[0], "Diving", 0, 10)], THUMOS, ((0, 9.9, 12.0),))
        rows = [(THUMOS[0], "Diving", 0.0, 10.0, 0.8)]
        assert evaluate(found(rows), wanted, PROTOCOLS["segments-best"], (0.5,)).dropped == 1
        wanted = truth([(THUMOS[0], "Diving", 0, 10)], THUMOS, ((0, 9.98, 12.0),))
        rows = [(THUMOS[0], "Diving", 0.0, 9.985, 0.8)]
        assert evaluate(found(rows), wanted, PROTOCOLS["segments-best"], (0.5,)).dropped == 0
        assert evaluate(found(rows), wanted, PROTOCOLS["anet-210-ambiguous"], (0.5,)).dropped == 1

    def test_only_those_that_fit_are_offered(self) -> None:
        rows = [("v1", "Diving", 0.0, 10.0)]
        assert [protocol.name for protocol in protocols_for(truth(rows))] == ["anet"]
        thumos = truth([(THUMOS[0], "Diving", 0, 10)], THUMOS)
        assert [protocol.name for protocol in protocols_for(thumos)] == ["anet", "anet-210", "anet-212"]
        fitting = tuple(protocol for protocol in PROTOCOLS.values() if protocol.defined_on != "activitynet13")
        assert protocols_for(replace(thumos, ambiguous=np.ones((1, 3)))) == fitting

    def test_thumos14_s_are_for_its_classes_and_instances_only(self) -> None:
        def reason(name: str, **changes: Any) -> str:
            return PROTOCOLS[name].inapplicable(replace(whole, **changes)) or ""

        videos = tuple(f"video_test_{i:07d}" for i in range(212))
        counts = np.repeat(np.arange(212), [3358 - 211, *[1] * 211])
        times = np.ones(3358)
        whole = GroundTruth(videos, ("Diving",), counts, np.zeros(3358, int), 0 * times, times, np.zeros((0, 3)))
        assert reason("anet-212") == ""
        assert "'Ambiguous' and 1 more is no class of THUMOS14" in reason("anet-212", classes=("Diving ", "Ambiguous"))
        assert "3,357 instances in 212 videos" in reason("anet-212", video=counts[1:])
        assert reason("anet-212", videos=videos[:-1], video=counts[:-1]) == ""  # a part of the list
        assert "3,358 instances in 213 videos" in reason("anet-212", videos=(*videos, "video_test_0009999"))
        assert "3,311 instances in 210 test videos, and this truth has 3,358 instances" in reason("anet-210")
        assert reason("anet", classes=("Diving ",)) == ""

    def test_activitynet_s_list_is_for_all_its_videos_and_instances_only(self) -> None:
        protocol, absent = PROTOCOLS["anet-4427"], sorted(ACTIVITYNET13_ABSENT)
        assert len(absent) == 4926 - 4427
        counts = np.arange(6836) % 4427
        videos, label, times = tuple(f"v_{i}" for i in range(4427)), np.zeros(6836, int), np.ones(6836)
        listed = GroundTruth(videos, ("Drinking beer",), counts, label, 0 * times, times, np.zeros((0, 3)))
        assert protocol.inapplicable(listed) is None
        # all validation videos: those that the list lacks are left out
        everything = replace(listed, videos=(*absent, *videos), video=counts + 499)
        assert protocol.inapplicable(everything) is None
        assert [one.name for one in protocols_for(everything)] == ["anet", "anet-4427"]
        part = replace(listed, videos=videos[:-1], video=np.minimum(counts, 4425))
        assert "6,836 instances in 4,427 validation videos, and this truth has 6,836 instances in 4,426" in (
            protocol.inapplicable(part) or ""
        )
        fewer = replace(listed, video=counts[1:], label=label[1:], start=0 * times[1:], end=times[1:])
        assert "6,835 instances" in (protocol.inapplicable(fewer) or "")
        thumos = truth([(THUMOS[0], "Diving", 0, 10)], THUMOS)
        assert protocol.inapplicable(thumos) == "it is defined on ActivityNet 1.3's videos only"
        # a detection in a video that the list lacks is left out, since its sources predict none there
        rows: list[Row] = [(absent[0], "Drinking beer", 0, 1, 0.9), ("v_0", "Drinking beer", 0, 1, 0.5)]
        result = evaluate(found(rows), everything, protocol, (0.5,))
        assert (result.videos, result.instances, result.detections, result.unlisted) == (4427, 6836, 1, 1)

    def test_one_that_does_not_fit_is_an_error(self) -> None:
        rows: list[Row] = [("v1", "Diving", 0, 10, 0.5)]
        with pytest.raises(UserError, match="anet-210 does not apply here: it is defined on THUMOS14"):
            evaluate(found(rows), truth([("v1", "Diving", 0, 10)]), PROTOCOLS["anet-210"], (0.5,))
        with pytest.raises(UserError, match="Ambiguous_test"):
            evaluate(
                found([(THUMOS[0], "Diving", 0, 10, 0.5)]),
                truth([(THUMOS[0], "Diving", 0, 10)], THUMOS),
                PROTOCOLS["segments-best"],
                (0.5,),
            )

    def test_names(self) -> None:
        assert get_protocol("anet-210") is PROTOCOLS["anet-210"]
        with pytest.raises(UserError, match=r"Did you mean anet-210\?"):
            get_protocol("anet210")
        assert all(protocol.name == name for name, protocol in PROTOCOLS.items())


class TestResult:
    wanted = truth([("v1", "Diving", 0, 10), ("v2", "Billiards", 0, 10), ("v2", "Billiards", 20, 30)])
    rows: list[Row] = [("v1", "Diving", 0, 10, 0.9), ("v2", "Billiards", 0, 6, 0.9)]  # noqa: RUF012

    def test_averages_are_there_in_full_or_not_at_all(self) -> None:
        result = evaluate(found(self.rows), self.wanted, PROTOCOLS["anet"], parse_tious("0.1:0.1:0.7"))
        assert list(result.averages) == ["0.1:0.5", "0.3:0.7", "0.1:0.7"]
        # Run 1 everywhere, Jump 1/2 up to its tIoU of 0.6
        assert result.mean_ap["0.6"] == pytest.approx(0.75)
        assert result.mean_ap["0.7"] == pytest.approx(0.5)
        assert result.averages["0.1:0.7"] == pytest.approx((6 * 0.75 + 0.5) / 7)
        anet = evaluate(found(self.rows), self.wanted, PROTOCOLS["anet"], ACTIVITYNET_TIOUS)
        assert list(anet.averages) == ["0.5:0.95"]
        assert not evaluate(found(self.rows), self.wanted, PROTOCOLS["anet"], (0.5,)).averages
        nine = evaluate(found(self.rows), self.wanted, PROTOCOLS["anet"], parse_tious("0.1:0.1:0.9"))
        assert "0.1:0.9" in nine.averages

    def test_json_is_in_percent_and_leaves_out_classes_without_instance(self) -> None:
        result = evaluate(found(self.rows), self.wanted, PROTOCOLS["anet"], (0.3, 0.5))
        assert to_json(result) == {
            "mAP": {"0.3": pytest.approx(75), "0.5": pytest.approx(75)},
            "averages": {},
            "per_class": {
                "Billiards": {"0.3": pytest.approx(50), "0.5": pytest.approx(50)},
                "Diving": {"0.3": pytest.approx(100), "0.5": pytest.approx(100)},
            },
            "videos": 2,
            "instances": 3,
            "detections": 2,
        }
        assert math.isnan(result.ap[result.classes.index("VolleyballSpiking"), 0])

    def test_flags_point_to_the_detections_given(self) -> None:
        rows = [("v2", "Billiards", 50, 60, 0.1), *self.rows]
        result = evaluate(found(rows), self.wanted, PROTOCOLS["anet"], (0.5, 0.7))
        flags = result.flags
        assert [rows[i][1] for i in flags.detection] == ["Billiards", "Billiards", "Diving"]
        assert flags.hit.tolist() == [[True, False], [False, False], [True, True]]
        np.testing.assert_array_equal(class_average_precision(flags, 3, result.protocol), result.ap)

    def test_no_detections_give_zero(self) -> None:
        nothing = found(self.rows).select(np.zeros(2, dtype=bool))
        assert evaluate(nothing, self.wanted, PROTOCOLS["anet"], (0.5,)).mean_ap == {"0.5": 0.0}

    def test_float32_detections_are_judged_in_double_precision(self) -> None:
        single = found(self.rows)
        single = replace(single, start=single.start.astype(np.float32), score=single.score.astype(np.float32))
        assert evaluate(single, self.wanted, PROTOCOLS["anet"], (0.5,)).flags.score.dtype == np.float64


class TestErrors:
    wanted = truth([("v1", "Diving", 0, 10)])

    def test_no_video_in_common(self) -> None:
        with pytest.raises(UserError, match="Not one of the 1 detections is in a video that is evaluated"):
            mean_ap([("v9", "Diving", 0, 10, 0.5)], self.wanted)

    def test_unknown_class(self) -> None:
        with pytest.raises(UserError, match="no class 'Walk'"):
            mean_ap([("v1", "Walk", 0, 10, 0.5)], self.wanted)

    @pytest.mark.parametrize("row", [("v1", "Diving", 0, 10, math.nan), ("v1", "Diving", 0, math.inf, 0.5)])
    def test_not_finite(self, row: Row) -> None:
        with pytest.raises(UserError, match="not finite, the first in v1"):
            mean_ap([row], self.wanted)

    def test_no_instance(self) -> None:
        with pytest.raises(UserError, match="no annotated instance"):
            mean_ap([("v1", "VolleyballSpiking", 0, 10, 0.5)], truth([]))

    @pytest.mark.parametrize("tious", [(), (0.5, 0.3), (0.0,), (1.5,), (math.nan,)])
    def test_thresholds(self, tious: tuple[float, ...]) -> None:
        with pytest.raises(UserError, match=r"Expected `tious` to increase within \(0, 1\]"):
            evaluate(found([("v1", "Diving", 0, 10, 0.5)]), self.wanted, PROTOCOLS["anet"], tious)
