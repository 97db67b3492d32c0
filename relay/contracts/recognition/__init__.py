"""Recognition of examination results between institutions; runs on a relay (see contract.py)."""

from relay.contracts.recognition.contract import CONTRACT, Recognition

__all__ = ["CONTRACT", "Recognition"]
