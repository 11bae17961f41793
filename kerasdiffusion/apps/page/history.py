"""What a browser has had painted: kept by the server, found again after a restart."""

from __future__ import annotations

from kerasdiffusion.apps.page.painting import Painting
from kerasdiffusion.apps.page.sessions import Session, Shown
from kerasdiffusion.pictures.generation_parameters import format_parameters

#: Pictures that are shown at once.
MOST = 48


def past(painting: Painting, session: Session, after: int = 0) -> list[Shown]:
    """The pictures of a browser, the latest first.

    Args:
        painting: Where they are.
        session: Whose.
        after: How many are passed over.
    """
    kept, found = painting.core.kept, []
    for record in reversed(kept.all()):
        if len(found) >= after + MOST:
            break
        # (Its name is a secret of the browser; its address may change.)
        if record["client"][1] == session.client.name and record["parameters"]:
            found += painting.shown(record)
    return found[after : after + MOST]


def forget(painting: Painting, shown: Shown) -> None:
    """Drops the result that a picture is of, with all its pictures."""
    painting.core.kept.drop(shown.id)


def said(shown: Shown) -> str:
    """All that is kept of how a picture was made."""
    return format_parameters(**shown.text)
