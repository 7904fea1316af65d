"""Looks for secrets in text: the values at hand, and what keys of known services look like."""

import re

PATTERNS = {
    "AWS access key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "private key": re.compile(r"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----"),
    "bearer token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}"),
    "GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    "password in an address": re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s:@\"']+:[^$@/\s\"'][^@/\s\"']*@"),
    "assigned secret": re.compile(
        r"(?i)\b[A-Z_]*(SECRET|PASSWORD|TOKEN)[A-Z_]*\s*[=:]\s*['\"]?(?-i:(?![A-Z_]+\b))[A-Za-z0-9/+_-]{16,}"
    ),
}


def find(text: str, values: list[str] = []) -> list[str]:  # noqa: B006
    """What was found, by kind; never the secret itself."""
    found = [kind for kind, pattern in PATTERNS.items() if pattern.search(text)]
    return found + ["the value of a secret in use" for value in values if value in text]
