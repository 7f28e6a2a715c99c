"""The data types of the org: frozen, plain, each equal to what a file holds. No behaviour beyond derived values.

Times are UTC ISO-8601 text in files; durations are monotonic seconds as float; metrics are floats in the charter's unit.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

PERSON = "person"  # the backend of a seat without a program: a person or a script works there
BANK = "E0000"  # the experiment whose runs are the base's own
PROTOCOL = 1  # version of the run folder: spec.json, status.json, result.json, log.txt

Outcome = Literal["win", "holds", "loss", "null", "invalid", "crash", "lost"]
KEPT: tuple[Outcome, ...] = ("win", "holds")  # what a claim was shown by
Tier = Literal["tentative", "verified"]
Stage = Literal["bank", "search", "verify", "promote", "refute"]
Trust = Literal["referee", "reported"]


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _filled(v) for k, v in value.items() if v not in (None, (), [], "")}
    return [_filled(v) for v in value] if isinstance(value, list | tuple) else value


class Record:
    """Mixin: to and from the plain dictionaries that JSON files hold; unknown keys are ignored on the way in."""

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: value for key, value in row.items() if key in known})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def misfit(cls, row: Mapping[str, Any]) -> str:
        """Why `row`, as JSON holds it, is none of these: a field that is missing or of another type; "" when it is one."""
        for name, is_needed, fits in _checks(cls):  # type: ignore[arg-type]
            if name in row:
                if not fits(row[name]):
                    return f"its {name} cannot be {row[name]!r:.60}"
            elif is_needed:
                return f"it has no {name}"
        return ""


@functools.cache
def _checks(cls: type) -> list[tuple[str, bool, Callable[[Any], bool]]]:
    """(field, whether it has no default, what its value has to pass), worked out once a class."""
    hints = get_type_hints(cls)
    return [(f.name, f.default is MISSING and f.default_factory is MISSING, _check(hints[f.name])) for f in fields(cls)]


def _check(hint: Any) -> Callable[[Any], bool]:
    """Whether a value from JSON may stand in a field of this type: a list is a tuple there, an int a float."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: True
    if origin is Literal:
        return lambda value: isinstance(value, str) and value in parts
    if origin in (Union, types.UnionType):
        ways = [_check(part) for part in parts]
        return lambda value: any(fits(value) for fits in ways)
    if origin in (list, tuple):
        each = _check(parts[0])
        return lambda value: isinstance(value, list | tuple) and all(map(each, value))
    if origin is dict:
        worth = _check(parts[1])
        return lambda value: isinstance(value, dict) and all(map(worth, value.values()))
    if isinstance(hint, type) and issubclass(hint, Record):
        return lambda value: isinstance(value, dict) and not hint.misfit(value)
    if hint in (int, float):
        plain = int if hint is int else (int, float)
        return lambda value: isinstance(value, plain) and not isinstance(value, bool)
    return lambda value: isinstance(value, hint)


# --- the charter -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric(Record):
    name: str = "val_bpb"
    direction: Literal["lower", "higher"] = "lower"
    range: tuple[float | None, float | None] | None = None  # what it can be, None where an end is open

    @property
    def sign(self) -> int:
        """Multiply an improvement in the metric's own direction by this: +1 when lower is better gives (base - candidate)."""
        return 1 if self.direction == "lower" else -1


@dataclass(frozen=True)
class Knob(Record):
    """One named constant that research may turn. `choices` for discrete ones, else `low`..`high`."""

    name: str  # the constant's name in the code, any case
    path: str
    group: str = "main"  # the chief makes one program of each group
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()
    retune: bool | None = None  # a learning rate, as refutations re-tune it; None: by its name, see evidence.refute


@dataclass(frozen=True)
class Scale(Record):
    """One rung of the ladder."""

    name: str
    steps: int
    tokens: int = 0  # for trainers whose budget is tokens; {tokens} in the command
    devices: int = 1  # that one run holds, all of them or none
    bank: int = 8  # baseline runs at launch
    deadline_s: float = 600.0  # for the whole process tree of one training run
    eval_tokens: int = 65_536


@dataclass(frozen=True)
class RefereeSpec(Record):
    """How the org scores a checkpoint with code of its own. Absent from a charter: the printed summary counts, trust `reported`."""

    loader: str  # "nanochat.train:load": checkpoint folder -> module mapping (B, T) int64 -> (B, T, V) float logits
    splits: str  # command that writes val.bin, hidden.bin, token_bytes.bin, meta.json into {dir}
    seq_len: int = 128
    rows: int = 8


@dataclass(frozen=True)
class Rules(Record):
    """Thresholds of section 7; a charter can tighten them."""

    screen_z: float = 1.0
    tentative_z: float = 1.64
    verified_z: float = 3.09
    tentative_runs: int = 2
    verify_runs: int = 4  # per arm, fresh seeds, for a stack
    verify_single_runs: int = 8
    max_attempts: int = 3  # of one run that the org lost
    queue_ahead: int = 1  # experiments a seat may have waiting beside the running one
    refute: bool = False  # idle devices try to refute tentative wins, with or without a breaker


@dataclass(frozen=True)
class Charter(Record):
    """prompts/charter.yaml as validated. See docs in that file; built by `org.charter.load`."""

    task: str
    code: str
    command: str  # with {seed} {out} {steps} {tokens} {scale} {devices}
    metric: Metric
    editable: tuple[str, ...]
    frozen: tuple[str, ...]
    scales: dict[str, Scale]
    scale: str  # where the search happens
    prefix: str = ""  # where the code lies in the research tree
    prepare: str | None = None
    referee: RefereeSpec | None = None
    start: dict[str, Any] = field(default_factory=dict)  # constants set at import: the openly plain recipe
    knobs: dict[str, Knob] = field(default_factory=dict)
    margin: float = 0.0
    exchange: dict[str, float] = field(default_factory=dict)  # metric units per unit of an axis
    matched: str = "tokens"
    checks: tuple[str, ...] = ()
    rules: Rules = field(default_factory=Rules)
    env: tuple[str, ...] = ()  # further variable names a trainer may see
    programs: dict[str, str] = field(default_factory=dict)  # group -> one sentence for people
    heads: Literal["together", "apart"] = "together"  # whether programs on one head stack their wins and move together

    @property
    def home_scale(self) -> Scale:
        return self.scales[self.scale]


# --- runs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunSpec(Record):
    """spec.json: everything the runner may know. Written before the run starts, never changed."""

    run: str  # "E0042/candidate-s3"
    experiment: str
    arm: str  # baseline | candidate | ablation-…
    seed: int
    stage: Stage
    commit: str
    tree: str
    scale: str
    steps: int
    device: str  # "gpu0"; of a gang every one it holds, "gpu0+gpu1"
    device_kind: str
    command: list[str]
    env: dict[str, str]
    frozen_commit: str  # the base commit whose frozen files are laid over the export
    frozen: list[str]
    deadline_s: float
    eval_tokens: int
    referee: dict[str, Any] | None
    metric: str
    created: str
    software: str
    setting: str  # digest of everything beside tree and seed that a number depends on; see lab.spec
    attempt: int = 1
    protocol: int = PROTOCOL

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self.device.split("+"))


@dataclass(frozen=True)
class RunResult(Record):
    """result.json and the ledger's `result` line. `metric` is None unless status is "ok"."""

    run: str
    experiment: str
    arm: str
    seed: int
    stage: str
    status: Literal["ok", "crash", "lost", "timeout", "invalid"]
    commit: str
    tree: str
    scale: str
    device: str
    device_kind: str
    metric: float | None = None  # on the validation split, by the referee (or reported)
    hidden: float | None = None  # on the hidden split, verification runs only
    trust: Trust = "referee"
    reason: str = ""  # one line when the status is not ok
    attempt: int = 1
    params: int | None = None
    flops: float | None = None
    tokens: int | None = None
    steps: int | None = None
    first_step_s: float | None = None
    train_s: float | None = None
    compile_s: float | None = None
    eval_s: float | None = None
    total_s: float | None = None  # of the whole run, by the org's clock: what its devices were held for
    cpu_s: float | None = None  # processor seconds of the whole training tree, by the org's count
    vram_mb: float | None = None  # peak memory of the process tree (RSS on a CPU)
    data_hash: str | None = None
    software: str | None = None
    setting: str = ""  # runs are comparable, and cached for each other, only within one setting
    started: str | None = None
    ended: str | None = None
    probes: dict[str, Any] = field(default_factory=dict)
    log: str = ""  # digest of log.txt when the run ended; "" where nobody saw that end
    protocol: int = PROTOCOL

    @property
    def is_ok(self) -> bool:
        return self.status == "ok" and self.metric is not None

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self.device.split("+"))

    @property
    def held_s(self) -> float:
        """Device-seconds: a run on two devices holds twice its seconds. 0.0 where no clock saw it."""
        seconds = self.total_s if self.total_s is not None and math.isfinite(self.total_s) else 0.0
        return seconds * len(self.devices)


# --- experiments and verdicts ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Violation(Record):
    rule: str
    path: str | None
    line: int | None
    message: str


@dataclass(frozen=True)
class KnobChange(Record):
    name: str
    path: str
    line: int
    old: Any
    new: Any


@dataclass(frozen=True)
class Contract(Record):
    """contract.yaml: what was derived from the diff, the charter and the ledger, written down for people to read."""

    experiment: str
    why: str
    claim: str  # "better" | "no-worse:lines" …
    expect: float | None  # predicted change of the metric, candidate - baseline
    seat: str
    program: str
    commit: str
    tree: str
    baseline_commit: str
    baseline_tree: str
    scale: str
    stage: Stage
    matched: str
    control: str = (
        ""  # "flops": the candidate's budget is cut or stretched to the baseline's FLOPs; see evidence.control
    )
    knobs: tuple[KnobChange, ...] = ()
    new_constants: tuple[str, ...] = ()
    lines_added: int = 0
    lines_removed: int = 0
    ablations_owed: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    members: tuple[str, ...] = ()  # experiments merged into a stack
    promotes: str | None = None  # the experiment that this re-tests at another scale
    refutes: str | None = None  # the tentative win that this tries to refute
    attack: str = ""  # how: "seeds", "matched", "without WIDTH" …; see evidence.refute
    attacks: tuple[str, ...] = ()  # all that the claim has to stand
    shows: float = 0.0  # the gain that the claim has to show under this one, in the metric's unit
    risk: float = 0.0  # that a gain so large is refuted all the same
    demands: tuple[str, ...] = ()  # what the touched intents ask to be shown, "id: demand"
    owed_scales: tuple[str, ...] = ()  # where a win has to carry to before it is stacked or verified
    idea: str | None = None
    idea_expect: float | None = None  # the effect that the idea's page predicted when this was filed
    cites: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    backend: str = ""
    created: str = ""
    code: str = ""  # what the editable files run, in a few digits: equal for the same code in other clothes

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        row = dict(row)
        row["knobs"] = tuple(KnobChange.from_dict(k) for k in row.get("knobs") or ())
        for name in (
            "new_constants",
            "ablations_owed",
            "seeds",
            "members",
            "attacks",
            "cites",
            "notices",
            "demands",
            "owed_scales",
        ):
            row[name] = tuple(row.get(name) or ())
        return super().from_dict(row)

    def page(self) -> dict[str, Any]:
        """What contract.yaml holds, for people: everything but the empty fields."""
        return _filled(self.to_dict())  # type: ignore[no-any-return]

    @property
    def description(self) -> str:
        """One line for tables: the knobs if that is all, else why; and under which control."""
        turned = ", ".join(f"{k.name} {k.old}→{k.new}" for k in self.knobs)
        said = f"{turned} ({self.why})" if turned and turned not in self.why else self.why
        return f"{said} [control: {self.control}]" if self.control else said

    def measured_again(self, **changes: Any) -> Contract:
        """The draft of another experiment on this commit, by the org: nobody's prediction, so that no calibration counts it, and
        nothing that its proposer asked for or owes."""
        own: dict[str, Any] = {"experiment": "E????", "expect": None, "idea": None, "idea_expect": None, "backend": ""}
        own |= dict.fromkeys(("ablations_owed", "demands", "owed_scales", "members", "cites", "notices"), ())
        return replace(self, **own, **changes)


@dataclass(frozen=True)
class Verdict(Record):
    """Outcome of one experiment. `effect` is candidate - baseline in the metric's unit; `se` its standard error;
    `z` is positive when better. A re-test at another scale has no tier: it carries a claim or it does not."""

    experiment: str
    outcome: Outcome
    tier: Tier | None
    claim: str
    effect: float | None
    se: float | None
    z: float | None
    n: int  # candidate runs it rests on
    matched_on: str
    trust: Trust
    reasons: tuple[str, ...]
    runs: tuple[str, ...]  # every run it rests on, both arms
    matching: dict[str, dict[str, float | None]] = field(default_factory=dict)  # axis -> {baseline, candidate}
    sigma: float | None = None
    sigma_df: int = 0
    paired: bool = False
    split: Literal["val", "hidden"] = "val"
    expect: float | None = None
    net: float | None = None  # effect after exchange rates

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        row = dict(row)
        for name in ("reasons", "runs"):
            row[name] = tuple(row.get(name) or ())
        return super().from_dict(row)


# --- seats and mail ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seat(Record):
    """seat.json: one agent's place. Its state is computed, not stored."""

    name: str
    role: str
    backend: str
    program: str
    branch: str
    worktree: str
    device: str | None  # its home device
    created: str
    session: str = ""  # the agent program's own session id, to resume by

    def moved(self, program: str, branch: str) -> Seat:
        return Seat(**{**asdict(self), "program": program, "branch": branch})


@dataclass(frozen=True)
class Letter(Record):
    id: str
    sender: str
    to: str
    kind: Literal["task", "report", "question", "review", "note", "verdict"]
    created: str
    body: str
    about: str | None = None
    reply_to: str | None = None
    signature: str = ""
    verified: bool = False
