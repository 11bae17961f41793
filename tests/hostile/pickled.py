"""Checkpoints of PyTorch: pickles that would call things, and zip files that lie.

Nothing here does more than make a file whose name the harness tells: a marker.
"""

import io
import os
import struct
import zipfile
from pathlib import Path

from tests.hostile.harness import Collection
from tests.hostile.tensor_files import read_all

CASES = Collection()
CASES.reader("pickle")(read_all)
CASES.reader("zip")(read_all)

HEAD, STOP = b"\x80\x02", b"."


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def storage(kind="FloatStorage", key=b"", count=b"", module="torch") -> bytes:
    identity = (
        text("storage"),
        named(module, kind),
        key or text("0"),
        text("cpu"),
        count or integer(4),
    )
    return tuple_of(*identity) + b"Q"


def tensor(
    of=b"", offset=0, shape=(2, 2), strides=(2, 1), function="_rebuild_tensor_v2"
):
    arguments = (
        of or storage(),
        integer(offset),
        tuple_of(*map(integer, shape)),
        tuple_of(*map(integer, strides)),
        b"\x89",
        named("collections", "OrderedDict") + b")R",
    )
    return named("torch._utils", function) + tuple_of(*arguments) + b"R"


def state(*items: tuple[str, bytes]) -> bytes:
    pairs = b"".join(text(name) + value for name, value in items)
    return HEAD + b"}(" + pairs + b"u" + STOP


def archive(pickle: bytes, members=None, **options) -> bytes:
    """A checkpoint's zip file."""
    buffer = io.BytesIO()
    members = {"data/0": b"\0" * 16} if members is None else members
    with zipfile.ZipFile(buffer, "w", **options) as file:
        file.writestr("archive/data.pkl", pickle)
        for name, content in members.items():
            file.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def add(reader, name, content, outcome="refused", file="a.ckpt", **more):
    def make(folder: Path) -> Path:
        made = content() if callable(content) else content
        (folder / file).write_bytes(made)
        return folder / file

    CASES.add(reader, name, make, outcome, **more)


def _good(folder, value):
    assert list(value) == ["a"] and value["a"].shape == (2, 2)


add("zip", "a good one", archive(state(("a", tensor()))), "taken", check=_good)

MARKER = os.environ.get("HOSTILE_MARKER", "/nonexistent/marker")


def calling(module: str, name: str, *arguments: bytes) -> bytes:
    """A pickle that would call a function, beside a tensor."""
    call = named(module, name) + tuple_of(*(arguments or (text(MARKER),))) + b"R"
    return state(("a", tensor()), ("b", call))


# What nobody's checkpoint names, by which the file would act.
for module, name in (
    ("os", "mkdir"),
    ("posix", "mkdir"),
    ("nt", "mkdir"),
    ("subprocess", "Popen"),
    ("builtins", "exec"),
    ("builtins", "eval"),
    ("__builtin__", "eval"),
    ("builtins", "open"),
    ("builtins", "__import__"),
    ("shutil", "copyfile"),
    ("socket", "socket"),
    ("runpy", "run_path"),
    ("importlib", "import_module"),
    ("pty", "spawn"),
    ("webbrowser", "open"),
    ("pip", "main"),
    ("marshal", "loads"),
    ("pickle", "loads"),
    ("timeit", "timeit"),
    ("os.path", "exists"),
):
    add(
        "pickle", f"{module}.{name}", archive(calling(module, name)), says="nothing was"
    )
# Ways around lists of what is forbidden: here nothing is called whatever its name.
for module, name in (
    ("_operator", "methodcaller"),
    ("operator", "attrgetter"),
    ("functools", "partial"),
    ("pathlib", "Path.touch"),
    ("builtins", "getattr"),
    ("io", "open"),
    ("_io", "FileIO"),
    ("codecs", "open"),
    ("tempfile", "mkstemp"),
    ("logging", "FileHandler"),
    ("cProfile", "run"),
    ("asyncio.unix_events", "_UnixSubprocessTransport._start"),
    ("numpy.testing._private.utils", "runstring"),
    ("torch._dynamo.guards", "GuardBuilder.get"),
    ("torch.utils.collect_env", "run"),
    ("torch.serialization", "load"),
    ("doctest", "debug_script"),
    ("idlelib.run", "Executive.runcode"),
    ("lib2to3.pgen2.grammar", "Grammar.loads"),
    ("zipimport", "zipimporter"),
    ("multiprocessing.util", "spawnv_passfds"),
    ("ensurepip", "_run_pip"),
    ("sqlite3", "connect"),
    ("ctypes.util", "find_library"),
    ("types", "CodeType"),
    ("ssl", "get_server_certificate"),
):
    # A file that names the one is refused; of the others nothing becomes of the call.
    outcome = "refused" if module == "ctypes.util" else "taken"
    add("pickle", f"{module}.{name}", archive(calling(module, name)), outcome)

add("pickle", "in a bare file", calling("os", "mkdir"))
add("pickle", "in a .bin", archive(calling("os", "mkdir")), file="a.bin")
add("pickle", "in a .pt", archive(calling("posix", "mkdir")), file="a.pt")
stacked = text("posix") + text("mkdir") + b"\x93" + tuple_of(text(MARKER)) + b"R"
add("pickle", "by STACK_GLOBAL", archive(b"\x80\x04" + stacked + STOP))
add("pickle", "by INST", archive(b"(" + text(MARKER) + b"iposix\nmkdir\n."))
built = named("builtins", "object") + b")R" + named("posix", "mkdir") + b"b."
add("pickle", "as a state", archive(HEAD + built))
new = named("posix", "mkdir") + tuple_of(text(MARKER)) + b"\x81" + STOP
add("pickle", "by NEWOBJ", archive(HEAD + new))
add("pickle", "by OBJ", archive(b"(" + named("posix", "mkdir") + text(MARKER) + b"o."))

for name, pickle in {
    "nothing": b"",
    "a stop": STOP,
    "no stop": HEAD + b"}",
    "an empty stack": HEAD + b"000.",
    "a mark alone": HEAD + b"(.",
    "a memo that is not": HEAD + b"h\7.",
    "an unknown opcode": HEAD + b"\xff.",
    "a length beyond the file": HEAD + b"X\xff\xff\xff\x7fabc",
    "a length of 2**63": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f" + b"abc",
    "an extension": HEAD + b"\x82\1.",
    "a protocol of 255": b"\x80\xff}.",
    "a list in a list 10**6 times": HEAD + b"]" * 10**6 + b"a" * (10**6 - 1) + STOP,
    "tuples that double 10**5 times": HEAD + b")" + b"2\x86" * 10**5 + STOP,
    "a key that doubles": HEAD + b"}" + b")" + b"2\x86" * 60 + b"K\1s.",
    "a name that doubles": HEAD + b")" + b"2\x86" * 60 + text("x") + b"\x93.",
    "a number of a million digits": b"L" + b"9" * 10**6 + b"L\n.",
    "a tensor as a dict's key": state(("a", tensor())).replace(text("a"), tensor()),
    "a number": HEAD + b"K\1.",
    "a list": HEAD + b"].",
    "text": HEAD + text("x") + STOP,
}.items():
    add("pickle", name, archive(pickle))

doubled = b")" + b"2\x86" * 60
for name, of in {
    "a count beyond the file": storage(count=integer(2**40)),
    "a count of less than nothing": storage(count=integer(-1)),
    "a count that is text": storage(count=text("4")),
    "a key of another folder": storage(key=text("../0")),
    "a key that is not": storage(key=text("7")),
    "a storage whose key doubles": storage(key=doubled),
    "a kind that doubles": tuple_of(
        doubled, text("a"), text("0"), text("cpu"), integer(1)
    )
    + b"Q",
    "a kind of storage that is not": storage("ComplexStorage"),
    "an id that is no tuple": text("x") + b"Q",
    "an id of nothing": b")Q",
}.items():
    # What is beyond the tensor is not looked at.
    how = "taken" if name == "a count beyond the file" else "refused"
    add("pickle", name, archive(state(("a", tensor(of)))), how)
for name, options in {
    "a side of less than nothing": {"shape": (-1, 2)},
    "a shape of 2**40": {"shape": (2**40, 2), "strides": (2, 1)},
    "sides whose product wraps": {"shape": (2**32, 2**32), "strides": (0, 0)},
    "strides beyond the storage": {"strides": (1000, 1)},
    "a stride of less than nothing": {"strides": (-2, 1)},
    "an offset beyond the storage": {"offset": 2**62},
    "more sides than strides": {"shape": (1, 2, 3)},
    "forty sides": {"shape": (1,) * 40, "strides": (1,) * 40},
}.items():
    add("pickle", name, archive(state(("a", tensor(**options)))))
add("pickle", "a storage that is no storage", archive(state(("a", tensor(text("x"))))))
hundred = [(str(n), tensor()) for n in range(10**4)]
add(
    "pickle",
    "10**4 views of one storage",
    archive(state(*hundred)),
    "taken",
    check=lambda *_: None,
)

good = state(("a", tensor()))
add("zip", "no pickle", lambda: archive(b"").replace(b"data.pkl", b"data.pk_"))
add("zip", "no storage", archive(good, {}))
add("zip", "a storage cut short", archive(good, {"data/0": b"\0" * 8}))
packed = {"compression": zipfile.ZIP_DEFLATED}
add("zip", "a storage that is packed", archive(good, **packed))


def packed_bomb():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(
            "archive/data.pkl", state(("a", tensor(storage(count=integer(2**28)))))
        )
        with file.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(256):
                member.write(bytes(2**22))
    return buffer.getvalue()


def packed_pickle():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("archive/data.pkl", "w") as member:
            member.write(HEAD + b"}")
            for _ in range(64):
                member.write(b"N0" * 2**21)
            member.write(STOP)
    return buffer.getvalue()


add("zip", "a storage of a gigabyte in a megabyte", packed_bomb)
add("zip", "a pickle of 256 MB", packed_pickle)
for name in ("../../evil", "/etc/evil", "archive\\data.pkl", "a" * 60_000, "evil\0"):
    add(
        "zip",
        f"a member named {name[:12]!r}",
        archive(good, {"data/0": b"\0" * 16, name: b""}),
        "taken",
    )
add("zip", "two pickles", lambda: _twice("archive/data.pkl", good))
add("zip", "two pickles in two folders", lambda: _twice("other/data.pkl", good))
add(
    "zip",
    "100,000 members",
    lambda: archive(
        good, {"data/0": b"\0" * 16} | {f"x{i}": b"" for i in range(10**5)}
    ),
)
whole = archive(good)
for cut in (1, 10, 60, len(whole) // 2, len(whole) - 1):
    add("zip", f"cut after {cut} bytes", whole[:cut])
for place, byte in (
    (14, 255),
    (18, 255),
    (22, 255),
    (26, 255),
    (28, 255),
    (-2, 255),
    (-6, 255),
    (-10, 255),
):
    broken = bytearray(whole)
    broken[place] = byte
    # What is said beside each member is said again at the end, which is read.
    outcome = "taken" if place in (14, 18, 22, -2) else "refused"
    add("zip", f"byte {place} changed", bytes(broken), outcome)
add("zip", "a RAR file", b"Rar!\x1a\7\0" + bytes(99))
add("zip", "a tar file", b"a" * 100 + bytes(157) + b"ustar\0" + bytes(999))
add("zip", "a web page", b"<html>" * 99)


def _twice(name, pickle):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("archive/data.pkl", pickle)
            file.writestr(name, calling("posix", "mkdir"))
            file.writestr("archive/data/0", b"\0" * 16)
    return buffer.getvalue()


for reader, name in (("pickle", "a pipe"), ("zip", "another pipe")):

    @CASES.case(reader, name)
    def _(folder):
        os.mkfifo(folder / "a.ckpt")
        return folder / "a.ckpt"
