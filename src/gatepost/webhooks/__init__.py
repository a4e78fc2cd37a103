"""Telling customers: what happened, sent to their own servers."""
