"""PyTorch in three forms. "default": as everybody starts with it. "best": NCHW or channels_last, whichever is faster
for the case, fused optimizers, ReLU in place; the runner adds malloc settings that keep big buffers. "compile": best,
and compiled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.workers import data, torch_network
from benchmarks.workers.protocol import Case, Unsupported, Work, Worker, measure_limits, serve, warm_seconds

COMPILED_NODES = 12
"""Larger networks take torch.compile minutes."""

_LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
convolution_backward = torch.ops.aten.convolution_backward
max_pool2d_backward = torch.ops.aten.max_pool2d_with_indices_backward


class TorchWorker(Worker):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)
        self.form = os.environ.get("BENCHMARK_FORM", "default")
        self.best = self.form != "default"
        self.layout = torch.contiguous_format

    def describe(self) -> dict[str, Any]:
        return {"version": torch.__version__, "form": self.form}

    def limits(self, repeats: int) -> dict[str, float]:
        return measure_limits(repeats, torch.mm, lambda target, source: target.copy_(source), torch.from_numpy)

    def choose(self, case: Case) -> str | None:
        if not self.best or not _has_images(case):
            return None
        return min(_LAYOUTS, key=lambda name: warm_seconds(self.build({**case, "choice": name}).call))

    def build(self, case: Case) -> Work:
        torch.manual_seed(case["seed"])
        self.layout = _LAYOUTS[case.get("choice") or "NCHW"]
        return super().build(case)

    # ------------------------------------------------------------------------------------------------- networks

    def model(self, case: Case) -> tuple[Any, torch.Tensor, torch.Tensor]:
        x, y = data.batch(case)
        if self.form == "compile" and len(case["network"]["nodes"]) > COMPILED_NODES:
            raise Unsupported("too large for torch.compile here")
        model = torch_network.build(case["network"], inplace=self.best).to(memory_format=self.layout)
        images = _images(x, self.layout)
        return torch.compile(model) if self.form == "compile" else model, images, torch.from_numpy(y)

    def train(self, case: Case) -> Callable[[], float]:
        model, x, y = self.model(case)
        optimizer = torch_network.optimizer(case["network"]["optimizer"], model.parameters(), self.best)

        def step() -> float:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    def predict(self, case: Case) -> Callable[[], Any]:
        model, x, _ = self.model(case)
        model.eval()

        @torch.inference_mode()
        def predict() -> Any:
            return model(x).softmax(1).numpy()

        return predict

    def gradients(self, case: Case) -> Callable[[], Any]:
        model, x, y = self.model(case)
        weights = list(model.parameters())
        return lambda: torch.autograd.grad(F.cross_entropy(model(x), y), weights)

    # ------------------------------------------------------------------------------------------------- kernels

    def kernel(self, case: Case) -> Work:
        if case["op"] == "optimizer":
            return _optimizer(case, self.best)
        arrays = data.kernel_inputs(case)
        t = {name: _tensor(name, array, self.layout) for name, array in arrays.items()}
        call = _call(case, t)

        def outputs() -> dict[str, Any]:
            result = call()
            several = result if isinstance(result, (tuple, list)) else (result,)
            found = [_canonical(tensor, case["op"]) for tensor in several if tensor is not None]
            return data.comparable(case, arrays, found)

        return Work(call, outputs)


def _has_images(case: Case) -> bool:
    """Whether there is a choice of layouts: channels_last says nothing of one channel, and of vectors."""
    if case["network"] is not None:
        return case["network"]["input_shape"][-1] > 1 or any("conv" in n["op"] for n in case["network"]["nodes"][1:])
    shapes = case["args"].get("shapes", {}).values()
    return any(len(shape) == 4 for shape in shapes) and case["op"] != "layer_norm"


def _images(x: np.ndarray[Any, Any], layout: torch.memory_format) -> torch.Tensor:
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=layout)


def _tensor(name: str, array: np.ndarray[Any, Any], layout: torch.memory_format) -> torch.Tensor:
    """Images NHWC -> NCHW, kernels HWIO -> OIHW, dense kernels (K, U) -> (U, K)."""
    if array.ndim == 4 and name == "w":
        return torch.from_numpy(array).permute(3, 2, 0, 1).contiguous(memory_format=layout)
    if array.ndim == 4:
        return _images(array, layout)
    return torch.from_numpy(array).t().contiguous() if name == "w" else torch.from_numpy(array)


def _canonical(tensor: torch.Tensor, op: str) -> np.ndarray[Any, Any]:
    """Back to NHWC and HWIO."""
    if tensor.ndim == 4 and not op.startswith("layer_norm"):  # which has its own layout, channels last
        order = (2, 3, 1, 0) if op == "conv2d_weight_grad" else (0, 2, 3, 1)
        tensor = tensor.permute(order)
    return tensor.detach().numpy()


def _call(case: Case, t: dict[str, torch.Tensor]) -> Callable[[], Any]:
    op, args = case["op"], case["args"]
    if op.startswith("conv2d"):
        return _convolution(op, args, t)
    if op.startswith("dense"):
        return _dense(op, t)
    if op == "softmax_cross_entropy":
        logits = t["x"].requires_grad_()
        return lambda: torch.autograd.grad(F.cross_entropy(logits, t["target"]), logits)
    if op == "max_pool2d_backward":
        window, strides = [args["window"]] * 2, [args["strides"]] * 2
        _, where = F.max_pool2d(t["x"], window, strides, return_indices=True)
        return lambda: max_pool2d_backward(t["gy"], t["x"], window, strides, [0, 0], [1, 1], False, where)
    forward = _forward(op.removesuffix("_backward"), args, t)
    if not op.endswith("_backward"):
        return lambda: forward(t["x"])
    x = t["x"].requires_grad_()
    wanted = [x, *(t[name].requires_grad_() for name in ("gamma", "beta") if name in t)]
    y = forward(x)
    return lambda: torch.autograd.grad(y, wanted, t["gy"], retain_graph=True)


def _convolution(op: str, args: dict[str, Any], t: dict[str, torch.Tensor]) -> Callable[[], Any]:
    strides, padding, groups = [args["strides"]] * 2, [args["padding"]] * 2, args["groups"]
    if op == "conv2d":
        return lambda: F.conv2d(t["x"], t["w"], t["b"], strides, padding, 1, groups)
    gy = t["gy"]
    if op == "conv2d_input_grad":
        size = (gy.shape[0], t["w"].shape[1] * groups, *args["input_size"])
        x, w = torch.empty(size).to(memory_format=_format(gy)), t["w"]
        mask = [True, False, False]
    else:
        size = (gy.shape[1], t["x"].shape[1] // groups, *args["kernel_size"])
        x, w = t["x"], torch.empty(size).to(memory_format=_format(gy))
        mask = [False, True, True]
    bias = [gy.shape[1]]
    return lambda: convolution_backward(gy, x, w, bias, strides, padding, [1, 1], False, [0, 0], groups, mask)


def _format(tensor: torch.Tensor) -> torch.memory_format:
    last = tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _dense(op: str, t: dict[str, torch.Tensor]) -> Callable[[], Any]:
    if op == "dense":
        return lambda: F.linear(t["x"], t["w"], t["b"])
    if op == "dense_input_grad":
        return lambda: t["gy"] @ t["w"]
    return lambda: (t["x"].t() @ t["gy"], t["gy"].sum(0))


def _forward(op: str, args: dict[str, Any], t: dict[str, torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    if "parameters" in args:
        t["gamma"], t["beta"] = torch.ones(args["parameters"]), torch.zeros(args["parameters"])
    match op:
        case "max_pool2d" | "avg_pool2d":
            return lambda x: getattr(F, op)(x, args["window"], args["strides"])
        case "batch_norm":
            return lambda x: F.batch_norm(x, None, None, t["gamma"], t["beta"], True, eps=1e-3)
        case "layer_norm":
            t["x"], t["gy"] = (t[name].permute(0, 2, 3, 1).contiguous() for name in ("x", "gy"))
            return lambda x: F.layer_norm(x, [args["parameters"]], t["gamma"], t["beta"], 1e-3)
        case "group_norm":
            return lambda x: F.group_norm(x, args["groups"], t["gamma"], t["beta"], 1e-3)
        case "local_response_norm":
            alpha = args["alpha"] * args["size"]  # PyTorch divides by the size
            return lambda x: F.local_response_norm(x, args["size"], alpha, args["beta"], args["k"])
        case "dropout":
            return lambda x: F.dropout(x, args["rate"], True)
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "relu": F.relu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "elu": F.elu,
        "gelu": F.gelu,
    }
    return functions[op]


def _optimizer(case: Case, best: bool) -> Work:
    values, gradients = data.parameter_lists(case)
    params = [torch.from_numpy(value).requires_grad_() for value in values]
    for parameter, gradient in zip(params, gradients, strict=True):
        parameter.grad = torch.from_numpy(gradient)
    name = case["args"]["name"].split()[0]
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    step = torch_network.optimizer({"name": name, "learning_rate": 1e-3, **momentum}, params, best).step
    return Work(step, lambda: {str(i): parameter.detach().numpy() for i, parameter in enumerate(params)})


if __name__ == "__main__":
    serve(TorchWorker)
