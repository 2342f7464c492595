"""The engine again, cell by cell: no patterns, no tables of pairs, no shared code of estimation.

For sources of cells only. It follows the text of docs/fusion.md and is there to be compared.
"""

from __future__ import annotations

import numpy as np


def slow_posterior(symbols, priors, trusts, regions, log_prior, gamma, anchors, *, sweeps,
                   per_statement, back_off=True, free_prior=False, votes=False):  # fmt: skip
    """Return log-posteriors (N, K) and tables {source: (regions, K, M)}.

    ``symbols`` (S, N) with 0 for silence; ``priors`` S tables (M, K) of P(class | symbol) as
    believed; ``trusts`` S vectors (M,); ``regions`` (N,); ``gamma`` (S, N); ``anchors`` rows
    (cell, shares (K,), weight).
    """
    n, k = symbols.shape[1], len(log_prior)
    tables, start, worth = [], [], []
    for said, prior, trust in zip(symbols, priors, trusts, strict=True):
        first, strength = _start(said, prior, trust, np.exp(log_prior), per_statement)
        start.append(first)
        worth.append(strength)
        tables.append(np.stack([first] * (regions.max() + 1)))
    log_q = _pool(symbols, tables, regions, gamma, log_prior)
    for sweep in range(sweeps):
        q = _shares(symbols, priors) if votes and sweep == 0 else np.exp(log_q)
        for s, said in enumerate(symbols):
            count = np.zeros_like(tables[s])
            for cell in range(n):
                if said[cell]:
                    count[regions[cell], :, said[cell] - 1] += q[cell] / per_statement
            for cell, shares, weight in anchors:
                if said[cell]:
                    count[regions[cell], :, said[cell] - 1] += 5 * weight * shares
            tables[s] = _backed_off(count, start[s], worth[s], back_off)
        if free_prior:
            log_prior = np.log(q.mean(axis=0))
        log_q = _pool(symbols, tables, regions, gamma, log_prior)
    assert log_q.shape == (n, k)
    return log_q, tables


def _shares(symbols, priors):
    out = np.full((symbols.shape[1], priors[0].shape[1]), 1 / priors[0].shape[1])
    for cell in range(symbols.shape[1]):
        said = [int(np.argmax(priors[s][y - 1])) for s, y in enumerate(symbols[:, cell]) if y]
        if said:
            out[cell] = [said.count(k) / len(said) for k in range(len(out[cell]))]
    return out


def _start(said, prior, trust, class_prior, per_statement):
    """Turn P(class | symbol) into P(symbol | class), and say how much it is worth."""
    m = len(prior)
    used = np.array([(said == y + 1).sum() for y in range(m)]) / len(said) * 1000 + 0.5
    used = used / used.sum()
    table = np.zeros((prior.shape[1], m))
    for k in range(prior.shape[1]):
        for y in range(m):
            table[k, y] = used[y] * (prior[y, k] + 0.02 * class_prior[k])
        table[k] /= table[k].sum()
    return table, max(30 * sum(used[y] * trust[y] / (1 - trust[y]) for y in range(m)), 1.0)


def _backed_off(count, first, strength, back_off):
    if not back_off:
        used = [count[:, :, y].sum() > 0 for y in range(count.shape[2])]
        rate = np.where(used, np.maximum(count, 1e-10), 1e-20)
        return rate / rate.sum(axis=2, keepdims=True)
    total = count.sum(axis=0) + strength * first
    total = total / total.sum(axis=1, keepdims=True)
    if len(count) == 1:
        return np.maximum(total, 1e-12)[None]
    local = count + 60 * total
    return np.maximum(local / local.sum(axis=2, keepdims=True), 1e-12)


def _pool(symbols, tables, regions, gamma, log_prior):
    out = np.zeros((symbols.shape[1], len(log_prior)))
    for cell in range(symbols.shape[1]):
        out[cell] = log_prior
        for s, said in enumerate(symbols[:, cell]):
            if said:
                out[cell] += gamma[s, cell] * np.log(tables[s][regions[cell], :, said - 1])
        out[cell] -= np.log(np.exp(out[cell] - out[cell].max()).sum()) + out[cell].max()
    return out
