"""What Windows makes of a name: more than the name of a file. Pure, so that it is tested anywhere.

Source: "Naming Files, Paths, and Namespaces", Microsoft Learn. All of it compares without regard to
case.
"""

from __future__ import annotations

import re
from typing import Final

_FORBIDDEN: Final = re.compile(r'[\x00-\x1f"*/:<>?\\|]')
_DEVICE: Final = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|CLOCK\$|(COM|LPT)[0-9¹²³])")
_SHORT: Final = re.compile(r"[^.]{1,6}~[0-9]{1,6}(\.[^.]{0,3})?")


def windows_objection(name: bytes) -> str | None:
    """Why a name is not taken on Windows; None for one that is only a name.

    Short (8.3) names are refused, being second names of files that a policy may hide.
    """
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return "a name is no UTF-8, which Windows needs"
    if _FORBIDDEN.search(text):
        return 'a name holds a control character or one of " * : < > ? \\ |, kept by Windows'
    if text.endswith((".", " ")):
        return "a name ends in a dot or a space, which Windows leaves out"
    if _DEVICE.fullmatch(text.partition(".")[0].rstrip(" ").upper()):
        return "a name is that of a device on Windows (as CON, NUL or COM1), whatever its ending"
    if _SHORT.fullmatch(text):
        return "a name has the form of a short (8.3) name on Windows"
    return None
