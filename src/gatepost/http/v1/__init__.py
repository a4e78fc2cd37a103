"""The native API, version 1: one module per noun."""
