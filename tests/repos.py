"""Small git repositories for tests, made with git itself."""

import os
import subprocess

from org.world import git

WHEN = "2026-03-01T00:00:00Z"
ENV = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


def sh(*argv, cwd):
    """Git as an agent calls it: with the repository's own configuration in force."""
    return subprocess.run(argv, cwd=cwd, env=ENV, check=True, capture_output=True, text=True).stdout


def commit_of(repository, files, *parents, message="m"):
    return git.commit(repository, git.write_tree(repository, files), parents, message, when=WHEN)


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""
