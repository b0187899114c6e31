"""The URI of an MLflow server or database: where it is from, and how it is printed without its password."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from mfm_tune.errors import OptionError

OPTION = "--tracking-uri"
VARIABLE = "MLFLOW_TRACKING_URI"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_PASSWORD = re.compile(r"://[^:/@]*:(?P<secret>.*)@", re.DOTALL)  # up to the last @: SQLAlchemy takes slashes in it
_TOKEN = re.compile(r"https?://(?P<secret>[^:/@\s]+)@")
_PARAMETER = re.compile(r"[?&][^=&]*(?:passw|pwd|token|secret)[^=&]*=(?P<secret>[^&\s]*)", re.IGNORECASE)


def check_uri(uri: str, source: str = OPTION) -> None:
    """Raise an OptionError, which names where it is from, unless this is the URI of a server or database."""
    if not uri.isprintable() or not (is_server(uri) or _is_database(uri)):
        raise OptionError(
            f"{source} must be the address of an MLflow server or database, got '{without_password(uri)}'; "
            "such as http://127.0.0.1:5000 or postgresql+psycopg2://user@host/name."
        )


def resolved_uri(option: str | None) -> str | None:
    """The option's URI, else that of MLflow's variable; None, where both are unset or empty, is the storage's own file.

    Raises:
        OptionError: The one that counts is no URI of a server or database.
    """
    if option is not None:
        check_uri(option)
        return option
    uri = os.environ.get(VARIABLE) or None
    if uri is not None:
        check_uri(uri, f"{VARIABLE} (unset it, or give {OPTION}, which wins over it)")
    return uri


def announced_uri(option: str | None) -> str | None:
    """As `resolved_uri`; that it is the variable's is said in a line."""
    uri = resolved_uri(option)
    if uri is not None and option is None:
        print(f"MLflow is at {without_password(uri)}, as {VARIABLE} says; {OPTION} wins over it.", flush=True)
    return uri


def is_server(uri: str) -> bool:
    """Whether this is the address of an HTTP server."""
    try:
        parts = urlsplit(uri)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        return False


def _is_database(uri: str) -> bool:
    scheme, slashes, _ = uri.partition("://")
    return bool(slashes) and scheme.partition("+")[0] in DATABASES


def without_password(text: str) -> str:
    """A URI, or an argument with one in it, as it may be printed and kept: `***` for passwords and tokens."""
    for pattern in (_PASSWORD, _TOKEN, _PARAMETER):
        text = pattern.sub(_starred, text)
    return text


def without_password_of(uri: str | None, text: str) -> str:
    """What a library said, as it may be printed and kept: `***` for the password of a URI, quoted or not."""
    if uri is None:
        return text
    secrets = {found.group("secret") for each in (_PASSWORD, _TOKEN, _PARAMETER) for found in each.finditer(uri)}
    for secret in sorted({*secrets, *map(unquote, secrets)} - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _starred(found: re.Match[str]) -> str:
    begin, end = found.start("secret") - found.start(), found.end("secret") - found.start()
    return f"{found.group()[:begin]}***{found.group()[end:]}"
