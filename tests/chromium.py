"""A real Chromium: the system's, else Playwright's, else Debian's package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """The path of an installed Chromium, or None."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        downloaded = playwright.chromium.executable_path
    return downloaded if Path(downloaded).exists() else None


def install() -> str | None:
    """Have Playwright download its Chromium, or apt install one where we are root."""
    attempts = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        attempts += [["apt-get", "update"], ["apt-get", "install", "--yes", "chromium"]]
    for command in attempts:
        subprocess.run(command, check=False, stdout=sys.stderr)
        if path := find():
            return path
    return None


if __name__ == "__main__":
    if not (find() or install()):
        sys.exit("no Chromium: install one (chromium or google-chrome on the PATH) and run again")
