"""Starts the pilot: `python pilot.zip` in its container, `python -m components.gateway.pilot` in tests."""

from .pilot import start

__all__ = ["start"]

if __name__ == "__main__":
    start()
