"""Compiled programs kept whole, so that a process traces nothing before its first answer.

XLA's own cache is asked with a program that has been traced and lowered, which takes longer than
anything else in a short process. A kept program is asked by its name, by what it is made of, and by
the shapes of its arguments. The files are code, as those of XLA's cache are: a folder of the user.
They lie there in a folder for each version of the code, of the libraries and of the machine.
"""

import collections
import concurrent.futures
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
from typing import Any, NamedTuple

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
_ahead: dict[pathlib.Path, concurrent.futures.Future] = {}  # what is being loaded
_wanted: list[str] | None = None  # names of the files that a job asked for, in order


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
      compiler_options: gives those of `jax.jit`, once the function is called.
    """

    def __init__(
        self,
        function: Callable,
        name: str,
        *,
        of: object = None,
        static: Collection[str] = (),
        compiler_options: Callable[[], Mapping[str, Any]] = dict,
    ):
        functools.update_wrapper(self, function)
        self._name, self._static, self._of = name, frozenset(static), of
        self._compiler_options = compiler_options
        # The least recently called one first.
        self._loaded: collections.OrderedDict[str, _Flat] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, *args, **kwargs):
        """As the jitted function."""
        leaves, tree = jax.tree.flatten((args, self._arrays(kwargs)))
        if any(isinstance(x, jax.core.Tracer) for x in leaves):
            return self.__wrapped__(*args, **kwargs)
        if _folder is None:
            return self._jitted(*args, **kwargs)
        shapes = [(x.shape, str(x.dtype)) for x in leaves]
        static = {name: kwargs[name] for name in sorted(self._static & kwargs.keys())}
        options = sorted(self._compiler_options().items())
        signature = f"{self._of!r} {options} {tree} {shapes} {static}"
        with self._lock:
            if signature not in self._loaded:
                path = _folder / f"{self._name}-{_digest(signature.encode())}.program"
                program = _loaded(path) or self._compile(path, leaves, tree, static)
                self._loaded[signature] = program
            self._loaded.move_to_end(signature)
            program = self._loaded[signature]
            if len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
        return program(leaves)

    @functools.cached_property
    def _jitted(self) -> Callable:
        return jax.jit(
            self.__wrapped__,
            static_argnames=tuple(self._static),
            compiler_options=self._compiler_options(),
        )

    def _arrays(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: x for name, x in kwargs.items() if name not in self._static}

    def _compile(self, path: pathlib.Path, leaves: list, tree, static: dict[str, Any]) -> "_Flat":
        outcome = []

        def flat(*leaves):
            args, kwargs = jax.tree.unflatten(tree, leaves)
            found, structure = jax.tree.flatten(self.__wrapped__(*args, **kwargs, **static))
            outcome.append(structure)
            return found

        flat.__name__ = self._name
        lowered = jax.jit(flat, compiler_options=self._compiler_options()).lower(*leaves)
        with _xla_cache_off():  # what comes from there does not survive being written again
            compiled = lowered.compile()
        try:
            code, *_ = serialize_executable.serialize(compiled)
            structure = outcome[-1]
            shape = len(leaves), structure.num_leaves
            content = pickle.dumps((code, shape, pickle.dumps(structure)))
            with files.replacing(path, durable=False) as temporary:
                temporary.write_bytes(_digest(content).encode() + content)
            _drop_old_versions(path.parent)
        except (UsageError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError):
            pass  # it cannot be kept, and serves this process
        return _Flat(compiled, outcome[-1])


class _Flat(NamedTuple):
    """A compiled function of leaves that gives leaves, and what these are the leaves of."""

    compiled: jax.stages.Compiled
    outcome: jax.tree_util.PyTreeDef

    def __call__(self, leaves: list) -> Any:
        return jax.tree.unflatten(self.outcome, self.compiled(*leaves))


def kept_json(name: str, of: object, make: Callable[[], Any]) -> Any:
    """What `make` gives, JSON that the code and `of` determine; made once for each version."""
    if _folder is None:
        return make()
    path = _folder / f"{name}-{_digest(repr(of).encode())}.json"
    made = _read_json(path)
    if made is None:
        made = make()
        _write_json(path, made)
    return made


def _read_json(path: pathlib.Path) -> Any:
    """None where there is none, or a damaged one."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _write_json(path: pathlib.Path, content: Any) -> None:
    try:
        with files.replacing(path, durable=False) as temporary:
            temporary.write_text(json.dumps(content))
    except UsageError:
        pass  # the next process makes it again


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


@contextlib.contextmanager
def loaded_ahead(job: object) -> Iterator[None]:
    """Loads in another thread, while the block goes on, what it needed the last time.

    On one core that would only take longer.

    Args:
      job: what is done there; its `repr` counts.
    """
    if _folder is None or _cores() == 1:
        yield
        return
    global _wanted
    path = _folder / f"job-{_digest(repr(job).encode())}.json"
    last = _read_json(path)
    if not (isinstance(last, list) and all(isinstance(name, str) for name in last)):
        last = []
    if last:
        _prepare_lapack()
    wanted = _wanted = []
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        _ahead.update((_folder / name, thread.submit(_load, _folder / name)) for name in last)
        try:
            yield
        finally:
            thread.shutdown(wait=False, cancel_futures=True)
            _ahead.clear()
            _wanted = None
    if wanted != last:
        _write_json(path, wanted)


def _loaded(path: pathlib.Path) -> _Flat | None:
    """A program of disk, perhaps loaded ahead; None where there is none, or a damaged one."""
    if _wanted is not None:
        _wanted.append(path.name)
    future = _ahead.pop(path, None)
    found = _load(path) if future is None or future.cancel() else future.result()
    return found and _Flat(found[0], pickle.loads(found[1]))


def _load(path: pathlib.Path) -> tuple[jax.stages.Compiled, bytes] | None:
    """The program and the pickled structure of its outcome.

    That may name any class. It is not unpickled here, since another thread may be importing the
    class's module, which then seems to be there and is not complete.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, content = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    if digest != _digest(content).encode():
        return None
    _prepare_lapack()
    code, (num_taken, num_given), outcome = pickle.loads(content)
    takes, gives = jax.tree.structure(((0,) * num_taken, {})), jax.tree.structure([0] * num_given)
    return serialize_executable.deserialize_and_load(code, takes, gives), outcome


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
        *(str(jax.device_count()), str(_cores())),
        os.environ.get("XLA_FLAGS", ""),
        *(str(jax.config.jax_enable_x64), str(jax.config.jax_default_matmul_precision)),
        _cpu_features(),
    ]
    return _digest("\n".join(facts).encode(), *sources)


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


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
