"""Signatures and docstrings of the tasks' methods, made from the fields."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence

from kerasdiffusion.requests import foreign
from kerasdiffusion.requests.fields import POSITIONAL, Field
from kerasdiffusion.requests.request import FIELDS, Request, fields_of

#: Sections of a docstring that stand behind its arguments.
_BEHIND = re.compile(r"^(Returns|Raises|Example|Examples|Reference):$", re.MULTILINE)
_WIDTH = 84


def takes_request(task: str) -> Callable[[Callable], Callable]:
    """Gives a method a task's keywords; it is handed one checked `Request`.

    The keywords stand in its signature and, as `Args`, in its docstring as if written
    there: by position as `POSITIONAL` says, the others by name.

    Args:
        task: Of `TASKS`.

    Returns:
        A decorator for a method of `self` and a request.

    Example:

    >>> @takes_request("text_to_image")
    ... def text_to_image(self, request): ...
    """
    fields = fields_of(task)
    signature = _signature(task, fields)

    def decorate(method: Callable) -> Callable:
        returns = method.__annotations__.get("return", inspect.Signature.empty)
        own = signature.replace(return_annotation=returns)

        @functools.wraps(method)
        def asked(self, *args, **keywords):
            return method(self, make_request(task, own, self, args, keywords))

        asked.__signature__ = own
        asked.__doc__ = with_arguments(method.__doc__ or "", task)
        return asked

    return decorate


def make_request(task: str, signature, self, args, keywords) -> Request:
    """The request of a call."""
    check_keywords(task, signature, keywords)
    try:
        given = signature.bind(self, *args, **keywords).arguments
    except TypeError as error:
        raise TypeError(f"`{task}`: {error}") from None
    given.pop("self")
    return Request(task=task, **given)


def check_keywords(
    name: str, signature: inspect.Signature, keywords: Mapping, table=foreign.keyword
) -> None:
    """That a function takes keywords.

    Args:
        name: The function's.
        signature: Its own.
        keywords: What it is given.
        table: From another program's name to a sentence with ours.

    Raises:
        TypeError: If not: what it is called here first, then near matches.
    """
    known = [each for each in signature.parameters if each != "self"]
    for keyword in keywords:
        if keyword not in known:
            raise TypeError(unknown(name, keyword, known, table))


def check_arguments(cls: type, args: Sequence, keywords: Mapping) -> None:
    """That a class takes arguments, its own or those that it passes on.

    Args:
        cls: The class that the caller wrote.
        args: By position.
        keywords: By name.

    Raises:
        TypeError: If not, under the class's own name.
    """
    signature = inspect.signature(cls.__init__)
    known, passes_on = _arguments(cls)
    if not passes_on:
        for keyword in keywords:
            if keyword not in known:
                raise TypeError(unknown(cls.__name__, keyword, known, foreign.argument))
    try:
        signature.bind(None, *args, **keywords)
    except TypeError as error:
        raise TypeError(f"`{cls.__name__}`: {error}") from None


def _arguments(cls: type) -> tuple[list[str], bool]:
    """What a class takes by name, and whether it may take more."""
    known: list[str] = []
    for each in cls.__mro__:
        if "__init__" not in vars(each):
            continue
        passes_on = False
        for parameter in inspect.signature(each.__init__).parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                passes_on = True
            elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
                known.append(parameter.name)
        if not passes_on:
            return known, False
    return known, True


def unknown(
    name: str, keyword: str, known: Sequence[str], table=foreign.keyword
) -> str:
    """The message of a keyword that is none: the right one alone where it is known."""
    known = [each for each in known if each not in ("self", "options")]
    here = table(keyword, known) or _elsewhere(keyword, name)
    near = difflib.get_close_matches(keyword[:200], known, n=3, cutoff=0.5)
    if here:
        rule = f"takes no `{keyword}`: {here}."
    elif near:
        rule = f"takes no `{keyword}`. Did you mean {' or '.join(near)}?"
    else:
        rule = f"takes {', '.join(known)}."
    return f"`{name}` {rule} Received: {keyword!r}"


def _elsewhere(keyword: str, task: str) -> str:
    """Which tasks take a keyword that this one does not."""
    if task not in POSITIONAL or keyword not in FIELDS:
        return ""
    return f"it is for {', '.join(FIELDS[keyword].asked.tasks)}"


def _signature(task: str, fields: Mapping[str, Field]) -> inspect.Signature:
    by_position = POSITIONAL[task]
    names = [*by_position, *(name for name in fields if name not in by_position)]
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for name in names:
        field = fields[name]
        required = field.is_required(task)
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD
                if name in by_position
                else inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty
                if required
                else field.default_for(task),
                annotation=field.type,
            )
        )
    return inspect.Signature(parameters)


def with_arguments(docstring: str, task: str) -> str:
    """A docstring with the task's arguments ahead of what it returns."""
    text = inspect.cleandoc(docstring)
    section = arguments(task)
    found = _BEHIND.search(text)
    if found is None:
        return f"{text}\n\n{section}"
    return f"{text[: found.start()]}{section}\n{text[found.start() :]}"


def arguments(task: str) -> str:
    """The `Args` section of a task's docstring."""
    lines, fields = ["Args:"], fields_of(task)
    by_position = POSITIONAL[task]
    for name in [*by_position, *(each for each in fields if each not in by_position)]:
        text = fields[name].text_for(task)
        lines += textwrap.wrap(
            f"{name}: {text}",
            _WIDTH,
            initial_indent=" " * 4,
            subsequent_indent=" " * 8,
            break_long_words=False,
            break_on_hyphens=False,
        )
    lines += ["", "What takes several numbers also takes a dict of them by names.", ""]
    return "\n".join(lines)
