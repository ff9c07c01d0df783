"""What the tests check the annotations of arrays with: beartype, in every call."""

import functools
import typing
from collections.abc import Callable

import jax
import jaxtyping
from beartype import BeartypeConf, beartype

_CHECKER = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float


def check(function: Callable) -> Callable:
    """`function`, which raises where an array is not of the shape or type that its hints say.

    A dataclass that is a pytree is made of other things than arrays within JAX's transformations:
    of what they put into its place, and of sentinels. So how one is made is not checked.
    """
    hints = {name: hint for name, hint in function.__annotations__.items() if _has_array(hint)}
    if not hints:
        return function
    function.__annotations__ = hints
    checked = _CHECKER(function)
    if function.__name__ != "__init__":
        return checked

    @functools.wraps(checked)
    def make(self, *args, **kwargs):
        return None if _is_pytree(type(self)) else checked(self, *args, **kwargs)

    return make


def _has_array(hint: object) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(_has_array(part) for part in typing.get_args(hint))


@functools.cache
def _is_pytree(kind: type) -> bool:
    try:
        return jax.tree.structure(object.__new__(kind)).num_leaves != 1
    except AttributeError:  # it is flattened, and holds nothing yet
        return True
