"""``glocal show``: a finished run as tables, read from its ``metrics.json`` only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from glocal.cli.shell import Json, one_command, print_json, readable_errors, stdout
from glocal.errors import RunError
from glocal.loop.score.metrics import CorrectionRow, Metrics, SourceRow, read_metrics

app = one_command()


@app.command(epilog="Example: glocal show out/demo --json | jq .estimate")
def show(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")], as_json: Json = False
) -> None:
    """Print the results of a run: gains, baselines, corrections, rounds."""
    with readable_errors():
        metrics = read_metrics(folder)
        if metrics.sources is None:
            raise RunError(f"{folder} holds no result of a run; remove the folder and run again")
        print_metrics(metrics, folder, as_json)


def print_metrics(metrics: Metrics, folder: Path, as_json: bool) -> None:
    """Print the results of a run: as JSON, or what a person wants to know first."""
    if as_json:
        print_json(metrics.model_dump(mode="json"))
        return
    console = stdout()
    console.print(f"[bold]{metrics.area}[/bold], {metrics.software}, seed {metrics.seed}")
    reference = metrics.reference
    if reference is None or not reference.n:
        console.print("No reference points: nothing here is scored against the ground.")
    else:
        console.print(
            f"Reference: {reference.n} points ({reference.design or 'design unknown'}), "
            f"{reference.answered} answered, {reference.nonresponse} not readable; "
            f"scores are cross-fitted in {reference.folds or '?'} folds, intervals are 95 %."
        )
    parts = [_sources(metrics), _baselines(metrics), _corrections(metrics), _rounds(metrics)]
    for part in parts:
        if part is not None:
            console.print(part)
    for note in metrics.notes or ():
        console.print(f"note: {note}", markup=False)
    credit = "; ".join(metrics.attribution or ())
    console.print(f"Licence of the outputs: {metrics.licence}. {credit}", markup=False)
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


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return ``+0.100 (+0.010 to +0.200)``, or a dash."""
    text = _number(value, sign=True)
    if value is None or low is None or high is None:
        return text
    return f"{text} ({_number(low, sign=True)} to {_number(high, sign=True)})"


def _sources(metrics: Metrics) -> Table:
    table = _table(
        "What every source gains (re-read with only its exported corrections)",
        *("source", "kind", "metric", "before", "after", "gain", "n"),
        right=("before", "after", "gain", "n"),
    )
    for name, found in (metrics.sources or {}).items():
        row = found or SourceRow()
        measured = row.before is not None and row.after is not None
        why = f"not measurable here: {row.why or 'no independent reference'}"
        table.add_row(
            name,
            row.kind,
            row.metric if measured else why,
            _number(row.before if measured else None),
            _number(row.after if measured else None),
            _interval(row.gain if measured else None, row.low, row.high),
            str(row.n),
        )
    return table


def _baselines(metrics: Metrics) -> Table | None:
    """Compare the loop with what one would have done without it."""
    estimate = metrics.estimate
    if estimate is None or estimate.accuracy is None:
        return None
    table = _table(
        "The map against simpler ways to make one",
        *("map", "accuracy", "loop is better by", "n"),
        right=("accuracy", "loop is better by", "n"),
    )
    spread = f"{_number(estimate.low)} to {_number(estimate.high)}"
    own = f"{_number(estimate.accuracy)} ({spread})"
    table.add_row("[bold]the loop[/bold]", own, "", str(estimate.n))
    for name, row in (metrics.baselines or {}).items():
        if row is not None:
            gain = _interval(row.difference, row.low, row.high)
            table.add_row(name, _number(row.accuracy), gain, str(row.n))
    return table


def _corrections(metrics: Metrics) -> Table | None:
    if not metrics.corrections:
        return None
    table = _table(
        "What goes back (proposals: nothing is sent or applied)",
        *("source", "corrections", "expected precision", "files"),
        right=("expected precision",),
    )
    for name, found in metrics.corrections.items():
        row = found or CorrectionRow()
        count = ", ".join(f"{n} {action}" for action, n in row.count.items() if n) or "none"
        text = "\n".join(one for one in (*row.files, row.note) if one)
        table.add_row(name, count, _number(row.expected_precision), text)
    return table


def _rounds(metrics: Metrics) -> Table | None:
    if not metrics.rounds:
        return None
    table = _table(
        "Rounds",
        *("round", "anchor log loss", "change", "kept", "note"),
        right=("anchor log loss", "change"),
    )
    for row in metrics.rounds:
        kept = "used" if row.round == metrics.round_kept else "yes" if row.kept else ""
        loss, change = _number(row.anchor_log_loss), _number(row.change)
        table.add_row(str(row.round), loss, change, kept, row.note)
    return table
