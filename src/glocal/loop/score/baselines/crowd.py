"""Vote and crowd models: workers label items, and nobody knows the truth.

The workers may be people or maps. All models run on triples (item, worker, label), so
that a crowd of hundreds with few answers each and six maps over millions of cells
(compressed to distinct patterns) are the same thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from glocal.core.result import log_normalise

SWEEPS = 100
TOLERANCE = 1e-5
"""Change of the mean log-likelihood per item at which expectation-maximisation ends."""

FLOOR = 1e-10
FAITH = 4.0
"""Pseudo-counts per class that EBCC gives to a worker's labels at their word."""

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Votes:
    """What workers say of items."""

    item: NDArray[np.int64]
    """Shape (n,), 0..I-1."""

    worker: NDArray[np.int64]
    """Shape (n,), 0..W-1."""

    label: NDArray[np.int64]
    """Shape (n,), 0..M-1, the worker's own word."""

    opinion: Table
    """Shape (W, M, K), what each word means at face value; rows sum to 1, or are zero
    where it means nothing."""

    count: Table
    """Shape (I,), how many cells an item stands for."""

    known: Table
    """Shape (I, K), the class where it is known, rows of zeros elsewhere."""

    @classmethod
    def plain(
        cls, item: NDArray[np.int64], worker: NDArray[np.int64], label: NDArray[np.int64]
    ) -> Votes:
        """Return votes in which labels are classes, each item counts once, none is known."""
        items, classes = int(item.max()) + 1, int(label.max()) + 1
        workers = int(worker.max()) + 1
        return cls(
            item=item,
            worker=worker,
            label=label,
            opinion=np.broadcast_to(np.eye(classes), (workers, classes, classes)).copy(),
            count=np.ones(items),
            known=np.zeros((items, classes)),
        )

    def by_item(self, values: Table) -> Table:
        """Sum rows (n, K), one per vote, to (I, K)."""
        items = len(self.count)
        columns = [np.bincount(self.item, one, minlength=items) for one in values.T]
        return np.stack(columns, axis=1)

    def tally(self, q: Table) -> Table:
        """Return the expected counts (W, M, K) of words, given classes (I, K)."""
        workers, words, _ = self.opinion.shape
        key = self.worker * words + self.label
        mass = (q * self.count[:, None])[self.item]
        flat = [np.bincount(key, one, minlength=workers * words) for one in mass.T]
        return np.asarray(np.stack(flat, axis=1).reshape(workers, words, -1), np.float64)

    def clamped(self, q: Table) -> Table:
        """Return ``q`` (I, K) with known classes in their place."""
        return np.where(self.known.sum(axis=1, keepdims=True) > 0, self.known, q)


def majority(votes: Votes) -> Table:
    """Return the share of the votes for each class, (I, K); items without any: all alike."""
    total = votes.by_item(votes.opinion[votes.worker, votes.label])
    heard = total.sum(axis=1, keepdims=True)
    alike = 1 / total.shape[1]
    return np.asarray(np.where(heard > 0, total / np.where(heard > 0, heard, 1), alike))


def dawid_skene(votes: Votes, sweeps: int = SWEEPS, tolerance: float = TOLERANCE) -> Table:
    """Return P(class) of every item (I, K) by Dawid and Skene (1979).

    Expectation-maximisation from the majority vote; maximum likelihood with a floor of
    1e-10 under the counts.
    """

    def fit(q: Table) -> tuple[Table, Table]:
        words = np.maximum(votes.tally(q), FLOOR)
        said = np.log(words / words.sum(axis=1, keepdims=True))
        share = np.maximum((q * votes.count[:, None]).sum(axis=0), FLOOR)
        return np.log(share / share.sum()), said[votes.worker, votes.label]

    return _expect_and_maximise(votes, fit, sweeps, tolerance)


def one_coin(votes: Votes) -> Table:
    """Return P(class) of every item (I, K): a worker is right at one rate, else says anything.

    Each worker has one parameter (Zhang et al. 2016, section 2: "one-coin model"). A word
    that stands for several classes counts in parts.
    """
    share = votes.opinion[votes.worker, votes.label]
    told = share.sum(axis=1) > 0
    classes = share.shape[1]

    def fit(q: Table) -> tuple[Table, Table]:
        mass = votes.count[votes.item] * told
        right = np.bincount(votes.worker, mass * (q[votes.item] * share).sum(axis=1))
        total = np.bincount(votes.worker, mass)
        rate = np.clip(right / np.maximum(total, FLOOR), 1e-6, 1 - 1e-6)[votes.worker, None]
        said = np.log(rate * share + (1 - rate) * (1 - share) / (classes - 1))
        return np.zeros(classes), said * told[:, None]

    return _expect_and_maximise(votes, fit, SWEEPS, TOLERANCE)


def _expect_and_maximise(
    votes: Votes, fit: Callable[[Table], tuple[Table, Table]], sweeps: int, tolerance: float
) -> Table:
    q = votes.clamped(majority(votes))
    before = -np.inf
    for _ in range(sweeps):
        log_prior, said = fit(q)
        joint = log_prior + votes.by_item(said)
        q = votes.clamped(np.exp(log_normalise(joint)))
        likelihood = float((votes.count * np.logaddexp.reduce(joint, axis=1)).sum())
        likelihood /= votes.count.sum()
        if likelihood - before < tolerance:
            break
        before = likelihood
    return q


def ebcc(votes: Votes, subtypes: int = 3) -> Table:
    """Return P(class) of every item (I, K) by EBCC (Li, Rubinstein and Cohn 2019).

    Each class has ``subtypes`` kinds of items, and workers err independently only given
    the kind, which is how their correlation is modelled. Mean-field variational Bayes;
    with one subtype it is IBCC (Kim and Ghahramani 2012). The prior of a worker's table is
    a word at face value worth a few counts.
    """
    rng = np.random.default_rng(0)
    q = votes.clamped(majority(votes))
    items, classes = q.shape
    kinds = rng.dirichlet(np.ones(subtypes), (items, classes)) if subtypes > 1 else 1.0
    r = (q[:, :, None] * np.asarray(kinds)).reshape(items, -1)
    means = votes.opinion / np.maximum(votes.opinion.sum(axis=1, keepdims=True), FLOOR)
    prior = np.repeat(FAITH * means + 1 / means.shape[1], subtypes, axis=2)
    known = np.repeat(votes.known, subtypes, axis=1)
    barred = (known == 0) & (known.sum(axis=1, keepdims=True) > 0)
    for _ in range(SWEEPS):
        table = votes.tally(r) + prior
        said = digamma(table) - digamma(table.sum(axis=1, keepdims=True))
        mass = (r * votes.count[:, None]).sum(axis=0) + 1 / subtypes
        joint = digamma(mass) + votes.by_item(said[votes.worker, votes.label])
        new = np.exp(log_normalise(np.where(barred, -1e9, joint)))
        change = float((votes.count * np.abs(new - r).sum(axis=1)).sum() / votes.count.sum())
        r = new
        if change < TOLERANCE:
            break
    return votes.clamped(r.reshape(items, classes, subtypes).sum(axis=2))
