"""Slow reference implementations that the fast ones are checked against: literal loops, no code in common.

Rows are plain tuples: a detection is (video, label, start, end, score), an instance (video, label, start, end), an
ambiguous interval (video, start, end); times in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DetectionRow = tuple[str, str, float, float, float]
InstanceRow = tuple[str, str, float, float]
AmbiguousRow = tuple[str, float, float]

WRONG_VIDEOS = ("video_test_0000270", "video_test_0001496")


def reference_tiou(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Intersection over union of two intervals of real numbers; 0 where the union is empty."""
    shared = max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
    union = (first[1] - first[0]) + (second[1] - second[0]) - shared
    return shared / union if union > 0 else 0.0


def reference_segment_tiou(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Intersection over union of two sets of whole segments."""
    union = set(range(*first)) | set(range(*second))
    return len(set(range(*first)) & set(range(*second))) / len(union) if union else 0.0


def reference_kit_overlap(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Overlap as the THUMOS14 kit has it: the shared length over the length of the hull."""
    shared = min(first[1], second[1]) - max(first[0], second[0])
    return shared / (max(first[1], second[1]) - min(first[0], second[0])) if shared > 0 else 0.0


def reference_voc_ap(hits: Sequence[bool], positives: int) -> float:
    """Area under the precision-recall curve after making precision monotone, as VOC since 2010."""
    recall, precision, found = [0.0], [0.0], 0
    for rank, hit in enumerate(hits, 1):
        found += hit
        recall.append(found / positives)
        precision.append(found / rank)
    recall.append(1.0)
    precision.append(0.0)
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    area = 0.0
    for i in range(1, len(recall)):
        if recall[i] != recall[i - 1]:
            area += (recall[i] - recall[i - 1]) * precision[i]
    return area


def reference_raw_ap(hits: Sequence[bool], positives: int) -> float:
    """Mean over the instances of the precision where each is found, without interpolation."""
    total, found = 0.0, 0
    for rank, hit in enumerate(hits, 1):
        found += hit
        if hit:
            total += found / rank
    return total / positives


def reference_eleven_point_ap(hits: Sequence[bool], positives: int) -> float:
    """Mean of the best precision at recall of at least 0, 0.1, ... 1, as VOC until 2009.

    Recall points are the products that Octave's 0:0.1:1 holds: 3 * 0.1 is a little more than 3 / 10.
    """
    curve, found = [], 0
    for rank, hit in enumerate(hits, 1):
        found += hit
        curve.append((found / positives, found / rank))
    if not found:
        return 0.0
    return sum(max((p for recall, p in curve if recall >= tenth * 0.1), default=0.0) for tenth in range(11)) / 11


def _greedy(
    detections: list[DetectionRow], instances: list[InstanceRow], tiou: float, segments: bool, order: str
) -> list[bool]:
    """Hits of one class's detections, best score first, each taking its first free instance in the given order.

    `released` is the ActivityNet evaluator's: the default sort of the tIoUs, read backwards (in long double, which
    numpy never sorts with vector instructions, so that every processor agrees).
    """
    free = [True] * len(instances)
    of_video: dict[str, list[int]] = {}
    for j, instance in enumerate(instances):
        of_video.setdefault(instance[0], []).append(j)
    hits = []
    for detection in detections:
        here = of_video.get(detection[0], [])
        if segments:
            span = _whole(detection[2], detection[3])
            overlap = [reference_segment_tiou(span, _whole(*instances[j][2:])) for j in here]
        else:
            overlap = [reference_tiou(detection[2:4], instances[j][2:]) for j in here]
        tried = list(range(len(here)))
        if order == "released":
            tried = [int(i) for i in np.array(overlap, dtype=np.longdouble).argsort()[::-1]]
        elif order == "best":
            tried.sort(key=lambda i: -overlap[i])
        hit = False
        for i in tried:
            if overlap[i] >= tiou and free[here[i]]:
                free[here[i]] = False
                hit = True
                break
        hits.append(hit)
    return hits


def _whole(start: float, end: float) -> tuple[int, int]:
    return round(start * 1.5625), round(end * 1.5625)


def _touches(detection: DetectionRow, ambiguous: list[AmbiguousRow], segments: bool) -> bool:
    for video, start, end in ambiguous:
        if video != detection[0]:
            continue
        if segments:
            if reference_segment_tiou(_whole(detection[2], detection[3]), _whole(start, end)) > 0:
                return True
        elif min(end, detection[3]) - max(start, detection[2]) > 0:
            return True
    return False


def _kit_hits(
    detections: list[DetectionRow], instances: list[InstanceRow], ambiguous: list[AmbiguousRow], tiou: float
) -> list[bool]:
    """Hits of one class's detections under the official kit, excused ones left out, best score first."""
    hits, misses = [], []
    for video in sorted({d[0] for d in detections}):
        here = [d for d in detections if d[0] == video]
        free = [True] * len(here)
        for instance in instances:
            if instance[0] != video:
                continue
            best, taken = tiou, None
            for i, detection in enumerate(here):
                value = reference_kit_overlap((detection[2], detection[3]), (instance[2], instance[3]))
                if free[i] and value > best:
                    best, taken = value, i
            if taken is not None:
                free[taken] = False
        for i, detection in enumerate(here):
            if not free[i]:
                hits.append(detection[4])
            elif not _touches(detection, ambiguous, segments=False):
                misses.append(detection[4])
    # on equal scores hits come first, as the kit's stable sort of [hits misses] has them
    ranked = sorted([(-score, 0) for score in hits] + [(-score, 1) for score in misses])
    return [kind == 0 for _, kind in ranked]


def reference_average_precision(
    protocol: str,
    detections: Sequence[DetectionRow],
    instances: Sequence[InstanceRow],
    ambiguous: Sequence[AmbiguousRow],
    tious: Sequence[float],
    videos: Sequence[str],
) -> dict[str, list[float]]:
    """AP (fraction) of each class that has an instance, at each tIoU, under a protocol by its name.

    Args:
        protocol: as `wstal.evaluation.PROTOCOLS` names it.
        detections: in any order; equal scores go by video name, start, end.
        instances: in file order.
        ambiguous: intervals of no class that some protocols excuse.
        tious: thresholds.
        videos: the evaluated subset's videos, also those without instance.
    """
    listed = set(videos)
    if protocol not in ("anet", "thumos14-kit-2014") and not protocol.endswith("-212"):
        listed -= set(WRONG_VIDEOS)
    ambiguous = [interval for interval in ambiguous if interval[0] in listed]
    rows = sorted(detections, key=lambda d: (-d[4], d[0], d[2], d[3]))
    truth = [i for i in instances if i[0] in listed]
    protocol = protocol.removesuffix("-212")
    if not protocol.startswith("anet"):
        rows = [d for d in rows if d[0] in listed]
    if protocol in ("anet-210-ambiguous", "segments-best", "segments-first"):
        rows = [d for d in rows if not _touches(d, list(ambiguous), segments=protocol.startswith("segments"))]
    result: dict[str, list[float]] = {}
    for label in sorted({i[1] for i in truth}):
        mine = [d for d in rows if d[1] == label]
        wanted = [i for i in truth if i[1] == label]
        result[label] = []
        for tiou in tious:
            if protocol == "thumos14-kit-2014":
                hits = _kit_hits(mine, wanted, list(ambiguous), tiou)
                result[label].append(reference_eleven_point_ap(hits, len(wanted)))
            elif protocol == "segments-first":
                hits = _greedy(mine, wanted, tiou, segments=True, order="first")
                result[label].append(reference_raw_ap(hits, len(wanted)))
            else:
                segments = protocol == "segments-best"
                hits = _greedy(mine, wanted, tiou, segments, order="best" if segments else "released")
                result[label].append(reference_voc_ap(hits, len(wanted)))
    return result
