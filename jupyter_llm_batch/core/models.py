"""Frozen records and enums of the package. Imports only `errors`."""

from __future__ import annotations
