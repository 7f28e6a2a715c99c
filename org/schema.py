"""Validation of the charter and the org folder. Imported when one of them changed; needs pydantic.

Each function returns plain dictionaries, or raises BadInput with one line: the file, the field, what is allowed.
"""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from org import strictyaml
from org.errors import BadInput
from org.validation import Id, Positive, validated

Scalar = bool | int | float | str

# What the org puts into the command, and what looks as if it were to be put in. `${NAME}` is a shell's.
PLACEHOLDERS = ("{seed}", "{out}", "{steps}", "{tokens}", "{scale}", "{devices}")
PLACEHOLDER = re.compile(r"(?<!\$)\{\w+(?:![a-z])?(?::[^\s{}\"']*)?\}")


class MetricModel(BaseModel, extra="forbid"):
    name: str = Field(default="val_bpb", min_length=1)
    direction: Literal["lower", "higher"] = "lower"
    range: tuple[float | None, float | None] | None = None

    @field_validator("name")
    @classmethod
    def _a_key(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][\w./@%-]*", name):
            raise ValueError(f"'{name:.60}' cannot be the key of a `key: value` line; write one word, as in val_bpb")
        return name

    @model_validator(mode="after")
    def _a_range(self) -> MetricModel:
        ends = [end for end in self.range or () if end is not None]
        if self.range and (not ends or not all(map(math.isfinite, ends)) or ends != sorted(set(ends))):
            raise ValueError("range is [lowest, highest], null for an open end, as in [0, 1] or [0, null]")
        return self


class KnobModel(BaseModel, extra="forbid"):
    path: str
    group: Id = "main"
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: list[Scalar] | None = None
    retune: bool | None = None

    @model_validator(mode="after")
    def _a_range_or_choices(self) -> KnobModel:
        if (self.low is not None and self.high is not None) == bool(self.choices):
            raise ValueError("give either low and high, or choices")
        if self.low is not None and self.high is not None:
            if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
                raise ValueError("low must be below high")
            if self.log and self.low <= 0:
                raise ValueError("a log range begins above 0")
        return self


class ScaleModel(BaseModel, extra="forbid"):
    steps: Positive
    tokens: Annotated[int, Field(ge=0, strict=True)] = 0
    devices: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    bank: Annotated[int, Field(ge=2, le=64, strict=True)] = 8
    deadline_s: Annotated[float, Field(gt=0)] = 600.0
    eval_tokens: Positive = 65_536


class RefereeModel(BaseModel, extra="forbid"):
    loader: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    splits: str = Field(min_length=1)
    seq_len: Positive = 128
    rows: Positive = 8


class RulesModel(BaseModel, extra="forbid"):
    screen_z: Annotated[float, Field(ge=0)] = 1.0
    tentative_z: Annotated[float, Field(ge=1.64)] = 1.64
    verified_z: Annotated[float, Field(ge=3.09)] = 3.09
    tentative_runs: Annotated[int, Field(ge=2, strict=True)] = 2
    verify_runs: Annotated[int, Field(ge=4, strict=True)] = 4
    verify_single_runs: Annotated[int, Field(ge=8, strict=True)] = 8
    max_attempts: Positive = 3
    queue_ahead: Annotated[int, Field(ge=0, strict=True)] = 1
    refute: bool = False


class CharterModel(BaseModel, extra="forbid"):
    task: str = Field(min_length=1)
    code: str = Field(min_length=1)
    prefix: str = ""
    command: str = Field(min_length=1)
    prepare: str | None = None
    metric: MetricModel = MetricModel()
    editable: list[str] = Field(min_length=1)
    frozen: list[str] = []
    referee: RefereeModel | None = None
    start: dict[str, Scalar] = {}
    scale: str
    scales: dict[Id, ScaleModel] = Field(min_length=1)
    knobs: dict[Id, KnobModel] = {}
    programs: dict[Id, str] = {}
    heads: Literal["together", "apart"] = "together"
    margin: Annotated[float, Field(ge=0)] = 0.0
    exchange: dict[str, float] = {}
    matched: Literal["tokens", "flops", "steps", "wall_s", "params"] = "tokens"
    checks: list[str] = []
    rules: RulesModel = RulesModel()
    env: list[Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]] = []

    @field_validator("editable", "frozen")
    @classmethod
    def _relative(cls, globs: list[str]) -> list[str]:
        for glob in globs:
            if glob.startswith("/") or ".." in Path(glob).parts or not glob:
                raise ValueError(f"'{glob}' must be a path inside the code, such as train.py or src/*.py")
        return globs

    @model_validator(mode="after")
    def _consistent(self) -> CharterModel:
        named = [("command", self.command), ("prepare", self.prepare or ""), *(("checks", c) for c in self.checks)]
        for name, command in named:
            try:
                shlex.split(command)
            except ValueError as error:
                raise ValueError(f"{name}: {str(error).lower()}: {command!r:.80}") from None
        for found in PLACEHOLDER.finditer(self.command):
            if found[0] not in PLACEHOLDERS:
                raise ValueError(f"command: nothing is put in for {found[0]:.40}; it may hold {' '.join(PLACEHOLDERS)}")
        if self.scale not in self.scales:
            raise ValueError(f"scale '{self.scale}' is not one of scales: {', '.join(self.scales)}")
        return self


class RoleModel(BaseModel, extra="forbid"):
    role: Id
    count: Annotated[int, Field(ge=0, le=64, strict=True)] = 1
    name: Id | None = None
    names: str | None = Field(None, pattern=r"^[a-z][a-z0-9_-]{0,20}\{n\}$")
    backend: str | None = None
    max_usd: Annotated[float, Field(gt=0, lt=1e9)] | None = None  # of each seat of this line
    max_tokens: Positive | None = None


class LimitsModel(BaseModel, extra="forbid"):
    """Of all seats together, in one launch."""

    max_usd: Annotated[float, Field(gt=0, lt=1e9)] | None = None
    max_tokens: Positive | None = None


class OrgFolderModel(BaseModel, extra="forbid"):
    about: str = ""
    limits: LimitsModel = LimitsModel()
    seats: list[RoleModel] = Field(min_length=1)


def charter(path: Path) -> dict[str, Any]:
    """The charter file as plain JSON-able dictionaries, defaults filled in. Raises BadInput."""
    return validated(CharterModel, strictyaml.read(path), str(path))


def org_folder(path: Path) -> dict[str, Any]:
    """`<path>/org.yaml` as plain dictionaries, with every role's page present and a text. Raises BadInput."""
    plain = validated(OrgFolderModel, strictyaml.read(path / "org.yaml"), str(path / "org.yaml"))
    for seat in plain["seats"]:
        page = path / "roles" / f"{seat['role']}.md"
        if not page.is_file():
            raise BadInput(f"{path / 'org.yaml'}: role '{seat['role']}' has no page {page}; write it")
        try:
            page.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise BadInput(f"{page} is not UTF-8 text") from None
    return plain
