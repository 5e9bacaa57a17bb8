"""How the numerical kernels of the engine are compiled.

Numba writes compiled kernels beside the package, or, where that folder cannot be written, below the folder
that the environment variable NUMBA_CACHE_DIR names, or else below the user's cache folder. Where none of them
can be written, kernels are compiled anew by every process; `warm` does that before the first request.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function on its first call; it then runs without the interpreter's lock.

    Division by zero follows IEEE 754, and no operation is reordered or fused: digits decide bins.
    """
    try:
        compiled = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # Numba's word for "no folder to cache in"
        compiled = njit(nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", compiled)
