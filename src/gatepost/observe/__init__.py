"""TELLING operators: the mail log and the metrics."""
