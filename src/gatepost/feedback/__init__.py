"""
What the world says afterwards: mail that comes back, read (reading, and one module a sort), and rated.

Pure: bytes in, values out; no network, no database, no clock.
"""
