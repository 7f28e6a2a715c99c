"""agents: what an interactive agent is. Every program that can sit in a seat, and the researcher that needs no network."""
