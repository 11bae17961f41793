"""The benchmark's figures as a table for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

OURS = "kerasdiffusion"
#: Cores of other work beside a measurement from which on the machine is called busy.
BUSY = 0.1

#: Label, group and name of each figure, and what it is divided by to be read.
ROWS = (
    ("U-Net call, guided, s", "seconds", "network", 1),
    ("  of processor time, s", "cpu", "network", 1),
    ("decode, one picture, s", "seconds", "decode", 1),
    ("  of processor time, s", "cpu", "decode", 1),
    ("encode, one prompt, s", "seconds", "encode", 1),
    ("  of processor time, s", "cpu", "encode", 1),
    ("{batch_size} x {steps} steps, warm, s", "seconds", "picture", 1),
    ("  of processor time, s", "cpu", "picture", 1),
    ("compile, s", "seconds", "compile", 1),
    ("cold process to picture, s", "seconds", "cold_picture", 1),
    ("  of it: import, s", "seconds", "import", 1),
    ("  of it: build the model, s", "seconds", "build", 1),
    ("  side by side: networks made, s", "seconds", "networks", 1),
    ("  side by side: weights read, s", "seconds", "weights", 1),
    ("  side by side: programs traced, s", "seconds", "traces", 1),
    ("  side by side: programs run, s", "seconds", "programs", 1),
    ("the next process to picture, s", "seconds", "next_picture", 1),
    ("  of it: import, s", "seconds", "next_import", 1),
    ("  side by side: networks made, s", "seconds", "next_networks", 1),
    ("  side by side: weights read, s", "seconds", "next_weights", 1),
    ("  side by side: traces read, s", "seconds", "next_traces", 1),
    ("  side by side: programs run, s", "seconds", "next_programs", 1),
    ("peak memory, GiB", "bytes", "peak", 2**30),
    ("peak device memory, GiB", "bytes", "device_peak", 2**30),
)


def table(settings: Mapping, results: Mapping[str, Mapping]) -> str:
    """The figures of all libraries side by side.

    Args:
        settings: `"batch_size"`, `"steps"` and what `describe` takes.
        results: What `measuring.measure` gave, by library; this one's first.

    Returns:
        Lines of text, without a last line break.
    """
    peers = [name for name in results if name != OURS]
    header = ["", OURS]
    for peer in peers:
        header += [peer, "ratio"]
    lines = [header]
    for label, group, name, unit in ROWS:
        figures = {
            library: result.get(group, {}).get(name)
            for library, result in results.items()
        }
        if all(figure is None for figure in figures.values()):
            continue
        line = [label.format(**settings), _shown(figures[OURS], unit)]
        for peer in peers:
            each = [(results[who], figures[who]) for who in (OURS, peer)]
            line += [_shown(figures[peer], unit), _ratio(*each, group, name)]
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [describe(settings, results), ""]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [
            cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)
        ]
        text.append("  ".join(cells))
    if peers:
        text += ["", f"ratio: {OURS}'s figure over the peer's; below 1 is better."]
        if any(results[peer].get("in_turn") for peer in peers):
            text += [
                "Calls were in turn: the median of the pairs' ratios, and all of them."
            ]
    return "\n".join([*text, *beside(results.values())])


def beside(results: Iterable[Mapping]) -> list[str]:
    """A line on what else the machine did meanwhile, where that is known."""
    calls = [
        call
        for result in results
        for own in result.get("calls", {}).values()
        for call in own
        if call["beside"] is not None
    ]
    whole = sum(call["whole"] for call in calls)
    if not whole:
        return []
    other, stolen = (
        sum(call[name] * call["whole"] for call in calls) / whole
        for name in ("beside", "stolen")
    )
    text = (
        f"Beside the calls, other work took {other:.2f} cores, and other machines on "
        f"the same host {stolen:.2f}"
    )
    if max(other, stolen) < BUSY:
        return [f"{text}: a quiet machine."]
    return [
        f"{text}: a busy machine. Seconds tell little, and threads that wait may spin."
    ]


def describe(settings: Mapping, results: Mapping[str, Mapping]) -> str:
    """What was measured, on what: the lines above the table."""
    facts = results[OURS]["facts"]
    compiler = {True: ", XLA", "openvino": ", OpenVINO"}.get(facts["jit_compile"], "")
    weights = "random weights" if facts["random_weights"] else "weights from the disk"
    lines = [
        f"{settings['preset']}, {weights}, {facts['width']}x{facts['height']}, "
        f"batch {settings['batch_size']}, {facts['precision']}{compiler}; "
        f"medians of up to {settings['repeats']}",
        settings["machine"],
    ]
    for library, result in results.items():
        facts = result["facts"]
        lines.append(f"{library} {facts['version']}: {facts['backend']}")
    return "\n".join(lines)


def _shown(figure: float | None, unit: int) -> str:
    """Three digits."""
    if figure is None:
        return "-"
    return f"{figure / unit:#.3g}".rstrip(".")


def _ratio(ours: tuple, theirs: tuple, group: str, name: str) -> str:
    """Of a figure; of calls in turn the median of each pair's, the least and the most.

    Args:
        ours: A library's results, and the figure.
        theirs: The same of the other.
        group: Which the figure is of.
        name: Its name.
    """
    (ours, figure), (theirs, other) = ours, theirs
    if figure is None or not other:
        return "-"
    if not theirs.get("in_turn") or name not in theirs["calls"]:
        return f"{figure / other:.2f}"
    pairs = zip(ours["calls"][name], theirs["calls"][name], strict=True)
    found = [each[group] / beside[group] for each, beside in pairs if beside[group]]
    if not found:
        return "-"
    return f"{statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f})"
