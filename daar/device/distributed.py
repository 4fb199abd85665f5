"""One training in several processes, as torchrun starts them: ranks, shares of a batch, and reductions.

Every process has the whole network and a share of each batch. Gradients are summed, so a step equals that of one
process with the whole batch; only batch norm sees the process's own share. Without torchrun there is one process, and
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

# parts of what gloo and NCCL say when another process has ended
_LOST = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "NCCL", "gloo", "DistBackendError")


def is_launched() -> bool:
    """Whether torchrun started this process together with others."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """Number of this process on its machine, from 0; also that of the GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0")) if is_launched() else 0


def local_processes() -> int:
    """How many processes run on this machine and share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_launched() else 1


def join() -> None:
    """Join the process group under torchrun, once: gloo for tensors on CPUs, NCCL for those on GPUs."""
    import torch
    from torch import distributed as dist

    if not is_launched() or dist.is_initialized():
        return
    with_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if with_gpus else "gloo")


def leave() -> None:
    """Leave the process group, if there is one."""
    if _joined():
        from torch import distributed as dist

        dist.destroy_process_group()


def _joined() -> bool:
    if not is_launched():
        return False
    from torch import distributed as dist

    return dist.is_initialized()


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ["RANK"]) if _joined() else 0


def processes() -> int:
    """How many processes there are."""
    return int(os.environ["WORLD_SIZE"]) if _joined() else 1


def is_first() -> bool:
    """Whether this is the process that writes files."""
    return rank() == 0


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """Run the body in one process after the other, by rank.

    GPUs are leased this way: two jobs that both want GPUs 0 and 1 never have one each and wait for the other. The wait
    may be as long as another job.
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
    """InputError if the processes cannot share a batch equally, two images or more each."""
    if batch_size % processes() or batch_size < 2 * processes():
        raise InputError(
            f"batch_size is {batch_size}, of the whole batch; {processes()} processes cannot share it equally with two "
            f"images or more each. Choose a multiple of {processes()} from {2 * processes()} on, or other processes."
        )


def share(count: int) -> tuple[int, int]:
    """This process's share of a batch of `count` images, as [first, stop).

    No process gets a single image, on which batch norm cannot be trained; of a short batch some get none.
    """
    holders = max(1, min(processes(), count // 2))
    first, last = (count * min(at, holders) // holders for at in (rank(), rank() + 1))
    return first, last


def part(count: int) -> tuple[int, int]:
    """This process's part of a split of `count` images, as [first, stop): every image is in exactly one part."""
    return count * rank() // processes(), count * (rank() + 1) // processes()


def all_reduce_sum(values: "Tensor") -> "Tensor":
    """The sum over the processes; a new tensor if there are several."""
    from torch import distributed as dist

    if processes() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def all_reduce_max(wish: int) -> int:
    """The largest of the processes' values; a barrier, whatever the value. On CPUs, so that no GPU is waited for."""
    import torch
    from torch import distributed as dist

    if processes() == 1:
        return wish
    largest = torch.tensor(wish)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def sum_gradients(model: "nn.Module") -> None:
    """Sum the gradients over the processes, in one message; a process without images adds zeros."""
    import torch

    if processes() == 1:
        return
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learned:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    whole = all_reduce_sum(torch.cat([_grad(parameter).flatten() for parameter in learned]))
    for parameter, grad in zip(learned, whole.split([p.numel() for p in learned]), strict=True):  # type: ignore[no-untyped-call]  # torch's
        _grad(parameter).copy_(grad.view(parameter.shape))


def _grad(parameter: "Tensor") -> "Tensor":
    assert parameter.grad is not None
    return parameter.grad


def average_statistics(model: "nn.Module") -> None:
    """Average batch norm's running statistics over the processes; training itself does not use them."""
    import torch

    if processes() == 1:
        return
    floats = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if floats:
        whole = all_reduce_sum(torch.cat([buffer.flatten() for buffer in floats])) / processes()
        for buffer, mean in zip(floats, whole.split([b.numel() for b in floats]), strict=True):  # type: ignore[no-untyped-call]  # torch's
            buffer.copy_(mean.view(buffer.shape))


def broadcast_state(model: "nn.Module") -> None:
    """Give every process the parameters and statistics of rank 0."""
    from torch import distributed as dist

    if processes() == 1:
        return
    for value in model.state_dict().values():
        sent = value.contiguous()
        dist.broadcast(sent, 0)
        value.copy_(sent)


@contextlib.contextmanager
def ignore_second_signal() -> Iterator[None]:
    """Ignore all but the first signal, if there are several processes.

    A terminal or a scheduler signals the processes, and torchrun passes the same signal on to them; it kills those that
    are left after 30 seconds. The handler of the first signal must be installed after this.
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
def report_lost_rank() -> Iterator[None]:
    """Report in one line that another process has ended, in place of gloo's or NCCL's message."""
    try:
        yield
    except RuntimeError as error:
        if processes() == 1 or not any(sign in str(error) for sign in _LOST):
            raise
        raise InputError(
            "another process of this run has ended; its own line says why. Fix that and run the same command again."
        ) from error
