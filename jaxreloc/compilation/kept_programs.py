"""Compiled programs kept whole, so that a process traces nothing before its first answer.

XLA's own cache is asked with a program that has been traced and lowered, which takes longer than
anything else in a short process. A kept program is asked by its name, by what it is made of, and by
the shapes of its arguments. The files are code, as those of XLA's cache are: a folder of the user.
They lie there in a folder for each version of the code, of the libraries and of the machine.
"""

import collections
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import pickle
import platform
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache.compilation_cache import reset_cache

import jaxreloc
from jaxreloc import files
from jaxreloc.usage import UsageError

LIBRARIES = ("jax", "jaxlib", "flax", "jaxlie", "numpy")
DIGEST_SIZE = 24  # hexadecimal digits
KEPT_VERSIONS = 4  # folders; the oldest ones go
# Of one function. The largest takes 3,000 mappings of memory, of the 65,530 that Linux allows a
# process; beyond these XLA crashes.
MOST_LOADED = 6

_folder: pathlib.Path | None = None


def keep_programs(folder: pathlib.Path) -> None:
    """From now on programs are kept in a folder of `folder`, and taken from there."""
    global _folder
    _folder = folder / f"programs-{_version()}"


class Program:
    """A jitted function whose compiled programs are kept where `keep_programs` says, if anywhere.

    Args:
      function: of arrays, of no large constants, determined by the code and by `of`.
      name: of its files.
      of: what tells this function from others of the same name; its `repr` counts.
      static: keyword arguments that are no arrays; their `repr` counts.
      compiler_options: see `jax.jit`.
    """

    def __init__(
        self,
        function: Callable,
        name: str,
        *,
        of: object = None,
        static: Collection[str] = (),
        compiler_options: Mapping[str, Any] | None = None,
    ):
        functools.update_wrapper(self, function)
        self._jitted = jax.jit(
            function, static_argnames=tuple(static), compiler_options=compiler_options
        )
        self._name, self._static = name, frozenset(static)
        self._of = f"{of!r} {sorted((compiler_options or {}).items())}"
        # The least recently called one first.
        self._loaded: collections.OrderedDict[str, jax.stages.Compiled] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, *args, **kwargs):
        """As the jitted function."""
        leaves, tree = jax.tree.flatten((args, self._arrays(kwargs)))
        if _folder is None or any(isinstance(x, jax.core.Tracer) for x in leaves):
            return self._jitted(*args, **kwargs)
        shapes = [(x.shape, str(x.dtype)) for x in leaves]
        static = {name: kwargs[name] for name in sorted(self._static & kwargs.keys())}
        signature = f"{self._of} {tree} {shapes} {static}"
        with self._lock:
            if signature not in self._loaded:
                path = _folder / f"{self._name}-{_digest(signature.encode())}.program"
                self._loaded[signature] = _load(path) or self._compile(path, args, kwargs)
            self._loaded.move_to_end(signature)
            program = self._loaded[signature]
            if len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
        return program(*args, **self._arrays(kwargs))

    def _arrays(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: x for name, x in kwargs.items() if name not in self._static}

    def _compile(self, path: pathlib.Path, args, kwargs) -> jax.stages.Compiled:
        lowered = self._jitted.lower(*args, **kwargs)
        with _xla_cache_off():  # what comes from there does not survive being written again
            compiled = lowered.compile()
        try:
            content = pickle.dumps(serialize_executable.serialize(compiled))
            with files.replacing(path, durable=False) as temporary:
                temporary.write_bytes(_digest(content).encode() + content)
            _drop_old_versions(path.parent)
        except (UsageError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError):
            pass  # it cannot be kept, and serves this process
        return compiled


def kept_json(name: str, of: object, make: Callable[[], Any]) -> Any:
    """What `make` gives, JSON that the code and `of` determine; made once for each version."""
    if _folder is None:
        return make()
    path = _folder / f"{name}-{_digest(repr(of).encode())}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        made = make()
    try:
        with files.replacing(path, durable=False) as temporary:
            temporary.write_text(json.dumps(made))
    except UsageError:
        pass
    return made


@contextlib.contextmanager
def _xla_cache_off() -> Iterator[None]:
    """For the whole process, since JAX knows no other way."""
    was_on = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", was_on)
        reset_cache()


def _load(path: pathlib.Path) -> jax.stages.Compiled | None:
    """None where there is none, or a damaged one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, content = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    if digest != _digest(content).encode():
        return None
    _prepare_lapack()
    return serialize_executable.deserialize_and_load(*pickle.loads(content))


@functools.cache
def _prepare_lapack() -> None:
    """Lowering a call of LAPACK finds its functions, without which a loaded program crashes."""
    jax.jit(jnp.linalg.cholesky).lower(jax.ShapeDtypeStruct((2, 2), jnp.float32))


def _drop_old_versions(newest: pathlib.Path) -> None:
    found = sorted(newest.parent.glob("programs-*"), key=lambda path: path.stat().st_mtime)
    for path in found[:-KEPT_VERSIONS]:
        shutil.rmtree(path, ignore_errors=True)


def _version() -> str:
    """A digest of all that decides what a program does, but for itself and its arguments."""
    package = pathlib.Path(jaxreloc.__file__).parent
    sources = [path.read_bytes() for path in sorted(package.rglob("*.py"))]
    device = jax.devices()[0]
    facts = [
        *(version(name) for name in LIBRARIES),
        platform.python_version(),
        *(device.platform, device.device_kind, device.client.platform_version),
        *(str(jax.device_count()), str(len(os.sched_getaffinity(0)))),
        os.environ.get("XLA_FLAGS", ""),
        *(str(jax.config.jax_enable_x64), str(jax.config.jax_default_matmul_precision)),
        _cpu_features(),
    ]
    return _digest("\n".join(facts).encode(), *sources)


def _cpu_features() -> str:
    """What the processor can do, as Linux says it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def _digest(*contents: bytes) -> str:
    total = hashlib.sha256()
    for content in contents:
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()[:DIGEST_SIZE]
