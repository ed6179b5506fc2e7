"""Reading the converter's log: it prints `[ERROR]` lines on success too, and buries a failure's cause under its echoes."""

from __future__ import annotations

import re

_GLOG = re.compile(
    r"^\[(?P<level>WARNING|ERROR|INFO|DEBUG|CRITICAL|EXCEPTION)\]"
    r"\s*(?:\w+\([^)]*\):[\d\-:.]+\s*)?(?:\[[^\]]*\]\s*)?(?:[\w~:<>^]+\]\s*)?"
)
_ECHOES = re.compile(
    r"^(CONVERT RESULT|Handle graph failed|Build func graph failed|Load model file failed|Get funcGraph failed"
    r"|Convert model .*(failed|ret=)|Convert model failed|Save (graph )?failed|SAVE GRAPH FAILED|Serialize graph failed"
    r"|Runtime error for null exception handler|UNSUPPORTED OP LIST|- C\+\+ Call Stack|mindspore/.*\.cc:\d+|[-=]+$"
    r"|terminate called after|MindirModelLoader: Import model failed)",
    re.IGNORECASE,
)
_ALARM = re.compile(r"error|fail|exception|abort|fault|unsupported|not support|no space", re.IGNORECASE)
_LINE_LIMIT = 200
_SCAN_LIMIT = 1 << 17  # characters from either end


def useful_lines(log: str) -> str:
    """What a failed tool's log says of the cause, on one line: its first two errors (the cause) and its last, each once
    and without echoes; else its last three lines."""
    errors, others = [], []
    if len(log) > 2 * _SCAN_LIMIT:
        log = f"{log[:_SCAN_LIMIT]}\n{log[-_SCAN_LIMIT:]}"
    for line in log.splitlines():
        prefix = _GLOG.match(line)
        text = (line[prefix.end() :] if prefix else line).strip().strip('"')
        thrown = text.startswith("what():")
        text = text.removeprefix("what():").strip()
        text = re.sub(r"^FMKTYPE: (\w+), OP TYPE: (.+)$", r"the converter has no rule for the \1 op \2", text)
        if not text or _ECHOES.match(text):
            continue
        level = prefix["level"] if prefix else ""
        if level in ("WARNING", "INFO", "DEBUG"):
            continue
        kind = errors if level or thrown or _ALARM.search(text) else others
        if text not in kind:
            kind.append(text)
    chosen = others[-3:] if not errors else errors if len(errors) < 4 else [*errors[:2], errors[-1]]
    return " | ".join(text[:_LINE_LIMIT] for text in chosen)
