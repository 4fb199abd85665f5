"""Code that runs before and after every module of any network, for as long as it is asked to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


@contextmanager
def around_modules(before: Callable[..., Any], after: Callable[..., Any]) -> Iterator[None]:
    """Call hooks around each module's forward within; the second also where the forward raises.

    Args:
        before: (module, arguments) → None.
        after: (module, arguments, output) → None.
    """
    first = register_module_forward_pre_hook(before)
    second = register_module_forward_hook(after, always_call=True)
    try:
        yield
    finally:
        first.remove()
        second.remove()
