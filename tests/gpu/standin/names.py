"""What the stand-in offers under NumPy's own names, because CuPy does."""

# fmt: off
FUNCTIONS = (
    # shapes
    "array_split", "broadcast_arrays", "broadcast_to", "column_stack", "concatenate", "expand_dims", "flip", "fliplr",
    "flipud", "hstack", "moveaxis", "ndim", "pad", "ravel", "repeat", "reshape", "roll", "rollaxis", "rot90", "shape",
    "size", "split", "squeeze", "stack", "swapaxes", "tile", "transpose", "vstack",
    # reductions
    "all", "allclose", "amax", "amin", "any", "argmax", "argmin", "array_equal", "average", "count_nonzero",
    "cumprod", "cumsum", "max", "mean", "median", "min", "prod", "std", "sum", "var",
    # products
    "dot", "einsum", "inner", "kron", "outer", "tensordot", "vdot",
    # choices and orders
    "argsort", "argwhere", "bincount", "clip", "diag", "diagonal", "diff", "flatnonzero", "interp", "isclose",
    "nan_to_num", "nonzero", "searchsorted", "sort", "take", "take_along_axis", "trace", "tril", "triu", "unique",
    "where",
    # new arrays
    "eye", "identity", "linspace", "tri",
)

METHODS = (
    "all", "any", "argmax", "argmin", "argsort", "clip", "cumsum", "diagonal", "dot", "flatten", "max", "mean", "min",
    "nonzero", "prod", "ravel", "repeat", "round", "squeeze", "std", "sum", "swapaxes", "take", "trace", "transpose",
    "var",
)

UFUNCS = (
    "abs", "absolute", "add", "divide", "floor_divide", "mod", "multiply", "negative", "power", "reciprocal",
    "remainder", "subtract", "true_divide", "cbrt", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2",
    "logaddexp", "sqrt", "square", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cos",
    "cosh", "deg2rad", "hypot", "rad2deg", "sin", "sinh", "tan", "tanh", "ceil", "copysign", "fabs", "floor", "fmax",
    "fmin", "fmod", "maximum", "minimum", "nextafter", "rint", "sign", "signbit", "trunc", "equal", "greater",
    "greater_equal", "isfinite", "isinf", "isnan", "less", "less_equal", "logical_and", "logical_not", "logical_or",
    "logical_xor", "not_equal", "bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift",
)

CONSTANTS = (
    "bool_", "complex64", "complex128", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "intp",
    "uint8", "uint16", "uint32", "uint64", "dtype", "floating", "generic", "integer", "number", "signedinteger",
    "unsignedinteger", "broadcast_shapes", "can_cast", "finfo", "iinfo", "isscalar", "issubdtype", "promote_types",
    "result_type", "e", "inf", "nan", "newaxis", "pi",
)
# fmt: on
