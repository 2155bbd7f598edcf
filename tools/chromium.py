"""Finds and starts the browser that tests the book and prints it."""

import os
import shutil
from pathlib import Path

# The sandbox does not work in most containers, and is not needed for our own pages. The other flags
# stop the browser from making requests that the pages did not ask for.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MISSING = "no Chromium found: apt install chromium, or set CHROMIUM to the path of one"


def find_chromium(installed_by_playwright: str) -> str | None:
    """The browser to use: $CHROMIUM, or one on the path, or the one installed by playwright."""
    if chosen := os.environ.get("CHROMIUM"):
        return chosen
    for command in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(command):
            return found
    return installed_by_playwright if Path(installed_by_playwright).exists() else None
