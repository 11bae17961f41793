"""Where a batch is: a folder on a disk, or a prefix of an object store."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kerasdiffusion.batch.stores.disk import Disk
from kerasdiffusion.batch.stores.objects import Objects
from kerasdiffusion.storage.bounds import shown

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.S)


def is_url(place) -> bool:
    """Whether a place is named by a URL, and is not a path.

    Example:

    >>> is_url("s3://bucket/pictures"), is_url("pictures")
    (True, False)
    """
    return isinstance(place, str) and _URL.fullmatch(place) is not None


def store_of(place) -> Disk | Objects:
    """The store that a path or a URL means.

    Args:
        place: A folder's path; a URL of an object store, as `s3://bucket/pictures`; or
            a store.

    Raises:
        ImportError: If what reads such URLs is not installed.
        ValueError: If nothing reads such URLs.

    Example:

    >>> store_of("pictures").is_on_disk
    True
    """
    if isinstance(place, (Disk, Objects)):
        return place
    if is_url(place):
        kind, rest = _URL.fullmatch(place).groups()
        if kind.lower() not in ("file", "local"):
            return Objects(place)
        place = rest
        if not os.path.isabs(place):
            raise ValueError(
                f"A URL of a file must have three slashes. Received: {shown(place)}"
            )
    from kerasdiffusion.storage.places import expand_user

    return Disk(expand_user(Path(place)).absolute())
