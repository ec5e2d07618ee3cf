"""Who holds which piece of work, and for how long. In memory only: after a restart every claim starts adrift.

A claim belongs to the connection it was made over. While that connection lives and its worker shows signs of life, the
claim holds. When the connection closes the claim goes adrift and lapses after a short grace, unless its owner shows up
on another connection:

* by echoing the claim's token: that is proof, and the claim is bound to the new connection;
* by polling or heartbeating under the worker's name on a connection where no worker has registered: that is how the
  official workers go on after a lost connection, and they have no token to show;
* by registering again as the same process: our workers do that when they reconnect. A container that was restarted
  can look the same, so it only buys the time in which the token must be shown.

A worker reconnects, too, when its connection does not answer, and that one may look alive from here for long. So if it
is one that echoes tokens, what it claimed over earlier connections must then be shown over the new one.

A worker of the same name in another process (a restarted one, a replica) proves nothing and keeps nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flovyn.server import limits

if TYPE_CHECKING:
    from collections.abc import Collection

    from flovyn.server.store.workers import Of

__all__ = ["Claim", "Leases", "Link"]


@dataclass(slots=True, eq=False)
class Link:
    """One connection of a client.

    Attributes:
        id: Its number.
        process: The process that registered a worker over it, if one did.
        seen_at: When the last call came.
        polls: How many polls are being held open.
        workers: The workers (organisation, name) that showed themselves on it.
        echoing: Those of them that have echoed a token over it.
        kinds: What those of them can do that have registered over it.
        claims: What was claimed over it, by token.
        shown: How many events of a run's history were sent over it to whoever had claimed it, by the run's number.
    """

    id: int
    seen_at: int
    process: str | None = None
    polls: int = 0
    workers: dict[tuple[str, str], None] = field(default_factory=dict[tuple[str, str], None])
    echoing: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    kinds: dict[tuple[str, str], dict[Of, tuple[str, ...]]] = field(
        default_factory=dict[tuple[str, str], "dict[Of, tuple[str, ...]]"]
    )
    claims: dict[str, Claim] = field(default_factory=dict[str, "Claim"])
    shown: OrderedDict[int, int] = field(default_factory=OrderedDict[int, int])

    def show(self, n: int, sequence: int) -> None:
        """Note that so many events of a run were sent."""
        self.shown[n] = sequence
        self.shown.move_to_end(n)
        if len(self.shown) > limits.SHOWN_HISTORIES:
            self.shown.popitem(last=False)


@dataclass(slots=True, eq=False)
class Claim:
    """One piece of work in somebody's hands.

    Attributes:
        of: What it is.
        n: Its number in the store.
        token: The fencing token.
        worker: Organisation and name of the worker.
        process: The process that the worker said it is.
        link: The connection it is bound to; None while adrift.
        expires_at: When it lapses whatever its worker does.
        confirmed: Its worker has made a call for it, so the answer to the poll has arrived.
        reprieved: Its worker came back as the same process and still has to show the token.
    """

    of: Of
    n: int
    token: str
    worker: tuple[str, str]
    process: str | None
    link: Link | None = None
    expires_at: int | None = None
    confirmed: bool = False
    reprieved: bool = False


class Leases:
    """All claims and connections.

    Args:
        worker_timeout_ms: How long a worker that echoes tokens may be silent before it has lost its claims. It sends
            heartbeats often, for itself and for each task.
        patience_ms: The same for any other worker.
    """

    def __init__(self, worker_timeout_ms: int, patience_ms: int) -> None:
        self.worker_timeout_ms = worker_timeout_ms
        self._patience_ms = patience_ms
        self.check_at: float = math.inf  # nothing can lapse before this moment
        self._links: dict[int, Link] = {}
        self._claims: dict[str, Claim] = {}
        self._by_work: dict[tuple[Of, int], Claim] = {}
        self._links_of: dict[tuple[str, str], dict[int, Link]] = {}
        self._adrift: dict[tuple[str, str], dict[str, Claim]] = {}

    # --- signs of life ----------------------------------------------------------------------

    def touch(self, link_id: int, now: int) -> Link:
        """A call came over this connection."""
        link = self._links.get(link_id)
        if link is None:
            link = self._links[link_id] = Link(link_id, now)
        link.seen_at = now
        return link

    def appear(self, link_id: int, worker: tuple[str, str], now: int, *, process: str | None = None) -> Link:
        """A worker polled, sent a heartbeat or (with its process) registered over this connection."""
        link = self.touch(link_id, now)
        if process is not None:
            link.process = process
        if worker not in link.workers:
            link.workers[worker] = None
            self._links_of.setdefault(worker, {})[link_id] = link
        others = self._links_of[worker]
        if len(others) > 1:
            for other in others.values():
                if None in (link.process, other.process) or link.process == other.process:
                    other.seen_at = now
        if process is not None and any(worker in other.echoing for other in self._earlier(link, worker)):
            self._move_to(link, worker, now)
        adrift = self._adrift.get(worker)
        if adrift:
            for claim in list(adrift.values()):
                self._welcome_back(claim, link, now)
        return link

    def _welcome_back(self, claim: Claim, link: Link, now: int) -> None:
        if link.process is None:
            self._bind(claim, link, now)
        elif link.process == claim.process and not claim.reprieved:
            claim.reprieved = True
            self._expire(claim, now + self.worker_timeout_ms)

    def _earlier(self, link: Link, worker: tuple[str, str]) -> list[Link]:
        """The connections over which the worker's process was there before."""
        links = self._links_of.get(worker, {}).values()
        return [other for other in links if other.id < link.id and other.process == link.process is not None]

    def _move_to(self, link: Link, worker: tuple[str, str], now: int) -> None:
        """A worker that echoes tokens has come over this connection, where it has to show what it holds."""
        link.echoing.add(worker)
        for other in self._earlier(link, worker):
            for claim in other.claims.values():
                if claim.worker == worker and not claim.reprieved:
                    claim.reprieved = True
                    at = now + self.worker_timeout_ms
                    self._expire(claim, at if claim.expires_at is None else min(at, claim.expires_at))

    def last_heard(self, worker: tuple[str, str]) -> int | None:
        """When a worker was heard last over a connection that is still there; None if it has none."""
        links = self._links_of.get(worker, {})
        return max((link.seen_at for link in links.values()), default=None)

    def show_token(self, token: str, link_id: int, now: int) -> None:
        """The owner of a claim proved over this connection that it lives."""
        claim = self._claims.get(token)
        if claim is None:
            return
        link = self.touch(link_id, now)
        claim.confirmed = True
        self._bind(claim, link, now)
        if claim.worker not in link.echoing:
            link.echoing.add(claim.worker)
            for other in link.claims.values():
                self._limit(other, now)
            self._move_to(link, claim.worker, now)

    def confirm(self, of: Of, n: int, link_id: int, now: int) -> None:
        """The connection that claimed a piece of work asked for more about it: the claim has arrived."""
        claim = self._by_work.get((of, n))
        if claim is not None and claim.link is not None and claim.link.id == link_id:
            claim.confirmed = True
            self._limit(claim, now)

    def poll_ended(self, link_id: int, now: int) -> None:
        """A poll that was held open over this connection has ended, perhaps together with the connection."""
        link = self._links.get(link_id)
        if link is not None:
            link.polls -= 1
            link.seen_at = now
            self._look_at(now + self.worker_timeout_ms)

    # --- claims -----------------------------------------------------------------------------

    def hold(self, claim: Claim, link_id: int, now: int) -> None:
        """A piece of work was claimed over this connection."""
        self._add(claim)
        self._bind(claim, self.touch(link_id, now), now)

    def restore(self, claim: Claim, now: int) -> None:
        """A claim that the store knows: unless its owner is known too, it has the usual time to show up."""
        if claim.token in self._claims:
            return
        self._add(claim)
        self._adrift.setdefault(claim.worker, {})[claim.token] = claim
        self._expire(claim, now + self.worker_timeout_ms)

    def release(self, token: str) -> None:
        """The work is reported, or nobody's any more."""
        claim = self._claims.pop(token, None)
        if claim is None:
            return
        del self._by_work[claim.of, claim.n]
        if claim.link is not None:
            del claim.link.claims[claim.token]
        else:
            self._forget_adrift(claim)

    def of_work(self, of: Of, n: int) -> Claim | None:
        """Who holds this piece of work."""
        return self._by_work.get((of, n))

    def is_holder(self, claim: Claim, link_id: int) -> bool:
        """Whether this connection is, by all that is known without a token, the claim's owner."""
        if claim.link is not None:
            return claim.link.id == link_id
        link = self._links.get(link_id)
        return link is not None and claim.worker in link.workers

    def is_confirmed(self, token: str) -> bool:
        """Whether whoever has this claim has made a call for it."""
        claim = self._claims.get(token)
        return claim is not None and claim.confirmed

    def process_of(self, link_id: int) -> str | None:
        """The process that registered over this connection."""
        link = self._links.get(link_id)
        return None if link is None else link.process

    def _add(self, claim: Claim) -> None:
        self._claims[claim.token] = claim
        self._by_work[claim.of, claim.n] = claim

    def _bind(self, claim: Claim, link: Link, now: int) -> None:
        if claim.link is not None:
            claim.link.claims.pop(claim.token, None)
        else:
            self._forget_adrift(claim)
        claim.link = link
        claim.reprieved = False
        link.claims[claim.token] = claim
        self._limit(claim, now)
        self._look_at(now + self.worker_timeout_ms)

    def _limit(self, claim: Claim, now: int) -> None:
        """Say when a claim lapses though its worker lives.

        The answer to the poll gets lost when its caller gives up at that very moment. Whoever got a run asks for its
        events next, and whoever echoes tokens heartbeats its tasks; from the official workers no more is heard of a
        task than its end.
        """
        if claim.of == "workflow":
            within = limits.CLAIM_WITHOUT_REPORT_MS if claim.confirmed else self.worker_timeout_ms
            self._expire(claim, now + within)
        elif claim.confirmed or claim.link is None or claim.worker not in claim.link.echoing:
            self._expire(claim, None)
        else:
            self._expire(claim, now + max(limits.TASK_UNCONFIRMED_MS, self.worker_timeout_ms))

    def _forget_adrift(self, claim: Claim) -> None:
        adrift = self._adrift.get(claim.worker)
        if adrift is not None and adrift.pop(claim.token, None) is not None and not adrift:
            del self._adrift[claim.worker]

    def _expire(self, claim: Claim, at: int | None) -> None:
        claim.expires_at = at
        if at is not None:
            self._look_at(at)

    def _look_at(self, at: int) -> None:
        self.check_at = min(self.check_at, at)

    # --- the end of a lease -----------------------------------------------------------------

    def disconnect(self, link_id: int, now: int) -> None:
        """The connection closed: what was claimed over it goes adrift."""
        link = self._links.pop(link_id, None)
        if link is None:
            return
        for worker in link.workers:
            links = self._links_of[worker]
            del links[link_id]
            if not links:
                del self._links_of[worker]
        for claim in link.claims.values():
            claim.link = None
            self._adrift.setdefault(claim.worker, {})[claim.token] = claim
            self._expire(claim, now + limits.DISCONNECT_GRACE_MS)

    def lapsed(self, now: int) -> list[Claim]:
        """The claims that hold no longer; each must be released."""
        if now < self.check_at:
            return []
        lapsed = [claim for claim in self._claims.values() if self.ends_at(claim) <= now]
        gone = {claim.token for claim in lapsed}
        self.check_at = min(
            (self.ends_at(claim) for claim in self._claims.values() if claim.token not in gone), default=math.inf
        )
        return lapsed

    def ends_at(self, claim: Claim) -> float:
        """When a claim lapses if nothing more is heard of its worker."""
        at = math.inf if claim.expires_at is None else claim.expires_at
        link = claim.link
        if link is None:
            return at
        # A poll that is being held open is a sign of life in itself; look again when it could be over.
        silent_at = link.seen_at + (self.worker_timeout_ms if claim.worker in link.echoing else self._patience_ms)
        return min(at, max(silent_at, link.seen_at + limits.POLL_CAP_S * 1000) if link.polls else silent_at)

    # --- a clock that jumps -----------------------------------------------------------------

    def shift(self, milliseconds: int) -> None:
        """The clock jumped: whoever is connected has not been silent for as long as that, and keeps what it holds."""
        for link in self._links.values():
            link.seen_at += milliseconds
            for claim in link.claims.values():
                if claim.expires_at is not None:
                    claim.expires_at += milliseconds

    def next_adrift(self) -> float:
        """When the first claim lapses whose connection has closed; infinity if there is none."""
        adrift = (claim for claims in self._adrift.values() for claim in claims.values())
        return min((math.inf if claim.expires_at is None else claim.expires_at for claim in adrift), default=math.inf)

    def claims(self) -> Collection[Claim]:
        """Every claim."""
        return self._claims.values()

    def links(self) -> Collection[Link]:
        """Every connection that made a call."""
        return self._links.values()
