"""Secrets taken out of what is shown: of URLs, and of texts that other programs' libraries write."""

import os
import re

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s\"<>`]+?)('[^\w\s]*)?(?=[\s\"<>`]|$)")
"""A URL may hold apostrophes, and what follows one may be secret; a last one is the text's own."""
_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|ACCOUNT_KEY|CONNECTION_STRING", re.IGNORECASE)
_CONTAINER_SCHEMES = ("abfs", "abfss", "az", "adl", "wasb", "wasbs")
LEAST_SECRET = 8
"""Characters of the shortest value of the environment that is taken for a secret."""


def shown_uri(uri: str) -> str:
    """Returns a URI as it may be shown: without user, password and the query of an http address."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    host, slash, path = rest.partition("/")
    if scheme.lower() in ("http", "https"):
        host, path = host.partition("?")[0], path.partition("?")[0]
    user, _, host = host.rpartition("@")
    # Azure's URLs name the container there: abfs://container@account.dfs.core.windows.net/path
    if user and scheme.lower() in _CONTAINER_SCHEMES and ":" not in user:
        host = f"{user}@{host}"
    return f"{scheme}://{host}{slash}{path}"


def redact(text: str) -> str:
    """Returns a text with its URLs as `shown_uri` shows them, and without the environment's secrets."""
    text = _URL.sub(lambda found: shown_uri(found[1]) + (found[2] or ""), text)
    for name, value in os.environ.items():
        if len(value) >= LEAST_SECRET and value in text and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return text
