"""Azure's OpenAI: OpenAI's endpoints below a resource's address, where they differ from OpenAI's.

The endpoint of a create is always ``/chat/completions`` and the lines decide; counts are null and
file ids are empty texts until they are known.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..world.files import StoredFile
from ..world.life import OVER, Batch
from .batches import Line
from .checks import refused
from .endpoints import OpenAI

_ENDPOINT = "/chat/completions"


class Azure(OpenAI):
    """Everything below ``/azure/openai``; the resource's address ends in ``/azure``."""

    prefix = "/azure/openai"

    def _check_spec(self, spec: dict[str, Any], window: Any, account: str) -> StoredFile:
        if spec["endpoint"] != _ENDPOINT:
            raise refused(
                f"Invalid value: '{spec['endpoint']}'. Supported values are: '{_ENDPOINT}'.",
                400,
                param="endpoint",
                code="invalid_value",
            )
        file = self._files.get("openai", account, spec["input_file_id"], self._engine.clock.now())
        if file is not None:
            with self._files.path(file.id).open("rb") as lines:
                spec["endpoint"] = msgspec.json.decode(lines.readline(), type=Line).url
        return super()._check_spec(spec, window, account)

    def _batch_object(self, batch: Batch, *, new: bool = False) -> dict[str, Any]:
        shown = super()._batch_object(batch, new=new)
        over = not new and self._engine.phase(batch) in OVER
        counts = shown["request_counts"]
        if not over:
            counts = dict.fromkeys(counts)
        return shown | {
            "endpoint": _ENDPOINT,
            "request_counts": counts,
            "output_file_id": shown["output_file_id"] or "",
            "error_file_id": shown["error_file_id"] or "",
        }
