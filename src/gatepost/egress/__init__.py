"""DELIVERY: couriers take a batch to the next system and report one outcome per recipient. Never imports the store."""
