"""What processes elsewhere have of this one's environment.

Backends and caches go the way that Ray has for variables: it shows these in its
dashboard and writes them into its logs. What opens a door (`HF_TOKEN`, `AWS_...`) goes
with the model's maker, as bytes that nobody prints.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

#: Backends and caches.
SHOWN = re.compile(r"KERAS_BACKEND|KERASDIFFUSION_\w+|HF_\w+|XDG_CACHE_HOME|TF_\w+")
#: Object stores whose variables only make sense together.
_STORES = ("AWS_", "GOOGLE_", "GCS_", "AZURE_")
#: What says who somebody is there; a bundle of certificates does not.
_WHO = r"\w*(KEY|TOKEN|SECRET|CREDENTIAL|PROFILE|ACCOUNT|ROLE|CONNECTION)"
#: What opens a door, and which: of the model's hub, and of object stores.
HIDDEN = re.compile(
    r"HUGGING_FACE_HUB_TOKEN|(AWS|GOOGLE|GCS|AZURE|FSSPEC)_\w+"
    r"|(KERASDIFFUSION|HF|TF)_\w*(TOKEN|SECRET|PASSWORD|CREDENTIAL|KEY)\w*"
)


def shown() -> dict[str, str]:
    """The variables that may be seen."""
    return {
        name: value
        for name, value in os.environ.items()
        if SHOWN.fullmatch(name) and not HIDDEN.fullmatch(name)
    }


class WithHidden:
    """A maker that has this process's hidden variables, wherever it is called.

    A process that knows itself who it is in an object store is told nothing of it.

    Args:
        make: Makes the model, or does other work.
    """

    def __init__(self, make: Callable):
        self._make = make
        self._hidden = {
            name: value for name, value in os.environ.items() if HIDDEN.fullmatch(name)
        }

    def __call__(self, *arguments):
        own = tuple(
            store
            for store in _STORES
            if any(re.match(f"{store}{_WHO}", name) for name in os.environ)
        )
        for name, value in self._hidden.items():
            if not name.startswith(own):
                os.environ.setdefault(name, value)
        return self._make(*arguments)

    def __repr__(self) -> str:
        return f"WithHidden({self._make!r})"
