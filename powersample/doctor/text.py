# SPDX-License-Identifier: Apache-2.0
"""The diagnosis as lines for a terminal of any width; commands are folded so that they can still be pasted."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from powersample.doctor.check import ALL_WELL, FAIL, OK, SKIP, UNUSABLE, WARN, Check, Diagnosis

INDENT = 7  # below the text behind "[FAIL] "
MARGIN = 20  # the least that is left for words
LABELS = {OK: " OK ", SKIP: "SKIP", WARN: "WARN", FAIL: "FAIL"}


def to_lines(diagnosis: Diagnosis, width: int | None = None) -> Iterator[tuple[str, str]]:
    """Yield (level or "title" or "", line).

    Args:
        diagnosis: What was found.
        width: Columns of the terminal; None folds nothing.
    """
    if diagnosis.simulated is not None:
        yield "title", f"SIMULATED NODE {diagnosis.simulated}, not a measurement"
        yield "", ""
    code_width = max((len(check.code) for check in diagnosis.checks), default=0)
    section = None
    for check in diagnosis.checks:
        if check.section != section:
            if section is not None:
                yield "", ""
            section = check.section
            yield "title", section
        yield from _check(check, code_width, width)
    yield "", ""
    yield from _last_words(diagnosis, width)


def _check(check: Check, code_width: int, width: int | None) -> Iterator[tuple[str, str]]:
    head = f"[{LABELS[check.level]}] {check.code:{code_width}}  "
    yield from ((check.level, line) for line in _fold(check.what, head, width))
    if check.level in (WARN, FAIL) and check.tried:
        told = "; ".join(map(str, check.tried))
        yield from (("", line) for line in _fold(told, f"{'':{INDENT}}tried  ", width))
    for label, command in (("fix", check.fix), ("or", check.other)):
        if command is not None:
            yield from (("", line) for line in fold_command(command, f"{'':{INDENT}}{label:7}", width))


def _fold(text: str, head: str, width: int | None) -> list[str]:
    if width is None:
        return [head + text]
    room = max(width - len(head), MARGIN)
    behind = " " * len(head) if width - len(head) >= 2 * MARGIN else " " * INDENT
    if len(behind) < len(head):
        room = max(width - INDENT, MARGIN)
        text = head + text
        return _wrap(text, room + INDENT, behind) or [head]
    lines = _wrap(text, room) or [""]
    return [head + lines[0], *(behind + line for line in lines[1:])]


def _wrap(text: str, room: int, behind: str = "") -> list[str]:
    """Wrap at blanks alone: a path that is too long for a line can still be copied."""
    return textwrap.wrap(text, room, subsequent_indent=behind, break_on_hyphens=False, break_long_words=False)


def fold_command(command: str, head: str, width: int | None) -> list[str]:
    """Return the command's lines, broken before && and at blanks by what a shell takes for a continuation.

    What is quoted stays whole. A remark behind `#` stays whole and comes last.
    """
    if width is None or len(head) + len(command) <= width:
        return [head + command]
    command, hash_sign, remark = command.partition("  # ")
    room = max(width - len(head) - 4, MARGIN)  # two blanks before a continuation, and its backslash
    lines = [""]
    for word in _words(command):
        if lines[-1] and (word == "&&" or len(lines[-1]) + 1 + len(word) > room):
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    behind = " " * (len(head) + 2)
    folded = [head + lines[0], *(behind + line for line in lines[1:])]
    folded = [*(f"{line} \\" for line in folded[:-1]), folded[-1]]
    if hash_sign:
        folded.append(f"{'':{len(head)}}# {remark}")
    return folded


def _words(command: str) -> list[str]:
    """Split at blanks, keeping what is quoted in one piece and as it is written."""
    words, quote = [""], ""
    for letter in command:
        if letter == " " and not quote:
            words.append("")
            continue
        words[-1] += letter
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
    return [word for word in words if word]


def _last_words(diagnosis: Diagnosis, width: int | None) -> Iterator[tuple[str, str]]:
    names = diagnosis.measurable
    told = ", ".join(names) if names else "nothing"
    yield from (("title", line) for line in _fold(told, "measurable here: ", width))
    counts = ", ".join(
        f"{diagnosis.counts[level]} {level}" for level in (FAIL, WARN, SKIP, OK) if diagnosis.counts[level]
    )
    if diagnosis.exit_code == ALL_WELL:
        meaning = "all is well"
    elif diagnosis.exit_code == UNUSABLE:
        meaning = "nothing can be measured; powersample demo and --simulate h100 work all the same"
    else:
        meaning = "less than this machine could give"
    level = {ALL_WELL: OK, UNUSABLE: FAIL}.get(diagnosis.exit_code, WARN)
    yield from ((level, line) for line in _fold(f"{counts}: {meaning}", "", width))
