"""Does: system calls about processes, signals, terminals and sockets.  Reports what happened and decides nothing."""
