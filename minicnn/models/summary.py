"""The table that `model.summary()` prints: layers, output shapes, parameters, and connections where they branch."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from minicnn.layers import InputLayer
from minicnn.layers.base import Layer
from minicnn.layers.parameter import Parameter
from minicnn.layers.shapes import map_shapes
from minicnn.layers.symbolic import flatten

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from minicnn.models.functional import Graph
    from minicnn.models.model import Model


class Row(NamedTuple):
    """One layer in the table; depth says how many models it lies within."""

    depth: int
    name: str
    kind: str
    shape: str
    parameters: str
    connected_to: str
    trainable: str


def print_summary(
    model: Model,
    line_length: int | None,
    print_fn: Callable[[str], Any] | None,
    expand_nested: bool,
    show_trainable: bool,
) -> None:
    """See `Model.summary`."""
    from rich.console import Console

    graph = _graph_of(model)
    branched = graph is not None and model.is_functional and _is_branched(graph)
    rows = list(_rows(model, 0, expand_nested))
    table = _table(rows, branched, show_trainable)
    on_terminal = print_fn is None and sys.stdout.isatty()
    width = line_length or (shutil.get_terminal_size().columns if on_terminal else 120)
    console = Console(highlight=False, width=width)
    if print_fn is None:
        _print(console, model, table)
        return
    plain = Console(highlight=False, width=width, color_system=None, force_terminal=False)
    with plain.capture() as captured:
        _print(plain, model, table)
    for line in captured.get().splitlines():
        print_fn(line.rstrip())


# --------------------------------------------------------------------------------------------------- rows


def _rows(model: Model, depth: int, expand_nested: bool) -> Iterator[Row]:
    from minicnn.models.model import Model

    graph = _graph_of(model)
    for layer in model.layers:
        yield Row(
            depth,
            layer.name,
            type(layer).__name__,
            _output_shape(graph, layer),
            f"{layer.count_params():,}" if layer.built else "? (unbuilt)",
            "" if graph is None else _connections(graph, layer),
            "" if not layer.weights else "yes" if layer.trainable else "no",
        )
        if expand_nested and isinstance(layer, Model):
            yield from _rows(layer, depth + 1, expand_nested)


def _graph_of(model: Model) -> Graph | None:
    """None for a subclassed model, and while the input's shape is not known."""
    try:
        return model._known_graph()
    except AttributeError:
        return None


def _output_shape(graph: Graph | None, layer: Layer) -> str:
    """From the layer's first call in the graph, else from the shape it was built for; "?" if neither is known."""
    nodes = [] if graph is None else graph.nodes_of(layer)
    if nodes:
        return _join(str(output.shape) for output in flatten(nodes[0].outputs))
    if layer._build_shape is None:
        return "?"
    found: list[str] = []
    map_shapes(lambda shape: found.append(str((None, *shape[1:]))), layer.compute_output_shape(layer._build_shape))
    return _join(found)


def _connections(graph: Graph, layer: Layer) -> str:
    """Where each of the layer's inputs comes from; the number of the call for layers called more than once."""
    sources = []
    for node in graph.nodes_of(layer):
        for tensor in node.inputs:
            name, call, _ = graph.position(tensor)
            shared = tensor.node is not None and len(graph.nodes_of(tensor.node.layer)) > 1
            sources.append(f"{name}[{call}]" if shared else name)
    return ", ".join(sources)


def _is_branched(graph: Graph) -> bool:
    """Whether the layers are more than a plain stack."""
    readers: dict[int, int] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            readers[id(tensor)] = readers.get(id(tensor), 0) + 1
    calls = [node for node in graph.nodes if not isinstance(node.layer, InputLayer)]
    several_inputs = any(len(node.inputs) > 1 for node in calls)
    shared = len({id(node.layer) for node in calls}) < len(calls)
    return several_inputs or shared or max(readers.values(), default=0) > 1 or len(flatten(graph.inputs)) > 1


def _join(parts: Iterable[str]) -> str:
    return ", ".join(parts)


# --------------------------------------------------------------------------------------------------- drawing


def _table(rows: list[Row], branched: bool, show_trainable: bool) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.HEAVY_HEAD, header_style="bold", border_style="dim")
    table.add_column("Layer (type)", overflow="fold")
    table.add_column("Output Shape", style="green", no_wrap=not any("), (" in row.shape for row in rows))
    table.add_column("Param #", justify="right", style="cyan", no_wrap=True)
    if branched:
        table.add_column("Connected to", overflow="fold", style="dim")
    if show_trainable:
        table.add_column("Trainable", justify="center")
    for row in rows:
        indent = "  " * row.depth
        cells = [f"{indent}{escape(row.name)} [dim]({escape(row.kind)})[/]", escape(row.shape), row.parameters]
        cells += [escape(row.connected_to)] * branched + [row.trainable] * show_trainable
        table.add_row(*cells)
    return table


def _print(console: Console, model: Model, table: Table) -> None:
    from rich.markup import escape

    console.print(f'[bold]Model: "{escape(model.name)}"[/]')
    console.print(table)
    groups = {
        "Total params": model.weights,
        "Trainable params": model.trainable_weights,
        "Non-trainable params": model.non_trainable_weights,
    }
    for title, weights in groups.items():
        count = sum(parameter.numel() for parameter in weights)
        console.print(f" {title}: [cyan]{count:,}[/] [dim]({_memory(weights)})[/]")


def _memory(weights: Iterable[Parameter]) -> str:
    """Bytes of these weights: 0 B, 1.27 KB, 364.54 KB, ..."""
    size = float(sum(parameter.data.nbytes for parameter in weights))
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GB"
