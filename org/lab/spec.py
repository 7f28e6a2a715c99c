"""The spec of one run: everything the runner may know, made from the charter, the want and the devices."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from org import files
from org.evidence.rules import matches_any
from org.home import Home
from org.lab.runner import software
from org.lab.wants import Want
from org.records import Charter, RunSpec
from org.world import devices, git


def build(
    home: Home, charter: Charter, base: str, want: Want, gang: Sequence[devices.Device], attempt: int, name: str
) -> RunSpec:
    scale = charter.scales[want.scale]
    steps, tokens = want.steps or scale.steps, want.tokens or scale.tokens
    values = {"{seed}": want.seed, "{steps}": steps, "{tokens}": tokens, "{scale}": scale.name}
    values |= {"{devices}": len(gang)}
    command = []
    for part in shlex.split(charter.command):
        for key, value in values.items():
            part = part.replace(key, str(value))
        command.append(sys.executable if part in ("python", "python3") else part)
    frozen = [e.path for e in git.list_tree(home.record, base) if matches_any(e.path, charter.frozen)]
    markers = dict(home.lease_marker(device.name).split("=", 1) for device in gang)
    return RunSpec(
        run=name if attempt == 1 else f"{name}-r{attempt}",
        experiment=want.experiment,
        arm=want.arm,
        seed=want.seed,
        stage=want.stage,
        commit=want.commit,
        tree=want.tree,
        scale=scale.name,
        steps=steps,
        device="+".join(device.name for device in gang),
        device_kind=gang[0].kind,
        command=command,
        env={
            **trainer_environment(charter),
            **devices.device_env(*gang),
            "RUN_SEED": str(want.seed),
            "RUN_STEPS": str(steps),
            "RUN_SCALE": scale.name,
            "RUN_DEVICES": str(len(gang)),
            **markers,
            "ORG_KEY": home.key,
        },
        frozen_commit=base,
        frozen=frozen,
        deadline_s=scale.deadline_s * max(1.0, steps / scale.steps),
        eval_tokens=scale.eval_tokens,
        referee=vars(charter.referee) if charter.referee else None,
        metric=charter.metric.name,
        created=files.utc_now(),
        software=software(),
        setting=want.setting,
        attempt=attempt,
    )


def setting(
    charter: Charter, scale: str, device_kind: str, steps: int = 0, tokens: int = 0, is_probe: bool = False
) -> str:
    """Digest of everything beside tree and seed that a number depends on: the budget, the command, how it is scored, the
    kind of device and how many where a run holds several, the software. Arms are cached and compared only within one.
    steps, tokens: a control's budget, 0 the scale's; a probe, which is no arm, has settings of its own."""
    rung = charter.scales[scale]
    budget = [rung.name, steps or rung.steps, tokens or rung.tokens, rung.eval_tokens]
    parts: dict[str, Any] = {
        "scale": [*budget, "probe"] if is_probe else budget,
        "command": charter.command,
        "metric": charter.metric.name,
        "referee": vars(charter.referee) if charter.referee else None,
        "device": device_kind,
        "software": software(),
    }
    if rung.devices > 1:  # left out for one, so that what was measured before there were gangs still counts
        parts["devices"] = rung.devices
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def digest_of(charter: Charter, scale: str, device_kind: str) -> Callable[[int, int, bool], str]:
    """`setting` as a function of steps, tokens and whether it is a probe."""
    return lambda steps, tokens, is_probe: setting(charter, scale, device_kind, steps, tokens, is_probe)


def trainer_environment(charter: Charter) -> dict[str, str]:
    """The allow-list: what a trainer needs to find its interpreter and its cache, and what the charter names."""
    keep = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", *charter.env)
    return {name: os.environ[name] for name in keep if name in os.environ} | {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
    }


def runner_environment(home: Home) -> dict[str, str]:
    keep = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "ORG_FAILPOINT")
    return {name: os.environ[name] for name in keep if name in os.environ} | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "ORG_KEY": home.key,
    }
