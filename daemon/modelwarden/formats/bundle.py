"""Several files of one run as one: a ZIP file whose bytes say nothing but what is in it.

The rule: the same files make the same bytes, wherever and whenever: the run is known by their sha256.
"""

import io
import zipfile
from collections.abc import Mapping
from typing import Final

_NO_TIME: Final = (1980, 1, 1, 0, 0, 0)


def bundle(files: Mapping[str, bytes]) -> bytes:
    """The files by their path from the run's folder, stored in the order of their names."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), files[name])
    return stream.getvalue()
