"""QUEUE RUNNER: claims what is due, hands it to couriers, settles outcomes."""
