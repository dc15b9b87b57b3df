"""Downloads a file over HTTP, with retries; a partial file is an error."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import httpx

from tasks.base.errors import UnavailableError, UserError

log = logging.getLogger(__name__)

PAUSES = (1.0, 4.0, 15.0)
"""Seconds before the second and each further attempt."""
LIMITS = httpx.Timeout(60, connect=10)
TOTAL = 1800.0
"""Seconds that one attempt may take, however slowly the bytes arrive."""
TEMPORARY = frozenset({408, 425, 429})
"""Statuses below 500 that are worth another attempt."""


def download(url: str, path: Path) -> None:
    """Download `url` to `path`.

    Raises:
        UserError: The address is wrong, or the server refuses it.
        UnavailableError: No attempt returned the whole file.
    """
    for pause in PAUSES:
        try:
            _attempt(url, path)
        except UnavailableError as err:
            log.warning("%s Trying again in %g s.", str(err).replace("\n", " "), pause)
            time.sleep(pause)
        else:
            return
    _attempt(url, path)


def _attempt(url: str, path: Path) -> None:
    deadline = time.monotonic() + TOTAL
    try:
        with httpx.stream(
            "GET",
            url,
            follow_redirects=True,
            timeout=LIMITS,
            headers={"Accept-Encoding": "identity"},
        ) as response:
            _check_status(url, response)
            with path.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    if time.monotonic() > deadline:
                        raise UnavailableError(f"{url} took longer than {TOTAL:g} s.")
            _check_length(url, response)
    except httpx.RequestError as err:
        raise UnavailableError(
            f"{url} could not be read.", why=f"{type(err).__name__}: {err}"
        ) from err
    except httpx.InvalidURL as err:
        raise UserError(
            f"The 'uri' of a source must be an address. Got {url!r} instead.", why=str(err)
        ) from err


def _check_status(url: str, response: httpx.Response) -> None:
    status = f"{response.status_code} {response.reason_phrase}".strip()
    if response.status_code >= 500 or response.status_code in TEMPORARY:
        raise UnavailableError(f"{url} answered {status}.")
    if not response.is_success:
        raise UserError(
            f"{url} answered {status}.",
            fix="Correct the source's uri in the pipeline file.",
        )


def _check_length(url: str, response: httpx.Response) -> None:
    """Refuse a short body. httpx does so today, but a partial file must never get through."""
    expected = response.headers.get("Content-Length")
    if expected and int(expected) != response.num_bytes_downloaded:
        raise UnavailableError(
            f"{url} was cut off: received {response.num_bytes_downloaded} of {expected} bytes."
        )
