"""The wire between the on-prem agent and the gateway.

Everything outside ``tx/`` is sans-IO: bytes in, events out. ``docs/protocol.md`` is its normative text.
"""
