"""A small classifier: train.py trains it (research edits it), measure.py makes the data and scores it (frozen)."""
