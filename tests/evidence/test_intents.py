"""An intent is touched when its code changes and only then; anchors are found again when the code moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from org.errors import BadInput
from org.lab import intents

ROOT = Path(__file__).parents[2]
CODE = '''\
LR = 0.02


def mask(x):
    """Causal."""
    return x.tril()  # no token sees the next


class Model:
    def init(self, seed):
        key = f"{seed}:{self.name}"
        return key
'''
MASK = intents.Intent("mask", "a.py", "mask", "causality")
KEY = intents.Intent("key", "a.py", 'key = f"{seed}:{self.name}"', "pairs")
INIT = intents.Intent("init", "a.py", "Model.init", "pairs")
ALL = [MASK, KEY, INIT]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (CODE, []),
        (CODE.replace("0.02", "0.04"), []),
        (CODE.replace("  # no token sees the next", "").replace("Causal.", "The mask."), []),
        ("import math\n\n\n" + CODE + "\n\ndef more(): pass\n", []),
        (CODE.replace("x.tril()", "x"), ["mask"]),
        (CODE.replace("def mask", "def mask2"), ["mask"]),
        (CODE.replace("{seed}", "{1}"), ["key", "init"]),
        (CODE.replace("return key", "return hash(key)"), ["init"]),
        ("", ["mask", "key", "init"]),
        (CODE + "(", ["mask", "init"]),
    ],
)
def test_touched(text: str, ids: list[str]) -> None:
    assert [i.id for i in intents.touched(ALL, CODE, text, "a.py")] == ids
    assert intents.touched(ALL, CODE, text, "other.py") == []


def test_the_shipped_intents_are_anchored_and_leave_every_knob_free() -> None:
    shipped = intents.load(ROOT / "prompts" / "intents.yaml")
    texts = {path: (ROOT / path).read_text() for path in {i.path for i in shipped}}
    assert intents.missing(shipped, texts) == []
    from org.evidence.contract import constants

    path = "nanochat/train.py"
    source = texts[path]
    rows = source.split("\n")
    for constant in constants(source).values():
        if isinstance(constant.value, tuple):  # several lines
            continue
        changed = [*rows]
        changed[constant.line - 1] = f"{constant.name} = 7"
        assert intents.touched(shipped, source, "\n".join(changed), path) == [], constant.name
    model = texts["nanochat/model.py"]
    unmasked = model.replace("is_causal = mask", "is_causal = not mask")
    assert [i.id for i in intents.touched(shipped, model, unmasked, "nanochat/model.py")] == ["causal-mask"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1", "expected a list"),
        ("- 3", "expected `key: value`"),
        ("- {id: a, path: b, anchor: c}", "why is missing"),
        ("- {id: a, path: b, anchor: c, why: d, wy: e}", "did you mean 'why'"),
        ("- {id: A B, path: b, anchor: c, why: d}", "not allowed"),
        ("- {id: a, path: b, anchor: 3, why: d}", "must be text"),
        ("- {id: a, path: b, anchor: c, why: d, status: maybe}", "not one of"),
        ("- {id: a, path: b, anchor: c, why: d}\n- {id: a, path: b, anchor: c, why: d}", "two intents"),
    ],
)
def test_a_wrong_registry_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "intents.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=said) as error:
        intents.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("path", "more", "ids"),
    [
        ("a.py", "\n\nclass B:\n    width = 1\n", []),
        ("a.py", "\n\ndef g(mask):\n    mask = 1\n    return mask\n", []),
        ("b.py", "import a\n\nx = a.mask\n", []),
        ("a.py", "\n\nmask = str\n", ["mask"]),
        ("a.py", "\n\nif True:\n    def mask(x):\n        return x\n", ["mask"]),
        ("a.py", "\n\nfrom b import f as mask\n", ["mask"]),
        ("a.py", "\n\ndef g():\n    global mask\n    mask = str\n", ["mask"]),
        ("b.py", "import a\n\na.mask = str\n", ["mask"]),
        ("b.py", "import a\n\nsetattr(a, 'mask', str)\n", ["mask"]),
        ("b.py", "import a\n\nvars(a)['mask'] = str\n", ["mask"]),
        ("a.py", "\n\nModel.init = str\n", ["init"]),
        ("a.py", "\n\nclass Model:\n    pass\n", ["init"]),
        ("a.py", "\n\nModel = str\n", ["init"]),
    ],
)
def test_a_watched_name_bound_again_anywhere_is_found(path: str, more: str, ids: list[str]) -> None:
    base = {"a.py": CODE, "b.py": ""}
    found = intents.rebound(ALL, base, {**base, path: base[path] + more})
    assert [i.id for i in found] == ids


def test_the_result_of_a_watched_line_thrown_away_is_found() -> None:
    base = {"a.py": CODE}
    text = CODE.replace("        return key", "        key = 0\n        return key")
    assert [i.id for i in intents.rebound([KEY], base, {"a.py": text})] == ["key"]
