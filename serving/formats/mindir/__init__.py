"""The importer of MindIR: a file that MindSpore exported becomes an ONNX model, without MindSpore.

The way of a file, and the module of each step::

    container    file(s) -> protobuf message; decrypts, leaves weights in the mapped file
    reader       message -> Model: graphs of nodes in plain terms (legacy: MindSpore 1.0)
    reach        which nodes and graphs are needed; which operators no conversion covers
    walk         node by node: MindIR's plumbing is erased, calls are unfolded
    control      data-dependent branches and loops -> If and Loop
    operators/   one small function for each primitive, by family
    builder      the ONNX nodes and constants; names; opset
    convert      all of it, and ``save``

Conventions for a conversion function:

- It is registered by ``@converts("Primitive", arguments="x w axis")``; the names are those of
  MindSpore's own operator definition, in the order in which 2.10 writes them as inputs. Older
  releases write some as attributes; ``Operator`` looks in both places.
- Settings (``op.integer``, ``op.integers``, ``op.flag``, ...) must be constants; tensors
  (``op.tensor``) may be anything that has numbers. Give ``op.tensor`` the type to compute in:
  releases leave mixed types beside each other, ONNX forbids them.
- Types and shapes are stated by the file: ``op.output``, ``op.outputs``. An axis of -1 varies.
- It returns a tensor, or a tuple when the primitive gives several. What ONNX does not give is an
  ``Absent``; only its use is refused.
- What it cannot convert exactly it refuses by ``op.refuse(why)``, naming the setting. A result
  that is nearly right is worse than none.
- It never allocates by a size that the file states (a file may state any): only constants of the
  rank of a tensor are made, larger ones are left to ONNX (Expand, ConstantOfShape, Range).
- Its docstring says what is computed and where the two sides differ; the module's names sources.
- Each has a test against MindSpore's own answers, or against numpy where the definition is exact.

bfloat16 runs as float32 (engines for CPUs lack it); the model's own inputs and outputs keep it.
Inputs have the user's names; outputs, which MindSpore does not name, are ``output`` or
``output_0``, ``output_1``, ...
"""
