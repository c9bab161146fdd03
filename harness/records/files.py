"""Names of the files of a run, and of a collection of records."""

RECORD, MANIFEST = "record.json", "manifest.json"
WEIGHTS, SCORES, DETECTIONS = "weights.safetensors", "scores.safetensors", "detections.json.gz"
GROUND_TRUTH = "ground_truth.json"
PSEUDO_LABELS = "pseudo_labels.safetensors"
MATCHES, HISTORY, FIGURE = "flags.safetensors", "history.json", "diagnostics.svg"
LINES = ".jsonl"
