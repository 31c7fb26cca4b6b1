"""Operators that pick elements by index: the batch must not be what is picked from."""

from __future__ import annotations

from serving.formats.batch_axis.places import fits
from serving.formats.batch_axis.size import ONE, Size
from serving.formats.batch_axis.step import Step, rule
from serving.formats.batch_axis.value import Draft, Place, Rows, Value


@rule("Gather")
def gather(step: Step) -> Draft:
    """One axis of the data is replaced by the axes of the indices."""
    data, indices = step.value(0), step.value(1)
    sizes, picked = step.dims(0), step.dims(1)
    axis = step.axis(step.attribute("axis", 0), len(sizes))
    dims = (*sizes[:axis], *picked, *sizes[axis + 1 :])
    if _own_list(data, indices, axis):
        return Draft(step.rows(1), dims, place=Place.NONE)
    if data.rows is not None and indices.rows is not None:
        step.refuse("picks from the batch by numbers that come from the batch")
    if indices.rows is not None:
        step.require_free(0)
        return Draft(indices.rows.at(axis + indices.rows.axis), dims)
    step.require_free(1)
    rows = step.rows(0)
    if rows.axis == axis:
        step.refuse(f"picks entries of axis {axis}, the batch")
    place = rows.axis if rows.axis < axis else rows.axis - 1 + len(picked)
    return Draft(rows.at(place), dims)


def _own_list(data: Value, indices: Value, axis: int) -> bool:
    """Return whether the data lists all rows' entries, and every index finds one of its own row."""
    return (
        axis == 0
        and data.place is Place.NONE
        and data.rows is not None
        and data.rows == Rows(0, ONE, data.rows.inner)
        and indices.place is Place.OWN
        and indices.span == data.rows.inner
        and fits(indices.reach, indices.span)
    )


@rule("GatherElements")
def gather_elements(step: Step) -> Draft:
    """Data and indices lie side by side in every axis but one."""
    axis = step.axis(step.attribute("axis", 0), step.rank(0))
    indices = step.rows(1)
    data = step.value(0).rows
    if data is None:
        step.require_free(0)
        if indices.axis != axis:
            step.refuse("pairs the rows with entries of a tensor that has no batch")
    elif data != indices:
        step.refuse("combines inputs whose rows are laid out differently")
    elif data.axis == axis:
        step.refuse(f"picks entries of axis {axis}, the batch")
    return Draft(indices, step.dims(1))


@rule("GatherND")
def gather_nd(step: Step) -> Draft:
    """The last axis of the indices addresses the data, after ``batch_dims`` common axes."""
    common = step.attribute("batch_dims", 0)
    data, indices = step.value(0).rows, step.value(1).rows
    sizes, picked = step.dims(0), step.dims(1)
    depth = picked[-1].constant if picked else None
    if depth is None:
        step.refuse("addresses its data by tuples of unknown length")
    dims = (*picked[:-1], *sizes[common + depth :])
    if indices is None:
        step.require_free(1)
        rows = step.rows(0)
        if rows.axis < common + depth:
            step.refuse(f"picks entries of axis {rows.axis}, the batch")
        return Draft(rows.at(rows.axis - depth - common + len(picked) - 1), dims)
    if indices.axis == len(picked) - 1:
        step.refuse("addresses its data by tuples that run along the batch")
    if _own_entries(step, common):
        return Draft(indices, dims, place=Place.NONE)
    if data is None:
        step.require_free(0)
        if common:
            step.refuse("pairs the rows with entries of a tensor that has no batch")
    elif data != indices or indices.axis >= common:
        step.refuse("picks from the batch by numbers that come from the batch")
    return Draft(indices, dims)


def _own_entries(step: Step, common: int) -> bool:
    """Return whether every tuple begins with the number of its own row: data[n, ...]."""
    data, indices = step.value(0), step.value(1)
    return (
        common == 0
        and indices.place is Place.INDEX
        and data.place is Place.NONE
        and data.rows == Rows(0)
    )


@rule("ScatterElements", "Scatter")
def scatter_elements(step: Step) -> Draft:
    """Data, indices and updates lie side by side in every axis but one."""
    rows = step.rows(0)
    axis = step.axis(step.attribute("axis", 0), step.rank(0))
    if step.rows(1) != rows or step.rows(2) != rows:
        step.refuse("combines inputs whose rows are laid out differently")
    if rows.axis == axis:
        step.refuse(f"writes along axis {axis}, the batch")
    return step.keep()


@rule("TfIdfVectorizer")
def tf_idf(step: Step) -> Draft:
    """Each line of a matrix is counted by itself."""
    rows = step.rows(0)
    if step.rank(0) != 2 or rows.axis != 0:
        step.refuse("counts words over the batch")
    unknown: Size | None = None
    return Draft(rows, (rows.size, unknown))


@rule("NonZero", "NonMaxSuppression", "Unique", "Compress")
def selection(step: Step) -> Draft:
    """The result's length depends on the values of all rows."""
    step.refuse("picks from all rows at once; how much it returns depends on the values")


@rule("RoiAlign", "MaxRoiPool")
def regions(step: Step) -> Draft:
    """Each region names the sample it belongs to by its place in the batch."""
    step.refuse("finds its samples by their place in the batch")


@rule("ScatterND")
def scatter_nd(step: Step) -> Draft:
    """The indices may address any row."""
    step.refuse("writes to places given by indices that may lie in any row")
