"""Layers and operators on pictures, series, volumes, sequences and boxes."""

# One case is one line.
# ruff: noqa: E501

from __future__ import annotations

from case import Literal, d, each, f, h, i, layers, unit

IMAGE = each(
    {
        "avg_pool2d": "ops.avg_pool2d(x, 2, 2)",
        "avg_pool2d_pad": "ops.avg_pool2d(x, 3, 2, 1)",
        "avg_pool2d_exclude": "ops.avg_pool2d(x, 3, 2, 1, count_include_pad=False)",
        "avg_pool2d_ceil": "ops.avg_pool2d(x, 3, 2, ceil_mode=True)",
        "max_pool2d": "ops.max_pool2d(x, 2, 2)",
        "max_pool2d_pad": "ops.max_pool2d(x, 3, 2, 1)",
        "adaptive_avg_pool2d": "ops.adaptive_avg_pool2d(x, (2, 3))",
        "adaptive_avg_pool2d_one": "ops.adaptive_avg_pool2d(x, 1)",
        "adaptive_max_pool2d": "ops.adaptive_max_pool2d(x, (2, 2))",
        "avg_pool_op": "ops.AvgPool(kernel_size=2, strides=2, pad_mode='same')(x)",
        "max_pool_op": "ops.MaxPool(kernel_size=3, strides=2, pad_mode='same')(x)",
        "max_pool_argmax": "ops.MaxPoolWithArgmax(kernel_size=2, strides=2)(x)[0]",
        "max_pool_argmax_both": "ops.MaxPoolWithArgmaxV2(kernel_size=2, strides=2)(x)",
        "interpolate_nearest": "ops.interpolate(x, size=(12, 10), mode='nearest')",
        "interpolate_bilinear": "ops.interpolate(x, size=(12, 10), mode='bilinear')",
        "interpolate_corners": "ops.interpolate(x, size=(11, 9), mode='bilinear', align_corners=True)",
        "interpolate_down": "ops.interpolate(x, size=(3, 4), mode='bilinear')",
        "interpolate_scale": "ops.interpolate(x, scale_factor=(2.0, 2.0), mode='bilinear', recompute_scale_factor=True)",
        "interpolate_bicubic": "ops.interpolate(x, size=(12, 10), mode='bicubic')",
        "interpolate_area": "ops.interpolate(x, size=(3, 2), mode='area')",
        "resize_nearest_op": "ops.ResizeNearestNeighbor((12, 10))(x)",
        "resize_nearest_corners": "ops.ResizeNearestNeighbor((12, 10), align_corners=True)(x)",
        "resize_nearest_down": "ops.ResizeNearestNeighbor((4, 3))(x)",
        "resize_bilinear_v2": "ops.ResizeBilinearV2()(x, (12, 9))",
        "resize_bilinear_half": "ops.ResizeBilinearV2(half_pixel_centers=True)(x, (12, 9))",
        "upsample": "ops.upsample(x, size=(16, 12), mode='nearest')",
        "pixel_shuffle": "ops.pixel_shuffle(x, 2)",
        "pixel_unshuffle": "ops.pixel_unshuffle(x, 2)",
        "depth_to_space": "ops.DepthToSpace(2)(x)",
        "space_to_depth": "ops.SpaceToDepth(2)(x)",
        "space_to_batch": "ops.space_to_batch_nd(x, [2, 2], [[0, 0], [0, 0]])",
        "batch_to_space": "ops.batch_to_space_nd(ops.tile(x, (4, 1, 1, 1)), [2, 2], [[0, 0], [0, 0]])",
        "unfold": "ops.unfold(x, (2, 2))",
        "extract_patches": "ops.unfold(x, 2, stride=2)",
        "lrn": "ops.lrn(x, depth_radius=2)",
        "grid_sample": "ops.grid_sample(x, ops.tanh(x[:, 0:2].transpose(0, 2, 3, 1)))",
        "grid_sample_corners": "ops.grid_sample(x, ops.tanh(x[:, 0:2].transpose(0, 2, 3, 1)), align_corners=True)",
        "grid_sample_nearest": "ops.grid_sample(x, ops.tanh(x[:, 0:2].transpose(0, 2, 3, 1)), mode='nearest', padding_mode='border')",
        "channel_shuffle": "ops.channel_shuffle(x, 2)",
        "global_average": "ops.mean(x, (2, 3))",
        "prelu": "ops.prelu(x, Tensor([0.1, 0.2, 0.3, 0.4], ms.float32))",
        "dropout2d": "ops.dropout2d(x, p=0.5, training=False)",
        "conv2d_function": "ops.conv2d(x, ops.ones((3, 4, 3, 3), ms.float32) * 0.1, pad_mode='same')",
        "l2_channel": "ops.L2Normalize(axis=1, epsilon=1e-4)(x)",
        "pad_image": "ops.pad(x, (1, 1, 2, 2), mode='reflect')",
        "softmax2d": "ops.softmax(x, 1)",
        "lp_pool": "ops.lp_pool2d(ops.abs(x), 2.0, 2)",
        "spatial_flatten": "x.reshape(1, 4, -1).transpose(0, 2, 1)",
    },
    x=f(1, 4, 8, 6),
)
CONVOLUTIONS = layers(
    {
        "conv2d_valid": "nn.Conv2d(4, 6, 3, pad_mode='valid', has_bias=True)",
        "conv2d_same": "nn.Conv2d(4, 6, 3, stride=2, pad_mode='same')",
        "conv2d_pad": "nn.Conv2d(4, 6, 3, stride=2, pad_mode='pad', padding=1)",
        "conv2d_four_pads": "nn.Conv2d(4, 6, (3, 2), pad_mode='pad', padding=(1, 2, 0, 1))",
        "conv2d_dilated": "nn.Conv2d(4, 6, 3, pad_mode='same', dilation=2)",
        "conv2d_grouped": "nn.Conv2d(4, 4, 3, group=2, has_bias=True)",
        "conv2d_depthwise": "nn.Conv2d(4, 4, 3, group=4)",
        "conv2d_transpose_same": "nn.Conv2dTranspose(4, 3, 3, stride=2, pad_mode='same')",
        "conv2d_transpose_valid": "nn.Conv2dTranspose(4, 3, 2, stride=2, pad_mode='valid', has_bias=True)",
        "conv2d_transpose_pad": "nn.Conv2dTranspose(4, 3, 4, stride=2, pad_mode='pad', padding=1)",
        "conv2d_transpose_grouped": "nn.Conv2dTranspose(4, 4, 3, group=2, pad_mode='same')",
        "batch_norm2d": "nn.BatchNorm2d(4)",
        "batch_norm2d_eps": "nn.BatchNorm2d(4, eps=1e-3, affine=False)",
        "group_norm": "nn.GroupNorm(2, 4)",
        "instance_norm2d": "nn.InstanceNorm2d(4)",
        "layer_norm_image": "nn.LayerNorm((8, 6), begin_norm_axis=2, begin_params_axis=2)",
        "max_pool_layer": "nn.MaxPool2d(3, 2, pad_mode='same')",
        "max_pool_padded": "nn.MaxPool2d(3, 2, pad_mode='pad', padding=1)",
        "max_pool_ceil": "nn.MaxPool2d(3, 2, pad_mode='pad', ceil_mode=True)",
        "max_pool_dilated": "nn.MaxPool2d(2, 1, pad_mode='pad', dilation=2)",
        "avg_pool_layer": "nn.AvgPool2d(2, 2, pad_mode='valid')",
        "avg_pool_same": "nn.AvgPool2d(3, 2, pad_mode='same')",
        "avg_pool_padded": "nn.AvgPool2d(3, 2, pad_mode='pad', padding=1, count_include_pad=False)",
        "avg_pool_divisor": "nn.AvgPool2d(2, 2, pad_mode='pad', divisor_override=3)",
        "adaptive_avg_layer": "nn.AdaptiveAvgPool2d((4, 3))",
        "adaptive_avg_none": "nn.AdaptiveAvgPool2d((None, 2))",
        "adaptive_max_layer": "nn.AdaptiveMaxPool2d(2)",
        "pixel_shuffle_layer": "nn.PixelShuffle(2)",
        "upsample_layer": "nn.Upsample(size=(16, 12), mode='bilinear', align_corners=True)",
        "zero_pad": "nn.ZeroPad2d((1, 2, 0, 1))",
        "reflection_pad": "nn.ReflectionPad2d(1)",
        "replication_pad": "nn.ReplicationPad2d((1, 2, 1, 0))",
        "constant_pad": "nn.ConstantPad2d(1, 0.5)",
        "pad_layer": "nn.Pad(((0, 0), (0, 0), (1, 1), (2, 2)), mode='CONSTANT')",
        "pad_layer_reflect": "nn.Pad(((0, 0), (0, 0), (1, 1), (2, 2)), mode='REFLECT')",
        "prelu_layer": "nn.PReLU(4)",
        "softmax2d_layer": "nn.Softmax2d()",
        "unfold_layer": "nn.Unfold([1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 1])",
        "local_response": "nn.LRN(depth_radius=3)",
        "flatten_layer": "nn.Flatten()",
        "conv_bn_relu": "nn.SequentialCell(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())",
        "dropout_layer": "nn.Dropout(p=0.3)",
    },
    x=f(2, 4, 8, 6),
)
SERIES = layers(
    {
        "conv1d": "nn.Conv1d(4, 6, 3, pad_mode='same', has_bias=True)",
        "conv1d_pad": "nn.Conv1d(4, 6, 3, stride=2, pad_mode='pad', padding=1, dilation=2)",
        "conv1d_transpose": "nn.Conv1dTranspose(4, 3, 3, stride=2, pad_mode='same')",
        "max_pool1d": "nn.MaxPool1d(3, 2, pad_mode='valid')",
        "avg_pool1d": "nn.AvgPool1d(2, 2, pad_mode='same')",
        "adaptive_avg1d": "nn.AdaptiveAvgPool1d(4)",
        "adaptive_max1d": "nn.AdaptiveMaxPool1d(4)",
        "instance_norm1d": "nn.InstanceNorm1d(4)",
        "upsample1d": "nn.Upsample(size=(16,), mode='linear', align_corners=False)",
        "constant_pad1d": "nn.ConstantPad1d((1, 2), 0.25)",
        "lp_pool1d": "nn.LPPool1d(norm_type=1, kernel_size=2)",
    },
    x=f(2, 4, 8),
)
VOLUME = layers(
    {
        "conv3d": "nn.Conv3d(2, 4, 3, pad_mode='same')",
        "conv3d_pad": "nn.Conv3d(2, 4, 3, stride=2, pad_mode='pad', padding=1, has_bias=True)",
        "conv3d_transpose": "nn.Conv3dTranspose(2, 3, 2, stride=2, pad_mode='valid')",
        "max_pool3d": "nn.MaxPool3d(2, 2)",
        "avg_pool3d": "nn.AvgPool3d(2, 2)",
        "adaptive_avg3d": "nn.AdaptiveAvgPool3d((2, 2, 2))",
        "batch_norm3d": "nn.BatchNorm3d(2)",
        "instance_norm3d": "nn.InstanceNorm3d(2)",
    },
    x=f(1, 2, 4, 6, 4),
)
ROWS = layers(
    {
        "dense_layer": "nn.Dense(8, 5)",
        "dense_no_bias": "nn.Dense(8, 5, has_bias=False)",
        "dense_relu": "nn.Dense(8, 5, activation='relu')",
        "dense_sigmoid": "nn.Dense(8, 5, activation='sigmoid')",
        "dense_gelu": "nn.Dense(8, 5, activation='gelu')",
        "batch_norm1d": "nn.BatchNorm1d(8)",
        "layer_norm": "nn.LayerNorm((8,))",
        "layer_norm_eps": "nn.LayerNorm((8,), epsilon=1e-3)",
        "gelu_layer": "nn.GELU()",
        "gelu_layer_exact": "nn.GELU(approximate=False)",
        "swish": "nn.SiLU()",
        "hswish_layer": "nn.HSwish()",
        "hsigmoid_layer": "nn.HSigmoid()",
        "relu6_layer": "nn.ReLU6()",
        "leaky_layer": "nn.LeakyReLU(0.3)",
        "elu_layer": "nn.ELU()",
        "selu_layer": "nn.SeLU()",
        "celu_layer": "nn.CELU(1.5)",
        "mish_layer": "nn.Mish()",
        "softplus_layer": "nn.Softplus()",
        "softsign_layer": "nn.Softsign()",
        "tanh_layer": "nn.Tanh()",
        "logsoftmax_layer": "nn.LogSoftmax()",
        "logsigmoid_layer": "nn.LogSigmoid()",
        "softmax_layer": "nn.Softmax()",
        "softmin_layer": "nn.Softmin()",
        "fast_gelu_layer": "nn.FastGelu()",
        "hardtanh_layer": "nn.Hardtanh()",
        "hardshrink_layer": "nn.HShrink()",
        "softshrink_layer": "nn.SoftShrink()",
        "tanhshrink_layer": "nn.Tanhshrink()",
        "threshold_layer": "nn.Threshold(0.1, 20.0)",
        "glu_layer": "nn.GLU()",
        "rrelu_layer": "nn.RReLU()",
        "identity_layer": "nn.Identity()",
        "norm_chain": "nn.SequentialCell(nn.LayerNorm((8,)), nn.Dense(8, 8), nn.GELU(), nn.Dropout(p=0.1))",
        "get_activation": "nn.get_activation('hswish')",
    },
    x=f(3, 8),
)
SEQUENCE = layers(
    {
        "lstm": "nn.LSTM(6, 5, batch_first=True)",
        "lstm_stacked": "nn.LSTM(6, 5, num_layers=2, batch_first=True)",
        "lstm_bidirectional": "nn.LSTM(6, 5, bidirectional=True)",
        "lstm_no_bias": "nn.LSTM(6, 5, has_bias=False)",
        "gru": "nn.GRU(6, 5, batch_first=True)",
        "gru_bidirectional": "nn.GRU(6, 5, num_layers=2, bidirectional=True)",
        "rnn": "nn.RNN(6, 5)",
        "rnn_relu": "nn.RNN(6, 5, nonlinearity='relu')",
        "encoder_layer": "nn.TransformerEncoderLayer(6, 2, dim_feedforward=12, dropout=0.0, batch_first=True)",
        "layer_norm_last": "nn.LayerNorm((6,))",
    },
    x=f(3, 4, 6),
) + each(
    {
        "lstm_outputs": "self.layer(x)[0]",
        "lstm_last_state": "self.layer(x)[1][0]",
    },
    layer="nn.LSTM(6, 5, batch_first=True)",
    x=f(3, 4, 6),
)
OTHER = (
    layers({"embedding": "nn.Embedding(10, 6)", "embedding_padded": "nn.Embedding(10, 6, padding_idx=0)",
            "embedding_lookup_layer": "nn.EmbeddingLookup(10, 6, target='DEVICE')", "one_hot_layer": "nn.OneHot(depth=10)"},
           n=i(2, 5, low=0, high=10))
    + layers({"gru_cell": "nn.GRUCell(6, 5)", "rnn_cell": "nn.RNNCell(6, 5)"}, x=f(3, 6), hidden=f(3, 5))
    + each({"lstm_cell": "self.cell(x, (hx, cx))"}, cell="nn.LSTMCell(6, 5)", x=f(3, 6), hx=f(3, 5), cx=f(3, 5))
    + each({"lstm_with_state": "self.layer(x, (hx, cx))"}, layer="nn.LSTM(6, 5)", x=f(4, 3, 6), hx=f(1, 3, 5), cx=f(1, 3, 5))
    + each({"lstm_with_lengths": "self.layer(x, (hx, cx), n)"}, layer="nn.LSTM(6, 5)", x=f(4, 3, 6), hx=f(1, 3, 5), cx=f(1, 3, 5), n=Literal([4, 2, 3], "int32"))
    + each({"gru_with_lengths": "self.layer(x, hx, n)"}, layer="nn.GRU(6, 5)", x=f(4, 3, 6), hx=f(1, 3, 5), n=Literal([4, 2, 3], "int32"))
    + each({"multihead": "self.layer(x, y, y)"}, layer="nn.MultiheadAttention(8, 2, batch_first=True)", x=f(2, 3, 8), y=f(2, 4, 8))
    + layers({"bilinear": "nn.BiDense(6, 5, 4)"}, x=f(3, 6), y=f(3, 5))
    + each({"half_add": "x + y", "half_matmul": "x @ y.transpose(1, 0)", "half_softmax": "ops.softmax(x, -1)",
            "half_sigmoid": "ops.sigmoid(x) * y", "half_mean": "x.mean(1)", "half_gelu": "ops.gelu(x)",
            "half_scalar": "x * 2.5 + 1", "half_compare": "x > y", "half_mixed": "x + y.astype(ms.float32)",
            "half_exp": "ops.exp(x)", "half_sqrt": "ops.sqrt(ops.abs(x))", "half_where": "ops.where(x > y, x, y)"},
           x=h(3, 4), y=h(3, 4))
    + each({"double_add": "x + y.astype(ms.float64)"}, x=Literal([[1.5, 2.5]], "float64"), y=f(3, 2))
    + each({"uint8_image": "x.astype(ms.float32) / 255.0"}, x=Literal([[0, 127, 255]], "uint8"))
    + each({"int64_index": "ops.gather(x, n, 0)", "int64_one_hot": "ops.one_hot(n, 4, Tensor(1.0, ms.float32), Tensor(0.0, ms.float32))",
            "int64_add": "n + 1", "gather_elements64": "ops.gather_elements(x, 0, n.reshape(1, 3))"},
           x=f(4, 3), n=Literal([1, 3, 0], "int64"))
    + each({"roi_align": "ops.ROIAlign(2, 2, 0.5, 2, 1)(x, rois)", "roi_align_mode0": "ops.ROIAlign(2, 2, 0.5, 2, 0)(x, rois)"},
           x=f(2, 3, 8, 8), rois=Literal([[0, 1, 1, 9, 11], [1, 2, 0, 12, 7]], "float32"))
    + each({"iou": "ops.iou(x, y)"}, x=Literal([[0, 0, 5, 5], [2, 2, 8, 9]], "float32"), y=Literal([[1, 1, 4, 4], [0, 3, 9, 9]], "float32"))
    + each({"nms_with_mask": "ops.NMSWithMask(0.4)(x)"},
           x=Literal([[0, 0, 8, 8, 0.9], [1, 1, 8, 8, 0.8], [10, 10, 15, 16, 0.7], [10, 11, 15, 16, 0.6], [0, 9, 3, 14, 0.5]], "float32"))
    + each({"box_decode": "ops.BoundingBoxDecode(means=(0.0, 0.0, 0.0, 0.0), stds=(1.0, 1.0, 1.0, 1.0), max_shape=(20, 18), wh_ratio_clip=0.016)(x, y)",
            "box_encode": "ops.BoundingBoxEncode(means=(0.0, 0.0, 0.0, 0.0), stds=(1.0, 1.0, 1.0, 1.0))(x, x + 1)"},
           x=Literal([[0, 0, 8, 8], [3, 2, 9, 12]], "float32"), y=unit(2, 4))
    + each({"crop_and_resize": "ops.crop_and_resize(x, y, n, (3, 3))"}, x=f(1, 8, 8, 3), y=Literal([[0.1, 0.1, 0.7, 0.9]], "float32"), n=Literal([0], "int32"))
    + each({"affine_grid": "ops.affine_grid(x, (1, 3, 4, 5), align_corners=False)"}, x=f(1, 2, 3))
    + each({"ctc_greedy": "ops.ctc_greedy_decoder(x, n)"}, x=d(5, 2, 4), n=Literal([5, 4], "int32"))
    + each({"bce": "ops.binary_cross_entropy(x, y, ops.ones_like(x))", "bce_logits": "ops.binary_cross_entropy_with_logits(x, y, ops.ones_like(x), ops.ones_like(x))"},
           x=Literal([[0.2, 0.7]], "float32"), y=Literal([[0.0, 1.0]], "float32"))
)  # fmt: skip
MORE_LAYERS = (
    layers(
        {
            "conv2d_transpose_output": "nn.Conv2dTranspose(4, 3, 3, stride=2, pad_mode='pad', padding=1, output_padding=1)",
            "conv2d_transpose_dilated": "nn.Conv2dTranspose(4, 3, 3, pad_mode='same', dilation=2)",
            "conv2d_transpose_rect": "nn.Conv2dTranspose(4, 3, (2, 4), stride=(2, 3), pad_mode='pad', padding=(0, 0, 1, 1))",
            "conv2d_rect": "nn.Conv2d(4, 5, (1, 5), stride=(1, 2), pad_mode='same')",
            "conv2d_same_even": "nn.Conv2d(4, 5, 4, stride=3, pad_mode='same')",
            "group_norm_plain": "nn.GroupNorm(4, 4, affine=False)",
            "batch_norm_statistics": "nn.BatchNorm2d(4, use_batch_statistics=True)",
            "dropout2d_layer": "nn.Dropout2d(p=0.2)",
            "channel_shuffle_layer": "nn.ChannelShuffle(2)",
            "flatten_layer_range": "nn.Flatten(start_dim=1, end_dim=2)",
            "unflatten": "nn.Unflatten(1, (2, 2))",
            "reflection_pad_four": "nn.ReflectionPad2d((2, 1, 1, 0))",
            "max_pool_rect": "nn.MaxPool2d((3, 2), (2, 1), pad_mode='valid')",
            "avg_pool_rect": "nn.AvgPool2d((3, 2), (2, 1), pad_mode='same')",
            "avg_pool_count": "nn.AvgPool2d(3, 2, pad_mode='pad', padding=1, ceil_mode=True)",
            "lp_pool_layer": "nn.LPPool2d(norm_type=2, kernel_size=2)",
            "upsample_nearest": "nn.Upsample(size=(16, 12), mode='nearest')",
            "upsample_scale": "nn.Upsample(scale_factor=(2.0, 2.0), mode='nearest')",
            "sequential_stem": "nn.SequentialCell(nn.Conv2d(4, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten())",
            "image_gradients": "nn.ImageGradients()",
            "resize_layer": "nn.Upsample(size=(5, 7), mode='bilinear')",
        },
        x=f(2, 4, 8, 6),
    )
    + layers(
        {
            "half_conv": "nn.Conv2d(4, 3, 3).to_float(ms.float16)",
            "half_batch_norm": "nn.BatchNorm2d(4).to_float(ms.float16)",
            "half_max_pool": "nn.MaxPool2d(2, 2)",
            "half_avg_pool": "nn.AvgPool2d(2, 2)",
            "half_conv_transpose": "nn.Conv2dTranspose(4, 3, 3, stride=2, pad_mode='same').to_float(ms.float16)",
            "half_group_norm": "nn.GroupNorm(2, 4).to_float(ms.float16)",
        },
        x=h(1, 4, 6, 6),
    )
    + each(
        {
            "instance_by_hand": "(x - x.mean((2, 3), True)) / ops.sqrt(x.var((2, 3), keepdims=True) + 1e-5)",
            "space_depth_chain": "ops.DepthToSpace(2)(ops.SpaceToDepth(2)(x))",
            "max_unpool": "ops.max_unpool2d(ops.max_pool2d(x, 2, 2, return_indices=True)[0], ops.max_pool2d(x, 2, 2, return_indices=True)[1], 2, 2)",
            "max_pool_indices": "ops.max_pool2d(x, 2, 2, return_indices=True)",
            "fold": "ops.fold(ops.unfold(x, 2, stride=2), Tensor([8, 6], ms.int32), 2, 1, 0, 2)",
            "conv2d_strided": "ops.conv2d(x, ops.ones((2, 4, 3, 3), ms.float32) * 0.1, stride=2, pad_mode='pad', padding=1)",
            "mean_over_width": "x.mean(-1).max(axis=-1)",
            "nearest_by_three": "ops.ResizeNearestNeighbor((24, 18))(x)",
            "interpolate_nearest_exact": "ops.interpolate(x, size=(11, 9), mode='nearest-exact')",
            "interpolate_to_small": "ops.interpolate(x, size=(5, 4), mode='nearest')",
            "grid_sample_reflect": "ops.grid_sample(x, ops.tanh(x[:, 0:2].transpose(0, 2, 3, 1)) * 1.3, padding_mode='reflection', align_corners=True)",
            "grid_sample_zero": "ops.grid_sample(x, ops.tanh(x[:, 0:2].transpose(0, 2, 3, 1)) * 1.3)",
            "batch_norm_function": "ops.batch_norm(x, Tensor([0.1, 0.2, 0.3, 0.4], ms.float32), Tensor([1.0, 2.0, 3.0, 4.0], ms.float32), Tensor([1.0, 0.5, 2.0, 1.5], ms.float32), Tensor([0.0, 0.1, 0.2, 0.3], ms.float32))",
            "layer_norm_function": "ops.layer_norm(x, (8, 6), ops.ones((8, 6), ms.float32), ops.zeros((8, 6), ms.float32))",
            "group_norm_function": "ops.group_norm(x, 2)",
            "concat_pools": "ops.concat((ops.max_pool2d(x, 2, 2), ops.avg_pool2d(x, 2, 2)), 1)",
            "scale_channels": "x * ops.sigmoid(x.mean((2, 3), True))",
        },
        x=d(1, 4, 8, 6),
    )
    + each(
        {
            "max_pool1d_function": "ops.max_pool2d(x.expand_dims(2), (1, 2), (1, 2)).squeeze(2)",
            "avg_pool1d_function": "ops.avg_pool1d(x, 2, 2)",
            "conv1d_function": "ops.conv1d(x, ops.ones((2, 4, 3), ms.float32), pad_mode='pad', padding=1)",
            "adaptive_max_pool1d": "ops.adaptive_max_pool1d(x, 4)",
            "adaptive_avg_pool1d": "ops.adaptive_avg_pool1d(x, 4)",
            "interpolate_linear": "ops.interpolate(x, size=13, mode='linear')",
            "interpolate_nearest1d": "ops.interpolate(x, size=13, mode='nearest')",
            "pad1d_reflect": "ops.pad(x, (2, 1), mode='reflect')",
        },
        x=d(2, 4, 8),
    )
    + each(
        {
            "max_pool3d_function": "ops.max_pool3d(x, 2, 2)",
            "avg_pool3d_function": "ops.avg_pool3d(x, 2, 2)",
            "adaptive_avg_pool3d": "ops.adaptive_avg_pool3d(x, (2, 3, 2))",
            "interpolate_trilinear": "ops.interpolate(x, size=(6, 8, 5), mode='trilinear')",
            "interpolate_nearest3d": "ops.interpolate(x, size=(8, 12, 8), mode='nearest')",
            "conv3d_function": "ops.conv3d(x, ops.ones((3, 2, 2, 2, 2), ms.float32))",
            "pad3d_replicate": "ops.pad(x, (1, 1, 1, 1, 1, 1), mode='replicate')",
        },
        x=d(1, 2, 4, 6, 4),
    )
    + layers(
        {
            "transformer_encoder": "nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, dim_feedforward=12, batch_first=True), 2)",
            "encoder_layer_gelu": "nn.TransformerEncoderLayer(8, 2, dim_feedforward=12, activation='gelu', batch_first=True, norm_first=True)",
            "lstm_projected": "nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True)",
            "gru_plain": "nn.GRU(8, 6)",
            "rnn_bidirectional": "nn.RNN(8, 6, bidirectional=True)",
        },
        x=f(2, 5, 8),
    )
    + layers({"decoder_layer": "nn.TransformerDecoderLayer(8, 2, dim_feedforward=12, batch_first=True)", "transformer": "nn.Transformer(8, 2, 1, 1, 12, batch_first=True)"}, x=f(2, 5, 8), memory=f(2, 5, 8))
    + layers(
        {
            "mse_layer": "nn.MSELoss()",
            "l1_layer": "nn.L1Loss(reduction='sum')",
            "smooth_l1_layer": "nn.SmoothL1Loss()",
            "huber_layer": "nn.HuberLoss()",
            "cosine_layer": "nn.RMSELoss()",
            "mae_layer": "nn.MAELoss()",
            "soft_margin": "nn.SoftMarginLoss()",
            "dice_like": "nn.L1Loss(reduction='none')",
        },
        x=f(3, 4),
        y=f(3, 4),
    )
    + layers({"cross_entropy_layer": "nn.CrossEntropyLoss()", "sparse_cross_entropy": "nn.SoftmaxCrossEntropyWithLogits(sparse=True)", "nll_layer": "nn.NLLLoss()"}, x=f(3, 4), n=Literal([1, 3, 0], "int32"))
    + layers({"conv1d_layer_group": "nn.Conv1d(4, 4, 3, group=2)", "replication_pad1d": "nn.ReplicationPad1d((1, 2))", "reflection_pad1d": "nn.ReflectionPad1d(2)"}, x=f(2, 4, 8))
    + each({"nms_many": "ops.NMSWithMask(0.5)(ops.concat((x, x + ops.expand_dims(w, -1) * 0 + 9.0, w.expand_dims(-1)), 1))"}, x=f(12, 2, low=0, high=14), w=d(12))
    + each({"roi_align_many": "ops.ROIAlign(3, 2, 0.25, 3, 1)(x, rois)", "roi_align_unsampled": "ops.ROIAlign(2, 2, 0.5, -1, 1)(x, rois)"}, x=f(1, 2, 9, 9), rois=Literal([[0, 2, 3, 20, 17], [0, 5, 1, 30, 33], [0, 11, 12, 14, 13]], "float32"))
    + each({"check_valid": "ops.CheckValid()(x, y)"}, x=Literal([[0, 0, 5, 5], [2, 2, 80, 9]], "float32"), y=Literal([20, 20, 1], "float32"))
    + each({"iou_iof": "ops.iou(x, y, mode='iof')"}, x=Literal([[0, 0, 5, 5], [2, 2, 8, 9]], "float32"), y=Literal([[1, 1, 4, 4], [0, 3, 9, 9]], "float32"))
)  # fmt: skip
LAYERS = [
    *IMAGE,
    *CONVOLUTIONS,
    *SERIES,
    *VOLUME,
    *ROWS,
    *SEQUENCE,
    *OTHER,
    *MORE_LAYERS,
]
