"""The referee's child: loads a checkpoint with the candidate's own code and turns tokens into logits. Nothing it says is believed.

Run as a file, never imported by the org: `model_child.py LOADER CHECKPOINT ROWS SEQ_LEN VOCAB TOKENS_FD LOGITS CONTROL_FD`.
Tokens (rows, seq_len) int64 and logits (rows, seq_len, vocab) float32 lie in memory that the referee made: LOGITS is `fd:N`,
or `cuda:` and the parts of an IPC handle. On the control socket: `m` out when that memory is open and the libraries are
imported; `g` in, before which none of the candidate's code runs; `r` out when the model is loaded; then one byte in for
each batch and `d` out when its logits are written. A model of torch gets tensors on its own device; any other callable
gets and returns numpy arrays.
"""

import ast
import base64
import importlib
import importlib.util
import json
import mmap
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    loader, checkpoint = sys.argv[1], sys.argv[2]
    rows, seq_len, vocab, tokens_fd = (int(word) for word in sys.argv[3:7])
    shape = (rows, seq_len, vocab)
    tokens = np.frombuffer(mmap.mmap(tokens_fd, 0), dtype=np.int64).reshape(rows, seq_len)
    kind, _, handle = sys.argv[7].partition(":")
    control = socket.socket(fileno=int(sys.argv[8]))
    module, _, function = loader.partition(":")
    del sys.path[0]  # the org's own code
    logits = opened_on_device(handle, shape) if kind == "cuda" else opened(int(handle), shape)
    import_libraries(Path(*module.split(".")).with_suffix(".py"))
    control.sendall(b"m")
    if not control.recv(1):
        return
    sys.path.insert(0, "")  # the export in the current folder
    model = getattr(importlib.import_module(module), function)(checkpoint)
    answer = of_torch(model, tokens, logits) if is_of_torch(model) else of_numpy(model, tokens, logits)
    control.sendall(b"r")
    while control.recv(1):
        given = answer()
        if given != shape:
            raise SystemExit(f"the model returns {given}, expected {shape} logits")
        control.sendall(b"d")


def import_libraries(path: Path) -> None:
    """Import what the file imports and what is installed: neither the file nor anything else of the tree is run."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return  # it says so itself when it is loaded
    roots = [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
    roots += [node.module for node in body if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    for root in dict.fromkeys(name.partition(".")[0] for name in roots):
        is_of_tree = Path(root).exists() or Path(f"{root}.py").exists()
        if not is_of_tree and importlib.util.find_spec(root) is not None:
            importlib.import_module(root)


def opened(handle: int, shape: tuple[int, int, int]) -> Any:
    return np.frombuffer(mmap.mmap(handle, 0), dtype=np.float32).reshape(shape)


def opened_on_device(handle: str, shape: tuple[int, int, int]) -> Any:
    """The referee's CUDA memory as a tensor. Ends the process where it cannot be opened: the referee falls back."""
    import torch

    parts = [base64.b64decode(p["base64"]) if isinstance(p, dict) else p for p in json.loads(handle)]
    torch.cuda.init()  # type: ignore[no-untyped-call]
    storage = torch.UntypedStorage._new_shared_cuda(*parts)
    whole = torch.empty(0, dtype=torch.float32, device=storage.device).set_(storage)
    return whole[: shape[0] * shape[1] * shape[2]].view(shape)


def is_of_torch(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def of_torch(model: Any, tokens: Any, logits: Any) -> Callable[[], tuple[int, ...]]:
    import torch

    torch.set_grad_enabled(False)
    model.eval()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    given, taken = torch.from_numpy(tokens), torch.as_tensor(logits)

    def answer() -> tuple[int, ...]:
        out = model(given.clone().to(device))
        if out.shape == taken.shape:
            taken.copy_(out.float())
            if taken.is_cuda:
                torch.cuda.synchronize(taken.device)  # written, not queued, before the referee is told
        return tuple(out.shape)

    return answer


def of_numpy(model: Any, tokens: Any, logits: Any) -> Callable[[], tuple[int, ...]]:
    def answer() -> tuple[int, ...]:
        out = np.asarray(model(tokens.copy()))
        if out.shape == tuple(logits.shape):
            logits[:] = out
        return out.shape

    return answer


if __name__ == "__main__":
    main()
