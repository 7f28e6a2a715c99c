"""Parts of scripts/chaos: a small organisation under random faults, and what must be true of it afterwards."""
