"""The HTTP door: JSON in, problems out; it translates and decides nothing."""
