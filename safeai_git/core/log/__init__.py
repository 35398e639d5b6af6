"""The formats of the audit log: pure values and checks, readable by any client of C2SP transparency logs.

`merkle` hashes and proves (RFC 6962); `note`, `cosignature` and `checkpoint` are what is signed; `tiles` is how a log
is served; `proof` is a receipt; `policy` says whose cosignatures are wanted; `entry` and `chain` are the file itself.
"""
