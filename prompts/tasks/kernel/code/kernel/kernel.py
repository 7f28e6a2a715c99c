"""Gaussian kernel sums in numpy: out[i] = sum_j w[j] exp(-|x[i] - y[j]|^2 / (2 h^2)). Research edits this file.

Runs in a process of its own; `measure.py` hands in fresh arrays each round, checks the output and reads the clock from
outside. Only the CPU seconds of this process count, those of every thread of it: more threads are no gain. The start is
openly plain. Each constant is one line with blank lines around it, so that two changes merge.
"""

import numpy as np

# How squared distances are made: "difference" has a (rows, M, D) array of differences, "dimensions" adds up one coordinate
# after another, "matmul" expands |x - y|^2 = |x|^2 - 2 x.y + |y|^2, which BLAS does in one product but which cancels digits.
METHOD = "dimensions"

# The type everything is computed in. A narrower one moves fewer bytes and keeps fewer digits.
DTYPE = "float64"

# Rows of x done at once. A block of BLOCK x M numbers that stays in the cache is not fetched again at every step.
BLOCK = 4

# Overwrite the block at each step, in place of a new array a step.
IN_PLACE = False

# Divide the points by sqrt(2) h once, in place of dividing every squared distance by 2 h^2.
SCALE_FIRST = False

# The function that takes most of the time: "exp", or "exp2" on distances in units that make up for it.
EXPONENTIAL = "exp"

# How the weighted sum over j is taken: "sum" multiplies and then adds, "dot" is a product of BLAS.
REDUCE = "sum"

# Skip points of y further than so many h from a block along the first coordinate; 0 skips nothing. Pays only for blocks
# of neighbours (SORTED), and every skipped pair is an error.
WINDOW = 0.0

# Take the rows of x in the order of their first coordinate, so that a block holds neighbours.
SORTED = False

# Lay the coordinates out one after another in memory, in place of point after point.
BY_COORDINATE = False


def kernel_sums(x, y, w, h):
    """x: (N, D), y: (M, D), w: (M,), all float64; returns (N,). Must leave its arguments as they are."""
    dtype = np.dtype(DTYPE).type
    order = np.argsort(x[:, 0]) if SORTED else np.arange(len(x))
    columns = np.argsort(y[:, 0]) if WINDOW else np.arange(len(y))
    x, y, w = x[order].astype(dtype), y[columns].astype(dtype), w[columns].astype(dtype)
    reach = WINDOW * h
    if SCALE_FIRST:
        unit = dtype(1 / (np.sqrt(2.0) * h))
        x, y, reach = x * unit, y * unit, reach * float(unit)
    if BY_COORDINATE:
        x, y = np.asfortranarray(x), np.asfortranarray(y)
    factor = -1.0 if SCALE_FIRST else -1.0 / (2.0 * h * h)
    factor = dtype(factor / np.log(2.0) if EXPONENTIAL == "exp2" else factor)
    squares = (y * y).sum(1) if METHOD == "matmul" else None
    sums = np.empty(len(x))
    for start in range(0, len(x), BLOCK):
        rows = x[start : start + BLOCK]
        near = slice(0, len(y))
        if WINDOW:  # y is sorted: the columns within reach of this block are neighbours
            edges = rows[:, 0].min() - reach, rows[:, 0].max() + reach
            near = slice(*np.searchsorted(y[:, 0], edges))
        block = squared_distances(rows, y[near], None if squares is None else squares[near])
        block = exponential(block, factor)
        sums[start : start + BLOCK] = weighted(block, w[near])
    out = np.empty(len(x))
    out[order] = sums
    return out


def squared_distances(x, y, squares):
    """(rows, D), (M, D) and, for matmul alone, |y|^2 (M,) -> (rows, M)."""
    if METHOD == "difference":
        block = x[:, None, :] - y[None, :, :]  # (rows, M, D)
        return (block**2).sum(-1)
    if METHOD == "dimensions":
        total = np.zeros((len(x), len(y)), dtype=x.dtype)
        for d in range(x.shape[1]):
            step = x[:, d, None] - y[None, :, d]
            if IN_PLACE:
                step *= step
                total += step
            else:
                total = total + step**2
        return total
    if METHOD == "matmul":
        block = x @ y.T
        if IN_PLACE:
            block *= x.dtype.type(-2)
            block += (x * x).sum(1)[:, None]
            block += squares
            return block
        return (x * x).sum(1)[:, None] - 2 * block + squares
    raise ValueError(f"METHOD {METHOD!r} is none of difference, dimensions, matmul")


def exponential(block, factor):
    if EXPONENTIAL not in ("exp", "exp2"):
        raise ValueError(f"EXPONENTIAL {EXPONENTIAL!r} is none of exp, exp2")
    function = np.exp if EXPONENTIAL == "exp" else np.exp2
    if IN_PLACE:
        block *= factor
        return function(block, out=block)
    return function(block * factor)


def weighted(block, w):
    """(rows, M), (M,) -> (rows,)."""
    if REDUCE == "dot":
        return block @ w
    if REDUCE == "sum":
        return (block * w).sum(1)
    raise ValueError(f"REDUCE {REDUCE!r} is none of sum, dot")
