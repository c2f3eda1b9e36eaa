"""What the ranks of a test do: each function is called by all of them, and returns plain data."""

import os
import signal

import torch
import torch.distributed as dist
import xxhash
from torch import nn
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from mlc_core import save_strategies
from mlc_core.distributed import (
    DistributedCheckpointManager,
    ShardedLoadPlanner,
    ShardedReader,
    ShardedSavePlanner,
    ShardedWriter,
    open_sharded,
)
from mlc_core.errors import ConfigurationError, DiskFullError
from mlc_core.storage.local import LocalStaging
from mlc_hooks import MlcError


class Net(nn.Module):
    """A model with shapes that divide by nothing, a buffer, and a parameter that only the first rank has a part of."""

    def __init__(self, seed=0, inside=7):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(5, inside)
        self.second = nn.Linear(inside, 3)
        self.gain = nn.Parameter(torch.rand(1))
        self.register_buffer("scale", torch.rand(3))

    def forward(self, inputs):
        """Return three numbers for each row."""
        return self.second(self.first(inputs).relu()) * self.scale * self.gain


def whole(value):
    """Return the whole tensor that *value* is or is a part of."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def fingerprint(value, name="", found=None):
    """Return a digest of every tensor in nested *value*, whole, and every other value as it is written."""
    found = {} if found is None else found
    if isinstance(value, dict):
        for key, part in value.items():
            fingerprint(part, f"{name}.{key}", found)
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            fingerprint(part, f"{name}.{number}", found)
    elif isinstance(value, torch.Tensor):
        plain = whole(value).detach().cpu().contiguous()
        found[name] = f"{plain.dtype} {tuple(plain.shape)} {xxhash.xxh3_64_hexdigest(plain.numpy().tobytes())}"
    else:
        found[name] = repr(value)
    return found


def build(seed=0, *, how="fsdp", rate=0.01):
    """Return a model over all ranks, its optimizer and scheduler."""
    model = Net(seed)
    if how == "fsdp":
        fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    elif how == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, amsgrad=True)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)


def train(model, optimizer, scheduler, steps=2):
    """Make some steps on numbers that differ from rank to rank."""
    generator = torch.Generator().manual_seed(dist.get_rank())
    for _ in range(steps):
        model(torch.rand(4, 5, generator=generator)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    scheduler.step()


def fingerprints(model, optimizer):
    """Return what a model and its optimizer hold."""
    return {"model": fingerprint(model.state_dict()), "optimizer": fingerprint(optimizer.state_dict())}


def trained(place, epochs=1, how="fsdp", steps=2, items=None, metrics=None, **options):
    """Train and save some epochs; *metrics* has a list of numbers for each rank."""
    model, optimizer, scheduler = build(how=how)
    manager = DistributedCheckpointManager(place, "net", **options)
    paths = []
    for epoch in range(epochs):
        if steps:
            train(model, optimizer, scheduler, steps)
        numbers = {"score": metrics[dist.get_rank()][epoch]} if metrics else None
        saved = manager.save_checkpoint(model, optimizer, scheduler, epoch, numbers, items=items)
        paths.append(saved and str(saved))
    held = [one.name for one in manager.list_checkpoints()]
    return {**fingerprints(model, optimizer), "paths": paths, "held": held, "scheduler": scheduler.state_dict()}


def loaded(place, path=None, how="fsdp", options=None, **given):
    """Load into a model that was made and trained otherwise."""
    model, optimizer, scheduler = build(seed=1, how=how, rate=0.5)
    manager = DistributedCheckpointManager(place, "net", **(options or {}))
    restored = manager.load_checkpoint(path, model, optimizer, scheduler, **given)
    plain = {name: value for name, value in restored.state.items() if name not in {"model", "optimizer"}}
    return {
        **fingerprints(model, optimizer),
        "name": restored.saved.name,
        "scheduler": scheduler.state_dict(),
        "state": fingerprint(plain),
        "fit": str(restored.fit),
    }


def resumed(place):
    """Train on after a save, and again from the checkpoint: are the two the same?"""
    model, optimizer, scheduler = build()
    manager = DistributedCheckpointManager(place, "net")
    train(model, optimizer, scheduler)
    manager.save_checkpoint(model, optimizer, scheduler, 0)
    train(model, optimizer, scheduler)
    first = fingerprints(model, optimizer)
    model, optimizer, scheduler = build(seed=1)
    manager.load_checkpoint(None, model, optimizer, scheduler)
    train(model, optimizer, scheduler)
    return first == fingerprints(model, optimizer)


def unharmed(place):
    """Save before the first step; return whether training then goes on as if nothing had been saved."""
    found = []
    for saves in (True, False):
        model, optimizer, scheduler = build()
        if saves:
            DistributedCheckpointManager(place, "net").save_checkpoint(model, optimizer, scheduler, 0)
        train(model, optimizer, scheduler)
        found.append(fingerprints(model, optimizer))
    model, optimizer, scheduler = build()
    train(model, optimizer, scheduler)
    DistributedCheckpointManager(place, "net").load_checkpoint(None, model, optimizer, scheduler)
    train(model, optimizer, scheduler)
    return [one == found[1] for one in (found[0], fingerprints(model, optimizer))]


# ---------------------------------------------------------------------- misfortune


def dying(place, rank, epochs=1):
    """Save, and let *rank* be killed in the middle of its write of the last epoch."""
    model, optimizer, scheduler = build()
    manager = DistributedCheckpointManager(place, "net")
    for epoch in range(epochs):
        if epoch == epochs - 1 and dist.get_rank() == rank:
            LocalStaging.write = _die
        manager.save_checkpoint(model, optimizer, scheduler, epoch)


def _die(staging, file, size, pieces):
    (staging._path / file).write_bytes(b"\0" * (size // 2))
    os.kill(os.getpid(), signal.SIGKILL)


def failing(place, rank, epochs=2):
    """Save, and let the disk of *rank* be full in the middle; then try again with more room."""
    model, optimizer, scheduler = build()
    manager = DistributedCheckpointManager(place, "net")
    manager.save_checkpoint(model, optimizer, scheduler, 0)
    write = LocalStaging.write
    if dist.get_rank() == rank:
        LocalStaging.write = _fail
    try:
        manager.save_checkpoint(model, optimizer, scheduler, 1)
        error = None
    except DiskFullError as found:
        error = str(found)
    dist.barrier()  # rank 0 clears away
    held = [one.name for one in manager.list_checkpoints()]
    left = sorted(one.name for one in (manager.storage.location("") / ".mlc" / "staging").iterdir())
    LocalStaging.write = write
    dist.barrier()
    manager.save_checkpoint(model, optimizer, scheduler, 2)
    return {"error": error, "held": held, "left": left, "then": [one.name for one in manager.list_checkpoints()]}


def _fail(staging, file, size, pieces):
    (staging._path / file).write_bytes(b"\0" * (size // 2))
    msg = "no room left"
    raise DiskFullError(msg)


# ---------------------------------------------------------------------- layouts


def _tensors(shapes, placements, seed):
    torch.manual_seed(seed)
    count = dist.get_world_size()
    line, plane = init_device_mesh("cpu", (count,)), init_device_mesh("cpu", (2, count // 2)) if count > 1 else None
    found = {}
    for number, (shape, how) in enumerate(zip(shapes, placements, strict=True)):
        plain = torch.rand(shape)
        kinds = [Replicate() if one is None else Shard(one) for one in how]
        on = plane if len(kinds) == 2 else line
        found[f"t{number}"] = distribute_tensor(plain, on, kinds, src_data_rank=None) if kinds else plain
    return found


def laid_out(place, shapes, placements, values):
    """Save tensors laid out as *placements* say, through torch's own function."""
    state = {"model": _tensors(shapes, placements, seed=0), "extra": values}

    def commit(staging, items, files):
        from mlc_core.manifest import encode_manifest
        from mlc_core.records import Saved

        facts = {"model": "net", "name": "it", "id": "1", "sequence": 1, "created_at": "now"}
        staging.commit("it", encode_manifest(Saved(items=tuple(items), files=tuple(files), **facts)))

    from pathlib import Path

    from mlc_core import open_storage

    writer = ShardedWriter(open_storage(Path(place)), commit)
    try:
        save(state, storage_writer=writer, planner=ShardedSavePlanner())
    finally:
        writer.close()
    return fingerprint(state)


def laid_out_again(place, shapes, placements):
    """Load them into tensors laid out otherwise."""
    state = {"model": _tensors(shapes, placements, seed=1), "extra": None}
    load(state, storage_reader=ShardedReader(open_sharded(f"{place}/it")), planner=ShardedLoadPlanner())
    return fingerprint(state)


# ---------------------------------------------------------------------- differences


class Counting(nn.Module):
    """A model with a buffer that differs from rank to rank."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("mean", torch.tensor([dist.get_rank(), 1.0]))
        self.register_buffer("count", torch.tensor(3))


def different(place, on_difference="error", counts=False):
    """Save it."""
    model = Counting()
    if counts:
        model.count += dist.get_rank()
    manager = DistributedCheckpointManager(place, "net", on_difference=on_difference)
    manager.save_checkpoint(model, epoch=0)
    fresh = Counting()
    manager.load_checkpoint(None, fresh)
    return [model.mean.tolist(), fresh.mean.tolist(), fresh.count.item()]


def replicas(place, on_difference="error"):
    """Save a replicated DTensor whose replicas are not the same."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    local = torch.full((3,), float(dist.get_rank()))
    model = nn.Module()
    model.weight = nn.Parameter(DTensor.from_local(local, mesh, [Replicate()], run_check=False))
    manager = DistributedCheckpointManager(place, "net", on_difference=on_difference)
    manager.save_checkpoint(model, epoch=0)
    return model.weight.to_local().tolist()


def more_on_one(place, on_difference):
    """Save a model that has one parameter more on rank 1."""
    model = nn.Linear(2, 2)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.ones_(model.bias)
    if dist.get_rank():
        model.extra = nn.Parameter(torch.ones(1))
    DistributedCheckpointManager(place, "net", on_difference=on_difference).save_checkpoint(model, epoch=0)


def own_items(place, ranks=None):
    """Save items of which one differs, and one holds tensors that do."""
    rank = dist.get_rank()
    items = {"seen": {"rank": rank}, "rng": torch.full((2,), rank), "note": {"same": (1, 2)}}
    manager = DistributedCheckpointManager(place, "net")
    manager.save_checkpoint(items=items, epoch=0)
    return [list(one.items) for one in manager.list_checkpoints()]


def own_items_again(place):
    """Load them."""
    state = DistributedCheckpointManager(place, "net").load_checkpoint().state
    return {name: str(value) for name, value in state.items()}


def schedules(place, on_difference="error"):
    """Save a scheduler that stepped on some ranks only."""
    model, _, scheduler = build(how="none")
    if dist.get_rank():
        scheduler.last_epoch += dist.get_rank()
    manager = DistributedCheckpointManager(place, "net", on_difference=on_difference)
    manager.save_checkpoint(model, scheduler=scheduler, epoch=0)
    manager.load_checkpoint(None, model, scheduler=scheduler)
    return scheduler.last_epoch


def averaged(place):
    """Save and load a sharded copy of the model among the items."""
    model, _, _ = build()
    copy, _, _ = build(seed=3)
    manager = DistributedCheckpointManager(place, "net")
    manager.save_checkpoint(model, epoch=0, items={"ema": copy})
    before = fingerprint(copy.state_dict())
    other, _, _ = build(seed=4)
    manager.load_checkpoint(None, items={"ema": other})
    return before == fingerprint(other.state_dict())


def one_sided(place):
    """Load into a model on rank 0 only."""
    manager = DistributedCheckpointManager(place, "net")
    manager.load_checkpoint(None, Net() if dist.get_rank() == 0 else None)


def in_a_group(place, members, speaks="cpu:gloo"):
    """Save and load among *members* only, in a group that is said to be of another kind."""
    group = dist.new_group(members)
    if dist.get_rank() not in members:
        try:
            DistributedCheckpointManager(place, "net", process_group=group)
        except ConfigurationError as error:
            return str(error)
    told, dist.get_backend_config = dist.get_backend_config, lambda _: speaks
    manager = DistributedCheckpointManager(place, "net", process_group=group)
    dist.get_backend_config = told
    model = nn.Linear(3, 3)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.fill_(2.0)
    manager.save_checkpoint(model, epoch=0, items={"rank": dist.get_rank()})
    fresh = nn.Linear(3, 3)
    return [manager.load_checkpoint(None, fresh).state["rank"], fresh.bias.tolist()]


def in_two_dimensions(place):
    """Save a model with tensor parallelism below FSDP2."""
    model = Net(inside=8)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    plan = {"first": ColwiseParallel(), "second": RowwiseParallel()}
    parallelize_module(model, mesh["tensor"], plan)
    fully_shard(model, mesh=mesh["data"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.rand(4, 5)).square().sum().backward()
    optimizer.step()
    manager = DistributedCheckpointManager(place, "net")
    manager.save_checkpoint(model, optimizer, epoch=0)
    before = fingerprints(model, optimizer)
    with torch.no_grad():
        for one in model.parameters():
            one.zero_()
    manager.load_checkpoint(None, model, optimizer)
    return {**before, "again": before == fingerprints(model, optimizer)}


def misfit(place, kind):
    """Load into what does not fit, and return whether the model is as it was."""
    model, optimizer, _ = build(seed=1)
    if kind == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if kind == "model":
        model.first = nn.Linear(5, 8)
        optimizer = None
    before = fingerprint(model.state_dict())
    try:
        DistributedCheckpointManager(place, "net").load_checkpoint(None, model, optimizer)
    except Exception as error:
        return [type(error).__name__, str(error), before == fingerprint(model.state_dict())]
    return None


def asked(place):
    """Ask at every step whether to save, each rank with a step of its own; keep the first, point to the second."""
    model, optimizer, _ = build(how="plain")
    strategy = save_strategies().make("interval", every=3, unit="steps")
    manager = DistributedCheckpointManager(place, "net", strategy, 1)
    rank, answers = dist.get_rank(), []
    for step in range(1, 8):
        reason = manager.due(epoch=0, step=step + 10 * rank, epoch_ended=False)
        answers.append(reason)
        if reason:
            manager.save_checkpoint(model, optimizer, None, 0, step=step, epoch_ended=False, reason=reason)
        if step == 3:
            manager.pin(manager.list_checkpoints()[0].name)
    manager.set_pointer("chosen", manager.list_checkpoints()[-1].name)
    held = [one.step for one in manager.list_checkpoints()]
    manager.unpin(manager.list_checkpoints()[0].name)
    return {"answers": answers, "held": held, "wrong": _refusals(manager)}


def _refusals(manager):
    found = []
    for ask in (lambda: manager.pin("nothing"), lambda: manager.due(epoch=-1)):
        try:
            ask()
        except MlcError as error:
            found.append(type(error).__name__)
    return found
