"""Keys: the only door to `cryptography`.

`port` and `seal` sign through whatever holds a key; `signer` loads one from a file; `ed25519` checks signatures;
`keyring` says who is trusted. Importing the package imports none of them.
"""
