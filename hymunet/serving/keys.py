"""The key that clients must bring, from the environment: as a header can carry it, or a reason why none can."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hymunet.serving.contract import KEY

AROUND = " \t\r\n"  # what HTTP leaves out around a header's value: a Secret made with `echo` ends in a line break
REMEDY = "set one that `openssl rand -hex 32` prints, for example"


def configured(environment: Mapping[str, str] = os.environ) -> str:
    """Without the white space around it; empty where the variable is not set, so that no key is asked for.

    Raises ValueError, which does not show the key, for one that is empty or holds a sign that no header can carry.
    """
    if KEY not in environment:
        return ""
    key = environment[KEY].strip(AROUND)
    if not key:
        raise ValueError(f"{KEY} is set and empty; {REMEDY}, or unset it, and no key is asked for")
    for place, sign in enumerate(key, start=1):
        if (ord(sign) < 0x20 and sign != "\t") or ord(sign) == 0x7F:
            what = f"U+{ord(sign):04X}, a control character" if sign not in "\r\n" else "a line break"
            raise ValueError(f"{KEY}: its character {place} is {what}, which no HTTP header can carry; {REMEDY}")
    return key
