"""Evaluation with numpy only: temporal IoU, matching, average precision and the named protocols."""

from wstal.evaluation.evaluate import class_average_precision, evaluate, evaluate_all
from wstal.evaluation.protocols import (
    ACTIVITYNET_TIOUS,
    PROTOCOLS,
    THUMOS_TIOUS,
    Protocol,
    default_tious,
    get_protocol,
    protocols_for,
)
from wstal.evaluation.result import DetectionMatches, EvaluationResult, to_json
from wstal.evaluation.tiou import parse_tious, tiou_key

__all__ = [
    "ACTIVITYNET_TIOUS",
    "PROTOCOLS",
    "THUMOS_TIOUS",
    "DetectionMatches",
    "EvaluationResult",
    "Protocol",
    "class_average_precision",
    "default_tious",
    "evaluate",
    "evaluate_all",
    "get_protocol",
    "parse_tious",
    "protocols_for",
    "tiou_key",
    "to_json",
]
