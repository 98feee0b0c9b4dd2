"""What rounding alone can do to a metric."""

from tiny_ablation.config.schema import DType

# What two correct computations of one number in this precision differ by on a deep model, at most (absolute, for logits of
# size 10): twice the largest difference that was measured on the default model.
FLOORS = {DType.float64: 1e-9, DType.float32: 1e-3, DType.bfloat16: 0.25, DType.float16: 0.05}
