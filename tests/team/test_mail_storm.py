"""A thousand letters while writers and readers are killed -9: none lost, none torn, none done twice."""

from pathlib import Path

import pytest
from bench import mail as bench


@pytest.mark.slow  # 10 s and more: forty kills, each with a new process
def test_a_thousand_letters_under_kills(tmp_path: Path) -> None:
    found = bench.storm(tmp_path, letters=1000, writers=8, kills=40)
    assert {name: found[name] for name in ("lost", "torn", "twice", "unread")} == dict.fromkeys(
        ("lost", "torn", "twice", "unread"), 0
    )
    assert found["kills"] >= 20, "the letters were through before anybody was killed"


def test_the_storm_counts_what_is_lost_torn_or_there_twice(tmp_path: Path) -> None:
    found = bench.storm(tmp_path, letters=40, writers=2, kills=2)
    assert found["lost"] == found["torn"] == found["twice"] == 0
    home, wanted = bench.Home(tmp_path / "home"), [(bench.BOXES[n % 3], f"w{n % 2}-{n:06d}") for n in range(40)]
    paths = {path.stem: path for box in bench.BOXES for path in bench.boxes.all_of(home, box)}
    paths["w0-000000"].unlink()
    torn = paths["w1-000001"]
    torn.write_bytes(torn.read_bytes()[:-1])
    twice = paths["w0-000002"]
    (home.mailbox("j3") / "new" / twice.name).write_bytes(twice.read_bytes())
    counted = bench._count(home, wanted, tmp_path / "log")
    assert (counted["lost"], counted["torn"], counted["twice"], counted["unread"]) == (1, 1, 1, 1)
