"""Count the house: sizes, helpers, comments, and files that name a kind of source outside its room.

    python scripts/house.py            print what is counted, fail where a limit is broken
    python scripts/house.py --names    also print every place that names a kind outside its room

Method. One pass over the syntax of each file of ``src`` and ``packages``. A body is a function
without its docstring. A one-caller helper is a private function of a module that is named exactly
once in that module. A comment line holds nothing but a comment. A kind is named by an import from
its room, by an identifier with one of its words in it, or by a string that is one of its words;
its words are what ``kind:`` may say in area.yaml and the name of its room.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TREES = (ROOT / "src" / "glocal", ROOT / "packages" / "msgfm" / "src" / "msgfm")
ROOMS = ROOT / "src" / "glocal" / "sources"

LINES = 41_000
"""Lines that the house may have: 38,226 before its rooms were made, and what new abilities need."""

FILE, BODY, BODY_90, HELPERS = 500, 40, 20, 0.15
TEACH = {"fusion": 4.0, "msgfm": 4.0}
"""Comment lines per 100 lines that rooms must have whose code people learn from."""

WORDS = {
    "osm": ("osm",),
    "field": ("insitu",),
    "maps": ("landcover",),
    "images": ("sentinel2", "sentinel1", "dsm", "rgb"),
    "rules": ("rules",),
    "models": ("predicted",),
    "people": ("review",),
}
"""What means a kind in area.yaml, by its room; a test holds it against ``KINDS``."""

EXCEPT = ("synthetic/", "loop/demo.py", "sources/kinds.py")
"""A made-up earth has all kinds; the demo is a configuration; the tuple lists them."""

APART = ("train/", "cli/model", "msgfm/", "core/sensor.py", "sources/chips/")
"""Rooms that know sensors and no sources: only what they import is asked of them, since some
sensors are called like kinds of images."""

HOMONYMS = {
    ("sources/osm/tags.py", "landcover"): "a key of OpenStreetMap",
    ("sources/field/forms.py", "landcover"): "a question in people's forms",
    ("sources/osm/heard_tasks.py", "review"): "MapRoulette's word for a second look at a task",
}
"""Words of other people that are spelled like a kind, with what they mean there."""


class Place(NamedTuple):
    """Where a kind is named."""

    file: str
    line: int
    room: str
    word: str


def files() -> list[Path]:
    """Return all source files of the house."""
    return [one for tree in TREES if tree.is_dir() for one in sorted(tree.rglob("*.py"))]


def called(path: Path) -> str:
    """Return a file's name from its package on, ``sources/osm/tags.py``."""
    tree = next(one for one in TREES if one in path.parents)
    name = path.relative_to(tree).as_posix()
    return name if tree == TREES[0] else f"msgfm/{name}"


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def comment_lines(text: str) -> int:
    """Return how many lines hold nothing but a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(
        one.type == tokenize.COMMENT and not one.line[: one.start[1]].strip() for one in tokens
    )


def lone_helpers(tree: ast.Module) -> list[str]:
    """Return the private functions of a module that are named exactly once in it."""
    named = Counter(one.id for one in ast.walk(tree) if isinstance(one, ast.Name))
    private = [one.name for one in tree.body if isinstance(one, ast.FunctionDef)]
    return [name for name in private if name.startswith("_") and named[name] == 1]


def places(path: Path, tree: ast.Module) -> Iterator[Place]:
    """Yield where a file names a kind outside its room."""
    name = called(path)
    if name.startswith(EXCEPT):
        return
    for room, words in WORDS.items():
        if name.startswith(f"sources/{room}/"):
            continue
        known = () if name.startswith(APART) else words
        for line, word in _named(tree, room, known):
            if not any((name, one) in HOMONYMS and one in word.lower() for one in words):
                yield Place(name, line, room, word)


def _named(tree: ast.Module, room: str, words: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    docstrings = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    for one in ast.walk(tree):
        line = getattr(one, "lineno", 0)
        if isinstance(one, ast.ImportFrom) and re.match(
            rf"glocal\.sources\.{room}\b", one.module or ""
        ):
            yield line, one.module or ""
        elif isinstance(one, ast.Constant) and one.value in words and id(one) not in docstrings:
            yield line, repr(one.value)
        else:
            for text in _identifiers(one):
                parts = re.findall(
                    r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
                )
                if set(parts) & set(words):
                    yield line, text


def _identifiers(node: ast.AST) -> list[str]:
    match node:
        case ast.Name():
            return [node.id]
        case ast.Attribute():
            return [node.attr]
        case ast.arg() | ast.keyword():
            return [node.arg or ""]
        case ast.FunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.alias():
            return [node.asname or node.name]
        case _:
            return []


def main() -> int:
    """Print the counts; return 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", action="store_true", help="print where kinds are named")
    wanted = parser.parse_args()
    bodies, helpers, found, broken = [], [], [], []
    lines: Counter[str] = Counter()
    comments: Counter[str] = Counter()
    for path in files():
        text, name = path.read_text("utf-8"), called(path)
        tree, room, size = ast.parse(text), name.partition("/")[0], text.count("\n")
        lines[room] += size
        comments[room] += comment_lines(text)
        every = [
            one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        bodies += [(body_lines(one), f"{name}:{one.name}") for one in every]
        helpers += [f"{name}:{one}" for one in lone_helpers(tree)]
        found += list(places(path, tree))
        if size > FILE:
            broken.append(f"{name} has {size} lines, allowed are {FILE}")
    sizes = sorted(size for size, _ in bodies)
    ninety, share = sizes[int(0.9 * len(sizes))], len(helpers) / len(bodies)
    print(f"{sum(lines.values())} lines in {len(files())} files (allowed: {LINES})")
    print(
        f"{len(bodies)} functions, bodies: median {statistics.median(sizes):g}, 90 % up to {ninety}"
    )
    print(f"{len(helpers)} one-caller helpers, {share:.1%} of all functions")
    for room in sorted(lines):
        rate = 100 * comments[room] / max(lines[room], 1)
        print(f"  {room:10} {lines[room]:6} lines, {rate:4.1f} comment lines per 100")
        if rate < TEACH.get(room, 0):
            broken.append(f"{room} has {rate:.1f} comment lines per 100, at least {TEACH[room]:g}")
    print(f"{len({one.file for one in found})} files name a kind outside its room")
    broken += [f"{where} has a body of {size} lines" for size, where in bodies if size > BODY]
    if ninety > BODY_90:
        broken.append(f"90 % of the bodies have up to {ninety} lines, allowed are {BODY_90}")
    if share > HELPERS:
        broken.append(f"one-caller helpers are {share:.1%}, allowed are {HELPERS:.0%}")
    if sum(lines.values()) > LINES:
        broken.append(f"the house has {sum(lines.values())} lines, allowed are {LINES}")
    shown = found if wanted.names or found else []
    broken += [f"{one.file}:{one.line} names {one.room}: {one.word}" for one in shown]
    for one in broken:
        print(f"broken: {one}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
