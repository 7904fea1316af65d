"""The training program starts its own ranks, one a visible GPU, through torch's launcher on this machine.

So `python -m components.train` is the whole command, for DVC, in a pod and by hand alike. Its exit codes are those of
one process: 75 after SIGTERM and 130 after SIGINT, when every rank has stopped; else that of the rank that failed.
`torchrun … -m components.train` works as before: whoever is a rank already starts none.

On several machines the same command runs on each of them, and they meet at the first one's address: PET_NNODES,
PET_NODE_RANK, PET_MASTER_ADDR and PET_MASTER_PORT say so, as Kubeflow Trainer's runtime torch-distributed sets them.
"""

import ctypes
import logging
import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from hymunet.processors import thread_variables, threads_wanted
from hymunet.training.interrupts import INTERRUPTED, RESUME_ME

RANKS = "HYMUNET_RANKS"  # so many processes, in place of one a visible GPU
GPUS = "HYMUNET_GPUS"  # set where GPUs were asked for: so many must be seen, or the training does not begin
LAUNCHER = "HYMUNET_LAUNCHER"  # in a rank: the process that started it
SAVING_SECONDS = 3600  # how long a rank that was told to stop may write its checkpoint
PR_SET_PDEATHSIG = 1
MEETING_SECONDS = 3600  # how long a machine waits for the others, which may be fetching their data still


@dataclass(frozen=True)
class Nodes:
    """The machines of one training. address: `host:port` of the first one."""

    count: int = 1
    rank: int = 0
    address: str = ""

    @classmethod
    def named(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """ValueError for variables that do not fit each other."""
        count = 1 if "RANK" in environment else _number(environment, "PET_NNODES") or 1
        if count == 1:
            return cls()
        rank, host, port = (environment.get(f"PET_{name}", "") for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT"))
        if not (rank.isdecimal() and int(rank) < count and host and port.isdecimal()):
            raise ValueError(
                f"PET_NNODES={count}, and PET_NODE_RANK={rank!r}, PET_MASTER_ADDR={host!r}, PET_MASTER_PORT={port!r}: "
                "expected a rank below the number of nodes, and where the first one is"
            )
        return cls(count, int(rank), f"{host}:{port}")


def ranks_wanted(environment: Mapping[str, str] = os.environ) -> int:
    """Processes to start; 1 where one is enough, or this process is a rank itself.

    Raises ValueError for a variable that is no number, and for GPUs that were asked for and are not here.
    """
    if "RANK" in environment:
        return 1
    import torch

    seen = torch.cuda.device_count()
    asked = _number(environment, GPUS)
    if asked is not None and asked != seen:
        raise ValueError(
            f"{GPUS}={asked}: torch {torch.__version__} sees {seen} here; is this the image for GPUs, "
            "and does the machine's driver fit it?"
        )
    wanted = _number(environment, RANKS)
    if wanted is not None and seen and wanted > seen:
        raise ValueError(f"{RANKS}={wanted}: {seen} GPUs are visible, and each rank needs one; lower it or unset it")
    return wanted or max(1, seen)


def require_shares(batch_size: int, accumulate: int, ranks: int) -> None:
    """ValueError for a batch that so many ranks cannot share: said once, before any of them starts."""
    if batch_size % (ranks * accumulate):
        raise ValueError(
            f"train.batch_size {batch_size} must be a multiple of ranks × train.accumulate = {ranks} × {accumulate}"
        )


def launch(module: str, arguments: Sequence[str], ranks: int, nodes: Nodes = Nodes()) -> int:
    """Runs `python -m module arguments` in `ranks` processes to their end; returns the exit code of the whole.

    nodes: the machines, each of which calls this.
    """
    # Read by torch's launcher as it is configured; earlier versions than 2.13 know 30 s alone.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SAVING_SECONDS))
    os.environ.update(thread_variables(max(1, threads_wanted() // ranks)), **{LAUNCHER: str(os.getpid())})
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # each rank says for itself what is wrong
    alone = nodes.count == 1
    config = LaunchConfig(
        min_nodes=nodes.count,
        max_nodes=nodes.count,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex if alone else module,
        rdzv_backend="c10d" if alone else "static",
        rdzv_endpoint="localhost:0" if alone else nodes.address,
        rdzv_configs={} if alone else {"rank": nodes.rank, "timeout": MEETING_SECONDS},
        max_restarts=0,  # who starts this program again finds the checkpoint; torch would count no exit code as "again"
    )
    config.numa_options = None  # would need numactl, which images do not have
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except SignalException as stopped:
        return INTERRUPTED if stopped.sigval == signal.SIGINT else RESUME_ME
    except ChildFailedError as failed:
        return exit_code([failure.exitcode for failure in failed.failures.values()])
    return 0


def exit_code(codes: Sequence[int]) -> int:
    """Of several ranks, as one; a signal n is 128 + n, as a shell has it.

    1, which trying again does not mend, before all else: the ranks around it die of their neighbour. SIGTERM last: it
    is how the launcher ends the ranks that are left.
    """
    code = min(codes, key=lambda c: (c != 1, c == -signal.SIGTERM, c in (RESUME_ME, INTERRUPTED)))
    return 128 - code if code < 0 else code


def die_with_launcher(environment: Mapping[str, str] = os.environ) -> None:
    """In a rank: a launcher that is killed takes its ranks along, before they write beside the next training's."""
    if LAUNCHER not in environment or "RANK" not in environment:
        return
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):  # Linux
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(environment[LAUNCHER]):
            sys.exit(f"the process that started this rank ({environment[LAUNCHER]}) has ended")


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text: Any = environment.get(name)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{name}={text!r}: expected a whole number of at least 1")
    return int(text)
