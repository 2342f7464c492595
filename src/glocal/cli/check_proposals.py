"""``glocal check-proposals``: whether the proposals of a run still fit the map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glocal.cli.shell import Json, one_command, print_json, readable_errors, stdout
from glocal.errors import BadSourceError
from glocal.loop.stale import check_proposals

app = one_command()


@app.command(epilog="Example: glocal check-proposals out/mine newer.osm.pbf")
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of the run that made the proposals.")],
    extract: Annotated[
        Path, typer.Argument(help="A newer extract of OpenStreetMap (.osm.pbf, .osm, .osm.gz).")
    ],
    as_json: Json = False,
) -> None:
    """Refuse proposals to OpenStreetMap whose elements have changed since. Exit code 3 then."""
    with readable_errors():
        found = check_proposals(folder, extract)
        stale = found["stale"]
        if as_json:
            print_json(found)
        for row in [] if as_json else stale:
            line = f"stale: {row['proposal']} ({row['fate']}): {row['why']}"
            stdout().print(line, markup=False, highlight=False, soft_wrap=True)
        if stale:
            raise BadSourceError(
                f"{len(stale)} of {found['checked']} proposals are stale; don't use them. Give "
                f"{extract.name} as path of the source and run again; what mappers did is read "
                f"by: glocal answers {folder} {extract}"
            )
        if not as_json:
            typer.echo(f"All {found['checked']} proposals fit {extract.name}.")
            if found["unchecked"]:
                typer.echo(f"{found['unchecked']} name no element of it and were not checked.")
