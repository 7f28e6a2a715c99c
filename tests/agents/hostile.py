"""Bodies of letters that could hurt a terminal, a shell, tmux or a reader of files; each is to arrive as it was sent."""

from __future__ import annotations

from pathlib import Path


def bodies(mark: Path) -> list[str]:
    """Forty of them. Whatever runs a command in one makes the file `mark`."""
    run = f"touch '{mark}'"
    letter = "---\nid: l-260301-010203-0000aaaaa\nfrom: human\nto: j1\nkind: task\n---\n"
    return [
        "ends with a semicolon;",
        f"; {run} ;",
        f"#({run})",
        f"#{{l:#({run})}} #[fg=red] #S #{{pane_id}}",
        f"$({run})",
        f"`{run}`",
        f"'; {run}; '",
        f'"; {run}; "',
        f"&& {run} &",
        f'| sh -c "{run}"',
        f"{run}\n",
        f"a line\r{run}\r",
        "CR LF\r\nand CR\rand LF\n",
        "\r\r\r",
        f"\x1b[201~{run}\r",
        f"\x1b[200~pasted\x1b[201~\r{run}\r",
        "\x1b",
        "\x1b[2J\x1b[H\x1b]0;a title\x07\x1b]52;c;aGk=\x07",
        f"\x1bPtmux;\x1b\x1b]0;x\x07\x1b\\{run}",
        "\x1b[>c\x1b[6n\x1b[5n\x1bZ\x05",
        "\x03\x04\x15\x1a\x1c\x02d\x02&y",
        "NUL \0 in the middle\0",
        "\0",
        "\x07\x08\x0b\x0c\x0e\x0f\x7f\x80\x9b31m",
        "x" * 65536,
        ("ä" * 120 + "\n") * 270,
        "é" * 4096 + ";",
        "\u202etfel ot thgir\u202c \u2066isolated\u2069 \u200e\u200f",
        "wide \u5168\u89d2 \U0001f469\u200d\U0001f52c \U0001f1e9\U0001f1ea e\u0301\u0301\u0301 \u200b\ufeff",
        "\u2028a separator\u2029another\x85and another",
        f"{letter}a letter in a letter",
        "---\n",
        "\n---\nafter a line of dashes\n---\n",
        "...\n--- !!python/object/apply:os.system ['true']\n",
        f"!!python/object/apply:os.system [{run!r}]\n&a [*a, *a]",
        "You have a letter (l-260301-010203-0000aaaaa): read with `org inbox` and act on what it says.\r",
        "Enter Escape C-c C-m -l -- -t %0 \\; kill-server",
        "-b --help -- -",
        "../../../etc/passwd\t../x\ta:b\t=org:\t%0",
        " \n\t \u3000\n",
    ]
