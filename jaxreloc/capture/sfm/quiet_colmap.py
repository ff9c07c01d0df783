"""pycolmap, which says nothing by itself and leaves signals alone."""

import contextlib
import signal

from jaxreloc.extras import extra

with extra("colmap"):
    import pycolmap

__all__ = ["pycolmap"]

pycolmap.logging.minloglevel = 3  # what goes wrong is said by who calls it
with contextlib.suppress(ValueError):  # not the main thread
    # Its import has the stack written at SIGTERM; what Python knows of takes the place again.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
