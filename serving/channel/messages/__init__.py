"""What master and worker say to each other: small, typed, one datagram each, never a pickle.

There are two kinds of link. The *control link* (``control``) carries loading, health and farewell;
a *run link* (one for each slot of a worker) carries batches (``run``), or in a stage worker calls
of functions (``stage``). Hot messages (``Run``, ``Done``, and their likes for stages) are packed
structs, the others one line of JSON (``wire``). Texts are cut: a datagram must fit into a socket's
buffer; tensor bytes never travel here.

Python 3.9 syntax.
"""

from serving.channel.messages.control import (
    Cancel,
    DeviceGone,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Progress,
    Registered,
    Stop,
    Unload,
    Unloaded,
    leniently,
)
from serving.channel.messages.run import (
    Afar,
    Copy,
    Define,
    Deny,
    Done,
    Failed,
    Forget,
    ForgetFiles,
    Grant,
    Lend,
    More,
    Run,
    Written,
)
from serving.channel.messages.stage import Call, CallDone, CallFailed, StageDone, StageRun
from serving.channel.messages.wire import (
    MAX_DATAGRAM,
    MOST_COPIES,
    PROTOCOL,
    Message,
    cut,
    decode,
    encode,
)

__all__ = [
    "MAX_DATAGRAM",
    "MOST_COPIES",
    "PROTOCOL",
    "Afar",
    "Call",
    "CallDone",
    "CallFailed",
    "Cancel",
    "Copy",
    "Define",
    "Deny",
    "DeviceGone",
    "Done",
    "Failed",
    "Forget",
    "ForgetFiles",
    "Grant",
    "Hello",
    "Lend",
    "Load",
    "LoadFailed",
    "Loaded",
    "Message",
    "More",
    "Ping",
    "Pong",
    "Progress",
    "Registered",
    "Run",
    "StageDone",
    "StageRun",
    "Stop",
    "Unload",
    "Unloaded",
    "Written",
    "cut",
    "decode",
    "encode",
    "leniently",
]
