"""The charter in force: read the validated copy when the file has not changed, validate it once when it has.

Cheap on purpose: what agents call all day must not import pydantic. The first reader after an edit pays for the check.
"""

from __future__ import annotations

import hashlib
from typing import Any

from org import files
from org.errors import BadInput
from org.home import Home
from org.records import Charter, Knob, Metric, RefereeSpec, Rules, Scale


def load(home: Home) -> Charter:
    """The charter of `home`. Raises BadInput (exit 2) naming the field and the allowed form."""
    digest = charter_hash(home)
    cached = files.read_json(home.charter_cache)
    if isinstance(cached, dict) and cached.get("hash") == digest:
        return from_plain(cached["charter"])
    from org import schema

    plain = schema.charter(home.charter)
    if home.comms.is_dir():
        files.replace_json(home.charter_cache, {"hash": digest, "charter": plain})
    return from_plain(plain)


def charter_hash(home: Home) -> str:
    """First 16 hex digits of the charter file's sha256. Raises BadInput when it is missing."""
    try:
        return hashlib.sha256(home.charter.read_bytes()).hexdigest()[:16]
    except FileNotFoundError:
        next_step = f"put it back, or remove {home.task_file}" if home.adopted else "make a home with `org init DIR`"
        raise BadInput(f"{home.charter} is missing; {next_step}") from None


def from_plain(row: dict[str, Any]) -> Charter:
    """A Charter from the plain dictionary that `schema.charter` returns."""
    row = dict(row)
    span = row["metric"].get("range")
    row["metric"] = Metric.from_dict({**row["metric"], "range": (span[0], span[1]) if span else None})
    row["scales"] = {name: Scale.from_dict({"name": name, **scale}) for name, scale in row["scales"].items()}
    row["referee"] = RefereeSpec.from_dict(row["referee"]) if row.get("referee") else None
    row["rules"] = Rules.from_dict(row.get("rules") or {})
    row["knobs"] = {
        name: Knob.from_dict({"name": name, **knob, "choices": tuple(knob.get("choices") or ())})
        for name, knob in (row.get("knobs") or {}).items()
    }
    for name in ("editable", "frozen", "checks", "env"):
        row[name] = tuple(row.get(name) or ())
    return Charter.from_dict(row)
