"""Every test process has one thread for linear algebra: with more, parallel test processes wait for each other.

Two workers whose BLAS has two threads each are an order of magnitude slower on two cores than with one thread each.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # before NumPy is imported; processes that a test starts inherit it
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1)
