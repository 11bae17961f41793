"""Animations out: frames as GIF and MP4 files."""

from __future__ import annotations

import io
import math
import numbers
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kerasdiffusion.pictures.write import text_of, write_new
from kerasdiffusion.storage.bounds import check_bound

#: What a file's name may end in.
ENDINGS = (".gif", ".mp4")
# Browsers slow down what is faster: a GIF counts hundredths of seconds, 2 or more.
_FASTEST_GIF = 50.0
# Systems bound an argument of a program: Linux at 128 KiB.
_LONGEST_ARGUMENT = 100_000


def save_animation(
    frames: Sequence[np.ndarray] | np.ndarray,
    path: str | os.PathLike,
    fps: float = 12.0,
    parameters: dict | None = None,
) -> Path:
    """Writes frames as an animation, never over a file that exists.

    A GIF has 256 colours a frame and runs forever. An MP4 has H.264, which every
    browser plays, and takes the extra `".[video]"`.

    Args:
        frames: Pictures of one size, uint8, `(frames, height, width, 3)`.
        path: Where to, ending in `.gif` or `.mp4`. Folders are made. If it exists,
            `-2`, `-3` and so on are put behind its name until one is free.
        fps: Frames a second, over 0 and up to 120. A GIF shows 50 at most, and each for
            whole hundredths of a second.
        parameters: How it was made: the arguments of `format_parameters`, kept as the
            file's comment.

    Returns:
        The path of the file that was written.

    Raises:
        TypeError: If the frames are not uint8, or `fps` is no number.
        ValueError: If there are no frames, they have another shape, the path has
            another ending, or the parameters are more than a comment holds: 1 MiB, of
            an MP4 100 kB.
        ImportError: If an MP4 is asked for and the extra is not installed.

    Example:

    ```python
    frames = np.zeros((2, 64, 64, 3), "uint8")
    save_animation(frames, "walk.gif", fps=10)
    ```
    """
    path = check_animation(path, fps)
    frames = _check_frames(frames)
    comment = comment_for(path, parameters)
    encode = _gif if path.suffix.lower() == ".gif" else _mp4
    content = encode(frames, float(fps), comment)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_new(path, content)


def check_animation(path: str | os.PathLike, fps: float) -> Path:
    """The path, if `save_animation` can write there, before there are frames.

    The arguments and the errors are those of `save_animation`.
    """
    path = Path(path)
    if isinstance(fps, bool) or not isinstance(fps, numbers.Real):
        raise TypeError(f"`fps` must be a number. Received: {fps!r}")
    if not (math.isfinite(fps) and 0.0 < fps <= 120.0):
        raise ValueError(f"`fps` must be over 0 and up to 120. Received: {fps}")
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(
            f"An animation's name must end in .gif or .mp4. Received: {path}"
        )
    if path.suffix.lower() == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "An MP4 takes imageio-ffmpeg: pip install imageio-ffmpeg; a "
                f".gif takes nothing more. Received: {path}"
            ) from error
    return path


def comment_for(path: str | os.PathLike, parameters: dict | None) -> str:
    """The text that an animation carries, if its format holds as much.

    Args:
        path: As in `save_animation`.
        parameters: As there.

    Raises:
        ValueError: If not.
    """
    if parameters is None:
        return ""
    text = text_of(parameters)
    length = len(text.encode())
    check_bound("comment", length, "the parameters")
    if Path(path).suffix.lower() == ".mp4" and length > _LONGEST_ARGUMENT:
        raise ValueError(
            f"An MP4's comment has at most {_LONGEST_ARGUMENT} bytes; a GIF's may have "
            f"more. Received: {length}"
        )
    return text


def _check_frames(frames) -> np.ndarray:
    frames = [np.asarray(frame) for frame in frames]
    kinds = sorted({frame.dtype.name for frame in frames} - {"uint8"})
    if kinds:
        raise TypeError(f"Frames must be uint8. Received: {', '.join(kinds)}")
    shapes = sorted({frame.shape for frame in frames})
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][-1] != 3 or 0 in shapes[0]:
        raise ValueError(
            "Frames must be one or more, all of one shape (height, width, 3). "
            f"Received: {len(frames)} frames of shapes {shapes}"
        )
    return np.stack(frames)


def _gif(frames: np.ndarray, fps: float, comment: str) -> memoryview:
    from PIL import Image

    told = {"comment": comment.encode()} if comment else {}
    pictures = [
        Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE)
        for frame in frames
    ]
    # Times are whole hundredths of a second; what is rounded off one goes to the next.
    times = np.arange(len(frames) + 1) * 100.0 / min(fps, _FASTEST_GIF)
    durations = (np.diff(np.round(times)) * 10).astype(int).tolist()
    encoded = io.BytesIO()
    pictures[0].save(
        encoded,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=durations,
        loop=0,
        **told,
    )
    return encoded.getbuffer()


def _mp4(frames: np.ndarray, fps: float, comment: str) -> memoryview:
    import imageio_ffmpeg

    told = ["-metadata", f"comment={comment}"] if comment else []
    # Colours are stored for two pixels by two.
    height, width = frames.shape[1:3]
    odd = [(0, 0), (0, height % 2), (0, width % 2), (0, 0)]
    frames = np.ascontiguousarray(np.pad(frames, odd, mode="edge"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frames.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(file),
            (frames.shape[2], frames.shape[1]),
            fps=fps,
            codec="libx264",
            macro_block_size=1,
            output_params=["-crf", "17", "-movflags", "+faststart", *told],
            ffmpeg_log_level="error",
        )
        writer.send(None)
        try:
            for frame in frames:
                writer.send(frame)
        finally:
            writer.close()
        return memoryview(file.read_bytes())
