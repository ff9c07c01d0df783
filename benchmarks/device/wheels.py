"""Small packages, carried to a machine without a network as wheels."""

import os
import pathlib
import sys
import zipfile


def unpack_wheels(folder: pathlib.Path, site: pathlib.Path) -> None:
    """Makes what the wheels hold importable here and in the processes that this one starts."""
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as content:
            content.extractall(site)
    sys.path.insert(0, str(site))
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
