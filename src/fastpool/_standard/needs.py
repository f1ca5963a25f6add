"""fastpool's own arguments, where the standard library has to do without them.

Those that only change how fast something is, or what is shown meanwhile, are ignored. All others
change results, or promise something that the standard library can't keep: they are refused.
"""

from __future__ import annotations

import pickle

from fastpool import _fallback


def needs_core(what: str) -> NotImplementedError:
    """Return the error of something that only fastpool's own pool can do."""
    return NotImplementedError(
        f"{what} needs fastpool's native core, and {_fallback.REASON}: "
        "multiprocessing has nothing like it"
    )


def refuse(**given: object) -> None:
    """Refuse the arguments that are neither None nor False.

    Raises
    ------
    NotImplementedError
        If there is one.
    """
    for name, value in given.items():
        if value is not None and value is not False:
            raise needs_core(f"{name}={value!r:.100}")


def check_pool_arguments(
    *,
    affinity: object = None,
    blocktime: object = None,
    memory: object = None,
    threads_per_worker: object = None,
    on_worker_death: str = "raise",
    retries: int | None = None,
    serializer: object = "pickle",
    max_memory_per_child: int | None = None,
    worker_init: object = None,
    worker_exit: object = None,
    logging: object = None,
    warnings: object = None,
    context_vars: object = None,
    seed: object = None,
) -> None:
    """Check what fastpool's pool has beyond the standard library's. The first four are hints.

    Raises
    ------
    NotImplementedError
        If an argument asks for more than what is so in any case.
    TypeError
        If there is no such argument.
    """
    refuse(
        on_worker_death=None if on_worker_death == "raise" else on_worker_death,
        retries=retries or None,
        serializer=None if serializer in ("pickle", pickle) else serializer,
        max_memory_per_child=max_memory_per_child,
        worker_init=worker_init,
        worker_exit=worker_exit,
        logging=logging,
        warnings=warnings,
        context_vars=context_vars,
        seed=seed,
    )
