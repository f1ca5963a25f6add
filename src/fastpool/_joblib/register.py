"""Makes the backend known to joblib; imports neither it nor joblib before that."""

from __future__ import annotations


def register_joblib_backend(make_default: bool = False) -> None:
    """Make ``backend="fastpool"`` known to joblib; ``import fastpool.joblib_backend`` does, too.

    Parameters
    ----------
    make_default : bool
        Use it also where a program names no backend.

    Raises
    ------
    ImportError
        If joblib is not installed, or older than 1.3.

    Examples
    --------
    >>> import fastpool, joblib
    >>> fastpool.register_joblib_backend()
    >>> with joblib.parallel_config(backend="fastpool", n_jobs=2):
    ...     joblib.Parallel()(joblib.delayed(abs)(i) for i in (-1, 2, -3))
    [1, 2, 3]
    """
    from fastpool.joblib_backend import register  # its import says what is missing

    register(make_default)
