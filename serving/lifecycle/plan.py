"""What to load and what to let go of: a pure function of what is offered and what there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving.lifecycle.policy import wanted
from serving.repository.observation import Offer, Source


@dataclass(frozen=True)
class Known:
    """What there is of a version: whether it serves, what was tried last, and whether that runs.

    ``busy`` is set while something is being loaded or taken down under its number.
    """

    serves: bool = False
    tried: Source | None = None
    busy: bool = False


@dataclass(frozen=True)
class Step:
    """What to do about one servable now.

    ``load`` in this order, beside whatever serves under the same number; ``retire`` what serves;
    ``forget`` what does not serve and is not there any more. ``wanted`` are the versions that
    should serve, newest first.
    """

    wanted: tuple[int, ...] = ()
    load: tuple[int, ...] = ()
    retire: tuple[int, ...] = ()
    forget: tuple[int, ...] = ()


def plan(offer: Offer | None, known: Mapping[int, Known]) -> Step:
    """Return the next step for a servable; None: its folder is gone.

    A version that serves is let go of only when nothing that should take its place is still on
    its way, being copied included, and, as long as its files are there, only when all of that
    serves: whatever else is wrong with the folder, what serves goes on. With ``update = "in_turn"``
    it is let go of first, and loaded again should what was to take its place fail.
    """
    serving = {n for n, version in known.items() if version.serves}
    idle = {n for n, version in known.items() if not version.busy}
    if offer is None:
        return Step(retire=_ordered(serving & idle), forget=_ordered(idle - serving))
    if offer.servable.reason:
        return Step(forget=_ordered(idle - serving))
    # What serves and lost its model file is most likely being given another one.
    usable = {n for n in offer.sources if n in offer.at_rest or n in known} | serving & offer.there
    settings = offer.servable.settings
    in_turn = settings.update == "in_turn"
    tried = (idle - serving) & offer.sources.keys()
    failed = {n for n in tried if not _differs(known[n], offer.sources[n])}
    chosen = wanted(usable - failed if in_turn else usable, settings.versions)
    load = tuple(
        n
        for n in chosen
        if n in offer.at_rest and (n not in known or _differs(known[n], offer.sources[n]))
    )
    if load and in_turn:
        leaving = {n for n in serving if n in load or n not in chosen}
        if leaving or len(idle) < len(known):
            return Step(chosen, retire=_ordered(leaving & idle))
    coming = {n for n in chosen if n in load or (n in known and known[n].busy)}
    replaced = bool(chosen) and not coming and serving >= set(chosen)
    # Where only a copy that is under way could take its place, a deleted one waits for that.
    copied = set(wanted(offer.sources.keys(), settings.versions))
    if not chosen:
        awaited = copied
    else:
        awaited = coming if serving & set(chosen) else coming | copied - usable
    deleted = set() if offer.all_or_nothing else serving - offer.there
    spent = serving & idle - set(chosen)
    retire = {n for n in spent if (not awaited if n in deleted else replaced)}
    refused = {v.version for v in offer.servable.versions if v.path is None}
    forget = idle - serving - set(chosen) - refused - (failed if in_turn else set())
    return Step(chosen, load, _ordered(retire), _ordered(forget))


def _differs(version: Known, source: Source) -> bool:
    return not version.busy and version.tried != source


def _ordered(numbers: set[int]) -> tuple[int, ...]:
    return tuple(sorted(numbers))
