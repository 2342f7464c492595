"""A whole run: rounds, scores, corrections, report; killed and started again, it goes on.

Everything is a function of configuration, inputs, seed and version. Finished parts are
files that appear whole, so what is there can be trusted and is not made again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from glocal import __version__
from glocal.core.concepts import CONCEPTS
from glocal.core.grid import cell_area_ha
from glocal.core.result import Displacement
from glocal.errors import RunError
from glocal.fusion.alarms import Sight, alarms, audits
from glocal.io.atomic import (
    PART,
    append_line,
    replacing_folder,
    write_bytes,
    write_json,
    write_text,
)
from glocal.loop.area import config as configuration
from glocal.loop.area.area import Area, Progress, file_digest, read_area
from glocal.loop.area.schema import AreaConfig
from glocal.loop.report.page import write_report
from glocal.loop.rounds.files import (
    LAYERS,
    read_models,
    round_metrics,
    round_provenance,
    write_round,
)
from glocal.loop.rounds.give_back import give_back
from glocal.loop.rounds.proposals import Gift, licence_of, propose
from glocal.loop.rounds.turns import (
    Turn,
    for_osm,
    next_turn,
    resumed_turn,
    sight_of,
    start,
    why_not,
)
from glocal.loop.score.folds import score_folds
from glocal.loop.score.summary import held_out, summarise

__all__ = ["run_area"]

SOFTWARE = f"glocal {__version__}"
MIN_REFERENCE = 20
"""Answered reference points below which nothing is scored."""

WEAK = 0.5
"""Median probability of the estimate below which its readers are warned."""


def run_area(config: AreaConfig, out: Path, *, progress: Progress) -> dict[str, Any]:
    """Run the loop on one area into ``out`` and return its metrics.

    An unfinished run goes on where it stopped; a finished one returns at once, with
    ``nothing_to_do``.

    Raises
    ------
    GlocalError
        A source can't be used; or ``out`` holds another run.
    """
    out = out.absolute()
    configuration.require_files(config)
    _claim(config, out)
    done = out / "report.html"
    if done.exists() and (out / "metrics.json").exists():
        return {**_read_json(out / "metrics.json"), "nothing_to_do": True}
    _clear_unfinished(out)
    log = _Log(out / "log.jsonl")
    log.write("start", software=SOFTWARE)
    with threadpool_limits(1):  # so that results do not depend on the number of cores
        return _run(config, out, progress, log)


def _run(config: AreaConfig, out: Path, progress: Progress, log: _Log) -> dict[str, Any]:
    raw = read_area(config, _scaled(progress, 0.0, 0.15))
    area, shifts, first = start(raw)
    turn, history = _rounds(area, shifts, first, out, _scaled(progress, 0.15, 0.45), log)
    folds = _folds(raw, out, _scaled(progress, 0.45, 0.85), log)
    scores = summarise(raw, folds)
    progress("writing corrections", 0.85)
    with replacing_folder(out / "corrections") as part:
        gifts = give_back(area, turn, for_osm(area, turn), shifts, part, held_out(raw, folds))
        gifts = {name: _rebased(one, part) for name, one in gifts.items()}
    _raise_round(out, turn.round)
    metrics = _metrics(area, turn, history, scores, gifts, shifts)
    write_json(out / "metrics.json", metrics)
    progress("writing the report", 0.95)
    write_report(out)
    log.write("finished", round_kept=turn.round)
    progress("finished", 1.0)
    return metrics


class _Log:
    """``log.jsonl``: the only file of a run that holds times."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, event: str, **fields: object) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **fields}
        append_line(self._path, json.dumps(line))


def _clear_unfinished(out: Path) -> None:
    """Remove leftovers of a killed run: temporary files and folders."""
    for path in out.rglob(f"*{PART}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _scaled(progress: Progress, low: float, high: float) -> Progress:
    return lambda what, share: progress(what, low + (high - low) * share)


def _claim(config: AreaConfig, out: Path) -> None:
    """Make ``out`` the folder of this configuration and these inputs, or refuse.

    Raises
    ------
    RunError
        The folder holds a run of something else.
    """
    text = configuration.to_yaml(config, out)
    inputs = {name: file_digest(path) for name, path in configuration.files_of(config).items()}
    known, seen = out / "area.yaml", out / "inputs.json"
    if known.exists() and known.read_text("utf-8") != text:
        raise RunError(
            f"{out} holds a run with another configuration (its area.yaml differs); choose "
            "another --out, or delete that folder"
        )
    if seen.exists() and _read_json(seen)["files"] != inputs:
        before = _read_json(seen)["files"]
        changed = sorted(name for name in inputs if before.get(name) != inputs[name])
        raise RunError(
            f"inputs changed since {out} was begun: {', '.join(changed)}; choose another --out"
        )
    if seen.exists() and _read_json(seen)["software"] != SOFTWARE:
        raise RunError(
            f"{out} was begun by {_read_json(seen)['software']}, this is {SOFTWARE}; choose "
            "another --out"
        )
    if not known.exists() and out.exists() and any(out.iterdir()):
        names = sorted(one.name for one in out.iterdir() if PART not in one.name)
        leftovers = [one for one in names if one != "inputs.json"][:5]
        if leftovers:
            raise RunError(
                f"{out} is not empty and no run of ours (it holds {', '.join(leftovers)}); "
                "choose another --out"
            )
    if not (known.exists() and seen.exists()):
        write_json(seen, {"files": inputs, "software": SOFTWARE})
        write_text(known, text)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} can't be read ({error}); delete it and run again, other parts are kept"
        ) from error
    return content


def _rounds(
    area: Area,
    shifts: Mapping[str, Displacement],
    first: Turn,
    out: Path,
    progress: Progress,
    log: _Log,
) -> tuple[Turn, list[dict[str, Any]]]:
    """Run or restore the rounds; return the one that is kept and what each said."""
    best = turn = first
    history: list[dict[str, Any]] = []
    seen: list[Sight] = []
    total = area.config.rounds if area.seen else 1
    for number in range(total):
        progress(f"round {number}", number / total)
        folder = out / "rounds" / f"{number:03d}"
        finished = (folder / "item.json").exists()
        if number and finished:
            turn = resumed_turn(area, read_models(folder / "models.npz", area), number, turn)
        elif number:
            turn = next_turn(area, turn)
        if not finished:
            gifts = {
                one.source: propose(area, turn, one)
                for one in area.observations
                if area.config.source(one.source).kind != "rules"
            }
            write_round(area, turn, gifts, shifts, folder, SOFTWARE)
            log.write("round", round=number, anchor_log_loss=turn.anchor_log_loss)
        why = why_not(turn, best) if number else ""
        seen.append(sight_of(turn))
        kept = not why
        signs = [asdict(one) for one in alarms(seen)]
        history.append(
            {**round_metrics(turn), "kept": kept, "note": _note(turn, why), "alarms": signs}
        )
        if not kept:
            break
        best = turn
    return best, history


def _note(turn: Turn, why: str) -> str:
    if why:
        return why
    if turn.anchor_log_loss is None:
        return "too few anchors: exponents are conservative and nothing is promised"
    return ""


def _folds(area: Area, out: Path, progress: Progress, log: _Log) -> list[dict[str, Any]]:
    """Score the loop fold by fold; finished folds are read back; none with few points."""
    config = area.config
    reference = area.reference
    if reference is None or reference.answered.sum() < MIN_REFERENCE:
        return []
    paths = [out / "evaluation" / f"fold-{number}.json" for number in range(config.folds)]
    open_ = [number for number, path in enumerate(paths) if not path.exists()]
    for done, (number, fold) in enumerate(score_folds(area, open_)):
        write_json(paths[number], fold)
        log.write("fold", fold=number)
        progress(f"scored fold {number + 1} of {config.folds}", (done + 1) / len(open_))
    return [_read_json(path) for path in paths]


def _rebased(gift: Gift, part: Path) -> Gift:
    """Return the gift with file paths relative to the run folder."""
    files = tuple(Path("corrections") / path.relative_to(part) for path in gift.files)
    return Gift(
        corrections=gift.corrections,
        threshold=gift.threshold,
        expected_precision=gift.expected_precision,
        files=files,
        note=gift.note,
        count=gift.count,
    )


def _raise_round(out: Path, number: int) -> None:
    """Copy the kept round's results to the top of the run folder."""
    folder = out / "rounds" / f"{number:03d}"
    names = [f"{name}.tif" for name in LAYERS] + ["estimate.qml"]
    names += [f"{name}.parquet" for name in ("reliability", "corrections", "displacement")]
    for name in names:
        if (folder / name).exists():
            write_bytes(out / name, (folder / name).read_bytes())


def _metrics(
    area: Area,
    turn: Turn,
    history: list[dict[str, Any]],
    scores: dict[str, Any],
    gifts: Mapping[str, Gift],
    shifts: Mapping[str, Displacement],
) -> dict[str, Any]:
    provenance = round_provenance(area, turn, SOFTWARE)
    scored = scores.pop("scored", {})
    visible = scores.pop("visible", {})
    classes = turn.log_q.argmax(axis=-1)
    area_ha = np.bincount(classes.ravel(), minlength=len(area.legend)) * cell_area_ha(area.geobox)
    families = sorted({one.family for one in turn.fused.reliabilities()})
    return {
        "software": SOFTWARE,
        "area": area.config.name,
        "seed": area.config.seed,
        "rounds": history,
        "round_kept": turn.round,
        "interval_level": 0.95,
        "legend": [
            {"value": c.value, "name": c.name, "title": c.title, "color": c.color}
            for c in area.legend.classes
        ],
        **scores,
        "sources": {
            one.name: _source_row(area, one.name, scored, visible) for one in area.config.sources
        },
        "corrections": {
            name: _gift_row(gift, scored.get(name, {})) for name, gift in sorted(gifts.items())
        },
        "weights": {one.source: one.exponent for one in turn.fused.reliabilities()},
        "families": [list(family) for family in families],
        "displacement": {
            name: {
                "dx": one.dx,
                "dy": one.dy,
                "sd": float(np.sqrt((one.covariance[0][0] + one.covariance[1][1]) / 2)),
                "gauge": one.gauge,
                "applied": one.applied,
            }
            for name, one in sorted(shifts.items())
        },
        "class_area": [
            {"value": value, "area_ha": float(ha), "low": None, "high": None}
            for value, ha in zip(area.legend.values, area_ha, strict=True)
        ],
        "attribution": list(provenance.attribution),
        "licence": licence_of(provenance.licences),
        "ties": [asdict(one) for one in turn.fused.ties],
        "audits": [asdict(one) for one in audits(turn.fused)],
        "notes": [*_notes(area, turn), *_ringing(history, turn.round), *_tied(turn)],
    }


METRICS = {
    "osm": "tag correctness where mapped",
    "rules": "log-score of what its answers mean (nats, 0 is perfect)",
    "landcover": "class correctness",
    "predicted": "class, taught by raw sources, then by the labels it is given",
    "sentinel2": "usable cells that show the ground",
    "rgb": "usable cells that show the ground",
}


def _source_row(
    area: Area, name: str, scored: dict[str, Any], visible: dict[str, Any]
) -> dict[str, Any]:
    kind = area.config.source(name).kind
    row = {"before": None, "after": None, "gain": None, "low": None, "high": None, "n": 0}
    found = scored.get(name) or visible.get(name) or {}
    row.update({key: found[key] for key in row if key in found})
    measured = row["before"] is not None
    return {
        "kind": kind,
        "metric": METRICS.get(kind, "") if measured else "",
        **row,
        "why": "" if measured else _why_not(area, name, kind),
    }


def _why_not(area: Area, name: str, kind: str) -> str:
    """Say why a source's quality can't be measured here."""
    if kind == "review":
        return "answers are scored nowhere: they were asked where others were in doubt"
    if area.reference is None:
        return "no reference points"
    if kind == "insitu":
        return "its own points would be judge in their own case: nobody read them a second time"
    source = next((one for one in area.observations if one.source == name), None)
    if source is not None and source.support == "mixtures":
        return f"{len(source)} coarse cells, and no independent shares of classes in them"
    if name in area.images:
        return "no control points, and no reference point that a cloud hid"
    return "too few reference points where it speaks"


def _gift_row(gift: Gift, found: dict[str, Any]) -> dict[str, Any]:
    """Return what a source receives; ``measured`` counts held-out points in changed places."""
    edits = gift.corrections is not None and "changed" in found
    measured = {"n": found["changed"], "right": found["changed_right"]} if edits else None
    return {
        "measured": measured,
        "count": gift.count,
        "files": [path.as_posix() for path in gift.files],
        "expected_precision": gift.expected_precision,
        "threshold": gift.threshold,
        "note": gift.note,
    }


def _notes(area: Area, turn: Turn) -> list[str]:
    notes = []
    if turn.anchor_log_loss is None:
        notes.append(
            f"{turn.fused.anchors} answered anchors, fewer than the 30 needed: exponents are "
            "conservative, surroundings are read with fixed weights, and probabilities are "
            "not calibrated"
        )
    usual = float(np.exp(np.median(turn.log_q.max(axis=-1))))
    if usual < WEAK:
        notes.append(
            f"the sources say little here: half of the cells have no class likelier than "
            f"{usual:.2f}; read estimate.tif only together with probability.tif"
        )
    if strange := [one.name for one in area.legend.classes if not one.concept]:
        notes.append(
            f"legend {area.legend.name}: no concept is known for {', '.join(strange)}, so no tag "
            "stands for such ground and words of observers must name it exactly; a legend CSV may "
            f"have a column concept, one of {', '.join(CONCEPTS)}"
        )
    if area.has_osm and not area.all_for_osm:
        notes.append(
            "some sources are under licences that OSM can't accept; what goes to OSM was made "
            "by a second run of the loop without them"
        )
    if not area.seen:
        notes.append("no model among the sources, so one round says all")
    voices = {one.family for one in turn.fused.reliabilities()}
    if len(voices) < 2:
        notes.append(
            "all sources share one root: they can't check each other, so expect abstention"
        )
    for name, twin in sorted(turn.fused.twins.items()):
        notes.append(f"{name} repeats {twin} word for word from the same roots: counted once")
    return notes


def _ringing(history: list[dict[str, Any]], kept: int) -> list[str]:
    """Return a note for every alarm that rings in the round that is kept."""
    return [
        f"alarm: {one['name']} is {one['value']:.2f}, limit {one['limit']:.2f}; {one['advice']}"
        for one in history[kept]["alarms"]
        if one["rings"]
    ]


def _tied(turn: Turn) -> list[str]:
    return [
        f"{one.a} and {one.b} share no declared root but err alike at {one.anchors} anchors "
        f"(correlation {one.correlation:.2f}, p = {one.p:.3f}): they share a budget"
        for one in turn.fused.ties
    ]
