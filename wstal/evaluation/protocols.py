"""Named evaluation protocols: the same detections read points of mAP apart under the published ones.

A protocol is a value; what it does is in `matching`, `average_precision` and `evaluate`. A published number belongs to
the protocol of its source, so numbers under two protocols are never subtracted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from wstal.errors import UserError
from wstal.evaluation.tiou import parse_tious
from wstal.types import GroundTruth

# Their annotations are known to be wrong: 22 of 29 instances of 0000270 start after its end.
WRONG_VIDEOS = frozenset({"video_test_0000270", "video_test_0001496"})
# Has Ambiguous intervals only: no published list holds it, some annotation files do.
WITHOUT_INSTANCE = frozenset({"video_test_0001292"})
THUMOS14_VIDEO = re.compile(r"video_(test|validation)_\d{7}")


@dataclass(frozen=True)
class Protocol:
    """How detections become one number.

    Args:
        name: as users type it and results are labelled.
        meaning: one line.
        source: where it comes from.
        thumos14_only: it presumes THUMOS14's video list, clock or Ambiguous intervals.
        excluded_videos: videos removed from the ground truth and the detections.
        expected_videos: how many videos the published list has; None where the protocol takes any list.
        matching: who chooses whom. `best`: detections, best score first, take the free instance of the largest tIoU;
            `first`: the first listed free instance; `instances`: instances, in file order, take the free detection of
            the largest overlap.
        ties: which of two instances of the same tIoU a detection under `best` takes: the `earlier` in file order, or
            the one that the `released` ActivityNet evaluator takes (see `ties.released_order`).
        strict: tIoU has to exceed the threshold, not only reach it.
        precision: `envelope` is the area under the monotone precision (VOC since 2010), `raw` under the precision
            itself, `eleven-point` the mean at recall 0, 0.1, ... 1 (VOC until 2009).
        ambiguous: what happens to a detection that overlaps an Ambiguous interval. `count`: nothing; `drop`: removed;
            `excuse`: not counted unless it is a hit.
        segments_per_second: clock of whole-segment evaluation; None for seconds.
        drops_unlisted: detections in other videos are removed; otherwise they count as false positives, as the
            released ActivityNet evaluator has it (P-MIL's published 43.0 counts those in the two removed videos).
    """

    name: str
    meaning: str
    source: str
    thumos14_only: bool = True
    excluded_videos: frozenset[str] = WITHOUT_INSTANCE
    expected_videos: int | None = 212
    matching: Literal["best", "first", "instances"] = "best"
    ties: Literal["released", "earlier"] = "released"
    strict: bool = False
    precision: Literal["envelope", "raw", "eleven-point"] = "envelope"
    ambiguous: Literal["count", "drop", "excuse"] = "count"
    segments_per_second: float | None = None
    drops_unlisted: bool = True

    def inapplicable(self, ground_truth: GroundTruth) -> str | None:
        """Why the protocol cannot judge these videos, or None if it can."""
        if self.thumos14_only and not is_thumos14(ground_truth.videos):
            return "it is defined on THUMOS14's videos only"
        if self.ambiguous != "count" and not len(ground_truth.ambiguous):
            return "it needs the Ambiguous intervals (Ambiguous_test.txt beside the annotations)"
        return None


ANET = "ActivityNet evaluator (activitynet/ActivityNet, Evaluation/eval_detection.py)"
WITHOUT_WRONG = WITHOUT_INSTANCE | WRONG_VIDEOS
SEGMENTS_PER_SECOND = 25 / 16

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="anet",
            meaning="ActivityNet evaluator on the ground truth as given, any data set",
            source=ANET,
            thumos14_only=False,
            excluded_videos=frozenset(),
            expected_videos=None,
            drops_unlisted=False,
        ),
        Protocol(
            name="anet-210",
            meaning="ActivityNet evaluator on 210 THUMOS14 videos (3,311 instances), two wrong ones removed",
            source=f"{ANET}; list of BaS-Net and STPN",
            excluded_videos=WITHOUT_WRONG,
            expected_videos=210,
            drops_unlisted=False,
        ),
        Protocol(
            name="anet-212",
            meaning="ActivityNet evaluator on all 212 THUMOS14 test videos (3,358 instances)",
            source=f"{ANET}; list of ACM-Net and ASM-Loc",
            drops_unlisted=False,
        ),
        Protocol(
            name="anet-210-ambiguous",
            meaning="anet-210 without the detections that overlap an Ambiguous interval",
            source=f"{ANET}; filter of CO2-Net and D2-Net, in seconds",
            excluded_videos=WITHOUT_WRONG,
            expected_videos=210,
            ambiguous="drop",
            drops_unlisted=False,
        ),
        Protocol(
            name="segments-best",
            meaning="whole segments of 16/25 s, best free instance, 210 videos, Ambiguous detections removed",
            source="FAC-Net and RSKP (LeonHLJ/RSKP, evaluation/detectionMAP.py)",
            excluded_videos=WITHOUT_WRONG,
            expected_videos=210,
            ties="earlier",
            ambiguous="drop",
            segments_per_second=SEGMENTS_PER_SECOND,
        ),
        Protocol(
            name="segments-first",
            meaning="whole segments of 16/25 s, first instance that reaches the tIoU, AP without interpolation",
            source="W-TALC (sujoyp/wtalc-pytorch, detectionMAP.py)",
            excluded_videos=WITHOUT_WRONG,
            expected_videos=210,
            matching="first",
            precision="raw",
            ambiguous="drop",
            segments_per_second=SEGMENTS_PER_SECOND,
        ),
        Protocol(
            name="thumos14-kit-2014",
            meaning="official THUMOS14 kit of 2014: 11-point AP, instances choose, Ambiguous excused, 212 videos",
            source="THUMOS14 evaluation kit (TH14evaldet.m, TH14eventdetpr.m), as Octave runs it",
            matching="instances",
            strict=True,
            precision="eleven-point",
            ambiguous="excuse",
        ),
    )
}

THUMOS_TIOUS = parse_tious("0.1:0.1:0.7")
ACTIVITYNET_TIOUS = parse_tious("0.5:0.05:0.95")


def default_tious(dataset: str) -> tuple[float, ...]:
    """Thresholds that a data set is reported at, by its family name (`thumos14`, `activitynet13`, `fineaction`, ...).

    0.5:0.05:0.95 on ActivityNet and FineAction, 0.1:0.1:0.7 on THUMOS14 and every other.
    """
    return ACTIVITYNET_TIOUS if dataset.startswith(("activitynet", "fineaction")) else THUMOS_TIOUS


def is_thumos14(videos: Iterable[str]) -> bool:
    """Whether all names are those of THUMOS14 (`video_test_0000004`)."""
    return all(THUMOS14_VIDEO.fullmatch(video) for video in videos)


def get_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UserError: there is none.
    """
    if name not in PROTOCOLS:
        close = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"Unknown protocol {name!r}.{hint} There are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def protocols_for(ground_truth: GroundTruth) -> tuple[Protocol, ...]:
    """Every protocol that can judge these videos: `anet` always, THUMOS14's on THUMOS14, some with Ambiguous only."""
    return tuple(protocol for protocol in PROTOCOLS.values() if protocol.inapplicable(ground_truth) is None)
