"""The `org` command: one file a verb group, each verb parse, call, print. Decides nothing and keeps no state."""
