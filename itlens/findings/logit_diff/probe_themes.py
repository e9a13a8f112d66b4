"""Themes of what tuning raises: tokens that rise at the same positions (non-negative matrix factorisation).

A is positions x tokens: the logit difference, less its median over the vocabulary, of the tokens that rose most at a
position, 0 for all others (a sparse matrix). Only tokens that the tuned model would say somewhere have a column:
otherwise bytes and pieces that no text holds are all themes. A ~ W H with W, H >= 0 (`sklearn.decomposition.NMF`,
seeded): a row of H is a theme, its largest entries its tokens; W says where it is. The share of theme k is sum_p W_pk
sum_v H_kv / sum over all themes: of what rises. At most 4,096 positions are factorised, evenly spread. scikit-learn is
an extra ("themes"); without it there are none.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import sparse

_POSITIONS = 4096  # that are factorised
_TOKENS = 12  # of a theme
_STEPS = 400


class RisenTokens:
    """The tokens that rose most at some positions of a corpus, evenly spread; positions: of all of it."""

    def __init__(self, positions: int) -> None:
        self._every = max(1, -(-positions // _POSITIONS))
        self._seen = 0
        self._ids: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._groups: list[str] = []

    def add(self, ids: np.ndarray, values: np.ndarray, groups: np.ndarray) -> None:
        """Keep some of the next positions. ids, values (position, token): the largest differences."""
        chosen = np.flatnonzero((self._seen + np.arange(len(ids))) % self._every == 0)
        self._seen += len(ids)
        self._ids.append(ids[chosen])
        self._values.append(np.clip(values[chosen], 0, None))
        self._groups += groups[chosen].tolist()

    @property
    def groups(self) -> np.ndarray:
        """The group of each position that is kept."""
        return np.array(self._groups, dtype=object)

    def matrix(self, allowed: np.ndarray) -> tuple[sparse.csr_array, np.ndarray]:
        """Return A (position, allowed token that rose anywhere), and the ids of its columns. allowed: by id."""
        ids, values = np.concatenate(self._ids), np.concatenate(self._values)
        rows, columns = np.nonzero((values > 0) & allowed[ids])
        tokens, places = np.unique(ids[rows, columns], return_inverse=True)
        data = values[rows, columns].astype(np.float64)
        return sparse.csr_array((data, (rows, places)), shape=(len(ids), tokens.size)), tokens


def themes_of(
    risen: RisenTokens, allowed: np.ndarray, count: int, groups: Sequence[str], *, seed: int
) -> tuple[xr.Dataset, str]:
    """Return the themes, by decreasing share, and a sentence that says why there are none ("" where there are).

    allowed: the tokens that may be in one, bool by id. See `itlens.logit_diff` for the variables. Fewer than `count`
    where fewer positions or tokens rose.
    """
    if count == 0:
        return _themes(np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0), risen.groups[:0], groups), ""
    matrix, tokens = risen.matrix(allowed)
    kept = np.flatnonzero(matrix.sum(axis=1) > 0)
    count = min(count, kept.size, tokens.size)
    if count == 0:
        return _themes(np.zeros((0, 0)), np.zeros((0, 0)), tokens, risen.groups[:0], groups), "nothing rises"
    try:
        from sklearn.decomposition import NMF
        from sklearn.exceptions import ConvergenceWarning
    except ImportError:
        missing = "themes need scikit-learn: pip install 'itlens[themes]'"
        return _themes(np.zeros((0, 0)), np.zeros((0, 0)), tokens, risen.groups[:0], groups), missing
    solver = NMF(n_components=count, init="nndsvda", random_state=seed, max_iter=_STEPS)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):  # a remainder of 0 can be rounded to below it
        warnings.simplefilter("ignore", ConvergenceWarning)  # themes are read, not measured to the last digit
        where = solver.fit_transform(matrix[kept])
    return _themes(where, solver.components_, tokens, risen.groups[kept], groups), ""


def _themes(
    where: np.ndarray, what: np.ndarray, tokens: np.ndarray, of_position: np.ndarray, groups: Sequence[str]
) -> xr.Dataset:
    mass = where * what.sum(axis=1)[None] if what.size else np.zeros((0, 0))
    total = mass.sum()
    shares = mass.sum(axis=0) / total if total > 0 else np.zeros(mass.shape[1])
    order = np.argsort(-shares, kind="stable")
    width = min(_TOKENS, what.shape[1])
    best = np.argsort(-what[order], axis=1, kind="stable")[:, :width] if what.size else np.zeros((0, 0), dtype=int)
    weights = np.take_along_axis(what[order], best, axis=1) if what.size else np.zeros((0, 0))
    ids = np.where(weights > 0, tokens[best], -1) if what.size else np.zeros((0, 0), dtype=np.int64)
    by_group = np.zeros((len(order), len(groups)))
    for place, name in enumerate(groups):
        own = mass[of_position == name][:, order] if mass.size else np.zeros((0, 0))
        if own.sum() > 0:
            by_group[:, place] = own.sum(axis=0) / own.sum()
    return xr.Dataset(
        {
            "theme_token": (("theme", "theme_rank"), ids.astype(np.int64)),
            "theme_weight": (("theme", "theme_rank"), weights),
            "theme_share": ("theme", shares[order]),
            "theme_group": (("theme", "group"), by_group),
        },
        coords={"theme": np.arange(1, len(order) + 1), "group": np.array(list(groups), dtype=object)},
    )
