"""org: a research organisation you can program. Rooms, from the ground up: evidence, world, lab, agents, team, bench, cli."""

__version__ = "0.1.0"
