"""What scoring costs beside training: `scripts/bench evaluation [SCALE…]`, one run of the base at each scale of the charter.

The whole of it counts: the referee's start, two children that load the checkpoint, both passes. Three minutes on a quiet core.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from org import files
from org.cli import init
from org.home import Home
from org.lab import dispatch, ledger

SHARE = 0.10  # of the run, at std and above
SMOKE_S = 3.0


def scored(folder: Path, scale: str) -> tuple[float, float, int]:
    """(seconds of the whole run, seconds of its scoring, tokens scored) of one run of the base at `scale`."""
    text = (ROOT / "prompts" / "charter.yaml").read_text()
    text = re.sub(
        r"^code: nanochat",
        f"code: {ROOT / 'nanochat'}",
        re.sub(r"^scale: \w+", f"scale: {scale}", text, flags=re.MULTILINE),
        flags=re.MULTILINE,
    )
    text = re.sub(r"bank: \d+", "bank: 2", text)
    home = Home(folder / scale)
    init.make(home.root, text, with_all=True)
    files.replace_json(home.org_file, {"devices_spec": "cpu:1"})
    dispatcher = dispatch.Dispatcher(home)
    while not (results := ledger.read(home).results):
        dispatcher.tick(allow_new=not dispatcher.running())
        time.sleep(0.2)
    run = next(iter(results.values()))
    assert run.is_ok, run.reason
    return run.total_s or 0.0, run.eval_s or 0.0, int(run.probes["eval_tokens"])


def main() -> None:
    print(f"{'scale':8} {'run':>8} {'scoring':>8} {'share':>6}  tokens scored")
    for scale in sys.argv[1:] or ("smoke", "demo", "std"):
        with tempfile.TemporaryDirectory(prefix="org-eval-") as folder:
            whole, scoring, tokens = scored(Path(folder).resolve(), scale)
        limit = f"at most {SMOKE_S:g} s" if scale == "smoke" else f"at most {SHARE:.0%}" if scale != "demo" else ""
        print(f"{scale:8} {whole:6.1f} s {scoring:6.2f} s {scoring / whole:6.1%}  {tokens}  {limit}", flush=True)


if __name__ == "__main__":
    main()
