"""What a person wrote, held against a model: one line that names the file, the field and what is allowed. Needs pydantic."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from org import files
from org.errors import BadInput, did_you_mean
from org.home import ID_PATTERN

Id = Annotated[str, Field(pattern=f"^{ID_PATTERN.pattern}$")]
Positive = Annotated[int, Field(gt=0, strict=True)]


def validated(model: type[BaseModel], value: Any, where: str) -> dict[str, Any]:
    """`value` as the model's plain dictionary, defaults filled in. Raises BadInput with one line that begins with `where`."""
    if not isinstance(value, dict):
        raise BadInput(f"{where}: expected `key: value` lines, found {type(value).__name__}")
    try:
        return model.model_validate(value).model_dump(mode="json")
    except ValidationError as error:
        raise BadInput(f"{where}: {files.printable(' '.join(_first_problem(model, error).split()), 400)}") from None


def _first_problem(model: type[BaseModel], error: ValidationError) -> str:
    """The first problem as `field: what (hint)`; unknown keys first, since they often explain a missing one."""
    problems = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, first["loc"][:-1])
        return (
            f"unknown key '{place}'{did_you_mean(str(first['loc'][-1]), known)}; known here: {', '.join(sorted(known))}"
        )
    message = first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] in ("missing", "value_error") else f", not {first['input']!r:.40}"
    where = f"{place}: " if place else ""
    return f"{where}{message[0].lower()}{message[1:]}{given}"


def _fields_at(model: type[BaseModel], place: tuple[int | str, ...]) -> set[str]:
    """Names allowed at `place`, walking models through lists and dictionaries of models."""
    current: Any = model
    for part in place:
        info = (
            current.model_fields.get(str(part))
            if isinstance(current, type) and issubclass(current, BaseModel)
            else None
        )
        if info is not None:
            inner = [t for t in _types_in(info.annotation) if isinstance(t, type) and issubclass(t, BaseModel)]
            current = inner[0] if inner else current
    return {f.alias or name for name, f in current.model_fields.items()}


def _types_in(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", None)
    return [annotation] if not arguments else [t for a in arguments for t in _types_in(a)]
