"""Fakes and real peers for tests: shipped, never imported by production code."""
