"""Libraries that the base install leaves out, each with the extra that brings it."""

import contextlib
from collections.abc import Iterator

from jaxreloc.usage import UsageError


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Words a failed import within as what to install.

      with extra("faiss"):
          import faiss

    Raises:
      UsageError: the import failed.
    """
    try:
        yield
    except ImportError as error:
        raise UsageError(f"{error}; pip install 'jaxreloc[{name}]'") from error
