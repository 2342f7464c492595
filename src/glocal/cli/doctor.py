"""``glocal doctor``: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from importlib import metadata

import typer
from rich.markup import escape
from rich.table import Table

from glocal.cli.shell import Json, one_command, readable_errors, stdout
from glocal.errors import SourceUnavailableError
from glocal.loop.demo import find_data

app = one_command()

REQUIREMENT = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?(?P<bounds>[^;]*)(;.*extra\s*==\s*['\"](?P<extra>\w+)['\"])?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is there or not."""

    what: str
    needed_for: str
    """``core``, or the name of an extra, or a command."""

    found: str
    """Version or place; empty when absent."""

    fix: str
    """What to run when it is absent or too old; empty when all is well."""


@app.command(epilog="Example: glocal doctor")
def doctor(as_json: Json = False) -> None:
    """Say what is installed, what is missing, and how to get it."""
    with readable_errors():
        found = findings()
        if as_json:
            rows = [asdict(one) for one in found]
            facts = {"platform": platform.platform(), "cpus": os.cpu_count(), "findings": rows}
            typer.echo(json.dumps(facts, indent=2))
        else:
            print_findings(found)
        if any(one.fix for one in found if one.needed_for == "core"):
            raise typer.Exit(1)


def findings() -> list[Finding]:
    """Look at Python, every package that the metadata names, and the demo data."""
    try:
        requirements = metadata.requires("glocal") or []
    except metadata.PackageNotFoundError:
        fix = "pip install -e . in the folder of the source code"
        return [_python(), Finding(what="glocal", needed_for="core", found="", fix=fix)]
    lines = [one for one in map(REQUIREMENT.match, requirements) if one]
    lines.sort(key=lambda one: (one["extra"] or "", one.string.lower()))
    # the metadata names glocal itself where an extra is a sum of others
    packages = [_package(one) for one in lines if one["name"] != "glocal"]
    try:
        place, fix = str(find_data()), ""
    except SourceUnavailableError as error:
        place, fix = "", str(error)
    demo = Finding(what="demo data", needed_for="glocal demo", found=place, fix=fix)
    return [_python(), *packages, demo]


def _python() -> Finding:
    fix = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    return Finding(what="python", needed_for="core", found=platform.python_version(), fix=fix)


def _package(line: re.Match[str]) -> Finding:
    """Return the state of one ``name>=bound; extra == "x"`` line."""
    name, bounds, extra = line["name"], line["bounds"].strip(), line["extra"]
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        found = ""
    old = found and _release(found) < _release(bounds.removeprefix(">="))
    fix = f"pip install '{name}{bounds}'"
    if "+" in bounds:  # the label of a package that lies in the checkout and in no registry
        fix = f"pip install -e packages/{name} in the folder of the source code"
    absent = not found or old
    return Finding(what=name, needed_for=extra or "core", found=found, fix=fix if absent else "")


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version.

    >>> _release("2.13.0+cpu") > _release("2.6")
    True
    """
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def print_findings(found: list[Finding]) -> None:
    """Print the findings as one table."""
    console = stdout()
    console.print(f"{platform.platform()}, {os.cpu_count()} CPUs, {sys.executable}", markup=False)
    table = Table("", "what", "needed for", "found", "how to get it", header_style="bold")
    for one in found:
        core = one.needed_for == "core"
        state = "[green]ok[/]" if not one.fix else "[red]missing[/]" if core else "absent"
        table.add_row(state, one.what, one.needed_for, one.found, escape(one.fix))
    console.print(table)
