"""
Relays' hooks: a provider calls and says what became of a message. One file a provider: who is believed, and what its words mean.

Adding one: a class with `verify` and `read` as in `call.Hook`, and its name in `desk.HOOKS`.
"""
