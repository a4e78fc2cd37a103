"""BYTES: compose (what is stored), render (what is signed and sent), parse."""
