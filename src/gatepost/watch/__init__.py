"""
Looking after what is not ours: senders' DNS, the names of our addresses, relays and their providers.

Every process that could look asks for the task's lease first, so that one does.
"""
