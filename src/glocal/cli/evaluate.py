"""``glocal evaluate``: the score of a run on a synthetic world against its truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from glocal.cli.shell import Json, one_command, readable_errors, stdout
from glocal.loop.score.known_truth import evaluate_run

app = one_command()


@app.command(epilog="Example: glocal evaluate out/mine --truth out/world/truth")
def evaluate(
    out: Annotated[Path, typer.Argument(help="Folder of a finished run on a synthetic world.")],
    truth: Annotated[Path, typer.Option(help="The folder 'truth' of that world.")],
    as_json: Json = False,
) -> None:
    """Score a run on a synthetic world against its truth: the map, and what each source gained."""
    with readable_errors():
        scores = evaluate_run(out, truth)
        if as_json:
            typer.echo(json.dumps(scores, indent=2, sort_keys=True))
            return
        maps = Table("map", "accuracy", "macro-F1", "log-loss", "calibration error")
        for name, row in {"the loop": scores["estimate"], **scores["baselines"]}.items():
            if "why" in row:
                maps.add_row(name, f"not made: {row['why']}", "–", "–", "–")
                continue
            numbers = (row[key] for key in ("accuracy", "macro_f1", "log_loss", "ece"))
            maps.add_row(name, *(f"{one:.3f}" for one in numbers))
        stdout().print(maps)
        table = Table("source", "metric", "before", "after", "gain (95 %)", "n")
        for name, row in scores["sources"].items():
            if "why" in row:
                table.add_row(name, f"not scored: {row['why']}", "–", "–", "–", "–")
                continue
            gain = row["after"] - row["before"]
            text = f"{gain:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
            shares = (f"{row['before']:.3f}", f"{row['after']:.3f}")
            table.add_row(name, row["metric"], *shares, text, str(row["n"]))
        stdout().print(table)
