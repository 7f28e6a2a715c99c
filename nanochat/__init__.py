"""nanochat: a small GPT and its recipe, the code under study. `prepare` is frozen, `train` is what research edits."""
