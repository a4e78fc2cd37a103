"""DEMO: a throw-away gateway, sample messages through its doors, and a look at what became of them."""
