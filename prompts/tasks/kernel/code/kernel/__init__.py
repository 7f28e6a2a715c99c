"""A Gaussian kernel sum: kernel.py computes it (research edits it), measure.py checks and times it (frozen)."""
