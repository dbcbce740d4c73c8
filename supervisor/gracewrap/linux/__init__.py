"""System calls and /proc: reports what has happened, and decides nothing."""
