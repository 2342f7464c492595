"""``glocal answers``: take what people answered to a finished run."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glocal.core.answer import SETTLED
from glocal.core.legend import Legend
from glocal.errors import BadSourceError, ConfigError, RunError
from glocal.io.vector import write_csv
from glocal.loop.area.area import file_digest
from glocal.loop.area.config import load, target_legend, with_options
from glocal.loop.area.schema import AreaConfig
from glocal.sources.answers.asked import Asked, read_asked
from glocal.sources.answers.content import read_content
from glocal.sources.answers.store import keep_answers, load_answers
from glocal.sources.answers.verdict import Heard
from glocal.sources.kinds import KINDS

CHANNELS = {name: text for kind in KINDS for name, text in kind.channels.items()}
"""The kinds of files of answers that are understood, and what each is."""

ANSWERS = "answers"
"""Folder of the answers inside that of the run."""


def take_answers(
    folder: Path,
    files: Iterable[Path],
    *,
    class_column: str | None = None,
    licence: str = "unknown",
) -> dict[str, Any]:
    """Read files of answers to the run in ``folder`` and add them to ``folder/answers``.

    Returns what was understood: per file and over all so far.

    Raises
    ------
    GlocalError
        A file is of no known kind, damaged, or answers another run; nothing is written then.
    """
    config, asked = _asked(folder)
    legend = target_legend(config)
    heard: dict[str, Heard] = {}
    rows = []
    for path in files:
        one = read_answers(path, asked, legend, class_column=class_column)
        _require_this_run(one, path, asked, folder)
        heard[f"{path.name} sha256:{file_digest(path)}"] = one
        moved = [answer.why for answer in one.answers if answer.verdict in ("moved_on", "void")]
        rows.append(
            {
                "file": path.name,
                "kind": one.channel,
                "answers": dict(Counter(answer.verdict for answer in one.answers)),
                "visits": len(one.visits),
                "unknown": [f"{what}: {why}" for what, why in one.unknown],
                "stale": [text for text in moved if text],
                "notes": list(one.notes),
            }
        )
    summary = keep_answers(folder / ANSWERS, asked, heard, licence=licence)
    area, out, kept = folder / "area.yaml", f"{folder}-next", folder / ANSWERS
    command = ("glocal", "run", str(area), "--out", out, "--answers", str(kept))
    return {**summary, "read": rows, "next": shlex.join(command)}


def read_answers(
    path: Path, asked: Asked, legend: Legend, *, class_column: str | None = None
) -> Heard:
    """Return what the answers in a file mean for the run that asked.

    Raises
    ------
    SourceUnavailableError, BadSourceError
        The file can't be read, is of no known kind, or answers another run.
    """
    content = read_content(path)
    for kind in KINDS:
        heard = kind.hear(content, asked, legend, class_column)
        if heard is not None:
            return heard
    known = "\n".join(f"  {text}" for text in CHANNELS.values())
    raise BadSourceError(f"{path.name} is no kind of answers that we know; known are:\n{known}")


def _asked(folder: Path) -> tuple[AreaConfig, Asked]:
    if not (folder / "metrics.json").exists():
        raise RunError(
            f"{folder} holds no finished run; give the folder that 'glocal run' wrote, "
            "whose corrections were answered"
        )
    config = load(folder / "area.yaml")
    return config, read_asked(folder, str(config.grid.geobox.crs))


def table_to_answer(folder: Path) -> tuple[Path, int]:
    """Write ``folder/to_answer.csv``: all proposals without an answer, two columns to fill in.

    Returns the path and the number of rows, the most probable proposals first.

    Raises
    ------
    RunError
        The folder holds no finished run.
    """
    _, asked = _asked(folder)
    table = asked.proposals
    kept = folder / ANSWERS
    if kept.exists():
        stored = load_answers(kept).proposals
        done = stored.loc[stored["verdict"].isin(SETTLED), "proposal"]
        table = table[~table["proposal"].isin(done.tolist())]
    table = table.sort_values(["probability", "proposal"], ascending=[False, True])
    place = table.geometry.representative_point().to_crs("EPSG:4326")
    names = ["proposal", "source", "record", "kind", "current", "proposed", "probability"]
    text = table[names].assign(probability=table["probability"].astype(float).round(4))
    where = zip(place.x.round(6).tolist(), place.y.round(6).tolist(), strict=True)
    rows = [
        [asked.run, *row, lon, lat, "", ""]
        for row, (lon, lat) in zip(text.to_numpy(object).tolist(), where, strict=True)
    ]
    header = ["run", *names, "lon", "lat", "answer", "stated"]
    return write_csv(folder / "to_answer.csv", header, rows), len(rows)


def _require_this_run(one: Heard, path: Path, asked: Asked, folder: Path) -> None:
    """Refuse a file of which nothing belongs to the run, and say whose it may be."""
    if one.answers or one.visits or not one.unknown:
        return
    strangers, here, hint = {what for what, _ in one.unknown}, folder.resolve(), ""
    for other in sorted(here.parent.iterdir()):
        try:
            _, theirs = _asked(other)
        except (ConfigError, RunError, OSError):
            continue
        known = {*theirs.proposals["proposal"], *theirs.visits["sample_id"]}
        if other != here and strangers & known:
            hint = f"; they belong to the run in {other}"
            break
    what, why = one.unknown[0]
    raise BadSourceError(
        f"nothing in {path.name} answers run {asked.run} in {folder} ({what}: {why}; "
        f"{len(one.unknown)} rows in all){hint}; give the folder of the run that was answered"
    )


def with_answers(config: AreaConfig, folders: Iterable[Path]) -> AreaConfig:
    """Return ``config`` with a source for each folder of answers.

    Raises
    ------
    ConfigError
        A folder is given twice, or was in the configuration already.
    """
    sources = [one.model_dump() for one in config.sources]
    names = {one.name for one in config.sources}
    word = next(kind for kind in KINDS if kind.brings_answers).words()[0]
    paths = {one.files()["path"].resolve() for one in config.sources if one.kind == word}
    for folder in folders:
        if folder.resolve() in paths:
            raise ConfigError(f"the answers in {folder} are given twice; give them once")
        numbers = (f"{word}{i}" if i > 1 else word for i in range(1, len(names) + 2))
        name = next(one for one in numbers if one not in names)
        names.add(name)
        paths.add(folder.resolve())
        sources.append({"name": name, "kind": word, "path": folder.absolute()})
    return with_options(config, sources=sources) if len(sources) > len(config.sources) else config
