"""Pictures in and out, under Keras' names, and photographs of digits made fit for an MNIST network."""

from minicnn.preprocessing.digits import as_digit
from minicnn.preprocessing.images import array_to_img, img_to_array, load_img, save_img

__all__ = ["array_to_img", "as_digit", "img_to_array", "load_img", "save_img"]
