"""Let a checkpoint write: `python -m nanochat.sample runs/a --prompt "def "`, to see what the model learned.

Text goes to stdout as it comes, speed to stderr. Reads nothing but the checkpoint's folder, and that as data only.
"""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C ends it quietly at any moment, the imports included
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))

import argparse
import codecs
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from nanochat.command import Flags, Problem, exit_code
from nanochat.harness import read_checkpoint
from nanochat.model import GPT, Cache
from nanochat.prepare import tokenizer
from nanochat.train import load


@torch.no_grad()
def generate(
    model: GPT, prompt: list[int], temperature: float, top_k: int | None, rng: torch.Generator
) -> Iterator[int]:
    """Token ids after `prompt` (at least one id), without end. Each costs one pass over one token: keys and values of
    those before are kept. temperature 0: always the likeliest; top_k: only among that many."""
    device = next(model.parameters()).device
    caches = [Cache() for _ in range(model.config.n_layer)]
    tokens = torch.tensor([prompt], device=device)  # (1, T)
    while True:
        logits = model(tokens, caches)[0, -1].cpu()  # (V,); drawn on the CPU: one seed, one text on every device
        if not logits.isfinite().all():
            raise Problem("the model's logits are not numbers; train it again")
        if top_k is not None:
            logits[logits < logits.topk(min(top_k, len(logits))).values[-1]] = -torch.inf
        if temperature == 0:
            chosen = int(logits.argmax())
        else:
            chosen = int(torch.multinomial(torch.softmax(logits / temperature, dim=0), 1, generator=rng))
        yield chosen
        tokens = torch.tensor([[chosen]], device=device)


def main() -> None:
    flags = Flags(prog="python -m nanochat.sample", description=(__doc__ or "").partition("\n")[0])
    flags.add_argument("run", type=Path, metavar="DIR", help="what --out named when it was trained")
    flags.add_argument("--prompt", default="", help="text to go on from; none: the beginning of a document")
    flags.add_argument("--tokens", type=int, default=256, help="at most; a document may end before")
    flags.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest token; 1: as trained")
    flags.add_argument("--top-k", type=int, help="draw among this many likeliest tokens only")
    flags.add_argument("--seed", type=int, default=1, help="another seed, another text")
    flags.add_argument("--device", default="cpu", help="cpu or cuda; a small model is as fast on a CPU")
    args = flags.parse_args()
    check(args)
    sys.stdout.reconfigure(errors="replace")  # a terminal may not know every character
    folder = args.run if (args.run / "model.pt").exists() else args.run / "checkpoint"
    model = load(folder, args.device)
    try:
        encoding = tokenizer(read_checkpoint(folder)["tokenizer"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(f"{folder} has a tokenizer that cannot be read; train it again") from error
    if encoding.n_vocab != model.config.vocab_size:
        raise Problem(f"{folder} has a tokenizer of {encoding.n_vocab} ids for a model of {model.config.vocab_size}")
    bos = encoding.n_vocab - 1
    text = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a token may end inside a character
    started, count = time.perf_counter(), 0
    print(args.prompt, end="", flush=True)
    prompt = [bos, *encoding.encode_ordinary(args.prompt)]
    rng = torch.Generator().manual_seed(args.seed)
    for token in generate(model, prompt, args.temperature, args.top_k, rng):
        count += 1
        if token == bos:  # the next document would begin
            break
        print(text.decode(encoding.decode_single_token_bytes(token)), end="", flush=True)
        if count == args.tokens:
            break
    print(text.decode(b"", final=True))
    print(f"{count} tokens, {count / (time.perf_counter() - started):.0f} a second", file=sys.stderr)


def check(args: argparse.Namespace) -> None:
    """Raises Problem for a flag that cannot be meant."""
    if args.tokens < 1:
        raise Problem(f"--tokens is {args.tokens}, at least 1 is needed", code=2)
    if args.temperature != 0 and not 0.01 <= args.temperature <= 100:
        raise Problem(f"--temperature is {args.temperature}, 0 or 0.01 to 100 is needed", code=2)
    if not 0 <= args.seed < 2**63:
        raise Problem(f"--seed is {args.seed}, 0 to 2**63 - 1 is needed", code=2)
    if args.top_k is not None and args.top_k < 1:
        raise Problem(f"--top-k is {args.top_k}, at least 1 is needed", code=2)
    if args.device not in ("cpu", "cuda") or (args.device == "cuda" and not torch.cuda.is_available()):
        raise Problem(f"--device {args.device}: torch sees no such device; use cpu", code=2)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
