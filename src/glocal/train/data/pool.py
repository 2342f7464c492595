"""A pool of shards to draw batches from, larger than memory when need be."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from glocal.errors import BadSourceError, SourceUnavailableError, UnknownSensorError
from glocal.train.data.shards import Arguments, Shard, read_header, read_shard, sensor_set


class Pool:
    """Shards to draw batches from; decoded shards are kept up to ``max_bytes``."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        max_bytes: int = 4_000_000_000,
        evenness: float = 0.0,
        spread: int | None = None,
    ) -> None:
        """Read the headers of shards, or of folders of shards.

        ``max_bytes`` limits the decoded shards in memory; one is held in any case. With
        ``evenness`` 0 each window is drawn equally often, with 1 each origin is, whatever its
        size. ``spread`` is from how many shards one batch is drawn at most, None for all:
        streaming from a pool larger than ``max_bytes`` needs a small number.
        """
        self.paths: list[Path] = []
        for path in map(Path, paths):
            self.paths += sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not self.paths:
            raise SourceUnavailableError(f"no shard (*.npz) in {', '.join(map(str, paths))}")
        self.max_bytes, self.evenness, self.spread = max_bytes, evenness, spread
        self._decoded: OrderedDict[Path, Shard] = OrderedDict()
        self._lock = Lock()
        self._headers = {path: read_header(path) for path in self.paths}
        self._of: dict[tuple[str, ...], list[Path]] = {}
        for path, header in self._headers.items():
            self._of.setdefault(sensor_set(header["layers"]), []).append(path)
        for sensors, members in self._of.items():
            self._check(sensors, members)
        self._rising = {k: self._weights(members) for k, members in self._of.items()}

    def _weights(self, members: Sequence[Path]) -> list[NDArray[np.float64]]:
        """Return the running sum of the weights of the windows of each shard."""
        headers = [self._headers[path] for path in members]
        counts: Counter[str] = Counter()
        for header in headers:
            for name, count in zip(header["origins"], header["counts"], strict=True):
                counts[name] += count
        weight = {name: max(count, 1) ** -self.evenness for name, count in counts.items()}
        each = [np.array([weight[name] for name in header["origins"]]) for header in headers]
        return [np.cumsum(w[h["origin"]]) for w, h in zip(each, headers, strict=True)]

    def _check(self, sensors: tuple[str, ...], members: Sequence[Path]) -> None:
        for name in sensors:
            rows = [self._headers[path]["layers"][name] for path in members]
            if len({(tuple(row["bands"]), tuple(row["side"])) for row in rows}) != 1:
                raise BadSourceError(
                    f"the shards of {'+'.join(sensors)} differ in bands or side; "
                    "pack them again together"
                )

    @property
    def groups(self) -> dict[tuple[str, ...], int]:
        """Set of sensors -> number of windows."""
        return {
            sensors: sum(int(self._headers[path]["n"]) for path in members)
            for sensors, members in self._of.items()
        }

    @property
    def origins(self) -> dict[str, str]:
        """Origin -> licence."""
        found: dict[str, str] = {}
        for header in self._headers.values():
            found |= dict(zip(header["origins"], header["licences"], strict=True))
        return dict(sorted(found.items()))

    def shard(self, path: Path) -> Shard:
        """Return a decoded shard, from memory when it is there; threads may ask at once."""
        with self._lock:
            if path in self._decoded:
                self._decoded.move_to_end(path)
                return self._decoded[path]
            shard = self._decoded[path] = read_shard(path)
            while len(self._decoded) > 1 and self._held() > self.max_bytes:
                self._decoded.popitem(last=False)
            return shard

    def _held(self) -> int:
        return sum(shard.nbytes for shard in self._decoded.values())

    def draw(
        self,
        sensors: Sequence[str],
        n: int,
        rng: np.random.Generator,
        *,
        augment: bool = True,
    ) -> Arguments:
        """Return the arguments of ``batch_of`` for ``n`` windows drawn with replacement.

        Nothing but the shards and the state of ``rng`` decides, so that a generator made
        of (seed, step) gives the same batch at the same step again. ``augment`` turns and
        mirrors each window, all its sensors alike.

        Raises
        ------
        UnknownSensorError
            No shard has exactly these sensors.
        """
        wanted = sensor_set(sensors)
        if wanted not in self._of:
            known = ", ".join("+".join(one) for one in self._of)
            raise UnknownSensorError(
                f"no windows of {'+'.join(wanted)} in the pool; it has {known}"
            )
        members = self._of[wanted]
        which, row = self._choose(self._rising[wanted], n, rng)
        turns = rng.integers(0, 8, n)
        # each shard gives its windows at once; then they go back to the order they were drawn in
        pieces = [self.shard(members[i]).batch(row[which == i]) for i in np.unique(which).tolist()]
        back = np.argsort(np.argsort(which, kind="stable"), kind="stable")
        batch: Arguments = {"bands": pieces[0]["bands"]}
        for key in ("arrays", "gsd_m", "day"):
            batch[key] = {
                name: np.concatenate([piece[key][name] for piece in pieces])[back]
                for name in pieces[0][key]
            }
        if augment:
            batch["arrays"] = {k: _turned(a, turns) for k, a in batch["arrays"].items()}
        return batch

    def _choose(
        self, rising: Sequence[NDArray[np.float64]], n: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return for each of ``n`` windows its shard and its row in it."""
        mass = np.array([one[-1] for one in rising])
        shards = np.arange(len(rising))
        if self.spread is not None:
            # equal shares among the few, as they were drawn by their mass
            shards, mass = (
                rng.choice(shards, self.spread, p=mass / mass.sum()),
                np.ones(self.spread),
            )
        which = rng.choice(shards, size=n, p=mass / mass.sum())
        place = rng.random(n)
        row = np.empty(n, np.intp)
        for i in np.unique(which).tolist():
            here = which == i
            found = np.searchsorted(rising[i], place[here] * rising[i][-1], side="right")
            row[here] = np.minimum(found, len(rising[i]) - 1)
        return which.astype(np.intp), row


def _turned(values: NDArray[np.float32], turns: NDArray[np.int64]) -> NDArray[np.float32]:
    """Apply one of the 8 symmetries of the square to each window, shape (n, C, H, W)."""
    for bit, axis in ((1, -2), (2, -1)):
        chosen = (turns & bit) > 0
        values[chosen] = np.flip(values[chosen], axis)
    chosen = (turns & 4) > 0
    values[chosen] = values[chosen].swapaxes(-1, -2)
    return values
