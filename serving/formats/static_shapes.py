"""Decides whether the shapes of all outputs follow from the shapes of the inputs alone.

Two things are followed through the graph: which tensors have such a shape, and which have
elements that depend on shapes and constants only. Operators that are not listed are taken to
have results of any size.
"""

from __future__ import annotations

import onnx

_ELEMENTWISE = (
    "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot "
    "BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Cos Cosh Div Dropout "
    "DynamicQuantizeLinear Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid "
    "HardSwish Hardmax Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log LogSoftmax Max Mean "
    "Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear DequantizeLinear Reciprocal Relu Round "
    "Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Sub Sum Swish Tan Tanh "
    "ThresholdedRelu Where Xor"
)
_STRUCTURED = (
    "Attention AveragePool BatchNormalization Concat Conv ConvInteger ConvTranspose DeformConv "
    "DepthToSpace Det Einsum Flatten GRU Gather GatherElements GatherND Gemm GlobalAveragePool "
    "GlobalLpPool GlobalMaxPool GridSample GroupNormalization InstanceNormalization LRN LSTM "
    "LayerNormalization LpNormalization LpPool MatMul MatMulInteger MaxPool "
    "MeanVarianceNormalization QLinearConv QLinearMatMul RMSNormalization RNN ReverseSequence "
    "RoiAlign RotaryEmbedding Scatter ScatterElements ScatterND Shape Size SpaceToDepth "
    "Transpose Trilu"
)
_WITH_ARGUMENTS: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,), "CumSum": (), "Expand": (1,), "OneHot": (1,), "Pad": (1, 3),
    "Range": (0, 1, 2), "Reshape": (1,), "Resize": (2, 3), "Slice": (1, 2, 3, 4), "Split": (1,),
    "Squeeze": (1,), "Tile": (1,), "TopK": (1,), "Unsqueeze": (1,), "Upsample": (1,),
    **dict.fromkeys(
        (
            "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
            "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
        ),
        (1,),
    ),
}  # fmt: skip
_MACHINE_LEARNING = (
    "ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder "
    "LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler "
    "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor"
)
_CONTRIBUTED = (
    "BiasGelu FastGelu FusedConv FusedGemm FusedMatMul Gelu LayerNormalization QLinearAdd "
    "QLinearLeakyRelu QLinearMul QLinearSigmoid QuickGelu SimplifiedLayerNormalization "
    "SkipLayerNormalization SkipSimplifiedLayerNormalization"
)

SHAPE_ARGUMENTS: dict[tuple[str, str], tuple[int, ...]] = {
    **{("", name): () for name in (*_ELEMENTWISE.split(), *_STRUCTURED.split())},
    **{("", name): places for name, places in _WITH_ARGUMENTS.items()},
    **{("ai.onnx.ml", name): () for name in _MACHINE_LEARNING.split()},
    **{("com.microsoft", name): () for name in _CONTRIBUTED.split()},
}
"""By operator: the inputs whose elements (not only shapes) decide the shape of the outputs."""


def has_static_outputs(graph: onnx.GraphProto) -> bool:
    """Return whether every output's shape provably follows from the inputs' shapes."""
    constants = {t.name for t in graph.initializer} | {
        t.values.name for t in graph.sparse_initializer
    }
    shaped = {i.name for i in graph.input} | constants
    valued = set(constants)
    for node in graph.node:
        given = [name for name in node.input if name]
        operator = ("" if node.domain == "ai.onnx" else node.domain, node.op_type)
        places = SHAPE_ARGUMENTS.get(operator)
        if operator == ("", "Constant"):
            shaped.update(node.output)
            valued.update(node.output)
            continue
        if places is None or not shaped.issuperset(given):
            continue
        asked = [node.input[i] for i in places if i < len(node.input) and node.input[i]]
        if not valued.issuperset(asked):
            continue
        shaped.update(node.output)
        if operator in (("", "Shape"), ("", "Size")) or valued.issuperset(given):
            valued.update(node.output)
    return all(output.name in shaped for output in graph.output)
