"""Networks for the tests: random CNNs that know by themselves what pruning means, and lively statistics for any."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from daar.conformance.subject import enliven
from daar.models.shortcut import PaddedShortcut


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """For modules that import it: networks as small as ours run far slower on two threads where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Sigmoid, nn.LeakyReLU, nn.Hardswish, nn.GELU)


class Step(NamedTuple):
    """One operation on earlier values; value 0 is the image, value k is what step k makes."""

    kind: str
    reads: tuple[int, ...]
    name: str = ""


class OwnForward(nn.Conv2d):
    """A subclass of a layer that runs in a way of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(F.conv2d(x, self.weight, self.bias, padding=self.padding), 0.2)


class Functional(nn.Module):
    """A conv by its function, on a parameter."""

    def __init__(self, read: int, made: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(made, read, 3, 3) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, padding=1)


class LayerScale(nn.Module):
    """A learnt factor for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Widths(nn.Module):
    """Passes channels on, and relies on how many they are by attributes: one, and a list."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels
        self.parts = [channels, 0]

    def forward(self, x: Tensor) -> Tensor:
        first, _ = torch.split(x[:, : self.width], self.parts, 1)
        return first.reshape(-1, self.width, *x.shape[2:])


class Cnn(nn.Module):
    """A network that runs a list of steps, and knows how to run them with filters masked."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.steps: list[Step] = []
        self.heads: list[int] = []
        self.channels = [3]
        self.sizes = [size]

    # building

    def step(self, kind: str, *reads: int, channels: int | None = None) -> int:
        self.steps.append(Step(kind, reads))
        self.channels.append(channels or self.channels[reads[0]])
        self.sizes.append(self.sizes[reads[0]])
        return len(self.steps)

    def layer(self, module: nn.Module | str, read: int, channels: int | None = None, size: int | None = None) -> int:
        """Append a layer, or call again the one of that name."""
        name = module if isinstance(module, str) else f"m{len(self.steps)}_{type(module).__name__.lower()}"
        if isinstance(module, nn.Module):
            self.add_module(name, module)
        self.steps.append(Step("layer", (read,), name))
        self.channels.append(channels or self.channels[read])
        self.sizes.append(size or self.sizes[read])
        return len(self.steps)

    # running

    def forward(self, x: Tensor, other: Tensor | None = None) -> Any:
        values = [x]
        for kind, reads, name in self.steps:
            operands = [values[read] for read in reads]
            if kind == "other":
                assert other is not None
                values.append(other)
                continue
            values.append(getattr(self, name)(*operands) if kind == "layer" else _operation(kind, operands))
        return values[self.heads[0]] if len(self.heads) == 1 else tuple(values[head] for head in self.heads)

    def masked(
        self, x: Tensor, other: Tensor | None, gone: Mapping[str, list[int]]
    ) -> tuple[list[Tensor], dict[str, tuple[int, ...]]]:
        """The heads with the given filters of each conv zeroed wherever they are read, by this network's own account.

        Nothing of daar is used. What lives is a (1, C, 1, …) or (1, C) tensor beside each value, None for a padded
        shortcut, which takes what the addition's other side says.

        Returns:
            The heads, and for each weight of a conv or linear layer its shape once the dead ones are cut.
        """
        values: list[tuple[Tensor, Tensor | None]] = [(x, torch.ones(1, 3, 1, 1).to(x))]
        shapes: dict[str, tuple[int, ...]] = {}
        for kind, reads, name in self.steps:
            operands = [values[read] for read in reads]
            if kind == "layer":
                values.append(self._masked_layer(name, *operands[0], gone, shapes))
                continue
            if kind == "other":
                assert other is not None
                values.append((other, torch.ones(1, 3, 1, 1).to(x)))
                continue
            result = _operation(kind, [value for value, _ in operands])
            alive = [mask for _, mask in operands if mask is not None]
            if kind == "cat":
                mask = torch.cat(alive, 1)
            elif kind.startswith("flatten"):
                mask = alive[0].expand_as(operands[0][0][:1]).flatten(1)
            elif kind == "mean":
                mask = alive[0].flatten(1)
            elif kind in ("shuffle", "first_half", "second_half", "pad"):
                whole = kind == "pad"  # what is added in front and behind is there
                mask = 1 - _operation(kind, [1 - alive[0]]) if whole else _operation(kind, [alive[0]])
            else:
                mask = alive[0].reshape(1, -1, *[1] * (result.dim() - 2))
                assert all(torch.equal(part.flatten(), mask.flatten()) for part in alive), f"{kind} does not match"
            values.append((result, mask))
        return [values[head][0] for head in self.heads], shapes

    def _masked_layer(  # noqa: PLR0911  # a table
        self, name: str, x: Tensor, alive: Tensor | None, gone: Mapping[str, list[int]], shapes: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        module = getattr(self, name)
        assert alive is not None
        if isinstance(module, PaddedShortcut):
            surplus = len(module.source) - x.shape[1]
            step = module.stride
            return F.pad((x * alive)[:, :, ::step, ::step], (0, 0, 0, 0, surplus // 2, surplus - surplus // 2)), None
        if isinstance(module, nn.PixelShuffle):
            quarters = module(alive.expand(1, -1, 1, 1))
            assert torch.equal(quarters, quarters[:, :, :1, :1].expand_as(quarters))
            return module(x), quarters[:, :, :1, :1]
        if isinstance(module, nn.GroupNorm):
            each = alive.flatten().unflatten(0, (module.num_groups, -1))
            assert torch.equal(each.amin(1), each.amax(1)), "a part of a group is gone"
            return module(x), alive
        if isinstance(module, nn.Linear):
            made = torch.ones(1, module.out_features).to(x)
            shapes[f"{name}.weight"] = module.out_features, int(alive.sum())
            return module(x * alive), made
        if isinstance(module, Functional):
            made = torch.ones(1, len(module.kernel), 1, 1).to(x)
            made[:, gone.get(f"{name}.kernel", [])] = 0
            shapes[f"{name}.kernel"] = int(made.sum()), int(alive.sum())
            return module(x * alive), made
        if isinstance(module, nn.modules.conv._ConvNd):
            return module(x * alive), self._masked_conv(name, module, alive, gone, shapes)
        # passes channels on
        return module(x), alive.flatten(1) if isinstance(module, nn.Flatten) and x.shape[2:] == (1, 1) else alive

    def _masked_conv(
        self, name: str, module: Any, alive: Tensor, gone: Mapping[str, list[int]], shapes: dict[str, Any]
    ) -> Tensor:
        if module.groups == module.in_channels:
            made = alive.repeat_interleave(module.out_channels // module.groups, 1)
            shapes[f"{name}.weight"] = int(made.sum()), 1
            return made
        made = torch.ones(1, module.out_channels, *[1] * (alive.dim() - 2)).to(alive)
        made[:, gone.get(name, [])] = 0
        for part in alive.chunk(module.groups, 1):
            assert torch.equal(part, alive[:, : part.shape[1]]), "groups of a conv keep different inputs"
        for part in made.chunk(module.groups, 1):
            assert part.sum() == made.sum() / module.groups, "groups of a conv keep different numbers of filters"
        sides = int(made.sum()), int(alive.sum())
        shape = (sides[1], sides[0] // module.groups) if module.transposed else (sides[0], sides[1] // module.groups)
        if not hasattr(module, "parametrizations"):
            shapes[f"{name}.weight"] = shape
        return made


def _operation(kind: str, operands: list[Tensor]) -> Tensor:  # noqa: PLR0911, PLR0912  # a table
    match kind, operands:
        case "add", [one, other]:
            return one + other
        case "mul", [one, other]:
            return one * other
        case "cat", _:
            return torch.cat(operands, 1)
        case "relu", [x]:
            return F.relu(x)
        case "mean", [x]:
            return x.mean((2, 3))
        case "flatten", [x]:
            return torch.flatten(x, 1)
        case "flatten_view", [x]:
            return x.view(x.size(0), -1)
        case "shuffle", [x]:
            batch, channels, height, width = x.size()
            parts = x.view(batch, 2, channels // 2, height, width)
            return parts.transpose(1, 2).contiguous().view(batch, -1, height, width)
        case "first_half", [x]:
            return x.chunk(2, dim=1)[0]
        case "second_half", [x]:
            return torch.chunk(x, 2, 1)[1]
        case "pad", [x]:
            return F.pad(x, (0, 0, 0, 0, 1, 2))
        case "line", [x]:
            return x.flatten(2)
        case "square", [x]:
            return x.unflatten(2, (math.isqrt(x.shape[2]), -1))
        case "deep", [x]:
            return x[:, :, None]
        case "undeep", [x]:
            return x.squeeze(2)
        case "written", [x]:
            half, made = x.shape[1] // 2, torch.zeros_like(x)
            made[:, :half] = x[:, :half] * 2
            made[:, half:] += x[:, half:]
            return made
    raise AssertionError(kind)


class Builder:
    """Draws one network."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.net = Cnn(draw(st.sampled_from([8, 9])))

    def width(self) -> int:
        return self.draw(st.integers(3, 6))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def conv(self, read: int, width: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> int:
        net = self.net
        layer = nn.Conv2d(
            net.channels[read], width, kernel, stride, padding=kernel // 2, groups=groups, bias=self.flag()
        )
        return net.layer(layer, read, width, -(-net.sizes[read] // stride))

    def norm(self, read: int) -> int:
        return self.net.layer(nn.BatchNorm2d(self.net.channels[read]), read) if self.flag() else read

    def activate(self, read: int) -> int:
        kind = self.draw(st.sampled_from([None, "relu", *ACTIVATIONS]))
        if kind is None:
            return read
        return self.net.step(kind, read) if isinstance(kind, str) else self.net.layer(kind(), read)

    def unit(self, read: int, width: int | None = None, **shape: int) -> int:
        """Conv, perhaps BN, perhaps an activation."""
        return self.activate(self.norm(self.conv(read, width or self.width(), **shape)))

    # blocks: each reads one value and makes one

    def plain(self, x: int) -> int:
        return self.unit(x, kernel=self.draw(st.sampled_from([1, 3])), stride=self.draw(st.sampled_from([1, 2])))

    def grouped(self, x: int) -> int:
        even = self.unit(x, 2 * self.width()) if self.net.channels[x] % 2 else x
        return self.unit(even, 2 * self.width(), groups=2)

    def depthwise(self, x: int) -> int:
        channels = self.net.channels[x]
        return self.unit(x, channels * self.draw(st.integers(1, 2)), groups=channels)

    def residual(self, x: int) -> int:
        other = self.norm(self.conv(self.unit(x), self.net.channels[x]))
        return self.activate(self.net.step("add", other, x))

    def padded(self, x: int) -> int:
        channels, stride = self.net.channels[x], self.draw(st.sampled_from([1, 2]))
        width = channels + self.draw(st.integers(0, 5))
        other = self.norm(self.conv(self.unit(x, stride=stride), width))
        short = self.net.layer(PaddedShortcut(channels, width, stride), x, width, self.net.sizes[other])
        return self.activate(self.net.step("add", *((other, short) if self.flag() else (short, other))))

    def projected(self, x: int) -> int:
        width, stride = self.width(), self.draw(st.sampled_from([1, 2]))
        other = self.norm(self.conv(self.unit(x, stride=stride), width))
        return self.activate(self.net.step("add", other, self.norm(self.conv(x, width, kernel=1, stride=stride))))

    def branches(self, x: int) -> int:
        parts = [self.unit(x), self.unit(x, kernel=1)] + ([x] if self.flag() else [])
        return self.net.step("cat", *parts, channels=sum(self.net.channels[part] for part in parts))

    def onto_branches(self, x: int) -> int:
        both = self.branches(x)
        return self.activate(self.net.step("add", both, self.conv(x, self.net.channels[both])))

    def dense(self, x: int) -> int:
        """Pre-activation, as in DenseNet: what a layer adds is read by every later BN."""
        new = self.conv(self.activate(self.norm(x)), self.width())
        return self.net.step("cat", x, new, channels=self.net.channels[x] + self.net.channels[new])

    def squeeze_excite(self, x: int) -> int:
        pooled = self.net.layer(nn.AdaptiveAvgPool2d(1), x, size=1)
        gate = self.conv(self.net.step("relu", self.conv(pooled, 3, kernel=1)), self.net.channels[x], kernel=1)
        return self.net.step("mul", x, self.net.layer(nn.Sigmoid(), gate))

    def twice(self, x: int) -> int:
        """One conv called on two values."""
        once = self.conv(x, self.net.channels[x])
        return self.net.layer(self.net.steps[once - 1].name, self.activate(once))

    def shuffled(self, x: int) -> int:
        """Channels in two halves: one goes through a unit, then both are shuffled, as in ShuffleNet V2."""
        net = self.net
        even = self.unit(x, 2 * self.width()) if net.channels[x] % 2 else x
        half = net.channels[even] // 2
        first, second = (net.step(kind, even, channels=half) for kind in ("first_half", "second_half"))
        both = net.step("cat", first, self.unit(second, half), channels=2 * half)
        return net.step("shuffle", both)

    def padded_by_number(self, x: int) -> int:
        """An option-A shortcut as it is mostly written: a pad of so many channels in front and behind."""
        short = self.net.step("pad", x, channels=self.net.channels[x] + 3)
        return self.activate(self.net.step("add", self.conv(x, self.net.channels[short]), short))

    def line(self, x: int) -> int:
        net, width = self.net, self.width()
        flat = net.step("line", x)
        return net.step("square", net.layer(nn.Conv1d(net.channels[x], width, 3, padding=1), flat, width))

    def volume(self, x: int) -> int:
        net, width = self.net, self.width()
        conv = nn.Conv3d(net.channels[x], width, (1, 3, 3), padding=(0, 1, 1))
        made = net.layer(conv, net.step("deep", x), width)
        return net.step("undeep", net.layer(nn.BatchNorm3d(width), made) if self.flag() else made)

    def transposed(self, x: int) -> int:
        net, groups = self.net, 1
        if self.net.sizes[x] > 9:
            return x
        if net.channels[x] % 2 == 0 and net.channels[x] > 2 and self.flag():
            groups = 2
        width = groups * self.width()
        conv = nn.ConvTranspose2d(net.channels[x], width, 2, 2, groups=groups)
        return self.activate(self.norm(net.layer(conv, x, width, 2 * net.sizes[x])))

    def scaled(self, x: int) -> int:
        """A residual block with a layer scale."""
        inner = self.conv(self.unit(x), self.net.channels[x])
        return self.net.step("add", x, self.net.layer(LayerScale(self.net.channels[x]), inner))

    def tied(self, x: int) -> int:
        """Two convs with one weight."""
        channels = self.net.channels[x]
        one, two = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        two.weight = one.weight
        return self.net.layer(two, self.activate(self.net.layer(one, x)))

    def functional(self, x: int) -> int:
        width = self.width()
        return self.norm(self.net.layer(Functional(self.net.channels[x], width), x, width))

    def own_forward(self, x: int) -> int:
        width = self.width()
        return self.norm(self.net.layer(OwnForward(self.net.channels[x], width, 3, padding=1), x, width))

    def group_normed(self, x: int) -> int:
        groups = self.draw(st.integers(2, 4))
        made = self.conv(x, groups * self.draw(st.integers(1, 3)))
        return self.activate(self.net.layer(nn.GroupNorm(groups, self.net.channels[made]), made))

    def weight_normed(self, x: int) -> int:
        width = self.width()
        conv = nn.Conv2d(self.net.channels[x], width, 3, padding=1)
        parametrizations.weight_norm(conv) if self.flag() else parametrizations.spectral_norm(conv)
        return self.norm(self.net.layer(conv, x, width))

    def pixels(self, x: int) -> int:
        net, width = self.net, self.width()
        if net.sizes[x] > 9:
            return x
        return net.layer(nn.PixelShuffle(2), self.unit(x, 4 * width), width, 2 * net.sizes[x])

    def by_attributes(self, x: int) -> int:
        return self.net.layer(Widths(self.net.channels[x]), x)

    def written_in_place(self, x: int) -> int:
        even = self.unit(x, 2 * self.width()) if self.net.channels[x] % 2 else x
        return self.net.step("written", even)

    def another_image(self, x: int) -> int:
        """A second input of the network."""
        net = self.net
        made = net.step("other", x, channels=3)
        net.sizes[made] = net.size
        pooled = net.layer(nn.AdaptiveAvgPool2d(net.sizes[x]), self.unit(made), size=net.sizes[x])
        return net.step("cat", x, pooled, channels=net.channels[x] + net.channels[pooled])

    def pool(self, x: int) -> int:
        if self.net.sizes[x] < 4:
            return x
        kind = self.draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
        return self.net.layer(kind(2), x, size=self.net.sizes[x] // 2)

    def head(self, x: int, classes: int) -> int:
        net = self.net
        kind = self.draw(st.sampled_from(["flatten", "flatten_view", "average", "mean", "hidden"]))
        if kind.startswith("flatten"):
            units = net.channels[x] * net.sizes[x] ** 2
            return net.layer(nn.Linear(units, classes), net.step(kind, x, channels=units), classes)
        flat = net.step("mean", x) if kind == "mean" else net.layer(nn.Flatten(), net.layer(nn.AdaptiveAvgPool2d(1), x))
        if kind == "hidden":
            flat = net.layer(nn.Linear(net.channels[x], 5), net.layer(nn.BatchNorm1d(net.channels[x]), flat), 5)
            flat = net.layer(nn.ReLU(), net.layer(nn.BatchNorm1d(5), flat))
        return net.layer(nn.Linear(net.channels[flat], classes), flat, classes)


BLOCKS = (
    *(Builder.plain, Builder.grouped, Builder.depthwise, Builder.residual, Builder.padded, Builder.projected),
    *(Builder.branches, Builder.onto_branches, Builder.dense, Builder.squeeze_excite, Builder.twice, Builder.pool),
    *(Builder.shuffled, Builder.padded_by_number),
)
MORE_BLOCKS = (
    *(Builder.line, Builder.volume, Builder.transposed, Builder.scaled, Builder.tied, Builder.functional),
    *(Builder.own_forward, Builder.group_normed, Builder.weight_normed, Builder.pixels, Builder.by_attributes),
    *(Builder.written_in_place, Builder.another_image),
)


Block = Callable[[Builder, int], int]


@st.composite
def cnns(draw: Any, always: Block | None = None, blocks: Sequence[Block] = (*BLOCKS, *MORE_BLOCKS)) -> Cnn:
    """A random CNN in float64 and eval mode, with lively statistics; one block is always there."""
    dice = random.Random(draw(st.integers(0, 2**32)))
    torch.manual_seed(dice.randrange(2**16))
    builder = Builder(draw)
    x = builder.unit(0)
    drawn = dice.choices(blocks, k=dice.randint(0 if always else 1, 3))
    if always is not None:
        drawn.insert(dice.randint(0, len(drawn)), always)
    for block in drawn:
        between, x = x, block(builder, x)
    builder.net.heads.append(builder.head(x, 4))
    if builder.flag():
        builder.net.heads.append(builder.head(between, 3))
    return enliven(builder.net, dice.randrange(2**16)).double()
