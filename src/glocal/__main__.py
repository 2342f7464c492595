"""Run the command line with ``python -m glocal``."""

from __future__ import annotations

from glocal.cli.main import app

if __name__ == "__main__":
    app(prog_name="glocal")
