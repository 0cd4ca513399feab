"""The nouns: frozen records and enums. Imports nothing of the package but `errors`."""

from __future__ import annotations
