"""YAML as the org reads and writes it: one meaning a text, no surprises from a stranger's file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from org import files
from org.errors import BadInput

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20


def parse(text: str, where: str) -> Any:
    """Strict YAML: 1.2 floats and booleans only, no aliases, no duplicate keys, size and depth capped.
    Raises BadInput naming `where` and the line."""
    import yaml

    if len(text.encode()) > MAX_BYTES:
        raise BadInput(f"{where}: larger than {MAX_BYTES // 1024} KB; split it")
    try:
        _refuse_aliases_and_depth(text, where)
        return yaml.load(text, Loader=_strict_loader())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise BadInput(f"{where}{line}: {error.problem or error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{where}: {str(error).splitlines()[0]}") from None


def read(path: Path) -> Any:
    """`parse` of a file; a missing or non-UTF-8 file is BadInput too."""
    try:
        return parse(files.read_plain(path, MAX_BYTES).decode(), str(path))
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; `org init DIR` makes a home with one") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text") from None


def dump(value: Any) -> str:
    """YAML that `parse` reads back to the same value, keys in their order."""
    import yaml

    class Plain(yaml.SafeDumper):
        # The reader's resolvers, so that a text that looks like a YAML 1.2 number is quoted.
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - yaml's own class protocol

    _add_resolvers(Plain)
    return str(yaml.dump(value, Dumper=Plain, sort_keys=False, allow_unicode=True, width=100))


def front_matter(text: str, where: str) -> tuple[dict[str, Any], str]:
    """Split Markdown into its `---` front matter and its body. Without front matter: ({}, text)."""
    if not text.startswith("---\n"):
        return {}, text
    head, separator, body = text[4:].partition("\n---\n")
    if not separator:
        raise BadInput(f"{where}: the front matter has no closing '---' line")
    fields = parse(head, where)
    if not isinstance(fields, dict):
        raise BadInput(f"{where}: the front matter is not a list of `key: value` lines")
    return fields, body


_RESOLVERS = [
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+0123456789."),
    ("null", r"^(?:~|null)$", "~n"),
]
_loader: type | None = None


def _add_resolvers(target: Any) -> None:
    for name, pattern, first in _RESOLVERS:
        target.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(pattern), list(first))
    target.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])


def _refuse_aliases_and_depth(text: str, where: str) -> None:
    """One pass over the events: an alias bomb or a deep nest never reaches the constructor."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            line = _line(event)
            raise BadInput(f"{where} line {line}: aliases are not allowed; write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise BadInput(f"{where} line {_line(event)}: nested deeper than {MAX_DEPTH}")


def _strict_loader() -> type:
    global _loader
    if _loader is not None:
        return _loader
    import yaml

    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Strict(base):  # type: ignore[misc,valid-type]
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - yaml's own class protocol

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, str | int | float | bool):
                    raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
                if key in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key}'", key_node.start_mark)
                seen.add(key)
            return super().construct_mapping(node, deep)

    _add_resolvers(Strict)
    _loader = Strict
    return Strict


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
