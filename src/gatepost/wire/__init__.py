"""PROTOCOLS: sans-IO, bytes to values and back; each file cites its RFC."""
