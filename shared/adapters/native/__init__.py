"""What both launchers put around a script: C programs, how they are compiled, the call filter."""
