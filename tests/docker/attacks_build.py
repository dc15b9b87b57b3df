"""Attacks by the options of a build, its Dockerfile, and the archive that holds it."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from tests.docker.filtering import BASE, archive, http
from tests.docker.world import Attack, Make, World


def _build(
    dockerfile: str = f"FROM {BASE}\nLABEL built=1\n",
    pack: Callable[[World, str], bytes] | None = None,
    /,
    **options: str,
) -> Make:
    def make(world: World) -> bytes:
        names = {"image": world.foreign_image, "url": world.url, "marker": world.marker}
        text = dockerfile.format(**names)
        query = urlencode(
            {
                "t": f"{world.marker}/attack:1",
                **{key: value.format(**names) for key, value in options.items()},
            }
        )
        context = pack(world, text) if pack else archive({"Dockerfile": text})
        return http("POST", f"/build?{query}", context, Content_Type="application/x-tar")

    return make


HONEST = f"FROM {BASE}\nLABEL honest=1\n"
FETCH = f"FROM {BASE}\nADD {{url}} /x\n"


def _entry(name: str, data: bytes, **fields: Any) -> bytes:
    """One entry of an archive, without its end."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)


def _end(entries: bytes) -> bytes:
    return entries + bytes(1024)


def _mended(entry: bytes, at: slice, value: bytes) -> bytes:
    raw = bytearray(entry)
    raw[at] = value
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw[:512]):06o}\0 ".encode()
    return bytes(raw)


def _swallowed(header: Callable[[int], bytes]) -> Callable[[World, str], bytes]:
    """The engine reads an honest Dockerfile as the content of a file before it."""

    def pack(_: World, text: str) -> bytes:
        honest = _entry("Dockerfile", HONEST.encode())
        return _end(_entry("Dockerfile", text.encode()) + header(len(honest)) + honest)

    return pack


def _later(**fields: Any) -> Callable[[World, str], bytes]:
    """Another entry takes the honest Dockerfile's place."""
    return lambda _, text: _end(
        _entry("Dockerfile", HONEST.encode())
        + _entry("evil", text.encode())
        + _entry("Dockerfile", b"", linkname="evil", **fields)
    )


def _disguised(_: World, text: str) -> bytes:
    """A gzip stream whose extra field makes it start like a tar header; the file is the rest."""
    inner = gzip.compress(archive({"Dockerfile": text}), mtime=0)[10:]
    start = b"\x1f\x8b\x08\x04" + bytes(6) + (500).to_bytes(2, "little")
    rest = inner + bytes(-len(inner) % 512)
    header = _mended(_entry("x", b"")[:512], slice(0, 12), start)
    header = _mended(header, slice(124, 136), f"{len(rest):011o}\0".encode())
    return _end(header + rest + _entry("Dockerfile", HONEST.encode()))


def _form(world: World) -> bytes:
    """Options in a form take precedence over the query, except for what the engine has buffered."""
    inner = "x=" + "y" * 4096 + "&" + urlencode({"remote": world.url, "networkmode": "host"})
    return http(
        "POST",
        f"/build?t={world.marker}/attack:1",
        inner,
        Content_Type="application/x-www-form-urlencoded",
    )


OPTIONS = (
    Attack("foreign tag", _build(t="{image}"), denial="option.t"),
    Attack(
        "foreign tag beside ours",
        lambda w: _build()(w).replace(b"/build?", f"/build?t={w.foreign_image}&".encode()),
        denial="option.t",
    ),
    Attack("tag of a registry", _build(t="localhost:1/{marker}/x:1"), denial="option.t"),
    Attack("memory of a build", _build(memory="99999999999", memswap="-1"), denial="option.memory"),
    Attack(
        "labels of others",
        _build(labels='{{"com.docker.compose.project":"other"}}'),
        denial="option.labels",
    ),
    Attack(
        "label of another project",
        _build(labels='{{"mlops.project":"other"}}'),
        denial="option.labels",
    ),
    Attack(
        "other file",
        _build(
            FETCH, lambda _, t: archive({"Dockerfile": HONEST, "x/evil": t}), dockerfile="x/evil"
        ),
        denial="option.dockerfile",
    ),
    *(
        Attack(f"{option} of a build", _build(**{option: value}), denial=f"option.{option}")
        for option, value in {
            "networkmode": "host",
            "remote": "{url}",
            "extrahosts": "postgres:10.0.0.1",
            "cachefrom": '["{image}"]',
            "cgroupparent": "/",
            "ulimits": '[{{"Name":"nproc","Hard":9,"Soft":9}}]',
        }.items()
    ),
    Attack(
        "foreign network of a build",
        _build(networkmode="{marker}-other"),
        denial="option.networkmode",
    ),
)

CONTEXTS = (
    Attack("fetched by the engine", _build(FETCH), denial="Dockerfile"),
    Attack("fetched in lower case", _build(FETCH.replace("ADD", "add")), denial="Dockerfile"),
    Attack("fetched from two lines", _build(FETCH.replace("ADD", "A\\\nDD")), denial="Dockerfile"),
    Attack(
        "fetched by another escape",
        _build(f"# escape=`\nFROM {BASE}\nRUN true \\\nADD {{url}} /x\n"),
        denial="Dockerfile",
    ),
    Attack(
        "fetched on build",
        _build("FROM {marker}/own:1\nONBUILD ADD {url} /x\n"),
        denial="Dockerfile",
    ),
    Attack("volume of an image", _build(f"FROM {BASE}\nVOLUME /x\n"), denial="Dockerfile"),
    Attack(
        "compressed context",
        _build(FETCH, lambda _, t: gzip.compress(archive({"Dockerfile": t}), compresslevel=0)),
        denial="context",
    ),
    Attack(
        "Dockerfile in lower case",
        _build(FETCH, lambda _, t: archive({"dockerfile": t})),
        denial="context",
    ),
    Attack(
        "second Dockerfile",
        _build(FETCH, lambda _, t: archive({"Dockerfile": HONEST, "./Dockerfile": t})),
        denial="Dockerfile",
    ),
    Attack(
        "Dockerfile swallowed by an extended header",
        _build(FETCH, _swallowed(lambda n: _entry("x", b"", pax_headers={"size": str(n)}))),
        denial="context",
    ),
    Attack(
        "Dockerfile swallowed by leading NULs",
        _build(
            FETCH,
            _swallowed(
                lambda n: _mended(_entry("x", b""), slice(124, 136), f"\0\0\0\0{n:07o}\0".encode())
            ),
        ),
        denial="context",
    ),
    Attack(
        "Dockerfile swallowed by base 256",
        _build(
            FETCH,
            _swallowed(
                lambda n: _mended(
                    _entry("x", b""), slice(124, 136), b"\x80" + n.to_bytes(11, "big")
                )
            ),
        ),
        denial="context",
    ),
)
"""Attacks that the filter denies once it has read the context, which takes an open build."""

BUILD = (
    *OPTIONS,
    Attack("remote context in a form", _form),
    Attack("from a foreign image", _build("FROM {image}\nLABEL x=1\n")),
    Attack(
        "from a foreign image by an argument",
        _build("ARG X=x\nFROM $X\nLABEL x=1\n", buildargs='{{"X":"{image}"}}'),
    ),
    Attack(
        "copied from a foreign image",
        _build(f"FROM {BASE}\nCOPY --from={{image}} /etc/hostname /x\n"),
    ),
    Attack(
        "copied from behind a continuation",
        _build(
            f"FROM {BASE} AS {{marker}}-bareetc\nFROM {BASE}\n"
            "COPY --from={marker}-bare\\\n etc /x/\n"
        ),
    ),
    Attack(
        "from an image of ours that does not exist",
        _build("FROM {marker}/nobody:1\n"),
        real=False,
    ),
    Attack("compressed context in disguise", _build(FETCH, _disguised), served=True),
    Attack("symbolic link in its place", _build(FETCH, _later(type=tarfile.SYMTYPE)), served=True),
    Attack("hard link in its place", _build(FETCH, _later(type=tarfile.LNKTYPE)), served=True),
    Attack(
        "extended header in its place",
        _build(
            FETCH,
            lambda _, t: _end(
                _entry("Dockerfile", HONEST.encode())
                + _entry("x", t.encode(), pax_headers={"path": "Dockerfile"})
            ),
        ),
        served=True,
    ),
)
