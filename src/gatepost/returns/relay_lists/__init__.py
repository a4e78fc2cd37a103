"""
Providers' own suppression lists: read into ours, and told of ours.

One process does it for each relay, by a lease; how far it is stands in store.relay_lists.
"""
