"""Pictures of a training run and of what a network learned (needs matplotlib: the `plot` extra)."""

from minicnn.visualize.pictures import plot_feature_maps, plot_filters, plot_images
from minicnn.visualize.plots import plot_confusion_matrix, plot_history

__all__ = ["plot_confusion_matrix", "plot_feature_maps", "plot_filters", "plot_history", "plot_images"]
