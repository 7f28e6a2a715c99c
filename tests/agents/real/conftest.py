"""The fixtures of `stage`, for every test of a real program."""

from agents.real.stage import place, programs, proxy, server, stage

__all__ = ["place", "programs", "proxy", "server", "stage"]
