"""``glocal answers``: take people's answers, say what was understood."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from glocal.cli.shell import Json, one_command, print_json, readable_errors, stdout
from glocal.loop.answers import CHANNELS, table_to_answer, take_answers
from glocal.sources.answers.verdict import MEANING

app = one_command()

SHOWN = 5
"""Rows that could not be understood are shown up to this number."""


@app.command(epilog="Example: glocal answers out/mine challenge.geojson newer.osm.pbf")
def answers(
    folder: Annotated[Path, typer.Argument(help="Folder of the run that was answered.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files with answers: "
            + "; ".join(CHANNELS.values())
            + ". Without any, a table to fill in is written."
        ),
    ] = None,
    class_column: Annotated[
        str | None, typer.Option(help="Question of a form that asks for the class.")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of what people in the field found, as CC0-1.0.")
    ] = "unknown",
    as_json: Json = False,
) -> None:
    """Take people's answers to a run's corrections; the next run hears them. Sends nothing."""
    with readable_errors():
        if not files:
            path, number = table_to_answer(folder)
            typer.echo(f"{number} proposals without an answer: fill in 'answer' in {path}, then:")
            typer.echo(f"  glocal answers {folder} {path}")
            return
        found = take_answers(folder, files, class_column=class_column, licence=licence)
        if as_json:
            print_json(found)
            return
        for row in found["read"]:
            _print_file(row)
        _print_all(found)


def _print_file(row: dict[str, Any]) -> None:
    said = [f"{n} {name.replace('_', ' ')}" for name, n in sorted(row["answers"].items())]
    said += [f"{row['visits']} visits"] if row["visits"] else []
    said += [f"{len(row['unknown'])} unknown"] if row["unknown"] else []
    lines = [f"{row['file']} ({row['kind']}): {', '.join(said) or 'no answers'}"]
    for what in ("unknown", "stale"):
        lines += [f"  {what}: {one}" for one in row[what][:SHOWN]]
        more = len(row[what]) - SHOWN
        lines += [f"  {what}: and {more} more"] if more > 0 else []
    for line in lines + [f"  note: {one}" for one in row["notes"]]:
        stdout().print(line, markup=False, highlight=False)


def _print_all(found: dict[str, Any]) -> None:
    table = Table("answer", "means: people", "proposals", title="All answers so far")
    for verdict, meaning in MEANING.items():
        if verdict in found["answers"]:
            number = str(found["answers"][verdict])
            table.add_row(verdict.replace("_", " "), meaning, number)
    open_ = found["asked"] - sum(found["answers"].values())
    table.add_row("none", "have not answered yet", str(open_))
    console = stdout()
    console.print(table)
    visits = found["visits"]
    if visits["returned"]:
        console.print(
            f"{visits['returned']} of {found['places']} planned places came back, "
            f"{visits['answered']} with a class: they are reference points of the next run. "
            "If the others are missing because they are hard to reach, areas are biased.",
            markup=False,
        )
        if found["licence"] == "unknown":
            console.print(
                "The licence of the visits is not known, so they help no edit of "
                "OpenStreetMap; say it with --licence.",
                markup=False,
            )
    console.print("Next, with newer sources in area.yaml where there are any:", markup=False)
    typer.echo(f"  {found['next']}")
