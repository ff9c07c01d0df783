"""Broken files: Hypothesis strategies that damage the content of valid ones, and raw bytes."""

import json
import re

from hypothesis import strategies as st

# What a number or a word in a text may have become.
ABSURD = (
    *("nan", "inf", "-inf", "1e400", "1e-400", "1e300", "-1e300", "1e30", "0", "-1", "-0.0", "0.5"),
    *("1" + "0" * 400, "9" * 5000, "2147483648", "9223372036854775808", "0x10", "1_0", "1,5"),
    *("", "\u00b2", "\u0661", "\u00e9", "None", "true", "[]", "../../etc/passwd", "/dev/zero", "."),
    *("a" * 70_000, "\x00", "\ud800", "#", '"', "'", "{", "\r", "\n", "\t", "PINHOLE", "FOV"),
)
ABSURD_JSON = (
    *("NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 400, "9" * 5000, "null", "true", '""'),
    *("[]", "{}", "[[[]]]", "-1", "0", "0.5", "1e300", "2147483648", "9223372036854775808"),
    *('"\\ud800"', '"\\u0000"', '"' + "a" * 70_000 + '"', '"../../../etc/passwd"', '"/dev/zero"'),
    *("[" * 3000 + "]" * 3000, "[" * 100_000, '{"a":' * 3000 + "1" + "}" * 3000, '"images/1.png"'),
)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
# Instead of a file.
ACTIONS = ("absent", "empty", "folder", "pipe", "link to itself", "link to /dev/zero")

_WORD = re.compile(r"[^\s,:\[\]{}]+")


@st.composite
def broken(draw, content: bytes) -> bytes | str:
    """The content of a file with one to three faults, or one of ACTIONS."""
    kind = draw(st.integers(0, 19))
    if kind == 0:
        return draw(st.sampled_from(ACTIONS))
    if kind == 1:
        return draw(st.binary(max_size=300))
    is_text = b"\0" not in content[:2000] and content[:1000].isascii()
    for _ in range(draw(st.integers(1, 3))):
        choices = [_flipped, _overwritten, _cut, _spliced]
        if is_text:
            choices += [_word_replaced, _word_replaced, _lines_moved]
            if content[:1] in b"{[" and content:
                choices += [_node_replaced] * 4
        content = draw(st.sampled_from(choices))(draw, content)
    return content


def _place(draw, content: bytes) -> int:
    """More often in the head, where headers are."""
    end = len(content) if draw(st.booleans()) else min(len(content), 200)
    return draw(st.integers(0, max(end - 1, 0)))


def _flipped(draw, content: bytes) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(draw(st.integers(1, 4))):
        changed[_place(draw, changed)] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def _overwritten(draw, content: bytes) -> bytes:
    place, size = _place(draw, content), draw(st.sampled_from((1, 2, 4, 8)))
    value = draw(st.sampled_from(EXTREMES)) % (1 << 8 * size)
    order = draw(st.sampled_from(("little", "big")))
    return content[:place] + value.to_bytes(size, order) + content[place + size :]


def _cut(draw, content: bytes) -> bytes:
    start = _place(draw, content)
    return content[:start] + content[start + draw(st.integers(1, max(len(content), 1))) :]


def _spliced(draw, content: bytes) -> bytes:
    start, place = _place(draw, content), _place(draw, content)
    piece = content[start : start + draw(st.integers(1, 200))]
    if draw(st.booleans()):
        piece = draw(st.binary(min_size=1, max_size=20))
    return content[:place] + piece + content[place:]


def _word_replaced(draw, content: bytes) -> bytes:
    text = content.decode("utf-8", "surrogateescape")
    words = list(_WORD.finditer(text))
    if not words:
        return content
    word = draw(st.sampled_from(words))
    put = draw(st.sampled_from(ABSURD))
    text = text[: word.start()] + put + text[word.end() :]
    return text.encode("utf-8", "surrogatepass")


def _lines_moved(draw, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    line = draw(st.sampled_from(lines))
    place = draw(st.integers(0, len(lines) - 1))
    if draw(st.booleans()):
        lines[place] = line
    else:
        lines.insert(place, line)
    return b"".join(lines)


def _node_replaced(draw, content: bytes) -> bytes:
    try:
        root = json.loads(content)
    except (ValueError, RecursionError):
        return content
    holder, key = {"": root}, ""
    while holder[key] and isinstance(holder[key], (dict, list)) and draw(st.integers(0, 5)):
        holder = holder[key]
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = draw(st.sampled_from(keys))
    if draw(st.integers(0, 5)) == 0:
        if holder.get("") is not root if isinstance(holder, dict) else True:
            del holder[key]
        return json.dumps(root).encode()
    mark = "PUT HERE"
    is_root = isinstance(holder, dict) and holder.get("") is root and key == ""
    holder[key] = mark
    text = json.dumps(mark if is_root else root)
    return text.replace(f'"{mark}"', draw(st.sampled_from(ABSURD_JSON))).encode()
