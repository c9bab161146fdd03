"""What each command does. Results go to stdout, talk to stderr; heavy modules are imported where used."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from wstal.errors import MissingDataError, UserError

MOST_SEEDS = 10_000

if TYPE_CHECKING:
    from pathlib import Path

    from harness.data.source import DataSource, Subset
    from harness.data.stored import Dataset
    from harness.plans import Row
    from harness.runner import RunSpec


def reproduce(arguments: argparse.Namespace) -> int:
    """The main job."""
    from harness.ablations import READINGS
    from harness.plans import find_plan, paper_tables
    from harness.registry import load_method, method_entries
    from harness.reproduce import Job, publish, run_jobs
    from harness.runner import pick_device, plan_run
    from harness.schedules import schedule_for

    families = ("thumos14", "activitynet12", "activitynet13", "fineaction")
    if arguments.dataset not in families:
        raise UserError(f"Unknown data set {arguments.dataset!r}. Data sets: {', '.join(families)}.")
    if arguments.data is None and arguments.dataset != "thumos14":
        raise MissingDataError(
            f"{arguments.dataset} needs features: give --data DIR with DIR/features/ and annotations.json. "
            "Only thumos14 has a synthetic stand-in."
        )
    source = _source(arguments)
    if source.family in families and source.family != arguments.dataset:
        raise UserError(f"{arguments.data} holds {source.family}, not {arguments.dataset}. Name it so.")
    overrides = _assignments(arguments)
    seeds = _seeds(arguments.seeds) if arguments.seeds else None
    passed = _passed_options(arguments)
    jobs: dict[str, Job] = {}
    if not arguments.table:
        for method in arguments.methods or list(method_entries()):
            load_method(method)
            for seed in seeds or schedule_for(source.schedule).seeds:
                spec = plan_run(method, seed, source, overrides)
                jobs[spec.id] = Job(f"{method}-s{seed}", ("--method", method, "--seed", str(seed), *passed))
    ablations = schedule_for(source.schedule).ablations
    if source.synthetic and READINGS in (arguments.table or ()):
        raise UserError("Readings are about real features: give --data DIR.")
    for table in arguments.table or ([] if arguments.methods else paper_tables()):
        plan = find_plan(table)
        for row in plan.rows:
            for seed in seeds or (ablations and ablations.seeds) or plan.seeds:
                # rows that several tables share are one run
                spec = _planned(f"{table}/{row.id}", row, seed, source, overrides)
                name = f"{table}/{row.id}"
                jobs.setdefault(spec.id, Job(f"{name}-s{seed}", ("--row", name, "--seed", str(seed), *passed)))
    on_gpu = pick_device(arguments.device).type == "cuda"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    at_once = arguments.jobs or (1 if on_gpu else min(cores, len(jobs)))
    threads = arguments.threads or (1 if source.synthetic else max(1, cores // at_once))
    _say(f"{len(jobs)} runs on {source.name}, {at_once} at a time, {threads} thread(s) each")
    records = run_jobs(list(jobs.values()), at_once, threads)
    pages = publish(records, arguments.results)
    for page in pages:
        print(page.read_text())
    if source.synthetic:
        _say(source.notes[0])
    _say(f"Done: {len(records)} runs under {arguments.store / 'runs'}; records under {arguments.results / 'records'}; "
         f"leaderboard {', '.join(map(str, pages))}")  # fmt: skip
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Train and score one method with one seed."""
    # cuBLAS repeats its sums only with a workspace of fixed size, set before it is loaded
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from harness.environment import git_state
    from harness.plans import find_row
    from harness.progress import ProgressReport
    from harness.runner import execute, pick_device, plan_run
    from harness.store import Store

    device = pick_device(arguments.device)
    torch.set_num_threads(arguments.threads or (1 if arguments.data is None else torch.get_num_threads()))
    source = _source(arguments)
    row = find_row(arguments.row) if arguments.row else None
    method = row.method if row else arguments.method
    spec = plan_run(method, arguments.seed, source, _assignments(arguments), row)
    with ProgressReport() as progress:
        folder, record, reused = execute(
            spec,
            source,
            Store(arguments.store),
            device,
            lambda stage, done, total, loss: progress.update(
                f"{spec.id} {stage}", done, total, "" if loss is None else f"loss {loss:.4f}"
            ),
        )
    if arguments.json:
        print(json.dumps(record | {"run": str(folder), "reused": reused}))
    else:
        _print_metrics(record["metrics"])
    commit = git_state().get("commit")
    if reused and record["environment"].get("commit") not in (None, commit):
        _say(f"It was computed by commit {record['environment']['commit']}, the code is at {commit}.")
    _say(f"{'Was done already' if reused else 'Done'}: {folder}")
    return 0


def replay(arguments: argparse.Namespace) -> int:
    """Do a failed training step again."""
    from harness.failure import cause
    from harness.failure import replay as replay_step

    method, batch, terms = replay_step(arguments.step)
    for name, value in terms.items():
        print(f"{name}\t{value:g}")
    print(f"videos\t{', '.join(batch.videos)}")
    finite = bool(terms["total"].isfinite())
    _say("Done: " + ("the loss is finite here, on the CPU" if finite else cause(method, batch)))
    return 0


def localize(arguments: argparse.Namespace) -> int:
    """Apply a trained run to other videos."""
    import torch

    from harness.data.detections import write_detections
    from harness.progress import ProgressReport
    from harness.runner import pick_device, restore
    from harness.scoring import score_videos
    from wstal.localize import localize as localize_scores

    source = _stored(arguments)
    _say(*source.notes)
    videos = source.videos(_subset(source, arguments.subset))
    method, recipe, record = restore(arguments.run, videos[0].features.shape[1], pick_device(arguments.device))
    # sums over more threads round otherwise: with the run's own count its test videos give its detections again
    torch.set_num_threads(record["environment"]["threads"])
    with ProgressReport() as progress:
        scores = score_videos(method, videos, recipe.train, lambda done, total: progress.update("score", done, total))
    detections = localize_scores(scores, recipe.localizer, tuple(record["classes"]))
    write_detections(arguments.out, detections)
    _say(f"Done: {len(detections)} detections in {len(videos)} videos, written to {arguments.out}")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """Score a detection file."""
    from harness.data.annotations import read_annotations
    from harness.data.detections import read_detections
    from wstal.evaluation import default_tious, get_protocol, parse_tious, protocols_for, to_json
    from wstal.evaluation import evaluate as evaluate_detections

    annotations = read_annotations(arguments.annotations)
    subset = arguments.subset or annotations.default_test_subset()
    truth = annotations.ground_truth(subset)
    named = arguments.protocol != "all"
    protocols = (get_protocol(arguments.protocol),) if named else protocols_for(truth)
    tious = parse_tious(arguments.tious) if arguments.tious is not None else default_tious(_family(annotations.classes))
    detections = read_detections(arguments.detections, annotations.classes)
    if not len(detections):
        raise UserError(f"{arguments.detections} has no detections: every list in `results` is empty.")
    silent = set(truth.videos) - {detections.videos[index] for index in set(detections.video.tolist())}
    if silent:
        _say(f"{len(silent)} of the {len(truth.videos)} videos of subset {subset!r} have no detection")
    results = {}
    for protocol in protocols:
        result = evaluate_detections(detections, truth, protocol, tious)
        results[protocol.name] = to_json(result)
        if protocol.expected_videos not in (None, result.videos):
            _say(f"{protocol.name}: {result.videos} videos, where published numbers have {protocol.expected_videos}")
        if result.unlisted:
            fate = "were left out" if protocol.drops_unlisted else "count as false positives"
            _say(f"{protocol.name}: {result.unlisted} detections in videos that are not evaluated {fate}")
    if arguments.json:
        print(json.dumps(results))
    else:
        _print_metrics(results)
    _say(f"Done: {len(detections)} detections against subset {subset!r} of {arguments.annotations}")
    return 0


def data_verify(arguments: argparse.Namespace) -> int:
    """Check a data set; the exit code says what is wrong, as the report does."""
    from rich.console import Console

    from harness.data.verify import MANIFEST, verify

    report = verify(
        arguments.data, arguments.annotations, arguments.descriptor, write_manifest=arguments.write_manifest
    )
    _say(*report.notes)
    if arguments.json:
        print(json.dumps(report.to_json()))
    else:
        Console(soft_wrap=not sys.stdout.isatty()).print(report.table())
    if arguments.write_manifest:
        _say(f"Wrote {arguments.data / MANIFEST}")
    verdict = {0: "all is well", 2: "some files are bad", 3: "data are missing"}[report.exit_code]
    _say(f"Done: {arguments.data}: {verdict}")
    return report.exit_code


def data_convert(arguments: argparse.Namespace) -> int:
    """Convert released arrays."""
    from harness.data.convert import convert

    converted = convert(arguments.annotations, arguments.out, arguments.features, arguments.class_names, arguments.fps)
    _say(*converted.notes)
    _say(
        f"Done: {sum(converted.videos.values())} videos, {converted.instances} instances and "
        f"{converted.features} feature files in {arguments.out}; "
        f"check them with `wstal-bench data verify {arguments.out}`"
    )
    return 0


def ls(arguments: argparse.Namespace) -> int:
    """List what there is."""
    from harness.listing import LISTS

    rows = LISTS[arguments.what](arguments.store)
    if arguments.json:
        print(json.dumps(rows))
    elif rows:
        from tabulate import tabulate

        wrapped = {"default": 30, "meaning": 72} if arguments.what in ("options", "keys") else {}
        widths = [wrapped.get(name) for name in rows[0]]
        print(tabulate(rows, headers="keys", disable_numparse=True, maxcolwidths=widths))
    else:
        _say(f"There are no {arguments.what}.")
    return 0


def leaderboard(arguments: argparse.Namespace) -> int:
    """Render leaderboards, or check them."""
    from harness.leaderboard import drifted, load_records, render, write

    pages = render(load_records(arguments.results / "records"))
    results = arguments.results
    if arguments.check:
        if changed := drifted(pages, results):
            raise UserError(f"Out of date in {results}: {', '.join(changed)}. Run `nox -s leaderboard` and commit.")
        _say(f"{results}: {len(pages)} pages are up to date")
        return 0
    write(pages, results)
    _say(f"Done: {len(pages)} pages in {results}")
    return 0


def diagnose(arguments: argparse.Namespace) -> int:
    """Draw the training of finished runs."""
    from harness.diagnostics import FIGURE, draw, read_run
    from harness.files import atomic_write

    # every run is read before the first figure is written
    runs = [(folder, *read_run(folder)) for folder in arguments.runs]
    for folder, history, record in runs:
        path = arguments.out / f"{record['id']}.svg" if arguments.out else folder / FIGURE
        atomic_write(path, draw(history, record))
        print(path)
    _say(f"Done: {len(runs)} figure(s)")
    return 0


def robustness(arguments: argparse.Namespace) -> int:
    """Contrastive losses under wrong pairs, on planted clusters."""
    import torch

    from harness.progress import ProgressReport
    from harness.robustness import PROBLEM, measure, planned_cases, to_json, write

    # small matrices: more threads only wait for each other, and would round otherwise
    torch.set_num_threads(1)
    cases = planned_cases(arguments.temperature)
    with ProgressReport() as progress:
        measured = measure(
            PROBLEM, cases, arguments.seeds, lambda done, total: progress.update("trainings", done, total)
        )
    page, figure = write(measured, arguments.out)
    print(json.dumps(to_json(measured)) if arguments.json else page.read_text().rstrip())
    _say(f"Done: {page} and {figure}")
    return 0


def _planned(name: str, row: Row, seed: int, source: DataSource, overrides: dict[str, Any]) -> RunSpec:
    """The run of a row; an option that its method has not is an error that names the row."""
    from harness.runner import plan_run

    try:
        return plan_run(row.method, seed, source, overrides, row)
    except UserError as error:
        raise UserError(f"Row {name}: {error}") from error


def _source(arguments: argparse.Namespace) -> DataSource:
    """The data set that the options name; what it assumed is said on stderr."""
    from harness.data.embedded import embedded_source
    from harness.data.held_out import HeldOutSource

    source: DataSource
    if arguments.data is None:
        source = embedded_source(arguments.full_size)
    else:
        if arguments.full_size:
            raise UserError("--full-size is for the synthetic data set; leave it out with --data.")
        source = _stored(arguments, arguments.store / "cache" / "digests.json")
    if arguments.held_out is not None:
        source = HeldOutSource(source, arguments.held_out)
    _say(*source.notes)
    return source


def _stored(arguments: argparse.Namespace, digest_cache: Path | None = None) -> Dataset:
    """The data set in the folder that `--data` names."""
    from harness.data.dataset import open_dataset

    return open_dataset(
        arguments.data,
        arguments.annotations,
        arguments.descriptor,
        label_source=arguments.labels,
        streams=arguments.streams,
        allow_missing=arguments.allow_missing,
        digest_cache=digest_cache,
    )


def _subset(data: Dataset, name: str) -> Subset:
    """`train` or `test` by that name, or by what the annotation file calls it."""
    names: dict[str, Subset] = {"train": "train", "test": "test"}
    own: dict[str, Subset] = {files.name: subset for subset, files in data.subsets.items() if files.name is not None}
    subset = (names | own).get(name)
    if subset is None:
        known = dict.fromkeys([*names, *own])
        raise UserError(f"Unknown subset {name!r} of {data.data_dir}. Subsets: {', '.join(known)}.")
    return subset


def _family(classes: tuple[str, ...]) -> str:
    """The shipped data set with exactly these classes, by family; empty where there is none."""
    from harness.data.descriptor import list_digest, shipped_descriptors

    digest = list_digest(classes)
    return next((d.family for d in shipped_descriptors().values() if digest in d.class_sets), "")


def _assignments(arguments: argparse.Namespace) -> dict[str, Any]:
    from harness.overrides import parse_assignments

    return parse_assignments(arguments.assignments)


def _passed_options(arguments: argparse.Namespace) -> list[str]:
    """Options of `reproduce` that each of its `run`s gets."""
    passed = ["--store", str(arguments.store), "--device", arguments.device, "--labels", arguments.labels]
    for name in ("data", "annotations", "descriptor", "held-out"):
        if (value := getattr(arguments, name.replace("-", "_"))) is not None:
            passed += [f"--{name}", str(value)]
    passed += [
        option for option in ("--allow-missing", "--full-size") if getattr(arguments, option[2:].replace("-", "_"))
    ]
    passed += ["--streams", *arguments.streams] if arguments.streams else []
    return passed + [part for assignment in arguments.assignments for part in ("--set", assignment)]


def _seeds(text: str) -> tuple[int, ...]:
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            some = range(int(first), int(last if dash else first) + 1)
            if len(some) > MOST_SEEDS:
                raise UserError(f"--seeds names {len(some)} seeds, more than {MOST_SEEDS}.")
            seeds += some
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"--seeds wants distinct seeds as 0-2 or 0,3,5, got {text!r}.")
    return tuple(seeds)


def _print_metrics(metrics: dict[str, Any]) -> None:
    from tabulate import tabulate

    columns: list[str] = []
    for entry in metrics.values():
        columns += [name for name in (*entry["mAP"], *entry["averages"]) if name not in columns]
    rows = []
    for protocol, entry in metrics.items():
        cells = entry["mAP"] | entry["averages"]
        counts = [f"{entry[name]}" for name in ("videos", "instances", "detections")]
        rows.append([protocol, *(f"{cells[name]:.2f}" if name in cells else "" for name in columns), *counts])
    headers = ["mAP (%)", *columns, "videos", "instances", "detections"]
    print(tabulate(rows, headers=headers, disable_numparse=True))


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)
