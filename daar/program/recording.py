"""Run a network once and record what it ran.

Control flow, optional arguments, nested outputs and subclasses' own forwards need no rule: they are executed, and what
is recorded are the ATen operations below them. Composite ones (conv2d, linear, einsum, chunk) arrive decomposed.
"""

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from daar.device.precision import evaluating
from daar.errors import InputError, said
from daar.program.dispatch import DispatchMode
from daar.program.draws import seeded
from daar.program.inputs import Images, call_on_own, count, usable
from daar.program.outputs import nested, tensors
from daar.program.program import Operation, Program, Ref, Span, replaced

_NUMBER = "_daar_number"


def record(model: nn.Module, images: Images, *, training: bool = False) -> Program:
    """What a network runs on these images, without gradients and with the same random numbers each time.

    Args:
        model: any network; left as it is, but for the statistics that training changes.
        images: a tensor (N, …), or a tuple or dict of them.
        training: in training mode, not in eval mode.

    Raises:
        RunError: the network's own code raises; with what had run until then.
    """
    with seeded(), _mode(model, training), decomposed():
        images = usable(images)
        recorder = Recorder(model, images)
        with recorder.watching():
            try:
                output = call_on_own(model, images)
            except Exception as error:  # whatever the network's own code raises
                raise RunError(recorder.program, list(recorder.inside), error) from error
    return recorder.ended(output)


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """All modules in eval mode, or in training mode; then each in its own again."""
    with evaluating(model):
        if training:
            model.train()
        yield


def recorded(model: nn.Module, images: Images) -> Program:
    """As `record`, for a network whose code must run.

    Raises:
        InputError: it does not; names the module, the line and what was raised.
    """
    try:
        return record(model, images)
    except RunError as failure:
        error = failure.error
        where = failure.inside[-1] if failure.inside else ""
        raise InputError(
            f"{type(model).__name__} fails{f' in {where!r}' if where else ''}: {said(error, 300)}"
        ) from error


class RunError(Exception):
    """A network raised while it was recorded.

    Attributes:
        program: what had run until then.
        inside: paths of the modules that were running, outermost first.
        error: what was raised.
    """

    def __init__(self, program: Program, inside: list[str], error: Exception) -> None:
        super().__init__(str(error))
        self.program, self.inside, self.error = program, inside, error


@contextmanager
def decomposed() -> Iterator[None]:
    """Without the fused paths of attention, which are operations of their own with all weights inside.

    And out of inference mode, in which torch hides what composite operations are made of.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode(mode=False), torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class Recorder(DispatchMode):
    """Numbers the tensors of a run and notes its operations.

    The number of a tensor that an operation made is kept on it, since Python ids are reused and weak references to
    tensors that only torch's own code holds are cleared; a result in place gets a new one.

    Args:
        model: whose run.
        images: of the run.
    """

    def __init__(self, model: nn.Module, images: Images) -> None:
        super().__init__()
        self.program = Program()
        self.inside: list[str] = []
        self._key = object()
        self._paths = {id(module): path for path, module in model.named_modules(remove_duplicate=True)}
        self._known: dict[int, tuple[Tensor, int]] = {}
        self._places: dict[tuple[Any, ...], int] = {}
        self._began: list[tuple[int, tuple[int, ...]]] = []
        for path, leaf in _leaves(model):
            self._hold(leaf, self._leaf(path, leaf))
        for value in tensors(images):
            number = self._new(value)
            self._hold(value, number)
            self.program.inputs.append(number)
        self.program.batch = count(images)

    def _leaf(self, path: str, leaf: Tensor) -> int:
        number = self._new(leaf)
        self.program.leaves[number] = path
        if leaf.numel():
            self._places.setdefault(_place(leaf), number)
        return number

    def _hold(self, value: Tensor, number: int) -> None:
        self._known[id(value)] = value, number

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record within, with the path of the module that runs."""
        before = register_module_forward_pre_hook(self._enter)
        after = register_module_forward_hook(self._leave)
        try:
            with self:
                yield
        finally:
            before.remove()
            after.remove()

    def ended(self, output: Any) -> Program:
        """The program, its output noted."""
        self.program.output = replaced(nested(output), Tensor, self._ref)
        return self.program

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.inside.append(self._paths.get(id(module), ""))
        self._began.append((len(self.program.operations), self._numbers(args)))

    def _leave(self, _module: nn.Module, _args: Any, result: Any) -> None:
        first, read = self._began.pop()
        path = self.inside.pop()
        self.program.spans.append(Span(path, first, len(self.program.operations), read, self._numbers(result)))

    def _numbers(self, value: Any) -> tuple[int, ...]:
        return tuple(self._ref(part).number for part in tensors(value))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and note it."""
        kwargs = kwargs or {}
        noted = replaced(list(args), Tensor, self._ref), replaced(kwargs, Tensor, self._ref)
        result = func(*args, **kwargs)
        made = replaced(result, Tensor, self._made)
        module = self.inside[-1] if self.inside else ""
        self.program.operations.append(
            Operation(len(self.program.operations), func, tuple(noted[0]), noted[1], made, module, *_line())
        )
        return result

    def _ref(self, value: Tensor) -> Ref:
        mark = value.__dict__.get(_NUMBER)
        if mark is not None and mark[0] is self._key:
            return Ref(mark[1])
        if id(value) in self._known and self._known[id(value)][0] is value:
            return Ref(self._known[id(value)][1])
        # `.data` and what scripted modules hand out are other objects of the same memory
        number = self._places.get(_place(value)) if value.numel() and not value.is_sparse else None
        if number is None:
            number = self._new(value)
            self.program.constants[number] = value
        self._hold(value, number)
        return Ref(number)

    def _made(self, value: Tensor) -> Ref:
        number = self._new(value)
        if id(value) in self._known and self._known[id(value)][0] is value:  # a leaf or an input, changed in place
            self._hold(value, number)
        else:
            value.__dict__[_NUMBER] = (self._key, number)
        return Ref(number)

    def _new(self, value: Tensor) -> int:
        self.program.shapes.append(tuple(value.shape))
        self.program.dtypes.append(value.dtype)
        return len(self.program.shapes) - 1


def _place(value: Tensor) -> tuple[Any, ...]:
    return value.data_ptr(), tuple(value.shape), tuple(value.stride()), value.dtype


def _leaves(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, buffers and tensors that modules hold as plain attributes; what is tied once, by its first name."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        held = {**module._parameters, **module._buffers} if not isinstance(module, torch.jit.ScriptModule) else {}
        if isinstance(module, torch.jit.ScriptModule):
            held = dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])
        plain = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
        for name, value in {**held, **plain}.items():
            if isinstance(value, Tensor) and id(value) not in seen:
                seen.add(id(value))
                yield f"{path}.{name}" if path else name, value


def held_as(model: nn.Module, name: str) -> Tensor:
    """The tensor that a module of the network holds by the name of a leaf, such as `layer1.0.conv1.weight`."""
    path, _, last = name.rpartition(".")
    value = getattr(model.get_submodule(path), last)
    assert isinstance(value, Tensor)
    return value


def _line() -> tuple[str, str]:
    """File and line of the innermost frame of the network's own code, and the same by its Python module's name.

    Empty where torch's own layers alone are running, as in an `nn.Sequential`: frames behind the call are the caller's.
    """
    frame: Any = sys._getframe(2)
    while frame is not None and _is_machinery(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None or frame.f_code is call_on_own.__code__:
        return "", ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno}", f"{frame.f_globals.get('__name__', '')}:{frame.f_lineno}"


@functools.cache
def _is_machinery(filename: str) -> bool:
    torchs = Path(torch.__file__).parent
    return torchs in Path(filename).parents or filename == __file__
