"""A small ledger with known numbers, folded by the real code, for the tests of pages and pictures."""

from dataclasses import asdict, replace

from org.charter import from_plain
from org.lab.book import Book
from org.records import Contract, KnobChange, RunResult, Verdict

CHARTER = from_plain(
    {
        "task": "Lower the loss & <cost> of $x_1$ at equal tokens.\nSecond line.",
        "code": "nanochat",
        "command": "python -m nanochat.train",
        "metric": {"name": "val_bpb", "direction": "lower"},
        "editable": ["train.py"],
        "scale": "smoke",
        "scales": {"smoke": {"steps": 300}, "std": {"steps": 900}},
    }
)


class Story:
    """Tell it what happened; `book` is the fold of the lines."""

    def __init__(self) -> None:
        self.book = Book()
        self.clock = 0

    def line(self, kind: str, **data: object) -> None:
        self.book.add({"seq": len(self.book.rows) + 1, "kind": kind, "t": self.time(), **data})

    def time(self) -> str:
        self.clock += 1
        return f"2026-03-01T{self.clock // 60:02d}:{self.clock % 60:02d}:00.000Z"

    def run(self, run, metric, tree, stage="search", status="ok", scale="smoke", **more) -> str:
        experiment, _, name = run.partition("/")
        arm, _, seed = name.rpartition("-s")
        started = self.time()
        result = RunResult(
            run=run,
            experiment=experiment,
            arm=arm,
            seed=int(seed),
            stage=stage,
            status=status,
            commit=tree * 40,
            tree=tree,
            scale=scale,
            device="cpu0",
            device_kind="cpu",
            metric=metric,
            started=started,
            ended=self.time(),
            **{
                "total_s": 60.0,
                "train_s": 45.0,
                "compile_s": 2.0,
                "eval_s": 6.0,
                "steps": 300,
                "vram_mb": 200.0,
                **more,
            },
        )
        self.line("result", **asdict(result))
        return run

    def bank(self, *metrics: float) -> list[str]:
        return [self.run(f"E0000/baseline-s{i}", m, "b", stage="bank") for i, m in enumerate(metrics, 1)]

    def experiment(self, name, seat="j1", expect=None, why="try it", knob=None, members=(), tree=None, **more) -> None:
        knobs = (KnobChange(knob[0], "train.py", 1, knob[1], knob[2]),) if knob else ()
        contract = Contract(
            experiment=name,
            why=why,
            claim="better",
            expect=expect,
            seat=seat,
            program="main",
            commit=(tree or name[-1]) * 40,
            tree=tree or name,
            baseline_commit="b" * 40,
            baseline_tree="b",
            scale="smoke",
            stage="search",
            matched="tokens",
            knobs=knobs,
            members=members,
        )
        self.line("experiment", **asdict(replace(contract, **more)))

    def verdict(self, name, outcome, runs, effect=None, se=None, tier=None, **more) -> None:
        verdict = Verdict(
            experiment=name,
            outcome=outcome,
            tier=tier,
            claim=more.pop("claim", "better"),
            effect=effect,
            se=se,
            z=more.pop("z", None),
            n=len(runs),
            matched_on="tokens",
            trust=more.pop("trust", "referee"),
            reasons=more.pop("reasons", ()),
            runs=tuple(runs),
            **more,
        )
        self.line("verdict", **asdict(verdict))


def night(axes: dict[str, dict[str, float | None]] | None = None) -> Book:
    """Four baseline runs, two wins of which a stack verified one, a null, a loss by crash, and one at another scale.
    axes: what the first win's verdict says of its matching."""
    story = Story()
    bank = story.bank(2.10, 2.11, 2.09, 2.10)
    story.experiment("E0001", expect=-0.05, why="double it", knob=("MATRIX_LR", 0.02, 0.04), tree="c")
    own = [story.run(f"E0001/candidate-s{s}", m, "c", train_s=54.0) for s, m in ((1, 2.06), (2, 2.05))]
    story.verdict("E0001", "win", own + bank[:2], -0.0500, 0.0100, "tentative", matching=axes or {})
    story.experiment("E0002", seat="j2", expect=-0.01, why="widen | it <!-- hide", tree="d")
    story.verdict("E0002", "null", [story.run("E0002/candidate-s1", 2.105, "d")], 0.0050, 0.0120)
    story.experiment("E0003", seat="j2", expect=0.02, why="new activation", tree="e")
    story.run("E0003/candidate-s1", None, "e", status="crash", reason="NaN")
    story.verdict("E0003", "crash", ["E0003/candidate-s1"], reasons=("NaN at step 3",))
    story.experiment("E0004", seat="j2", expect=-0.02, why="warm down", tree="f")
    own = [story.run("E0004/candidate-s1", 2.08, "f")]
    story.verdict("E0004", "win", own, -0.0200, 0.0050, "tentative", trust="reported")
    story.experiment("E0005", seat="org", why="stack of E0001 and E0004", members=("E0001", "E0004"), tree="9")
    stack = [story.run(f"E0005/candidate-s{s}", 2.03, "9", stage="verify") for s in (11, 12, 13, 14)]
    story.verdict("E0005", "win", stack, -0.0700, 0.0100, "verified")
    story.line("head", program="main", commit="9" * 40, tree="9", experiment="E0005", members=["E0001"])
    story.run("E0006/candidate-s1", 1.5, "c", scale="std")
    return story.book
