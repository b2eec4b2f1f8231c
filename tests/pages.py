# SPDX-License-Identifier: Apache-2.0
"""A report's page as its readers meet it: as text without a script, and in a browser."""

import json
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--virtual-time-budget=2000",  # what the page has put off is done before it is dumped, however slow the machine
)  # fmt: skip
VOID = {"img", "meta", "br", "path", "line", "circle", "rect", "i", "wbr"}


class Page(HTMLParser):
    """What a page holds: headings, tables as rows of texts, the text that is seen, scripts, attributes by tag."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.headings, self.tables, self.seen, self.scripts, self.tags, self.ids = [], [], [], [], [], {}
        self._open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if "id" in attrs:
            self.ids[attrs["id"]] = tag
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag in ("h1", "h2", "h3"):
            self.headings.append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, text):
        if "script" in self._open:
            self.scripts[-1] += text
        elif "style" not in self._open:
            self.seen.append(text)
            if {"td", "th"} & set(self._open):
                self.tables[-1][-1][-1] += text
            if {"h1", "h2", "h3"} & set(self._open):
                self.headings[-1] += text

    @property
    def text(self):
        return " ".join("".join(self.seen).split())

    @property
    def data(self):
        """What the script draws."""
        return json.loads(self.scripts[0])


def browse(path, width=1200):
    """Return the page as the browser has it once the script has run; skip where there is no browser."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: the page was not looked at in a browser")
    with tempfile.TemporaryDirectory(prefix="powersample-chromium-") as profile:
        command = [
            CHROMIUM,
            *QUIET,
            f"--user-data-dir={profile}",
            f"--window-size={width},900",
            "--dump-dom",
            path.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
