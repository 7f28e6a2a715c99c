"""The device of a run and its place among the run's processes: threads, precision, exchange, peaks. Frozen for agents.

The only module that speaks to torch.distributed. Knows nothing of models, data or budgets.
"""

import atexit
import contextlib
import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed as dist

from nanochat.command import Problem

# Dense bf16 tensor-core peaks in FLOP/s, from the data sheets, by the whole of the device's name: cut-down cards and
# laptops carry the same letters.
PEAKS = {
    r"H100 PCIe": 756e12,
    r"H100 NVL|H200 NVL": 835e12,
    r"H100( 80GB HBM3| SXM5.*)?|H200|GH200.*": 989e12,
    r"B200": 2250e12,
    r"A100.*": 312e12,
    r"L40S": 362e12,
    r"GeForce RTX 4090": 165e12,
    r"A10": 125e12,
}


@dataclass(frozen=True)
class Machine:
    """The device of this process, and its place among the processes of one run."""

    device: torch.device
    dtype: torch.dtype  # of activations; master weights and optimizer state are fp32 everywhere
    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"

    def wait(self) -> None:
        """Return when the device has done what it was given: before a clock is read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def share(self, rows: int) -> slice:
        """This rank's sequences out of a step's `rows`: the ranks together take what one device would."""
        if rows % self.world:
            raise Problem(
                f"{rows} sequences a step do not divide among {self.world} ranks; change ROWS or their number"
            )
        return slice(self.rank, None, self.world)

    def take(self, t: torch.Tensor) -> torch.Tensor:
        """`t` on the device; the copy overlaps what the device is doing."""
        # contiguous first: a strided copy would go through pageable memory, and wait
        return t.contiguous().pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else t

    def mean(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its mean over the ranks, in one exchange."""
        if self.world == 1:
            return
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        flat /= self.world
        for t, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            t.copy_(mean.view_as(t))

    def from_main(self, number: float) -> float:
        """Rank 0's number, on every rank: so that all of them end at the same step."""
        if self.world == 1:
            return number
        shared = torch.tensor(number, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def peak_flops(self) -> float | None:
        """FLOP/s that no matmul here can beat: looked up for a GPU (all ranks'), measured for a CPU, None if unknown."""
        if self.device.type == "cuda":
            named = self.name.removeprefix("NVIDIA ")
            known = next((peak for pattern, peak in PEAKS.items() if re.fullmatch(pattern, named)), None)
            return known and known * self.world
        a, best = torch.randn(768, 768), float("inf")
        for _ in range(8):  # ~10 ms each; in CPU seconds, so that a neighbour's share of the core is not counted
            started = time.process_time()
            a @ a
            best = min(best, (time.process_time() - started) / torch.get_num_threads())
        return 2 * 768**3 / best * self.world

    def peak_mem_mb(self) -> float:
        """Peak of this process: allocated device memory on CUDA, RSS on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        with contextlib.suppress(OSError, AttributeError):
            # not ru_maxrss: Linux counts what the program that started this one held at that moment
            return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def machine(kind: str = "auto", threads: int | None = None) -> Machine:
    """Find the device, set its threads and precision, and join the other ranks when `torchrun` started this process."""
    if kind == "cuda" and not torch.cuda.is_available():
        raise Problem("--device cuda, but torch sees no CUDA device; use --device cpu")
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # OpenMP takes a list, one a level
    threads = threads or (int(named) if named.isdecimal() and int(named) else 1)
    torch.set_num_threads(threads)
    is_one_of_several = all(os.environ.get(name, "").isdecimal() for name in TORCHRUN)
    world, rank, local = (int(os.environ[name]) for name in TORCHRUN) if is_one_of_several else (1, 0, 0)
    is_cuda = kind != "cpu" and torch.cuda.is_available()
    if is_cuda:
        if local >= torch.cuda.device_count():
            raise Problem(f"rank {rank} has no GPU: {torch.cuda.device_count()} are here; lower --nproc-per-node")
        torch.cuda.set_device(local)
        torch.set_float32_matmul_precision("high")  # TF32 for what is not bf16
    if world > 1:
        dist.init_process_group("nccl" if is_cuda else "gloo")
        atexit.register(dist.destroy_process_group)
    if is_cuda:
        return Machine(torch.device("cuda", local), torch.bfloat16, rank, world)
    return Machine(torch.device("cpu"), torch.float32, rank, world)


TORCHRUN = ("WORLD_SIZE", "RANK", "LOCAL_RANK")


@contextlib.contextmanager
def out_of_memory(machine: Machine, what: str, knob: str) -> Iterator[None]:
    """Turn an allocation that fails inside the block into one line that names what to lower."""
    try:
        yield
    except (
        MemoryError,
        RuntimeError,
    ) as error:  # torch's own OutOfMemoryError is the second; cuBLAS and CPU have words
        words = ("out of memory", "allocate memory", "not enough memory", "ALLOC_FAILED")
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in words):
            raise
        raise Problem(f"out of memory on {machine.name} with {what}; lower {knob}") from error
