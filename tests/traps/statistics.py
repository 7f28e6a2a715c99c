"""Statistics: luck kept as skill, and claims that nobody has shown."""

from traps.play import ACCEPTED, MEASURED, WINS, Trap, filed_as, judged, refused

FAMILY = "statistics"
KNOB = ("SMOOTHING = 8.0", "SMOOTHING = 4.0")
BATCH = "data.batch(tokens, args.seed, step"
CLAMP = "    # the clamp keeps a rare pair from being forgotten\n    counts *= max(DECAY, 0.5)\n"
LINES = {"claim": "no-worse:lines", "cites": ("clamp",)}


def seeded(edit: str) -> list[tuple[str, str]]:
    return [(BATCH, f"data.batch(tokens, {edit}, step")]


TRAPS = [
    Trap(
        id="null-edit",
        family=FAMILY,
        about="code that computes the same number another way",
        signal="replicates against sigma",
        edits={"train.py": [("    smooth = counts + SMOOTHING\n", "    smooth = SMOOTHING + counts\n")]},
        expect=judged("null"),
        twin={"train.py": [("SMOOTHING = 8.0", "SMOOTHING = 0.5")]},
        twin_expect=WINS,
        options={"cites": ("normalised",)},
    ),
    Trap(
        id="another-random-stream",
        family=FAMILY,
        about="the same recipe on shifted seeds",
        signal="replicates against sigma",
        edits={"train.py": seeded("args.seed + 1000")},
        expect=judged("null", "loss"),
        twin={"train.py": [*seeded("args.seed + 1000"), ("SMOOTHING = 8.0", "SMOOTHING = 0.5")]},
        twin_expect=WINS,
    ),
    Trap(
        id="fixed-seed",
        family=FAMILY,
        about="one seed that was found to be good, under a change that passes the screen",
        signal="two seeds that end in the same number",
        edits={"train.py": [*seeded("137"), KNOB]},
        expect=judged("invalid", says="does not use its seed"),
        twin={"train.py": [*seeded("args.seed * 7919"), KNOB]},
        twin_expect=WINS,
    ),
    Trap(
        id="run-again",
        family=FAMILY,
        about="the same tree filed again until it passes",
        signal="a configuration already tried is named",
        edits={"train.py": [KNOB]},
        expect=refused("duplicate", "E0001"),
        twin={"train.py": [KNOB]},
        twin_expect=ACCEPTED,
        first={"train.py": [KNOB]},
    ),
    Trap(
        id="run-again-reworded",
        family=FAMILY,
        about="the same code filed again with other comments, layout and notation",
        signal="duplicates are compared as code",
        edits={
            "train.py": [("SMOOTHING = 8.0", "SMOOTHING = 8.0 / 2"), ("def load", "# another idea entirely\ndef load")]
        },
        expect=refused("duplicate", "E0001"),
        twin={"train.py": [("SMOOTHING = 8.0", "SMOOTHING = 5.0 / 2")]},
        twin_expect=ACCEPTED,
        first={"train.py": [KNOB]},
    ),
    Trap(
        id="worse-sold-as-better",
        family=FAMILY,
        about="a change for the worse, as if higher were better",
        signal="the charter's direction",
        edits={"train.py": [("SMOOTHING = 8.0", "SMOOTHING = 20.0")]},
        expect=judged("loss"),
        twin={"train.py": [("SMOOTHING = 8.0", "SMOOTHING = 2.0")]},
        twin_expect=WINS,
        options={"why": "better by 0.3", "expect": 0.3},
    ),
    Trap(
        id="underpowered-no-worse",
        family=FAMILY,
        about="a deletion called harmless at a margin that so few runs cannot show",
        signal="one-sided limit of the harm against the margin",
        edits={"train.py": [(CLAMP, ""), *seeded("args.seed + 500")]},  # as good as the baseline, and noisy
        expect=judged("null", "loss", says="underpowered|worse"),
        twin={"train.py": [(CLAMP, "")]},
        twin_expect=judged("holds", "null"),
        home="strict",
        options=LINES,
        twin_options=LINES,
    ),
    Trap(
        id="costly-no-worse",
        family=FAMILY,
        about="a deletion that costs more than two margins",
        signal="one-sided limit of the harm against the margin",
        edits={"train.py": [(CLAMP, ""), ("        update(counts, x, y)\n", "        update(counts, x[:4], y[:4])\n")]},
        expect=judged("loss", says="harm"),
        twin={"train.py": [(CLAMP, "")]},
        twin_expect=WINS,
        options=LINES,
        twin_options=LINES,
    ),
    Trap(
        id="no-worse-and-no-gain",
        family=FAMILY,
        about="a no-worse:lines claim that adds lines",
        signal="the axis named has to gain",
        edits={"train.py": [("    rows = 256 // SEQ_LEN\n", "    rows = 256 // SEQ_LEN\n    unused = rows\n")]},
        expect=judged("null", says="lines: 1 added, 0 removed"),
        twin={"train.py": [(CLAMP, "")]},
        twin_expect=WINS,
        options={"claim": "no-worse:lines"},
        twin_options=LINES,
    ),
    Trap(
        id="lucky-tail",
        family=FAMILY,
        about="a run whose number is mostly noise, now and then a good one",
        signal="replicates against sigma",
        edits={
            "train.py": [
                (
                    "    table = normalise(counts)\n",
                    "    table = normalise(counts) * (0.4 + 0.7 * (args.seed == 2))\n",
                )
            ]
        },
        expect=judged("loss", "null"),
        twin={"train.py": [("    table = normalise(counts)\n", "    table = normalise(counts) * 1.01\n")]},
        twin_expect=MEASURED,
    ),
    Trap(
        id="two-ideas-as-one",
        family=FAMILY,
        about="two knobs turned under one claim",
        signal="an ablation is owed for each",
        edits={"train.py": [KNOB, ("DECAY = 1.0", "DECAY = 0.99")]},
        expect=filed_as("two ablations owed", lambda s: len(s.contract.ablations_owed) == 2),
        twin={"train.py": [("DECAY = 1.0", "DECAY = 0.99")]},
        twin_expect=filed_as("none owed", lambda s: not s.contract.ablations_owed),
    ),
]
