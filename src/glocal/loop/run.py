"""A whole run: rounds, scores, corrections, report; killed and started again, it goes on.

Everything is a function of configuration, inputs, seed and version. Finished parts are
files that appear whole, so what is there can be trusted and is not made again.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from glocal import __version__
from glocal.errors import RunError
from glocal.fusion.alarms import Sight, alarms
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
    write_corrections,
    write_round,
)
from glocal.loop.rounds.telling import Teller
from glocal.loop.rounds.turns import Turn, next_turn, resumed_turn, sight_of, start, why_not
from glocal.loop.score.account import TOO_FEW, metrics_of
from glocal.loop.score.folds import score_folds
from glocal.loop.score.metrics import Metrics, RoundRow, read_metrics
from glocal.loop.score.summary import held_out, summarise

SOFTWARE = f"glocal {__version__}"
MIN_REFERENCE = 20
"""Answered reference points below which nothing is scored."""


def run_area(config: AreaConfig, out: Path, *, progress: Progress) -> Metrics:
    """Run the loop on one area into ``out`` and return its metrics.

    An unfinished run goes on where it stopped; a finished one returns at once, and its metrics
    say ``nothing_to_do``.

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
        return read_metrics(out).model_copy(update={"nothing_to_do": True})
    for path in out.rglob(f"*{PART}*"):  # leftovers of a killed run
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    log = _Log(out / "log.jsonl")
    log.write("start", software=SOFTWARE)
    with threadpool_limits(1):  # so that results do not depend on the number of cores
        return _run(config, out, progress, log)


def _run(config: AreaConfig, out: Path, progress: Progress, log: _Log) -> Metrics:
    raw = read_area(config, _scaled(progress, 0.0, 0.15))
    # points that were held out tell how far corrections may be believed, so they are asked first
    folds = _folds(raw, out, _scaled(progress, 0.15, 0.5), log)
    area, shifts, first = start(raw)
    teller = Teller(checked=held_out(raw, folds), shifts=shifts)
    kept, history = _rounds(area, first, teller, out, _scaled(progress, 0.5, 0.85), log)
    progress("writing corrections", 0.85)
    with replacing_folder(out / "corrections") as part:
        given = teller.give(area, kept, part)
        for name, one in given.items():
            files = (Path("corrections") / path.relative_to(part) for path in one.files)
            given[name] = replace(one, files=tuple(files))
    # results of the kept round stand at the top, corrections as they went out
    tables = ("estimate.qml", "reliability.parquet", "displacement.parquet")
    for name in (*(f"{layer}.tif" for layer in LAYERS), *tables):
        path = out / "rounds" / f"{kept.round:03d}" / name
        if path.exists():
            write_bytes(out / name, path.read_bytes())
    sent = {name: one.corrections for name, one in given.items() if one.corrections is not None}
    write_corrections(out / "corrections.parquet", area, kept, sent)
    metrics = metrics_of(area, kept, history, summarise(raw, folds), given, shifts, SOFTWARE)
    write_json(out / "metrics.json", metrics.model_dump(mode="json"))
    progress("writing the report", 0.95)
    write_report(out)
    log.write("finished", round_kept=kept.round)
    progress("finished", 1.0)
    return metrics


class _Log:
    """``log.jsonl``: the only file of a run that holds times."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, event: str, **fields: object) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **fields}
        append_line(self._path, json.dumps(line))


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
    if seen.exists():
        before = _read_json(seen)
        if before["files"] != inputs:
            files = before["files"]
            changed = sorted(name for name in inputs if files.get(name) != inputs[name])
            raise RunError(
                f"inputs changed since {out} was begun: {', '.join(changed)}; choose another --out"
            )
        if before["software"] != SOFTWARE:
            raise RunError(
                f"{out} was begun by {before['software']}, this is {SOFTWARE}; choose another --out"
            )
    if not known.exists() and out.exists():
        names = sorted(one.name for one in out.iterdir() if PART not in one.name)
        leftovers = [one for one in names if one != seen.name][:5]
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
    first: Turn,
    teller: Teller,
    out: Path,
    progress: Progress,
    log: _Log,
) -> tuple[Turn, list[RoundRow]]:
    """Run or restore the rounds; return the one that is kept and what each said."""
    best = turn = first
    history: list[RoundRow] = []
    seen: list[Sight] = []
    total = area.config.rounds if area.learners else 1
    for number in range(total):
        progress(f"round {number}", number / total)
        folder = out / "rounds" / f"{number:03d}"
        finished = (folder / "item.json").exists()
        if number and finished:
            turn = resumed_turn(area, read_models(folder / "models.npz", area), number, turn)
        elif number:
            turn = next_turn(area, turn)
        if not finished:
            told = teller.tell(area, turn)
            write_round(area, turn, told, teller.shifts, folder, SOFTWARE)
            log.write("round", round=number, anchor_log_loss=turn.anchor_log_loss)
        why = why_not(turn, best) if number else ""
        seen.append(sight_of(turn))
        signs = [asdict(one) for one in alarms(seen)]
        note = why or ("" if turn.anchor_log_loss is not None else TOO_FEW)
        history.append(RoundRow(**round_metrics(turn), kept=not why, note=note, alarms=signs))
        if why:
            break
        best = turn
    return best, history


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
