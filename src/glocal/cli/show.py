"""``glocal show``: a finished run as tables, read from its ``metrics.json`` only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table

from glocal.cli.shell import Json, one_command, readable_errors, stdout
from glocal.errors import RunError

__all__ = ["app", "print_metrics", "print_run", "read_metrics"]

app = one_command()

Metrics = Mapping[str, Any]


@app.command(epilog="Example: glocal show out/demo --json | jq .estimate")
def show(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    as_json: Json = False,
) -> None:
    """Print the results of a run: gains, baselines, corrections, rounds."""
    with readable_errors():
        print_metrics(read_metrics(folder), folder, as_json)


def print_metrics(metrics: Metrics, folder: Path, as_json: bool) -> None:
    """Print the results of a run: as JSON, or as tables to read."""
    if as_json:
        typer.echo(json.dumps(metrics, indent=2, sort_keys=True, ensure_ascii=False))
    else:
        print_run(metrics, folder, stdout())


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return the numbers of a finished run.

    Raises
    ------
    RunError
        Where the folder holds no finished run.
    """
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"{folder} holds no finished run: {path.name} is missing; "
            "start or resume one with 'glocal run area.yaml --out DIR'"
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(f"can't read {path}: {error}; run the same command again") from error
    if not isinstance(metrics, dict) or "sources" not in metrics:
        raise RunError(f"{path} is not the result of a run; remove the folder and run again")
    return metrics


def print_run(metrics: Metrics, folder: Path, console: Console) -> None:
    """Print everything a person wants to know first."""
    console.print(f"[bold]{metrics['area']}[/bold], {metrics['software']}, seed {metrics['seed']}")
    parts: list[RenderableType | None] = [
        _reference(metrics),
        _sources(metrics),
        _baselines(metrics),
        _corrections(metrics),
        _rounds(metrics),
    ]
    for part in parts:
        if part is not None:
            console.print(part)
    for note in metrics.get("notes") or ():
        console.print(f"note: {note}", markup=False)
    credit = "; ".join(metrics.get("attribution") or ())
    console.print(f"Licence of the outputs: {metrics.get('licence')}. {credit}", markup=False)
    console.print(f"Open {folder / 'report.html'} for maps and pictures.", markup=False)


def _table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


def _number(value: float | None, sign: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:+.3f}" if sign else f"{value:.3f}"


def _interval(row: Metrics, key: str) -> str:
    """Return ``+0.100 (+0.010 to +0.200)``, or a dash."""
    if row.get(key) is None:
        return "–"
    text = _number(row[key], sign=True)
    if row.get("low") is None or row.get("high") is None:
        return text
    return f"{text} ({_number(row['low'], sign=True)} to {_number(row['high'], sign=True)})"


def _reference(metrics: Metrics) -> str:
    reference = metrics.get("reference") or {}
    if not reference.get("n"):
        return "No reference points: nothing here is scored against the ground."
    return (
        f"Reference: {reference['n']} points ({reference.get('design', 'design unknown')}), "
        f"{reference['answered']} answered, {reference['nonresponse']} not readable; "
        f"scores are cross-fitted in {reference.get('folds', '?')} folds, intervals are 95 %."
    )


def _sources(metrics: Metrics) -> Table:
    table = _table(
        "What every source gains (re-read with only its exported corrections)",
        *("source", "kind", "metric", "before", "after", "gain", "n"),
        right=("before", "after", "gain", "n"),
    )
    for name, row in metrics["sources"].items():
        if row.get("before") is None or row.get("after") is None:
            why = f"not measurable here: {row.get('why') or 'no independent reference'}"
            table.add_row(name, row["kind"], why, "–", "–", "–", str(row.get("n") or 0))
            continue
        table.add_row(
            name,
            row["kind"],
            row["metric"],
            _number(row["before"]),
            _number(row["after"]),
            _interval(row, "gain"),
            str(row["n"]),
        )
    return table


def _baselines(metrics: Metrics) -> Table | None:
    """Compare the loop with what one would have done without it."""
    estimate = metrics.get("estimate") or {}
    if estimate.get("accuracy") is None:
        return None
    table = _table(
        "The map against simpler ways to make one",
        *("map", "accuracy", "loop is better by", "n"),
        right=("accuracy", "loop is better by", "n"),
    )
    spread = f"{_number(estimate.get('low'))} to {_number(estimate.get('high'))}"
    own = f"{_number(estimate['accuracy'])} ({spread})"
    table.add_row("[bold]the loop[/bold]", own, "", str(estimate["n"]))
    for name, row in (metrics.get("baselines") or {}).items():
        table.add_row(name, _number(row["accuracy"]), _interval(row, "difference"), str(row["n"]))
    return table


def _corrections(metrics: Metrics) -> Table | None:
    if not metrics.get("corrections"):
        return None
    table = _table(
        "What goes back (proposals: nothing is sent or applied)",
        *("source", "corrections", "expected precision", "files"),
        right=("expected precision",),
    )
    for name, row in metrics["corrections"].items():
        count = ", ".join(f"{n} {action}" for action, n in row["count"].items() if n) or "none"
        files = "\n".join(row.get("files") or ())
        note = row.get("note") or ""
        text = "\n".join(one for one in (files, note) if one)
        table.add_row(name, count, _number(row.get("expected_precision")), text)
    return table


def _rounds(metrics: Metrics) -> Table | None:
    if not metrics.get("rounds"):
        return None
    table = _table(
        "Rounds",
        *("round", "anchor log loss", "change", "kept", "note"),
        right=("anchor log loss", "change"),
    )
    for row in metrics["rounds"]:
        kept = "used" if row["round"] == metrics.get("round_kept") else "yes" if row["kept"] else ""
        loss, change = _number(row.get("anchor_log_loss")), _number(row.get("change"))
        table.add_row(str(row["round"]), loss, change, kept, row.get("note") or "")
    return table
