"""RULES: pure functions from facts and an instant to a decision."""
