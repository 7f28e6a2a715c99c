"""What counts as evidence: pure functions over diffs, run results and verdicts. No files, no clock, no unseeded chance."""
