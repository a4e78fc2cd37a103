"""RUNNING: the supervisor and its child processes."""
