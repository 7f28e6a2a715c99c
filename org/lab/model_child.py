"""The referee's child: loads a checkpoint with the candidate's own code and turns tokens into logits. Nothing it says is believed.

Run as a file, never imported by the org: `model_child.py LOADER CHECKPOINT ROWS SEQ_LEN VOCAB TOKENS_FD LOGITS_FD CONTROL_FD`.
Tokens (rows, seq_len) int64 and logits (rows, seq_len, vocab) float32 lie in memory that the referee made. One byte in on
the control socket: a batch is ready; one byte out: its logits are written.
"""

import importlib
import mmap
import socket
import sys


def main() -> None:
    loader, checkpoint = sys.argv[1], sys.argv[2]
    rows, seq_len, vocab, tokens_fd, logits_fd, control_fd = (int(a) for a in sys.argv[3:])
    sys.path[0] = ""  # the export in the current folder, not the org's own code
    import torch

    torch.set_grad_enabled(False)
    module, _, function = loader.partition(":")
    model = getattr(importlib.import_module(module), function)(checkpoint)
    model.eval()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    tokens_map, logits_map = mmap.mmap(tokens_fd, 0), mmap.mmap(logits_fd, 0)
    tokens = torch.frombuffer(tokens_map, dtype=torch.int64).view(rows, seq_len)
    logits = torch.frombuffer(logits_map, dtype=torch.float32).view(rows, seq_len, vocab)
    with socket.socket(fileno=control_fd) as control:
        control.sendall(b"r")
        while control.recv(1):
            out = model(tokens.clone().to(device))
            if tuple(out.shape) != (rows, seq_len, vocab):
                raise SystemExit(f"the model returns {tuple(out.shape)}, expected {(rows, seq_len, vocab)} logits")
            logits.copy_(out.float())
            control.sendall(b"d")


if __name__ == "__main__":
    main()
