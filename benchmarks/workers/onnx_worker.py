"""onnxruntime on the networks' forward pass. The ONNX graph is written directly, NCHW, with fixed shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks import networks
from benchmarks.networks import Network, Node
from benchmarks.workers import data
from benchmarks.workers.protocol import Case, Unsupported, Work, Worker, serve

_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "softmax": "Softmax"}
OPSET, IR_VERSION = 17, 9


class OnnxWorker(Worker):
    def describe(self) -> dict[str, Any]:
        return {"version": onnxruntime.__version__, "onnx": onnx.__version__}

    def kernel(self, case: Case) -> Work:
        raise Unsupported("inference only")

    def train(self, case: Case) -> Callable[[], float]:
        raise Unsupported("inference only")

    def predict(self, case: Case) -> Callable[[], Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        graph = Graph(case["network"], case["batch"]).model.SerializeToString()
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        images = np.ascontiguousarray(data.batch(case)[0].transpose(0, 3, 1, 2))
        return lambda: session.run(None, {"x": images})[0]


class Graph:
    """Collects ONNX nodes and weights while it walks over a network."""

    def __init__(self, network: Network, batch: int) -> None:
        self.network, self.found = network, networks.shapes(network)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        for index, own in enumerate(networks.channels_first_weights(network)):
            self._add(index, network["nodes"][index], own)
        h, w, c = network["input_shape"]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, c, h, w])
        y = helper.make_tensor_value_info(
            f"v{len(network['nodes']) - 1}", TensorProto.FLOAT, [batch, network["classes"]]
        )
        graph = helper.make_graph(self.nodes, network["name"], [x], [y], self.weights)
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(self.model)

    def _emit(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def _weight(self, name: str, value: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _add(self, index: int, node: Node, own: dict[str, Any]) -> None:
        sources = ["x" if i < 0 else f"v{i}" for i in node["from"]]
        shape = networks.input_shapes(self.network, node, self.found)[0]
        output, activation = f"v{index}", node.get("activation")
        result = f"{output}_linear" if activation else output
        match node["op"]:
            case "conv2d" | "depthwise_conv2d":
                names = [self._weight(f"w{index}", own["w"].transpose(3, 2, 0, 1))]
                names += [self._weight(f"b{index}", own["b"])] if "b" in own else []
                groups = shape[-1] if node["op"] == "depthwise_conv2d" else 1
                options = _window(node, node["kernel"], shape)
                self._emit("Conv", [*sources, *names], result, group=groups, **options)
            case "max_pool2d" | "avg_pool2d":
                kind = "MaxPool" if node["op"] == "max_pool2d" else "AveragePool"
                self._emit(kind, sources, result, **_window(node, node["size"], shape))
            case "batch_norm":
                names = [self._weight(f"{name}{index}", value) for name, value in own.items()]
                self._emit("BatchNormalization", [*sources, *names], result, epsilon=1e-3)
            case "scale":
                gamma, beta = (self._weight(f"{n}{index}", own[n].reshape(-1, 1, 1)) for n in ("gamma", "beta"))
                self._emit("Mul", [*sources, gamma], f"{output}_product")
                self._emit("Add", [f"{output}_product", beta], result)
            case "dense":
                names = [self._weight(f"w{index}", own["w"]), self._weight(f"b{index}", own["b"])]
                self._emit("Gemm", [*sources, *names], result)
            case "flatten":
                self._emit("Flatten", sources, result)
            case "global_avg_pool2d":
                self._emit("GlobalAveragePool", sources, f"{output}_mean")
                self._emit("Flatten", [f"{output}_mean"], result)
            case "add":
                self._emit("Add", sources, result)
            case "activation":
                self._emit(_ACTIVATIONS[node["name"]], sources, result)
            case "dropout":
                self._emit("Identity", sources, result)
        if activation:
            self._emit(_ACTIVATIONS[activation], [result], output)


def _window(node: Node, size: int, shape: networks.Shape) -> dict[str, Any]:
    pads = [0, 0, 0, 0]
    if node["padding"] == "same":
        (top, bottom), (left, right) = (networks.same_padding(length, size, node["strides"]) for length in shape[:2])
        pads = [top, left, bottom, right]
    return {"kernel_shape": [size, size], "strides": [node["strides"]] * 2, "pads": pads}


if __name__ == "__main__":
    serve(OnnxWorker)
