"""Profiles of the ``kafka`` section."""

from .profile import KafkaPolicy, KafkaProfile

__all__ = ["KafkaPolicy", "KafkaProfile"]
