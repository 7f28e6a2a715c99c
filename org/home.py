"""The only place that knows a file name: where everything of an org lives. Makes nothing by itself."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from org.errors import BadInput

ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
RESERVED_SEATS = ("all", "human", "council", "office", "org", "main", "candidate")  # the last two are heads' branches
EXPERIMENT_PATTERN = re.compile(r"E[0-9]{4,}")


def check_id(text: str, what: str) -> str:
    """`text` if it may meet tmux, git, a path and a shell; else BadInput naming `what` and the allowed form."""
    if not isinstance(text, str) or not ID_PATTERN.fullmatch(text):
        raise BadInput(f"{what} {text!r:.60} is not allowed; use 1-32 of a-z 0-9 _ - and begin with a letter or digit")
    return text


def check_experiment(text: str) -> str:
    """`text` if it is an experiment's id such as E0042; else BadInput."""
    if not EXPERIMENT_PATTERN.fullmatch(text):
        raise BadInput(f"{text!r:.40} is no experiment; write it as in E0042")
    return text


@dataclass(frozen=True)
class Home:
    """Paths of one org. `root` is absolute and resolved; may hold spaces, quotes and newlines. `as_task` looks at the home
    as if it worked on that task; without it, on the one that `comms/task` names."""

    root: Path
    as_task: str | None = None

    # --- what people write
    @functools.cached_property
    def prompts(self) -> Path:
        return self.root / "prompts"

    @property
    def charter(self) -> Path:
        """The charter in force: the adopted task's, else the home's own."""
        name = self.as_task or self.adopted
        return self.task_charter(name) if name else self.prompts / "charter.yaml"

    @property
    def tasks(self) -> Path:
        """Ready-made tasks, a folder each: its charter, its code, a page about it."""
        return self.prompts / "tasks"

    def task_charter(self, name: str) -> Path:
        return self.tasks / name / "charter.yaml"

    @property
    def intents(self) -> Path:
        return self.prompts / "intents.yaml"

    @property
    def skills(self) -> Path:
        """Short pages on how something is done, read when it is needed; an org folder may have a `skills/` of its own."""
        return self.prompts / "skills"

    @property
    def papers(self) -> Path:
        """What people want read, a Markdown file each: the chief makes ideas of them."""
        return self.prompts / "papers"

    def org_folder(self, name: str) -> Path:
        return self.prompts / "orgs" / name

    @property
    def backends(self) -> Path:
        """Agent programs that people described, a YAML file each."""
        return self.prompts / "backends"

    def backend_file(self, name: str) -> Path:
        return self.backends / f"{name}.yaml"

    # --- what the org knows
    @functools.cached_property
    def comms(self) -> Path:
        return self.root / "comms"

    @property
    def task_file(self) -> Path:
        """Holds the name of the adopted task; absent where the home works on its own charter."""
        return self.comms / "task"

    @property
    def adopted(self) -> str | None:
        """The task this home works on, None for its own charter. Raises BadInput for what is no name."""
        try:
            text = self.task_file.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return None
        return check_id(text, f"the task in {self.task_file}") if text else None

    @functools.cached_property
    def org_file(self) -> Path:
        """Facts of this launch: org folder, roster, hashes, budget, tmux socket, versions."""
        return self.comms / "org.json"

    @property
    def charter_cache(self) -> Path:
        """The charter as validated once, keyed by the hash of the file it came from."""
        return self.comms / "charter.json"

    @property
    def backend_cache(self) -> Path:
        """Each described program as validated once, keyed by the hash of the file it came from and of what checked it."""
        return self.comms / "backends.json"

    @functools.cached_property
    def ledger(self) -> Path:
        return self.comms / "ledger.jsonl"

    @property
    def ledger_tip(self) -> Path:
        """Number and sum of the ledger's last line: what is cut off its end is missed here."""
        return self.comms / "ledger.tip"

    @property
    def ledger_kept(self) -> Path:
        """How many lines the record was given and in which commit: a copy there that is moved back or removed is missed."""
        return self.comms / "ledger.kept"

    @property
    def ledger_torn(self) -> Path:
        """Half-written lines that were set aside, one a line."""
        return self.comms / "ledger.torn"

    @property
    def results_tsv(self) -> Path:
        return self.comms / "results.tsv"

    @property
    def events(self) -> Path:
        """What the office did, for people; nothing reads it back."""
        return self.comms / "events.jsonl"

    @property
    def record(self) -> Path:
        return self.comms / "record.git"

    @property
    def referee_data(self) -> Path:
        """The validation and hidden splits, built by the org; no trainer reads here."""
        return self.comms / "referee"

    @functools.cached_property
    def experiments(self) -> Path:
        return self.comms / "experiments"

    def experiment(self, experiment: str) -> Path:
        return self.experiments / experiment

    def contract(self, experiment: str) -> Path:
        return self.experiment(experiment) / "contract.yaml"

    def run(self, run: str) -> Path:
        """`run` is the id `E0042/candidate-s3`."""
        experiment, _, name = run.partition("/")
        return self.experiment(experiment) / "runs" / name

    @functools.cached_property
    def leases(self) -> Path:
        return self.comms / "leases"

    def lease(self, device: str) -> Path:
        return self.leases / f"{device}.lock"

    @functools.cached_property
    def dispatch_lock(self) -> Path:
        """Held by whoever dispatches runs at the moment: the office, or one `org run` in the foreground."""
        return self.leases / "dispatch"

    @functools.cached_property
    def office_lock(self) -> Path:
        return self.leases / "office"

    @property
    def launch_lock(self) -> Path:
        return self.leases / "launch"

    @functools.cached_property
    def mail(self) -> Path:
        return self.comms / "mail"

    def mailbox(self, seat: str) -> Path:
        return self.mail / seat

    @property
    def mail_tokens(self) -> Path:
        """One line for each letter in each box: its size, and its tokens."""
        return self.mail / "tokens.jsonl"

    @property
    def ideas(self) -> Path:
        return self.comms / "ideas"

    @property
    def ideas_lock(self) -> Path:
        """Held while a page of an idea is edited, so that two objections do not undo each other."""
        return self.ideas / ".edits"

    @property
    def programs(self) -> Path:
        return self.comms / "programs"

    def program(self, slug: str) -> Path:
        return self.programs / f"{slug}.yaml"

    @functools.cached_property
    def seats(self) -> Path:
        return self.comms / "seats"

    def seat(self, name: str) -> Path:
        """The folder of one seat: seat.json (identity), events.jsonl (its program's own events), pane.log, held, key."""
        return self.seats / name

    def seat_file(self, name: str) -> Path:
        return self.seat(name) / "seat.json"

    def seat_events(self, name: str) -> Path:
        """Written by the seat's own program, one JSON object a line; in its environment as ORG_EVENTS."""
        return self.seat(name) / "events.jsonl"

    def seat_pane(self, name: str) -> Path:
        """When the seat's pane was started, and its restarts: what the office keeps about it."""
        return self.seat(name) / "pane.json"

    def seat_state(self, name: str) -> Path:
        """What the office last saw the seat do, and why nothing is typed into its pane: for those who send it letters."""
        return self.seat(name) / "state.json"

    def bell(self, name: str) -> Path:
        """Which waiting letters the seat's program was told of, and which it confirmed: the doorbell's own notes."""
        return self.seat(name) / "bell.json"

    def seat_config(self, name: str, backend: str) -> Path:
        """The configuration home of a described program in this seat."""
        return self.seat(name) / "config" / backend

    def seat_usage(self, name: str) -> Path:
        """What the seat's program used: one file a session."""
        return self.seat(name) / "usage"

    def seat_talks(self, name: str) -> Path:
        """The conversations of a seat that asks a model's API itself: one file each, the last in force."""
        return self.seat(name) / "talks"

    def handover(self, name: str) -> Path:
        """What the seat wrote for itself when its model's context was full: where its next conversation begins."""
        return self.seat(name) / "handover.md"

    def draft(self, name: str) -> Path:
        """Exists while a person's half-typed line may stand in the seat's pane."""
        return self.seat(name) / "draft.json"

    def sent(self, name: str) -> Path:
        """When the seat's latest letters were sent: what it may still send is counted from here."""
        return self.seat(name) / "sent"

    def held(self, name: str) -> Path:
        """Exists while `org hold` is on: nothing is typed into the seat's pane."""
        return self.seat(name) / "held"

    @property
    def hands(self) -> Path:
        """When people took panes over: one line each time, once it ended."""
        return self.comms / "hands.jsonl"

    @property
    def hands_open(self) -> Path:
        """Who is at work by hand now, as the office last wrote it."""
        return self.comms / "hands.json"

    @property
    def office_notes(self) -> Path:
        """How far the office has told people of verdicts."""
        return self.comms / "office.json"

    @property
    def processes(self) -> Path:
        """One JSON file each time a process was run: what was asked, whom, when."""
        return self.comms / "processes"

    @property
    def standups(self) -> Path:
        return self.comms / "standup"

    def standup(self, date: str) -> Path:
        return self.standups / f"{date}.md"

    @property
    def orders(self) -> Path:
        """What the person ordered in review sections: a line when it was read, a line when it was carried."""
        return self.comms / "orders.jsonl"

    @property
    def reports(self) -> Path:
        """What was landed, a page each time."""
        return self.comms / "reports"

    def land_report(self, program: str, commit: str) -> Path:
        return self.reports / f"land-{program}-{commit[:7]}.md"

    @property
    def plot(self) -> Path:
        """progress.svg and progress.png lie here."""
        return self.comms / "plot"

    @property
    def wiki(self) -> Path:
        return self.comms / "wiki"

    # --- what agents write
    @property
    def worktrees(self) -> Path:
        return self.root / "worktrees"

    @property
    def hub(self) -> Path:
        return self.worktrees / "hub.git"

    def worktree(self, seat: str) -> Path:
        return self.worktrees / seat

    # --- names derived from the place
    @property
    def key(self) -> str:
        """Eight hex digits that tell this home from every other on the machine: the tmux socket's name, process markers."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]

    @property
    def socket(self) -> str:
        return f"org-{self.key}"

    def lease_marker(self, device: str) -> str:
        """The environment entry that every process of a run on `device` carries, to find survivors by; a run on several
        devices carries one of each."""
        return f"ORG_LEASE_{device}={self.key}"


def seat_branch(program: str, seat: str) -> str:
    """A seat's branch; the program's measured head is `program/<slug>/main`, its tentative merges `…/candidate`."""
    return f"program/{program}/{seat}"


def find_home(option: str | None, environ: dict[str, str], cwd: Path) -> Home:
    """The home a command works on: `--home`, else $ORG_HOME, else the nearest parent with prompts/charter.yaml.
    Raises BadInput when there is none."""
    named = option or environ.get("ORG_HOME")
    if named:
        root = Path(named).expanduser().resolve()
        if not (root / "prompts" / "charter.yaml").is_file():
            raise BadInput(f"{root} is no org home: it has no prompts/charter.yaml; make one with `org init {root}`")
        return Home(root)
    here = cwd.resolve()
    found = [Home(folder) for folder in (here, *here.parents) if (folder / "prompts" / "charter.yaml").is_file()]
    for home in reversed(found):
        if home.worktrees in here.parents or home.comms in here.parents:
            return home  # what looks like a home in there was put there by an agent
    if found:
        return found[0]
    raise BadInput(f"no org home here or above {cwd}; cd into one, give --home DIR, or make one with `org init DIR`")
