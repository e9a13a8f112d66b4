"""Where the units of a study are computed: in this process, or on the workers of a Ray cluster.

`base` is the contract, `worker` what computes one job after another, in this process or on a node. `queue` is which job
is next, `cluster` the Ray cluster and its errors, `remote` the worker there, `spread` the executor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from itlens.errors import ProbeError
from itlens.study.executors.base import EXECUTORS, Executor, OpenExecutor, StudyWork


def executor_of(name: str, models: tuple[Any, ...], ray_address: str | None, ray_cpus: int | None) -> OpenExecutor:
    """Return how to open the executor of a study; what is wrong with it is said before anything is read.

    models: base and tuned, as they were given. Raises ProbeError: an executor that there is not, options of another
    one, models that are no names; ClusterError: Ray is not installed, or nobody answers at the address.
    """
    if name not in EXECUTORS:
        raise ProbeError(
            f"Unknown executor {name!r}; known are 'local' (this machine, one model at a time) and 'ray' (a Ray "
            "cluster)."
        )
    if name == "local":
        for option, value in (("ray_address", ray_address), ("ray_cpus", ray_cpus)):
            if value is not None:
                raise ProbeError(
                    f"{option}={value!r} is of executor='ray', and the executor is 'local'; give executor='ray' too."
                )
        return _local
    from itlens.study.executors.cluster import refuse_unreachable
    from itlens.study.executors.spread import on_cluster

    if ray_cpus is not None and (isinstance(ray_cpus, bool) or not isinstance(ray_cpus, int) or ray_cpus < 1):
        raise ProbeError(f"ray_cpus={ray_cpus!r}; expected a whole number of at least 1.")
    given = next((model for model in models if model is not None and not isinstance(model, (str, Path))), None)
    if given is not None:
        raise ProbeError(
            f"executor='ray' got a {type(given).__name__} as a model, and a model is never sent to the workers; "
            "expected a hub id, or a folder that they all can read: save the model there, or use executor='local'."
        )
    refuse_unreachable(ray_address)
    return partial(on_cluster, address=ray_address, cpus=ray_cpus or 1)


@contextmanager
def _local(work: StudyWork) -> Iterator[Executor]:
    from itlens.study.executors.worker import LocalExecutor

    yield LocalExecutor(work)
