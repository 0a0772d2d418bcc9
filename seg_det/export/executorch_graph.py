"""What ExecuTorch is helped with in a graph: operators that it lacks, and the count of those that XNNPACK takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import fx

aten = torch.ops.aten
# What carries values to and from a delegate, or holds them: no operator of the network.
CARRIERS = ("getitem", "quantize", "alloc", "executorch_call_delegate", "sym_", "clone", "_to_dim_order_copy")


def modules_of(node: fx.Node) -> set[str]:
    """The names of the modules that ``node`` was called in."""
    return {path for path, _ in node.meta.get("nn_module_stack", {}).values()}


def rewrite(module: fx.GraphModule) -> None:
    """Operators that ExecuTorch or XNNPACK lacks, by equal ones that they have."""
    graph = module.graph
    for node in list(graph.nodes):
        if (rule := REWRITES.get(node.target)) is None:
            continue
        with graph.inserting_before(node):
            new = rule(graph, node)
        if new is not node:
            node.replace_all_uses_with(new)
            graph.erase_node(node)
    module.recompile()


def _call(graph: fx.Graph, like: fx.Node, target: Any, *args: Any) -> fx.Node:
    """A node in the place of ``like``, which comes from the same part of the model."""
    node = graph.call_function(target, args)
    values = [arg.meta["val"] if isinstance(arg, fx.Node) else arg for arg in args]
    node.meta = {**like.meta, "val": target(*values)}
    return node


def _first(node: fx.Node) -> fx.Node:
    """The node that gives the first argument: a tensor, of all operators below."""
    return cast(fx.Node, node.args[0])


def _exp2(graph: fx.Graph, node: fx.Node) -> fx.Node:
    return _call(graph, node, aten.pow.Scalar, 2.0, node.args[0])


def _hardsigmoid(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Without the conversions of whole numbers that its own decomposition has, which XNNPACK leaves behind."""
    shifted = _call(graph, node, aten.add.Tensor, node.args[0], 3.0)
    return _call(graph, node, aten.div.Tensor, _call(graph, node, aten.hardtanh.default, shifted, 0.0, 6.0), 6.0)


def _expand(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """A map of one cell spread over a map: XNNPACK has the bilinear upsampling that gives the same."""
    given, wanted = _first(node).meta["val"].shape, node.meta["val"].shape
    if len(given) != 4 or given[2:] != (1, 1) or given[:2] != wanted[:2]:
        return node
    return _call(graph, node, aten.upsample_bilinear2d.vec, node.args[0], list(wanted[2:]), False, None)


def _mean(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """The mean of a map as XNNPACK has it: with its sides kept."""
    given, wanted = _first(node).meta["val"].shape, node.meta["val"].shape
    sides = cast(Sequence[int], node.args[1])
    if len(given) != 4 or len(wanted) != 2 or given[:2] != wanted or sorted(d % 4 for d in sides) != [2, 3]:
        return node
    return _call(
        graph, node, aten.view.default, _call(graph, node, aten.mean.dim, node.args[0], [2, 3], True), list(wanted)
    )


REWRITES: dict[Any, Callable[[fx.Graph, fx.Node], fx.Node]] = {
    aten.exp2.default: _exp2,
    aten.hardsigmoid.default: _hardsigmoid,
    aten.hardsigmoid_.default: _hardsigmoid,
    aten.expand.default: _expand,
    aten.mean.dim: _mean,
}


def delegated(module: fx.GraphModule) -> dict[str, Any]:
    """How many of the network's operators XNNPACK takes, and what it leaves."""
    from executorch.exir.lowered_backend_module import get_lowered_submodules

    inside = Counter(
        kind for _, lowered, _ in get_lowered_submodules(module) for kind in _operators(lowered.original_module.graph)
    )
    left = Counter(_operators(module.graph))
    total = inside.total() + left.total()
    return {"to": "XNNPACK", "share": round(inside.total() / max(1, total), 4), "left": dict(left)}


def _operators(graph: fx.Graph) -> Iterator[str]:
    """The network's operators, by kind."""
    for node in graph.nodes:
        name = getattr(node.target, "__name__", str(node.target))
        if (
            node.op == "call_function"
            and {"model", "network.model"} & modules_of(node)
            and not any(carrier in name for carrier in CARRIERS)
        ):
            yield name.removeprefix("aten.")
