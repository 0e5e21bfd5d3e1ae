"""The wire between the on-prem agent and the gateway.

Everything outside ``tx/`` is sans-IO: bytes in, events out. Its normative text is
``docs/protocol.md``.
"""
