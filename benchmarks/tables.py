"""Put the output of a benchmark between its two marks in a document.

python -m benchmarks.tables docs/benchmarks.md fusion-quality < out/bench/quality.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from glocal.io.atomic import write_text


def put(text: str, mark: str, content: str) -> str:
    """Return ``text`` with what stands between the marks exchanged.

    >>> put("a\\n<!-- t -->\\nold\\n<!-- /t -->\\nb\\n", "t", "new")
    'a\\n<!-- t -->\\nnew\\n<!-- /t -->\\nb\\n'
    """
    first, last = f"<!-- {mark} -->\n", f"<!-- /{mark} -->\n"
    if text.count(first) != 1 or text.count(last) != 1:
        raise ValueError(f"the document must have {first.strip()} and {last.strip()}, each once")
    before, _, rest = text.partition(first)
    return before + first + content.strip() + "\n" + last + rest.partition(last)[2]


def main() -> None:
    document, mark = Path(sys.argv[1]), sys.argv[2]
    write_text(document, put(document.read_text("utf-8"), mark, sys.stdin.read()))


if __name__ == "__main__":
    main()
