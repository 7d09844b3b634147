"""What a realisation costs, estimated before any work: memory against what there is, and time."""

from __future__ import annotations

import math
import os

from replica_icl.errors import MemoryEstimateError
from replica_icl.setting import Setting
from replica_icl.simulator.ground_state import Algorithm
from replica_icl.simulator.prompts import batch_size

GIB = 2**30
_FIXED_BYTES = 100 * 2**20  # chunks of pair products, small arrays
_FLOP_SECONDS = 1 / 2e10  # one core, double precision matrix products
_NORMAL_SECONDS = 1.3e-8  # one Gaussian number


def matrix_bytes(setting: Setting, algorithm: Algorithm) -> int:
    """Bytes of the square matrices of a solve: the factor, its ingredients, and at finite beta the inverse.

    Dense: S (D(D+1) square) plus its distinct entries (a quarter of it). Dual: the two kernels of which
    Phi Phi^T is the product (P square).
    """
    thermal = math.isfinite(setting.beta)
    if algorithm == "dense":
        return int(8 * setting.acting_weights**2 * (1.3 + thermal))
    return 8 * setting.P**2 * (5 if thermal else 2)


def sample_bytes(setting: Setting) -> int:
    """Bytes of the prompts: features of all of them, token batches of a few."""
    batch = 8 * batch_size(setting) * (setting.N + 3) * (setting.D + 1)
    tasks = 0 if setting.K is None else 8 * setting.K * setting.D
    return 8 * setting.P * (3 * setting.D + 4) + 3 * batch + tasks


def realisation_bytes(setting: Setting, algorithm: Algorithm) -> int:
    """Estimated peak memory of one realisation."""
    return matrix_bytes(setting, algorithm) + sample_bytes(setting) + _FIXED_BYTES


def realisation_seconds(setting: Setting, algorithm: Algorithm) -> float:
    """Estimated time of one realisation on one core, good to a factor of two or so."""
    D, P, n = setting.D, setting.P, setting.acting_weights
    products = P * n**2 / 2 if algorithm == "dense" else 4 * P**2 * D
    size = n if algorithm == "dense" else P
    solve = size**3 / 3 * (3 if math.isfinite(setting.beta) else 1)
    return 1e-3 + _NORMAL_SECONDS * P * setting.N * D + _FLOP_SECONDS * (products + solve)


def available_bytes() -> int:
    """Physical memory that is available now: free plus reclaimable on Linux, otherwise all there is."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(setting: Setting, algorithm: Algorithm) -> None:
    """Refuse a realisation that cannot fit in memory.

    Raises:
        MemoryEstimateError: naming the parameter that costs most (D: dense matrix; P: kernel or prompts), its
            value, the estimate and what is available.
    """
    estimate, available = realisation_bytes(setting, algorithm), available_bytes()
    if estimate <= available:
        return
    dense = algorithm == "dense" and matrix_bytes(setting, algorithm) >= sample_bytes(setting)
    name, value = ("D", setting.D) if dense else ("P", setting.P)
    raise MemoryEstimateError(
        name,
        value,
        f"one realisation ({algorithm}) would need {estimate / GIB:.1f} GiB of memory, "
        f"{available / GIB:.1f} GiB are available",
    )
