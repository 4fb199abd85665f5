"""One training in several processes, as torchrun starts them: who is who, who has what, and what they agree on.

Every process has the whole network and a share of each batch. Gradients are summed, so that a step is that of one
process with the whole batch; batch norm alone sees its own process's share. Without torchrun there is one process, and
nothing here does anything. Importing this is light.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from daar.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

# what gloo and NCCL say when a process at the other end has gone
_LOST = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "NCCL", "gloo", "DistBackendError")


def is_launched() -> bool:
    """Whether torchrun started this process together with others."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """Which of this machine's processes this is, from 0: that of the GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0")) if is_launched() else 0


def local_processes() -> int:
    """How many of the processes are on this machine and share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_launched() else 1


def join() -> None:
    """Meet the other processes, over gloo for tensors on CPUs and NCCL on GPUs; once, and only under torchrun."""
    import torch
    from torch import distributed as dist

    if not is_launched() or dist.is_initialized():
        return
    with_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if with_gpus else "gloo")


def leave() -> None:
    """Say goodbye to the others, if there are any."""
    if _joined():
        from torch import distributed as dist

        dist.destroy_process_group()


def _joined() -> bool:
    if not is_launched():
        return False
    from torch import distributed as dist

    return dist.is_initialized()


def rank() -> int:
    """Which process this is, from 0."""
    return int(os.environ["RANK"]) if _joined() else 0


def processes() -> int:
    """How many there are."""
    return int(os.environ["WORLD_SIZE"]) if _joined() else 1


def is_first() -> bool:
    """Whether this is the process that writes files."""
    return rank() == 0


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """Let the processes do something one after the other, by rank.

    So GPUs are leased: two jobs that both want GPUs 0 and 1 then never have one each while they wait for the other.
    Waiting may take as long as another job.
    """
    from torch import distributed as dist

    if processes() == 1:
        yield
        return
    patient = dist.new_group(backend="gloo", timeout=timedelta(days=30))
    assert isinstance(patient, dist.ProcessGroup)
    for _ in range(rank()):
        dist.barrier(group=patient)
    try:
        yield
    finally:
        for _ in range(rank(), processes()):
            dist.barrier(group=patient)


def require_shares(batch_size: int) -> None:
    """InputError where the processes cannot share a batch equally, two images or more each."""
    if batch_size % processes() or batch_size < 2 * processes():
        raise InputError(
            f"batch_size is {batch_size}, of the whole batch; {processes()} processes cannot share it equally with two "
            f"images or more each. Choose a multiple of {processes()} from {2 * processes()} on, or other processes."
        )


def share(count: int) -> tuple[int, int]:
    """This process's images of a batch of so many, first and behind the last.

    None has a single image, which batch norm cannot be trained on: of a short batch some may have none.
    """
    holders = max(1, min(processes(), count // 2))
    first, last = (count * min(at, holders) // holders for at in (rank(), rank() + 1))
    return first, last


def part(count: int) -> tuple[int, int]:
    """This process's images of a split of so many, first and behind the last: every image has exactly one process."""
    return count * rank() // processes(), count * (rank() + 1) // processes()


def sum_up(values: "Tensor") -> "Tensor":
    """The sum over the processes, in a tensor of its own where there are several."""
    from torch import distributed as dist

    if processes() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def agree(wish: int) -> int:
    """The largest of the processes' wishes; also waits for all of them. On CPUs, so that no GPU is waited for."""
    import torch
    from torch import distributed as dist

    if processes() == 1:
        return wish
    largest = torch.tensor(wish)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def sum_gradients(model: "nn.Module") -> None:
    """Give every process the sum of the gradients, in one message; one that had no images adds zeros."""
    import torch

    if processes() == 1:
        return
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learned:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    whole = sum_up(torch.cat([_grad(parameter).flatten() for parameter in learned]))
    for parameter, grad in zip(learned, whole.split([p.numel() for p in learned]), strict=True):
        _grad(parameter).copy_(grad.view(parameter.shape))


def _grad(parameter: "Tensor") -> "Tensor":
    assert parameter.grad is not None
    return parameter.grad


def average_statistics(model: "nn.Module") -> None:
    """Give every process the mean of batch norm's running statistics; they have no part in training itself."""
    import torch

    if processes() == 1:
        return
    floats = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if floats:
        whole = sum_up(torch.cat([buffer.flatten() for buffer in floats])) / processes()
        for buffer, mean in zip(floats, whole.split([b.numel() for b in floats]), strict=True):
            buffer.copy_(mean.view(buffer.shape))


def share_state(model: "nn.Module") -> None:
    """Give every process the first one's parameters and statistics."""
    from torch import distributed as dist

    if processes() == 1:
        return
    for value in model.state_dict().values():
        sent = value.contiguous()
        dist.broadcast(sent, 0)
        value.copy_(sent)


@contextlib.contextmanager
def once_told() -> Iterator[None]:
    """Where there are several processes, let a second signal do nothing.

    torchrun passes on a signal that a terminal or a scheduler has sent to the processes already, and ends by force
    whoever is still there after 30 seconds. Whoever notes the first signal must be entered after this.
    """
    if processes() == 1:
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def naming_the_lost() -> Iterator[None]:
    """Say in one line that another process has ended, whatever gloo or NCCL say of it."""
    try:
        yield
    except RuntimeError as error:
        if processes() == 1 or not any(sign in str(error) for sign in _LOST):
            raise
        raise InputError(
            "another process of this run has ended; its own line says why. Mend that and run the same command again."
        ) from error
