"""One module per outside thing: git, tmux, processes, devices, file events. Each is the only caller of it."""
