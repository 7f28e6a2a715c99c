"""The referee's child: loads a checkpoint with the candidate's own code and turns tokens into logits. Nothing it says is believed.

Run as a file, never imported by the org: `model_child.py LOADER CHECKPOINT ROWS SEQ_LEN VOCAB TOKENS_FD LOGITS_FD CONTROL_FD`.
Tokens (rows, seq_len) int64 and logits (rows, seq_len, vocab) float32 lie in memory that the referee made. One byte in on
the control socket: a batch is ready; one byte out: its logits are written. A model of torch gets tensors on its own
device; any other callable gets and returns numpy arrays.
"""

import importlib
import mmap
import socket
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def main() -> None:
    loader, checkpoint = sys.argv[1], sys.argv[2]
    rows, seq_len, vocab, tokens_fd, logits_fd, control_fd = (int(a) for a in sys.argv[3:])
    sys.path[0] = ""  # the export in the current folder, not the org's own code
    module, _, function = loader.partition(":")
    model = getattr(importlib.import_module(module), function)(checkpoint)
    shape = (rows, seq_len, vocab)
    tokens = np.frombuffer(mmap.mmap(tokens_fd, 0), dtype=np.int64).reshape(rows, seq_len)
    logits = np.frombuffer(mmap.mmap(logits_fd, 0), dtype=np.float32).reshape(shape)
    answer = of_torch(model, tokens, logits) if is_of_torch(model) else of_numpy(model, tokens, logits)
    with socket.socket(fileno=control_fd) as control:
        control.sendall(b"r")
        while control.recv(1):
            given = answer()
            if given != shape:
                raise SystemExit(f"the model returns {given}, expected {shape} logits")
            control.sendall(b"d")


def is_of_torch(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def of_torch(model: Any, tokens: Any, logits: Any) -> Callable[[], tuple[int, ...]]:
    import torch

    torch.set_grad_enabled(False)
    model.eval()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    given, taken = torch.from_numpy(tokens), torch.from_numpy(logits)

    def answer() -> tuple[int, ...]:
        out = model(given.clone().to(device))
        if out.shape == taken.shape:
            taken.copy_(out.float())
        return tuple(out.shape)

    return answer


def of_numpy(model: Any, tokens: Any, logits: Any) -> Callable[[], tuple[int, ...]]:
    def answer() -> tuple[int, ...]:
        out = np.asarray(model(tokens.copy()))
        if out.shape == logits.shape:
            logits[:] = out
        return out.shape

    return answer


if __name__ == "__main__":
    main()
