"""A real browser that reaches no network, for pages that people open from a disk."""

import shutil
import subprocess
import urllib.parse
from pathlib import Path

import pytest

OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--disable-component-update")


def _chromium(page: Path, profile: Path, *options: str) -> str:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *OFFLINE, *options]
    address = f"file://{urllib.parse.quote(str(page.resolve()))}"
    return subprocess.run([*command, address], capture_output=True, text=True, check=True, timeout=120).stdout


def dom(page: Path, profile: Path, size: str = "800,600") -> str:
    """The page as the browser has it after loading."""
    return _chromium(page, profile, "--dump-dom", f"--window-size={size}")


def screenshot(page: Path, profile: Path, target: Path, size: str = "1100,2400") -> Path:
    _chromium(page, profile, f"--screenshot={target}", f"--window-size={size}", "--hide-scrollbars")
    return target
