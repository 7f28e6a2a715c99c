"""One outside thing a module: git, tmux, processes, devices, file events. Only `gitcall` starts git and only `tmux` tmux."""
