"""Stands for a value while a method is registered; whoever computes with it learns what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from serving.definition import INPUTS, Ref

if TYPE_CHECKING:
    from serving.register.method import Draft


class Placeholder:
    """An input of the method, or an output of one of its stages."""

    __slots__ = ("draft", "ref")

    def __init__(self, draft: "Draft", ref: Ref) -> None:
        self.draft = draft
        self.ref = ref

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by Python itself, not by the user
            raise AttributeError(name)
        raise AttributeError(self._told(f"'.{name}'"))

    def __iter__(self) -> Any:
        if self.ref.node != INPUTS and self.draft.nodes[self.ref.node].outputs == 1:
            raise TypeError(
                "a stage with outputs_count=1 gives one value, which cannot be unpacked (say "
                "outputs_count=2 or more where its function returns several)"
            )
        raise TypeError(self._told("unpacking it, or a loop over it,"))

    def _told(self, use: str) -> str:
        if self.ref.node == INPUTS:
            name = f"'{self.draft.inputs[self.ref.output]}'"
        else:
            name = f"an output of '{self.draft.nodes[self.ref.node].name}'"
        return (
            f"{name} is a placeholder in method '{self.draft.name}', which runs once, at import, "
            f"to say what gets what: {use} belongs in a function that is given to add_stage"
        )


def _unusable(use: str) -> Callable[..., Any]:
    def refuse(self: Placeholder, *_: Any, **__: Any) -> Any:
        raise TypeError(self._told(use))

    return refuse


_ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or")
_USES = {
    "calculating with it": [f"__{side}{n}__" for n in _ARITHMETIC for side in ("", "r", "i")]
    + ["__neg__", "__abs__", "__invert__"],
    "comparing it": ["__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"],
    "a condition on it": ["__bool__"],
    "its length": ["__len__"],
    "indexing it": ["__getitem__", "__setitem__"],
    "calling it": ["__call__"],
    "converting it": ["__array__", "__int__", "__float__", "__index__", "__bytes__"],
}
for _use, _names in _USES.items():
    for _name in _names:
        setattr(Placeholder, _name, _unusable(_use))
