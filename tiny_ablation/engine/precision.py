"""What rounding alone can do to a metric."""

from tiny_ablation.config.schema import DType

# What two correct computations of one number in this precision differ by on a deep model, at most (absolute, for logits of
# size 10): at least twice the largest difference that was measured on the default model. Double precision does not reach its
# own rounding: models take norms, and TransformerLens softmaxes, in float32 whatever their precision is.
NUMERICAL_TOLERANCE = {DType.float64: 1e-5, DType.float32: 1e-3, DType.bfloat16: 0.25, DType.float16: 0.05}
