"""pygit2, loaded without the certificates that the environment names.

The package hands them to libgit2 as it is loaded, and fails where ``SSL_CERT_FILE`` holds none. Nothing here ever talks
to anybody through libgit2, and what is wrong with them is told by whoever does talk (`client.web`).
"""

from __future__ import annotations

import os

_NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_held = {name: os.environ.pop(name) for name in _NAMES if name in os.environ}
try:
    import pygit2
    from pygit2.enums import ConfigLevel, ObjectType, SortMode
finally:
    os.environ.update(_held)

__all__ = ["ConfigLevel", "ObjectType", "SortMode", "pygit2"]
