"""``glocal demo``: the loop on real data, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from glocal.cli.run import run_and_print
from glocal.cli.shell import Json, one_command, readable_errors, stdout
from glocal.loop.demo import CREDITS, demo_config, demo_points, find_data

app = one_command()


@app.command(epilog="Example: glocal demo --out out/demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("out/demo"),
    data: Annotated[Path | None, typer.Option(help="Folder of the demo data.")] = None,
    as_json: Json = False,
) -> None:
    """Run the loop on real data of the Havel lakes, Germany. Needs no network."""
    with readable_errors():
        config = demo_config(find_data(data), demo_points())
        if not as_json:
            table = Table("used", "what", "licence", "attribution", header_style="bold")
            for name, row in CREDITS.items():
                table.add_row(name, *row)
            stdout().print(table)
        run_and_print(config, out, as_json)
