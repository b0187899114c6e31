"""The URI of an MLflow server or database: whether it can be one, and how it is printed without its password."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from mfm_tune.errors import OptionError

OPTION = "--tracking-uri"
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
