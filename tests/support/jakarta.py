"""A JMS client of the package ``jakarta.jms``, made from one of ``javax.jms``.

Debian has no client library of Jakarta Messaging. As Apache's migration tool does, this renames the
package in the constants of every class (JVM specification, 4.4).
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Final

_UTF8: Final = 1
_EIGHT_BYTES: Final = (5, 6)  # long, double: each counts as two constants
_SIZES: Final = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2,
                 17: 4, 18: 4, 19: 2, 20: 2}  # fmt: skip


def write_jakarta_jar(source: Path, target: Path) -> None:
    """A copy of a jar with ``jakarta.jms`` in place of ``javax.jms``."""
    with zipfile.ZipFile(source) as jar, zipfile.ZipFile(target, "w") as copy:
        for name in jar.namelist():
            content = jar.read(name)
            if name.endswith(".class"):
                content = _renamed(content)
            copy.writestr(name.replace("javax/jms", "jakarta/jms"), content)


def _renamed(content: bytes) -> bytes:
    if b"javax/jms" not in content and b"javax.jms" not in content:
        return content
    (count,) = struct.unpack_from(">H", content, 8)
    parts, at, number = [content[:10]], 10, 1
    while number < count:
        tag = content[at]
        if tag == _UTF8:
            (length,) = struct.unpack_from(">H", content, at + 1)
            text = content[at + 3 : at + 3 + length]
            text = text.replace(b"javax/jms", b"jakarta/jms").replace(b"javax.jms", b"jakarta.jms")
            parts.append(struct.pack(">BH", tag, len(text)) + text)
            at += 3 + length
        else:
            parts.append(content[at : at + 1 + _SIZES[tag]])
            at += 1 + _SIZES[tag]
        number += 2 if tag in _EIGHT_BYTES else 1
    return b"".join((*parts, content[at:]))
