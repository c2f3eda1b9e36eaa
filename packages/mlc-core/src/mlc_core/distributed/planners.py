"""What is planned for `torch.distributed.checkpoint`: tensors by name, all else as typed JSON, nothing as pickle.

A state dict has one entry for each item, as `{"model": …, "optimizer": …}`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import orjson
import xxhash
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner

from mlc_core.distributed.tensors import join, split
from mlc_core.distributed.trees import names_in
from mlc_core.errors import MismatchError, StateError

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
    from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

__all__ = ["ShardedLoadPlanner", "ShardedSavePlanner"]


class ShardedSavePlanner(DefaultSavePlanner):
    """Plans a save with a `ShardedWriter`.

    Args:
        first_decides: Save what rank 0 has where values other than tensors differ; else that is a `StateError`.
    """

    def __init__(self, *, first_decides: bool = False) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._first_decides = first_decides
        self._trees: dict[str, Any] = {}

    def set_up_planner(
        self,
        state_dict: dict[str, Any],
        storage_meta: StorageMeta | None = None,
        is_coordinator: bool = False,  # noqa: FBT001, FBT002 - torch's signature
    ) -> None:
        """Take the tensors out of *state_dict*."""
        parts = {item: split(item, state) for item, state in state_dict.items()}
        self._trees = {item: one.tree for item, one in parts.items()}
        tensors = {f"{item}.{name}": tensor for item, one in parts.items() for name, tensor in one.tensors.items()}
        super().set_up_planner(tensors, storage_meta, is_coordinator)

    def create_local_plan(self) -> SavePlan:
        """Plan what this rank has; its values travel as digests, but those of rank 0."""
        digests = {item: xxhash.xxh3_128_hexdigest(orjson.dumps(tree)) for item, tree in self._trees.items()}
        data = (digests, self._trees if self.is_coordinator else None)
        return dataclasses.replace(super().create_local_plan(), planner_data=data)

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        """Share out what several ranks have, and let rank 0's values be those of all.

        Raises:
            StateError: If the ranks hold different items, or values that differ.
        """
        digests = [one.planner_data[0] for one in all_plans]
        trees = next(one.planner_data[1] for one in all_plans if one.planner_data[1] is not None)
        if any(one.keys() != trees.keys() for one in digests):
            msg = f"the ranks save different items: {', '.join(sorted({str(sorted(one)) for one in digests}))}"
            raise StateError(msg)
        differing = [item for item in trees if len({one[item] for one in digests}) > 1]
        if differing and not self._first_decides:
            msg = (
                f"{', '.join(differing)}: the ranks hold different names of tensors, or different values that are no "
                "tensors; make them equal, or say whose to take with on_difference='rank0'"
            )
            raise StateError(msg)
        plans, metadata = super().create_global_plan(all_plans)
        known = {f"{item}.{name}" for item, tree in trees.items() for name in names_in(tree)}
        if known != set(metadata.state_dict_metadata):
            names = ", ".join(sorted(known.symmetric_difference(metadata.state_dict_metadata))[:5])
            msg = f"{names}: not on all ranks; a checkpoint holds what all of them know by the same names"
            raise StateError(msg)
        metadata = dataclasses.replace(metadata, planner_data=trees)
        return [dataclasses.replace(one, planner_data=None) for one in plans], metadata


class ShardedLoadPlanner(DefaultLoadPlanner):
    """Plans a load with a `ShardedReader`: tensors are filled in place, other values replaced.

    Args:
        partial: Items of which either side may have names that the other has not.
    """

    def __init__(self, *, partial: Collection[str] = ()) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False, allow_partial_load=bool(partial))
        self._partial = partial
        self._items: dict[str, Any] = {}

    def set_up_planner(
        self,
        state_dict: dict[str, Any],
        metadata: Metadata | None = None,
        is_coordinator: bool = False,  # noqa: FBT001, FBT002 - torch's signature
    ) -> None:
        """Take the tensors out of *state_dict*, to be filled.

        Raises:
            MismatchError: If the checkpoint does not hold one of its items or tensors.
        """
        self._items = state_dict
        tensors = {
            f"{item}.{name}": tensor
            for item, state in state_dict.items()
            for name, tensor in split(item, state).tensors.items()
        }
        if metadata is None:
            msg = "a ShardedLoadPlanner goes with a ShardedReader"
            raise MismatchError(msg)
        held = metadata.state_dict_metadata
        missing = [name for name in tensors if name not in held and name.partition(".")[0] not in self._partial]
        missing += [item for item in state_dict if item not in metadata.planner_data]
        if missing:
            msg = f"the checkpoint holds no {', '.join(missing[:5])}"
            raise MismatchError(msg)
        super().set_up_planner(tensors, metadata, is_coordinator)

    def create_local_plan(self) -> LoadPlan:
        """Plan what this rank needs.

        Raises:
            MismatchError: If a tensor has another shape.
        """
        try:
            return super().create_local_plan()
        except ValueError as error:
            raise MismatchError(str(error)) from error

    def finish_plan(self, central_plan: LoadPlan) -> LoadPlan:
        """Put the values of the checkpoint into the state dict, around the tensors that will be filled."""
        assert self.metadata is not None
        for item in self._items:
            prefix = f"{item}."
            own = {name.removeprefix(prefix): one for name, one in self.state_dict.items() if name.startswith(prefix)}
            tree = self.metadata.planner_data[item]
            self._items[item] = join(tree, own, where=item, partial=item in self._partial)
        return super().finish_plan(central_plan)
