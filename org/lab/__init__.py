"""Experiments: filed, run, scored, judged, recorded. Knows no agents, no tmux, no mail."""
