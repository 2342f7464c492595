"""Write docs/metrics.schema.json from the model of ``metrics.json``.

python scripts/schema.py
"""

from __future__ import annotations

import json
from pathlib import Path

from glocal.loop.score.metrics import Metrics

PATH = Path(__file__).resolve().parents[1] / "docs" / "metrics.schema.json"


def schema() -> str:
    """Return the JSON schema as text."""
    return json.dumps(Metrics.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(schema(), "utf-8")
