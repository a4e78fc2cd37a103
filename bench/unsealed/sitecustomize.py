"""For `bench.sealing` only: with this folder on PYTHONPATH a gateway stores everything as it came, to show what sealing costs."""

from gatepost.store.keyring import Keyring

# the third argument, after keyring and connection, is the value itself
Keyring.seal = Keyring.unseal = Keyring.hash_text = lambda *arguments: arguments[2]
Keyring.prepare = lambda *_: None
