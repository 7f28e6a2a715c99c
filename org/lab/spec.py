"""The spec of one run: everything the runner may know, made from the charter, the want and the device."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from pathlib import Path

from org import files
from org.evidence.rules import matches_any
from org.home import Home
from org.lab.runner import software
from org.lab.wants import Want
from org.records import Charter, RunSpec
from org.world import devices, git


def build(
    home: Home, charter: Charter, base: str, want: Want, device: devices.Device, attempt: int, name: str
) -> RunSpec:
    scale = charter.scales[want.scale]
    values = {"{seed}": want.seed, "{steps}": scale.steps, "{tokens}": scale.tokens, "{scale}": scale.name}
    command = []
    for part in shlex.split(charter.command):
        for key, value in values.items():
            part = part.replace(key, str(value))
        command.append(sys.executable if part in ("python", "python3") else part)
    frozen = [e.path for e in git.list_tree(home.record, base) if matches_any(e.path, charter.frozen)]
    marker, _, value = home.lease_marker(device.name).partition("=")
    return RunSpec(
        run=name if attempt == 1 else f"{name}-r{attempt}",
        experiment=want.experiment,
        arm=want.arm,
        seed=want.seed,
        stage=want.stage,
        commit=want.commit,
        tree=want.tree,
        scale=scale.name,
        steps=scale.steps,
        device=device.name,
        device_kind=device.kind,
        command=command,
        env={
            **trainer_environment(charter),
            **devices.device_env(device),
            "RUN_SEED": str(want.seed),
            "RUN_STEPS": str(scale.steps),
            "RUN_SCALE": scale.name,
            marker: value,
            "ORG_KEY": home.key,
        },
        frozen_commit=base,
        frozen=frozen,
        deadline_s=scale.deadline_s,
        eval_tokens=scale.eval_tokens,
        referee=vars(charter.referee) if charter.referee else None,
        metric=charter.metric.name,
        created=files.utc_now(),
        software=software(),
        setting=setting(charter, scale.name, device.kind),
        attempt=attempt,
    )


def setting(charter: Charter, scale: str, device_kind: str) -> str:
    """Digest of everything beside tree and seed that a number depends on: the budget, the command, how it is scored, the
    kind of device, the software. Arms are cached and compared only within one setting."""
    rung = charter.scales[scale]
    parts = {
        "scale": [rung.name, rung.steps, rung.tokens, rung.eval_tokens],
        "command": charter.command,
        "metric": charter.metric.name,
        "referee": vars(charter.referee) if charter.referee else None,
        "device": device_kind,
        "software": software(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


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
