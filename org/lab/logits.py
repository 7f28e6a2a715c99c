"""Where a model's logits land: memory that the referee made and the model's process writes, and what is taken from it.

On a CPU it is a file in memory, on a GPU a CUDA allocation of its own: logits stay on the device, and of a batch only the
losses and the few rows that the probes compare come back. Nothing that the other process sends is parsed: it gets a
place to write, and one byte says that it has.
"""

from __future__ import annotations

import base64
import json
import mmap
import os
from typing import Any

Shape = tuple[int, int, int]  # (rows, seq_len, vocab)

# A CUDA handle opens the whole allocation a tensor lies in. One this large shares its own with nothing else of ours: the
# caching allocator packs what is below 10 MB together.
ALONE_BYTES = 32 * 2**20


class HostLogits:
    """(rows, seq_len, vocab) float32 in a file in memory."""

    where = "host"

    def __init__(self, shape: Shape) -> None:
        import numpy as np

        rows, seq_len, vocab = shape
        handle = os.memfd_create("org-logits")
        os.ftruncate(handle, rows * seq_len * vocab * 4)
        self._logits = np.frombuffer(mmap.mmap(handle, 0), dtype=np.float32).reshape(shape)
        self.argument, self.handles = f"fd:{handle}", (handle,)

    def snapshot(self) -> Any:
        """A copy of the referee's own: the child could still write to the shared memory while the loss is taken."""
        return self._logits.copy()

    @staticmethod
    def losses(scores: Any, targets: Any) -> Any:
        """Cross-entropy in nats, (rows, seq_len) float64, of a snapshot at targets (rows, seq_len) int64."""
        import numpy as np

        top = scores.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(scores - top).sum(axis=-1, dtype=np.float64)) + top[..., 0]
        return log_sum - np.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]

    @staticmethod
    def at(scores: Any, row: int, positions: Any) -> Any:
        """(positions, vocab) float32 of one row of a snapshot."""
        return scores[row, positions].copy()


class CudaLogits:
    """The same on the visible GPU. Raises RuntimeError where memory cannot be shared."""

    where = "device"
    handles: tuple[int, ...] = ()

    def __init__(self, shape: Shape) -> None:
        import torch

        if not torch.cuda.is_available():
            raise RuntimeError("torch sees no CUDA device")
        rows, seq_len, vocab = shape
        count = rows * seq_len * vocab
        torch.cuda.empty_cache()  # or it is cut from a block that was used before, whose rest is then shared too
        self._memory = torch.empty(max(count, ALONE_BYTES // 4), dtype=torch.float32, device="cuda")
        self._logits = self._memory[:count].view(shape)
        parts = self._memory.untyped_storage()._share_cuda_()  # type: ignore[no-untyped-call]
        self.argument = "cuda:" + json.dumps([_word(part) for part in parts])

    def snapshot(self) -> Any:
        return self._logits.clone()

    @staticmethod
    def losses(scores: Any, targets: Any) -> Any:
        import torch

        top = scores.amax(dim=-1, keepdim=True)
        log_sum = (scores - top).exp().sum(dim=-1, dtype=torch.float64).log() + top[..., 0]
        chosen = scores.gather(-1, torch.as_tensor(targets, device=scores.device)[..., None])[..., 0]
        return (log_sum - chosen).cpu().numpy()

    @staticmethod
    def at(scores: Any, row: int, positions: Any) -> Any:
        import torch

        return scores[row, torch.as_tensor(positions, device=scores.device)].cpu().numpy()


Logits = HostLogits | CudaLogits


def memory(shape: Shape, device: str) -> Logits:
    """The memory for a run on `device`: on its GPU where torch finds one that can share, else the host's."""
    if device.startswith("gpu"):
        try:
            return CudaLogits(shape)
        except (ImportError, RuntimeError):
            pass  # no CUDA build of torch, or a driver that shares nothing; `probes.logits` of the result says so
    return HostLogits(shape)


def _word(part: Any) -> Any:
    return {"base64": base64.b64encode(part).decode()} if isinstance(part, bytes) else part
