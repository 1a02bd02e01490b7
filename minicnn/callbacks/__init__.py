"""Callbacks: what runs at the turns of training. Keras' names."""

from minicnn.callbacks.base import Callback, CallbackList, History, LambdaCallback

__all__ = ["Callback", "CallbackList", "History", "LambdaCallback"]
