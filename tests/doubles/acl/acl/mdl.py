"""``acl.mdl``: models, what is known of them, data sets, executions."""

from __future__ import annotations

from acl import _memory as _m
from acl import _model as _mod
from acl import _om as _o
from acl import _stream as _s
from acl._world import STREAM_CONTEXT as _STREAM_CONTEXT
from acl._world import api as _api
from acl._world import fail as _fail
from acl._world import world as _world

_INVALID, _NOT_SUPPORTED, _BAD_ID, _MOST_GEARS = 100000, 200001, 145003, 4096


def _code(ret):
    return ret


def _with_ret(ret):
    return 0, ret


def _no_dict(ret):
    return {}, ret


def _nothing(ret):
    return 0


@_api("mdl.load_from_file", _with_ret)
def load_from_file(path):
    here = _world()
    code, loaded = _mod.load(here, path)
    return (0, code) if code else (here.make("model", loaded), 0)


@_api("mdl.query_size", lambda ret: (0, 0, ret))
def query_size(path):
    code, _ = _mod.load(_world(), path)
    return (0, 0, code) if code else (1 << 20, 1 << 20, 0)


@_api("mdl.unload", _code, releases=True)
def unload(model):
    here = _world()
    if model not in here.things and model not in here.dead:
        return _fail(here, _BAD_ID, "no such model")
    if here.get(model, "model").context != here.current():
        raise here.violation("a model is unloaded under another context than it was loaded in")
    here.drop(model, "model")
    return 0


@_api("mdl.create_desc", _nothing, needs="init")
def create_desc():
    return _world().make("model desc")


@_api("mdl.get_desc", _code)
def get_desc(desc, model):
    here = _world()
    here.get(desc, "model desc").holds = here.get(model, "model").holds
    return 0


@_api("mdl.destroy_desc", _code, releases=True, needs="init")
def destroy_desc(desc):
    _world().drop(desc, "model desc")
    return 0


def _definition(desc):
    here = _world()
    loaded = here.get(desc, "model desc").holds
    if loaded is None:
        raise here.violation("a model desc is read before get_desc")
    return loaded.definition


def _input(desc, index):
    found = _mod.inputs(_definition(desc))
    return found[index] if 0 <= index < len(found) else None


def _output(desc, index):
    found = _definition(desc).outputs
    return found[index] if 0 <= index < len(found) else None


@_api("mdl.get_num_inputs")
def get_num_inputs(desc):
    return len(_mod.inputs(_definition(desc)))


@_api("mdl.get_num_outputs")
def get_num_outputs(desc):
    return len(_definition(desc).outputs)


@_api("mdl.get_input_size_by_index")
def get_input_size_by_index(desc, index):
    return _mod.input_bytes(_definition(desc), index) if _input(desc, index) else 0


@_api("mdl.get_output_size_by_index")
def get_output_size_by_index(desc, index):
    return _mod.output_bytes(_definition(desc), index) if _output(desc, index) else 0


@_api("mdl.get_input_name_by_index")
def get_input_name_by_index(desc, index):
    return (_input(desc, index) or {"name": ""})["name"]


@_api("mdl.get_output_name_by_index")
def get_output_name_by_index(desc, index):
    # As ATC writes them: the operator, its output, the tensor.
    one = _output(desc, index)
    return f"Node_{index}:0:{one['name']}" if one else ""


@_api("mdl.get_input_data_type")
def get_input_data_type(desc, index):
    return (_input(desc, index) or {"dtype": -1})["dtype"]


@_api("mdl.get_output_data_type")
def get_output_data_type(desc, index):
    return (_output(desc, index) or {"dtype": -1})["dtype"]


@_api("mdl.get_input_format")
def get_input_format(desc, index):
    return 2


@_api("mdl.get_output_format")
def get_output_format(desc, index):
    return 2


def _dims(one, shape):
    return {"name": one["name"], "dimCount": len(shape), "dims": list(shape)}


@_api("mdl.get_input_dims", _no_dict)
def get_input_dims(desc, index):
    one = _input(desc, index)
    return (_dims(one, one["shape"]), 0) if one else ({}, _INVALID)


@_api("mdl.get_input_dims_v2", _no_dict)
def get_input_dims_v2(desc, index):
    one = _input(desc, index)
    return (_dims(one, one["shape"]), 0) if one else ({}, _INVALID)


@_api("mdl.get_output_dims", _no_dict)
def get_output_dims(desc, index):
    definition = _definition(desc)
    one = _output(desc, index)
    if one is None:
        return {}, _INVALID
    return _dims(one, _mod.output_shape(definition, index, _mod.largest(definition))), 0


@_api("mdl.get_cur_output_dims", _no_dict)
def get_cur_output_dims(desc, index):
    here = _world()
    definition = _definition(desc)
    one = _output(desc, index)
    if definition.kind == _o.FREE:
        return {}, _fail(here, _NOT_SUPPORTED, "the model's sizes are free")
    loaded = here.get(desc, "model desc").holds
    shape = _mod.output_shape(definition, index, loaded.gear) if one else None
    return (_dims(one, shape), 0) if shape is not None else ({}, _fail(here, _INVALID, "no gear"))


@_api("mdl.get_input_index_by_name", _with_ret)
def get_input_index_by_name(desc, name):
    for index, one in enumerate(_mod.inputs(_definition(desc))):
        if one["name"] == name:
            return index, 0
    return 0, _fail(_world(), _INVALID, f"no input is called {name}")


@_api("mdl.get_output_index_by_name", _with_ret)
def get_output_index_by_name(desc, name):
    for index, one in enumerate(_definition(desc).outputs):
        if f"Node_{index}:0:{one['name']}" == name:
            return index, 0
    return 0, _fail(_world(), _INVALID, f"no output is called {name}")


@_api("mdl.get_aipp_type", lambda ret: (0, 0, ret))
def get_aipp_type(model, index):
    _world().get(model, "model")
    return 0, 0, 0


# -- gears --------------------------------------------------------------------------------------


@_api("mdl.get_dynamic_batch", _no_dict)
def get_dynamic_batch(desc):
    definition = _definition(desc)
    sizes = [g[0] for g in definition.gears] if definition.kind == _o.BATCH else []
    return {"batchCount": len(sizes), "batch": sizes}, 0


@_api("mdl.get_dynamic_hw", _no_dict)
def get_dynamic_hw(desc, index):
    definition = _definition(desc)
    sizes = [list(g) for g in definition.gears] if definition.kind == _o.IMAGE else []
    return {"hwCount": len(sizes), "hw": sizes}, 0


@_api("mdl.get_input_dynamic_gear_count", _with_ret)
def get_input_dynamic_gear_count(desc, index):
    definition = _definition(desc)
    return (len(definition.gears) if definition.kind == _o.DIMS else 0), 0


@_api("mdl.get_input_dynamic_dims", lambda ret: (None, ret))
def get_input_dynamic_dims(desc, index, count):
    definition = _definition(desc)
    if count > _MOST_GEARS or index != -1 or definition.kind != _o.DIMS:
        return None, _fail(_world(), _INVALID, "no such gears")
    return [_dims({"name": ""}, gear) for gear in definition.gears[:count]], 0


def _set_gear(model, dataset, index, kind, gear):
    here = _world()
    loaded = here.get(model, "model").holds
    holds = here.get(dataset, "dataset")
    if holds.in_flight:
        raise here.violation("a gear is set on a data set in flight")
    if 0 in gear:
        return _fail(here, _INVALID, "a size of 0")
    definition = loaded.definition
    gears_at = len(_mod.inputs(definition)) - 1
    if definition.kind != kind or index != gears_at or index >= len(holds.holds.buffers):
        return _fail(here, _INVALID, "the model has no such gears, or not at this index")
    buffer = here.get(holds.holds.buffers[index], "data buffer").holds
    if not buffer.address:
        return _fail(here, _INVALID, "the gear's buffer has no memory")
    if buffer.size < 4:
        return _fail(here, _mod.GEAR_LENGTH, "the gear's buffer is too small")
    if gear not in definition.gears:
        return _fail(here, _mod.NOT_A_GEAR, f"{gear} is not one of the gears")
    _m.region(here, buffer.address, 4, _m.DEVICE)[1][:] = 0
    holds.holds.gear = loaded.gear = list(gear)
    return 0


@_api("mdl.set_dynamic_batch_size", _code)
def set_dynamic_batch_size(model, dataset, index, batch):
    return _set_gear(model, dataset, index, _o.BATCH, [batch])


@_api("mdl.set_dynamic_hw_size", _code)
def set_dynamic_hw_size(model, dataset, index, height, width):
    return _set_gear(model, dataset, index, _o.IMAGE, [height, width])


@_api("mdl.set_input_dynamic_dims", _code)
def set_input_dynamic_dims(model, dataset, index, dims):
    if dims["dimCount"] != len(dims["dims"]):
        return _fail(_world(), _INVALID, "dimCount is not the number of dims")
    return _set_gear(model, dataset, index, _o.DIMS, list(dims["dims"]))


# -- data sets ----------------------------------------------------------------------------------


@_api("mdl.create_dataset", _nothing, needs="init")
def create_dataset():
    return _world().make("dataset", _mod.DataSet())


@_api("mdl.destroy_dataset", _code, releases=True, needs="init")
def destroy_dataset(dataset):
    here = _world()
    thing = here.drop(dataset, "dataset")
    for desc in thing.holds.descs.values():
        here.drop(desc, "dataset tensor desc")
    return 0


@_api("mdl.add_dataset_buffer", lambda ret: (0, ret), needs="init")
def add_dataset_buffer(dataset, buffer):
    here = _world()
    here.get(buffer, "data buffer")
    here.get(dataset, "dataset").holds.buffers.append(buffer)
    return dataset, 0


@_api("mdl.get_dataset_num_buffers", needs="init")
def get_dataset_num_buffers(dataset):
    return len(_world().get(dataset, "dataset").holds.buffers)


@_api("mdl.get_dataset_buffer", needs="init")
def get_dataset_buffer(dataset, index):
    buffers = _world().get(dataset, "dataset").holds.buffers
    return buffers[index] if 0 <= index < len(buffers) else 0


@_api("mdl.set_dataset_tensor_desc", lambda ret: (0, ret), needs="init")
def set_dataset_tensor_desc(dataset, desc, index):
    here = _world()
    given = here.get(desc, "tensor desc").holds
    thing = here.get(dataset, "dataset")
    if thing.in_flight:
        raise here.violation("a data set is changed while it is in flight")
    if not 0 <= index < len(thing.holds.buffers):
        return dataset, _fail(here, _INVALID, "no such buffer")
    copy = _mod.TensorDesc(given.dtype, list(given.dims))
    if index in thing.holds.descs:
        here.get(thing.holds.descs[index], "dataset tensor desc").holds = copy
    else:
        thing.holds.descs[index] = here.make("dataset tensor desc", copy)
    return dataset, 0


@_api("mdl.get_dataset_tensor_desc", needs="init")
def get_dataset_tensor_desc(dataset, index):
    here = _world()
    thing = here.get(dataset, "dataset")
    if thing.in_flight:
        raise here.violation("a data set is read while it is in flight")
    return thing.holds.descs.get(index, 0)


# -- executions ---------------------------------------------------------------------------------


@_api("mdl.execute", _code)
def execute(model, given, wanted):
    here = _world()
    if _s.running(here, model, 0):
        raise here.violation("a model is executed while a stream executes it")
    code, job = _mod.prepare(here, model, given, wanted, sync=True)
    if code:
        return code
    _mod.busy(job.left_s)
    return job.do()


@_api("mdl.execute_async", _code)
def execute_async(model, given, wanted, stream):
    here = _world()
    if _s.context_of(here, stream) != here.current():
        return _fail(here, _STREAM_CONTEXT, "the stream is of another context")
    if _s.running(here, model, stream):
        raise here.violation("one model is in flight on two streams")
    code, job = _mod.prepare(here, model, given, wanted, sync=False)
    if not code:
        _s.put(here, stream, job)
    return code
