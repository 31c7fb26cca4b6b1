"""What a full waiting room tells those whom it turns away."""

from __future__ import annotations

from serving.errors import Overloaded
from serving.scheduling.drain import Drain


def full_queue(
    servable: str,
    most: tuple[int, int],
    waiting: tuple[int, int],
    drain: Drain,
    rows_ahead: int,
) -> Overloaded:
    """Return the error for a full line; ``most`` and ``waiting`` are requests and bytes.

    It says how long those who wait will take, as far as that is known, and asks the caller to come
    again when they are through.
    """
    by_count = waiting[0] >= most[0]
    key = "max_queue_size" if by_count else "max_queue_mb"
    given = f"{waiting[0]} waiting"
    if not by_count:
        given += f" with {waiting[1] >> 20} MiB"
    about = drain.text(rows_ahead)
    return Overloaded(
        f"servable {servable!r} has a full queue",
        code="queue_full",
        expected=f"at most {most[0]} requests" if by_count else f"at most {most[1] >> 20} MiB",
        given=f"{given}, {about}" if about else given,
        fix=f"try again later, or raise {key} or --workers",
        retry_after_s=drain.retry_after_s(rows_ahead),
        limit=most[0] if by_count else None,
    )
