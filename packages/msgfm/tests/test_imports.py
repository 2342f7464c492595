"""What an import costs: a model that others import must not bring the rest along."""

import subprocess
import sys

ALLOWED = "torch numpy einops safetensors safetensors.torch"
PROBE = """
import sys
for name in {first!r}.split():
    __import__(name)
before = {{m.split(".")[0] for m in sys.modules}}
import {name}
after = {{m.split(".")[0] for m in sys.modules}}
print(*sorted(after - before - sys.stdlib_module_names))
"""


def loaded(name, first=""):
    """Return the packages, other than Python's own, that ``import name`` adds to ``first``."""
    probe = PROBE.format(name=name, first=first)
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=300
    )
    return set(done.stdout.split())


def test_the_encoder_needs_torch_numpy_einops_and_safetensors_alone():
    assert loaded("msgfm", ALLOWED) == {"msgfm"}
