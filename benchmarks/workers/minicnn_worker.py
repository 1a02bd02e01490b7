"""minicnn through its public interface: fresh outputs on every call, as a user gets them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np

import minicnn
from benchmarks.workers import data, keras_style
from benchmarks.workers.protocol import Case, Unsupported, Work, Worker, measure_limits, serve
from minicnn import functional as F
from minicnn import layers, losses, optimizers


class ChannelScale(layers.Layer):
    """x * gamma + beta, a pair a channel: LeNet-5's trainable pooling coefficients."""

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight((input_shape[-1],), "ones", name="gamma")
        self.beta = self.add_weight((input_shape[-1],), "zeros", name="beta")

    def call(self, inputs: minicnn.Tensor) -> minicnn.Tensor:
        return inputs * self.gamma + self.beta


class MinicnnWorker(Worker):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        minicnn.set_num_threads(threads)

    def describe(self) -> dict[str, Any]:
        return {"version": minicnn.__version__, "backend": minicnn.current_backend().name}

    def allocated_blocks(self) -> int | None:
        if minicnn.current_backend().name != "cpu":  # the reference backend has no pool
            return None
        from minicnn.kernels.cpu import buffers

        return buffers.statistics()["allocated_blocks"]

    def limits(self, repeats: int) -> dict[str, float]:
        """NumPy's; a thread copies a part each."""
        with ThreadPoolExecutor(self.threads) as pool:

            def copy(target: Any, source: Any) -> None:
                parts = (np.array_split(array, self.threads) for array in (target, source))
                list(pool.map(np.copyto, *parts))

            return measure_limits(repeats, np.matmul, copy, np.ascontiguousarray)

    # ------------------------------------------------------------------------------------------------- networks

    def model(self, case: Case) -> minicnn.Model:
        return cast(minicnn.Model, keras_style.build(case["network"], layers, minicnn.Model, ChannelScale))

    def train(self, case: Case) -> Callable[[], float]:
        minicnn.manual_seed(case["seed"])
        x, y = data.batch(case)
        model = keras_style.compiled(case["network"], self.model(case), optimizers)
        return lambda: float(model.train_on_batch(x, y))

    def predict(self, case: Case) -> Callable[[], Any]:
        x, _ = data.batch(case)
        model = self.model(case)
        return lambda: model.predict_on_batch(x)

    def gradients(self, case: Case) -> Callable[[], Any]:
        x, y = data.batch(case)
        model, loss_of = self.model(case), losses.SparseCategoricalCrossentropy()
        weights = model.trainable_weights
        return lambda: minicnn.grad(loss_of(y, model(x, training=True)), weights)

    # ------------------------------------------------------------------------------------------------- kernels

    def kernel(self, case: Case) -> Work:
        if case["op"] == "optimizer":
            return _optimizer(case)
        arrays = data.kernel_inputs(case)
        t = {name: F.from_numpy(array) for name, array in arrays.items()}
        call = _call(case, t)

        def outputs() -> dict[str, Any]:
            result = call()
            several = result if isinstance(result, (tuple, list)) else (result,)
            return data.comparable(case, arrays, [tensor.numpy() for tensor in several])

        return Work(call, outputs)


def _call(case: Case, t: dict[str, minicnn.Tensor]) -> Callable[[], Any]:
    """One call of the operation, as a function without arguments."""
    op, args = case["op"], case["args"]
    if op.startswith("conv2d"):
        return _convolution(op, args, t)
    if op.startswith("dense"):
        return _dense(op, t)
    if op == "softmax_cross_entropy":
        logits = t["x"].requires_grad_()
        return lambda: minicnn.grad(F.cross_entropy(logits, t["target"]), logits)
    forward = _forward(op.removesuffix("_backward"), args, t)
    if not op.endswith("_backward"):
        return lambda: forward(t["x"])
    x = t["x"].requires_grad_()
    wanted = [x, *(t[name].requires_grad_() for name in ("gamma", "beta") if name in t)]
    y = forward(x)
    return lambda: minicnn.grad(y, wanted, t["gy"], retain_graph=True)


def _convolution(op: str, args: dict[str, Any], t: dict[str, minicnn.Tensor]) -> Callable[[], Any]:
    options = {name: args[name] for name in ("strides", "padding", "groups")}
    if op == "conv2d":
        return lambda: F.conv2d(t["x"], t["w"], t["b"], **options)
    if op == "conv2d_input_grad":
        return lambda: F.conv2d_input_grad(t["gy"], t["w"], tuple(args["input_size"]), **options)
    size = tuple(args["kernel_size"])
    return lambda: (F.conv2d_weight_grad(t["x"], t["gy"], size, **options), t["gy"].sum((0, 1, 2)))


def _dense(op: str, t: dict[str, minicnn.Tensor]) -> Callable[[], Any]:
    if op == "dense":
        return lambda: F.dense(t["x"], t["w"], t["b"])
    if op == "dense_input_grad":
        return lambda: F.matmul(t["gy"], t["w"].mT)
    return lambda: (F.matmul(t["x"].mT, t["gy"]), t["gy"].sum(0))


def _forward(op: str, args: dict[str, Any], t: dict[str, minicnn.Tensor]) -> Callable[[minicnn.Tensor], minicnn.Tensor]:
    if "parameters" in args:
        t["gamma"], t["beta"] = F.ones(args["parameters"]), F.zeros(args["parameters"])
    match op:
        case "max_pool2d" | "avg_pool2d":
            return lambda x: getattr(F, op)(x, args["window"], args["strides"])
        case "batch_norm" | "layer_norm":
            return lambda x: getattr(F, op)(x, t["gamma"], t["beta"], epsilon=1e-3)
        case "group_norm":
            return lambda x: F.group_norm(x, t["gamma"], t["beta"], args["groups"], epsilon=1e-3)
        case "local_response_norm":
            return lambda x: F.local_response_norm(x, args["size"], args["alpha"], args["beta"], args["k"])
        case "dropout":
            return lambda x: F.dropout(x, args["rate"])
        case "relu" | "sigmoid" | "tanh" | "elu" | "gelu":
            return getattr(F, op)
    raise Unsupported(f"no operation {op}")


def _optimizer(case: Case) -> Work:
    values, gradients = data.parameter_lists(case)
    params = [F.from_numpy(value) for value in values]
    grads = [F.from_numpy(gradient) for gradient in gradients]
    made = {
        "adam": lambda: optimizers.Adam(1e-3),
        "sgd momentum": lambda: optimizers.SGD(1e-3, momentum=0.9),
        "rmsprop": lambda: optimizers.RMSprop(1e-3, epsilon=1e-14),
    }[case["args"]["name"]]()
    return Work(
        lambda: made.apply(grads, params),
        lambda: {str(i): parameter.numpy() for i, parameter in enumerate(params)},
    )


if __name__ == "__main__":
    serve(MinicnnWorker)
