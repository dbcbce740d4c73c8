"""Does: system calls about processes, signals, descriptors and sockets.  Decides nothing."""
