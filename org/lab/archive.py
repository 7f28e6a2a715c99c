"""The ledger where it is kept: its copy in the record, line for line, and results.tsv, rendered from it."""

from __future__ import annotations

from org import charter as charters
from org import files
from org.failpoint import failpoint
from org.home import Home
from org.lab.book import Book
from org.records import KEPT
from org.world import git

BRANCH = "refs/heads/ledger"
PART = 256  # lines of one file of the copy in the record: a verdict costs it one such file, whatever came before
TSV_COLUMNS = (
    "commit",
    "metric",
    "memory_gb",
    "status",
    "description",
    "experiment",
    "program",
    "seat",
    "effect",
    "se",
)


def commit(home: Home, book: Book, metric: str | None = None) -> None:
    """Render results.tsv, and commit the ledger to the record's branch `ledger`. Safe to repeat."""
    files.replace(home.results_tsv, tsv(book, metric or metric_of(home, book)))
    failpoint("commit.table")
    with files.locked(home.leases / "ledger-commit"):
        for _ in range(2):
            parent, kept = book.kept or _kept(home)
            changed = _parts(home, max(0, sum(path.startswith("ledger/") for path in kept) - 1))
            shas = {path: git.blob_sha(data) for path, data in changed.items()}
            count = max(((int(path[7:12]) - 1) * PART + data.count(b"\n") for path, data in changed.items()), default=0)
            changed = {path: data for path, data in changed.items() if kept.get(path) != shas[path]}
            if not changed:
                return
            try:
                made = git.commit_files(home.record, BRANCH, parent, changed, f"ledger: {len(book.rows)} lines")
            except git.RefMoved:  # another process kept it since: look again
                book.kept = None
                continue
            failpoint("commit.made")
            files.replace(home.ledger_kept, f"{count} {made}\n")
            book.kept = made, {**kept, **shas}
            return


def metric_of(home: Home, book: Book) -> str:
    """What the table calls the metric: its name when the first verdict was judged, else the charter's."""
    return book.judged_by[1].rpartition(":")[0] if book.judged_by else charters.load(home).metric.name


def _kept(home: Home) -> tuple[str | None, dict[str, str]]:
    """The record's last copy: its commit, and the sha of each file."""
    parent = git.resolve(home.record, BRANCH)
    return parent, {e.path: e.sha for e in git.list_tree(home.record, parent)} if parent else {}


def _parts(home: Home, since: int) -> dict[str, bytes]:
    """The ledger's whole lines as files of the record, from that part on. A part that is followed by another is never
    written again: what an edit does to old lines stays out of the record."""
    lines, _ = files.whole_lines(home.ledger)
    starts = range(since * PART, len(lines), PART)
    return {f"ledger/{at // PART + 1:05d}.jsonl": b"\n".join(lines[at : at + PART]) + b"\n" for at in starts}


def kept_lines(home: Home, at: str = BRANCH) -> list[bytes]:
    """The record's copy of the ledger, as it is or as it was at a commit."""
    paths = [e.path for e in git.list_tree(home.record, at) if e.path.startswith("ledger/")]
    parts = git.read_files(home.record, at, paths)
    return [line for path in sorted(parts) for line in parts[path].splitlines()]


def tsv(book: Book, metric: str) -> str:
    """results.tsv: upstream's five columns first, one row an experiment, numbers of its candidate runs' mean."""
    head = "\t".join((TSV_COLUMNS[0], metric, *TSV_COLUMNS[2:]))
    return "\n".join([head, *(_tsv_row(book, name) for name in book.verdicts if name in book.experiments)]) + "\n"


def _tsv_row(book: Book, name: str) -> str:
    """A verdict stands for ever, so its row is made once, and again when it is retracted."""
    is_retracted = name in book.retracted
    if (name, is_retracted) not in book.table:
        verdict, contract = book.verdicts[name], book.experiments[name]
        own = [book.results[r] for r in verdict.runs if r in book.results and book.results[r].tree == contract.tree]
        values = [r.metric for r in own if r.metric is not None]
        memory = [r.vram_mb for r in own if r.vram_mb is not None]
        kept = verdict.outcome in KEPT and not (is_retracted or contract.refutes)  # an attack keeps nothing itself
        cells = (
            contract.commit[:7],
            f"{mean(values):.6f}" if values else "0.000000",
            f"{mean(memory) / 1024:.1f}" if memory else "0.0",
            "keep" if kept else "crash" if verdict.outcome == "crash" else "discard",
            files.printable(contract.description, 200).replace("\t", " ").replace("\n", " "),
            name,
            contract.program,
            contract.seat,
            "" if verdict.effect is None else f"{verdict.effect:+.6f}",
            "" if verdict.se is None else f"{verdict.se:.6f}",
        )
        book.table[name, is_retracted] = "\t".join(cells)
    return book.table[name, is_retracted]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
