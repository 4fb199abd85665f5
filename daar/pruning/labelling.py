"""Follow channels through what a network ran: labels for every dimension of every tensor."""

from collections.abc import Iterator, Mapping

from torch import nn

from daar.models.shortcut import PaddedShortcut
from daar.program.program import Operation, Program, Ref, Span, refs
from daar.pruning.attributes import owner_of, value_of
from daar.pruning.repairs import Repairs
from daar.pruning.rules import RULES
from daar.pruning.rules.pointwise import MADE_BY_CODE, is_pointwise, pointwise
from daar.pruning.rules.run import Attribute, Dims, Run


def label(program: Program, model: nn.Module, repairs: Repairs, training: Program | None = None) -> Run:
    """Label all tensors of a program.

    Args:
        program: what the network ran.
        model: the network, for modules of this project that are cut as a whole.
        repairs: what a proof found that no rule can see.
        training: what it ran in training mode, where heads run that only training has: they hold the same parameters.
    """
    run = Run(program, repairs)
    _label_all(run, model, {})
    if training is not None:
        heads = Run(training, repairs, ids=run.ids, numbers=run.numbers)
        _label_all(heads, model, {name: run.labels[number] for number, name in program.leaves.items()})
        run.attributes += heads.attributes
    return run


def _label_all(run: Run, model: nn.Module, leaves: Mapping[str, Dims]) -> None:
    program, modules = run.program, dict(model.named_modules())
    for number in [*program.leaves, *program.constants, *program.inputs]:
        name = program.leaves.get(number, "")
        if name in leaves:
            run.labels[number] = leaves[name]
        else:
            _label_source(run, number)
    shortcuts = {span.first: span for span in program.spans if isinstance(modules.get(span.module), PaddedShortcut)}
    after = 0
    for operation in program.operations:
        if operation.index in shortcuts:
            after = shortcuts[operation.index].last
            _follow_shortcut(run, shortcuts[operation.index])
        if operation.index >= after:
            _follow(run, operation, modules)
    for path, module in modules.items():
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            _note_sizes(run, path, module)
    for ref in refs(program.output):
        for labels in run.of(ref):
            run.ids.freeze(labels, "network output", foremost=True)


def _label_source(run: Run, number: int) -> None:
    """Every dimension of a leaf may be cut; of the network's input, and of what its code makes, none."""
    shape = run.program.shapes[number]
    if number in run.program.inputs:
        run.activations.add(number)
        channels = run.ids.fresh(shape[1]) if len(shape) > 1 and shape[1] > 1 else None
        run.ids.freeze(channels, "network input")
        run.labels[number] = [channels if d == 1 else None for d in range(len(shape))]
    else:
        run.labels[number] = [None if size == 1 else run.ids.fresh(size) for size in shape]
        if number in run.program.constants:
            for labels in run.labels[number]:
                run.ids.freeze(labels, "a constant of the network's code")


def _follow(run: Run, op: Operation, modules: Mapping[str, nn.Module]) -> None:
    if run.activations.intersection(op.reads()) and op.name not in MADE_BY_CODE:
        run.activations.update(op.makes())
    name = op.name if op.name in RULES or not op.name.endswith("_") else op.name[:-1]
    rule = RULES.get(name, pointwise if is_pointwise(op) else None)
    made = None if rule is None else rule(run, op)
    if made is None:
        made = _unknown(run, op)
    for number, why in _kept(run, op):
        for labels in run.labels[number]:
            run.keep(labels, op, why)
    for ref, dims in zip(refs(op.result), made, strict=True):
        shape = run.shape(ref)
        assert len(dims) == len(shape), (op.place(), dims, shape)
        run.labels[ref.number] = [None if size == 1 else part for part, size in zip(dims, shape, strict=True)]
    for (kind, name), places in run.repairs.attributes.items():
        for source, position, dim in places:
            if source == op.source:
                _note_attribute(run, op, modules, kind, name, (position, dim))


def _kept(run: Run, op: Operation) -> Iterator[tuple[int, str]]:
    """Numbers of the tensors whose channels stay for an operation's sake: its inputs here, and its weights by line."""
    kept = run.repairs.kept
    for number in op.reads():
        if op.source in kept:
            yield number, kept[op.source]
        elif op.here in kept and (number in run.activations or run.activations.isdisjoint(op.reads())):
            yield number, kept[op.here]


def _note_attribute(
    run: Run, op: Operation, modules: Mapping[str, nn.Module], kind: str, name: str, at: tuple[int, int]
) -> None:
    """A module's integer is the number of channels along a dimension of a tensor of this operation.

    What it is the number of in several places, or for several modules that share what holds it, goes only together.
    """
    position, dim = at
    numbers = [*op.reads(), *op.makes()]
    dims = run.labels[numbers[position]] if position < len(numbers) else []
    labels = dims[dim] if dim < len(dims) else None
    path = op.module
    while path and type(modules[path]).__qualname__ != kind:
        path = path.rpartition(".")[0]
    module = modules[path]
    if labels is None or type(module).__qualname__ != kind or value_of(module, name) != len(labels):
        return
    owner = owner_of(module, name)
    run.ids.unify(run.numbers.setdefault(owner, labels), labels)
    if (path, name) not in ((noted.module, noted.name) for noted in run.attributes):
        run.attributes.append(Attribute(path, name, labels))


def _note_sizes(run: Run, path: str, module: nn.RNNBase | nn.RNNCellBase) -> None:
    """What a recurrent module checks its input and state by, and makes its first state of: one for all its layers."""
    held = {name: number for number, name in run.program.leaves.items()}
    weights = {"input_size": ("weight_ih_l0", "weight_ih_l0_reverse", "weight_ih"), "hidden_size": ("weight_hh",)}
    projects = bool(getattr(module, "proj_size", 0))
    if projects:
        weights |= {"hidden_size": ("weight_hr",), "proj_size": ("weight_hh",)}
    for size, begin in weights.items():
        names = [name for name, _ in module.named_parameters() if name in begin or name.startswith(f"{begin[0]}_l")]
        numbers = [held.get(f"{path}.{name}") for name in names]
        found = [run.labels[number][1] for number in numbers if number is not None]
        labels = [one for one in found if one is not None]
        if labels and len(labels) == len(names):
            for other in labels[1:]:
                run.ids.unify(labels[0], other)
            run.attributes.append(Attribute(path, size, labels[0]))
            if projects and size != "input_size":
                run.ids.freeze(labels[0], f"torch knows the projections of {path} by widths that must not become equal")


def _unknown(run: Run, op: Operation) -> list[Dims]:
    """All channels that it reads stay, and so do those that it makes."""
    for number in op.reads():
        for labels in run.labels[number]:
            run.keep(labels, op, "read by an unknown operation")
    made: list[Dims] = []
    for ref in refs(op.result):
        dims: Dims = [None] * len(run.shape(ref))
        if len(dims) > 1 and run.shape(ref)[1] > 1:
            dims[1] = run.ids.fresh(run.shape(ref)[1])
            run.keep(dims[1], op, "made by an unknown operation")
        made.append(dims)
    return made


def _follow_shortcut(run: Run, span: Span) -> None:
    """Option A's shortcut reads one stream and makes another, like a conv whose weights are fixed."""
    (source,) = (n for n, name in run.program.leaves.items() if name == f"{span.module}.source")
    read, made = span.read[0], span.made[0]
    run.activations.add(made)
    run.labels[made] = [None, run.labels[source][0], None, None]
    for index in range(span.first, span.last):
        for ref in refs(run.program.operations[index].result):
            run.labels.setdefault(ref.number, [None] * len(run.shape(ref)))
    run.read(run.program.operations[span.first], Ref(read), 1)
    values = run.labels[read][1]
    assert values is not None
    run.values[source] = values
