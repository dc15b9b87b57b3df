"""What a build may be made of: its Dockerfile's instructions, and the archive that holds it.

The engine builds from the very text that was checked here, whatever else the archive contains:
the checked text is repeated as the archive's last entry.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Awaitable, Callable, Mapping

from rules import Denied
from wire import PIECE, Body

MAX_SMALL = 1 << 18

# ADD is left out because the engine itself fetches its URLs, from the host's network; ONBUILD
# because it hides instructions; VOLUME because no limit of a container bounds its data.
INSTRUCTIONS = (
    "ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN SHELL STOPSIGNAL USER WORKDIR"
)
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_ARG = re.compile(rf"({_NAME})(?:=([A-Za-z0-9_./:@-]*))?")
_USED = re.compile(rf"\$(?:{{({_NAME})}}|({_NAME}))")
_FROM = re.compile(
    r"(?:--platform=[a-z0-9/]+ +)?(\S+)(?: +AS +([A-Za-z][A-Za-z0-9_.-]*))?", re.IGNORECASE
)
_COPY_FLAG = re.compile(r"--(?:(from)|chown|chmod)=([A-Za-z0-9_./:@-]+)")


def instructions(source: bytes) -> list[tuple[str, str]]:
    """Split a Dockerfile into instructions and arguments; deny what parsers read differently."""
    if not re.fullmatch(rb"(?:[\t -~]|\r?\n)*", source):
        raise Denied("Dockerfile", "other characters", "printable ASCII")
    lines, line, continued = [], "", False
    for raw in source.decode("ascii").replace("\t", " ").replace("\r", "").split("\n"):
        if raw.strip().startswith("#"):
            if re.match(r"#\s*escape\s*=", raw.strip(), re.IGNORECASE):
                raise Denied("Dockerfile", raw, "no escape directive")
            continue
        part = re.sub(r"\\ *$", "", raw)
        if (part.endswith("\\") and part != raw) or (continued and not raw.strip()):
            allowed = "at most one \\ at a line's end, and no empty line after it"
            raise Denied("Dockerfile", raw, allowed)
        line, continued = line + part, part != raw
        if not continued:
            lines.append(line.strip())
            line = ""
    return [_instruction(line) for line in (*lines, line.strip()) if line]


def _instruction(line: str) -> tuple[str, str]:
    word, _, rest = line.partition(" ")
    if word.upper() not in INSTRUCTIONS.split() or "<<" in rest:
        raise Denied("Dockerfile", line, f"{INSTRUCTIONS}, and no <<")
    return word.upper(), rest.strip()


def sources(dockerfile: bytes, arguments: Mapping[str, str]) -> set[str]:
    """The images that a Dockerfile uses with these build arguments; not its own stages."""
    images: set[str] = set()
    stages: list[str] = []
    defaults: dict[str, str] = {}
    for word, rest in instructions(dockerfile):
        if word == "ARG" and not stages:
            match = _ARG.fullmatch(rest)
            if not match or match[1] in defaults:
                raise Denied("Dockerfile ARG", rest, "before FROM: NAME or NAME=value, each once")
            defaults[match[1]] = arguments.get(match[1], match[2] or "")
        elif word == "FROM":
            images |= _from_images(rest, defaults, stages)
        elif word == "COPY":
            images |= _copy_images(rest, stages)
        elif word == "RUN" and rest.startswith("--"):
            raise Denied("Dockerfile RUN", rest, "no options")
    return images


def _from_images(rest: str, defaults: Mapping[str, str], stages: list[str]) -> set[str]:
    match = _FROM.fullmatch(rest)
    if not match:
        raise Denied("Dockerfile FROM", rest, "FROM IMAGE [AS NAME]")
    image = _USED.sub(lambda used: defaults.get(used[1] or used[2], ""), match[1])
    known = image.lower() in filter(None, stages)
    stages.append((match[2] or "").lower())
    return set() if known or image == "scratch" else {image}


def _copy_images(rest: str, stages: list[str]) -> set[str]:
    images = set()
    earlier = {*filter(None, stages[:-1]), *map(str, range(len(stages) - 1))}
    for word in rest.split():
        if not word.startswith("--"):
            break
        match = _COPY_FLAG.fullmatch(word)
        if not match:
            raise Denied("Dockerfile COPY", word, "--from=, --chown=, --chmod=")
        if match[1] and match[2].lower() not in earlier:
            images.add(match[2])
    return images


ROOT = tarfile.TarInfo("./")
ROOT.type, ROOT.mode = tarfile.DIRTYPE, 0o755
_FILE, _PAX, _KINDS = b"0", b"x", b"0125x"
"""Files, hard and symbolic links, folders, and extended headers for one entry."""


async def copy_context(
    body: Body, name: str, send: Callable[[bytes], Awaitable[None]]
) -> tuple[bytes, bytes]:
    """Pass on an archive except for its end.

    Returns:
        The end, to send once the Dockerfile is approved, and the Dockerfile's text. The end
        repeats the Dockerfile's entry.

    All parsers must agree where one entry ends and the next begins: sizes are plain octal, and
    nothing overrides them. The first entry is ours, so the engine cannot take what follows for a
    compressed archive.
    """
    await send(ROOT.tobuf(tarfile.USTAR_FORMAT))
    last = None
    while any(header := await body.exactly(tarfile.BLOCKSIZE)):
        size = _entry_size(header)
        await send(header)
        is_dockerfile = _is_file(header, name)
        if is_dockerfile or header[156:157] == _PAX:
            content = await _read_small(body, size)
            await send(content)
            if is_dockerfile:
                last = header + content + bytes(2 * tarfile.BLOCKSIZE), content[:size]
            elif re.search(rb"(?:^|\n)[^ ]* (?:size|GNU\.sparse)", content):
                raise Denied("context", "an extended header with a size", "files under 8 GiB")
        else:
            left = _padded(size)
            while left:
                piece = await body.exactly(min(left, PIECE))
                left -= len(piece)
                await send(piece)
    while await body.read(PIECE):
        pass
    if last is None:
        raise Denied("context", "no Dockerfile", f"a plain tar archive with {name} at its top")
    return last


def _is_file(header: bytes, name: str) -> bool:
    label = header[:100].rstrip(b"\0").decode("latin-1").removeprefix("./")
    return header[156:157] == _FILE and label == name and not header[345]


def _entry_size(header: bytes) -> int:
    kind, size = header[156:157], header[124:136]
    if kind not in _KINDS or not re.fullmatch(rb"[0-7]{11}[\0 ]", size):
        raise Denied("context", ascii(header[:100]), "a plain tar archive of files, folders, links")
    octets = int(size[:11], 8)
    if octets and kind not in _FILE + _PAX:
        raise Denied("context", "a folder or link with content", "none")
    return octets


async def _read_small(body: Body, size: int) -> bytes:
    if size > MAX_SMALL:
        raise Denied("context", size, f"a Dockerfile or extended header up to {MAX_SMALL} bytes")
    return await body.exactly(_padded(size))


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
