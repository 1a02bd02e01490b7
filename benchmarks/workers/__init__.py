"""One worker program a framework. They need the standard library, NumPy and their framework, never minicnn."""
