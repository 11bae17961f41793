"""What all parts of the page have in common: its widgets by name, and its tabs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import gradio as gr

from kerasdiffusion.apps.page.handed import Handed
from kerasdiffusion.apps.page.painting import Painting
from kerasdiffusion.apps.page.sessions import BROWSER, Session, Sessions
from kerasdiffusion.apps.server.core import Core
from kerasdiffusion.apps.server.work import Client

#: How the browser keeps what is its own; it is no secret from who has the browser.
_KEPT = "kerasdiffusion"
#: Rows of adapters.
ROWS = 4
#: How what a widget does is wired: nothing spins, and no API shows it.
QUIET = {"show_progress": "hidden", "api_visibility": "private"}
#: Widgets whose values are files or drawings: no preset keeps them.
FILES = ("picture", "mask_file", "depth_file", "editor", "control_picture")


class Page:
    """The page's widgets and what it does with them.

    Args:
        core: The server's parts.
        handed: Where files for browsers are.
    """

    def __init__(self, core: Core, handed: Handed):
        self.core, self.models, self.handed = core, core.models, handed
        self.sessions, self.painting = Sessions(core), Painting(core, handed)
        self.widgets: dict[str, gr.components.Component] = {}
        self.browser = gr.BrowserState("", storage_key=f"{_KEPT}-name", secret=_KEPT)
        self.presets = gr.BrowserState({}, storage_key=f"{_KEPT}-presets", secret=_KEPT)

    def add(self, name: str, component):
        """A widget whose value is part of what is asked."""
        self.widgets[name] = component
        return component

    @property
    def inputs(self) -> list:
        """What functions that ask for pictures are given."""
        return [self.browser, *self.widgets.values()]

    def values(self, args: Sequence) -> dict:
        """Values by name, as `asking` takes them, of those of `inputs`."""
        raw = dict(zip(self.widgets, args, strict=True))
        return gathered(raw)

    @property
    def settable(self) -> list:
        """The widgets that settings are of: all but those of files and drawings."""
        return [x for name, x in self.widgets.items() if name not in FILES]

    def updates(self, values: Mapping) -> list:
        """What sets these to values by name; those that are not in it stay."""
        values = scattered(values)
        return [
            gr.update(value=values[name]) if name in values else gr.skip()
            for name in self.widgets
            if name not in FILES
        ]

    def session(self, request: gr.Request, browser: str) -> Session:
        """The tab that asks."""
        hash = str(request.session_hash)
        found = None if browser else self.sessions.get(hash, None)
        if found is not None:
            return found
        address = request.client.host if request.client else "local"
        name = f"{BROWSER}{browser or hash}"[:100]
        return self.sessions.get(hash, Client(address, name))

    def config(self, model: str | None):
        """The configuration of a model by name."""
        return self.models.get(self.models.find(model)).config

    @staticmethod
    def new_browser() -> str:
        """The name of a browser that has not been here."""
        return secrets.token_urlsafe(16)


def gathered(raw: Mapping) -> dict:
    """Rows of adapters as a list, what is followed as a dict, a drawing as layers."""
    values = dict(raw)
    rows = [
        (values.pop(f"adapter_{i}", ""), values.pop(f"weight_{i}", 1.0))
        for i in range(ROWS)
    ]
    values["adapters"] = [row for row in rows if row[0]]
    values["control"] = {
        name.removeprefix("control_"): values.pop(name)
        for name in list(values)
        if name.startswith("control_")
    }
    drawn = values.pop("editor", None) or {}
    values["drawn"] = drawn.get("layers") or []
    return values


def scattered(values: Mapping) -> dict:
    """The same the other way round, for widgets."""
    found = dict(values)
    if "adapters" in found:
        rows = list(found.pop("adapters"))[:ROWS]
        rows += [("", 1.0)] * (ROWS - len(rows))
        for i, (name, weight) in enumerate(rows):
            found |= {f"adapter_{i}": name, f"weight_{i}": weight}
    for name, value in (found.pop("control", None) or {}).items():
        found[f"control_{name}"] = value
    return found
