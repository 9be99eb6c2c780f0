"""Access tokens of kind oauth2: got from the service in time, by one call for all who wait, and never written down.

In: a secret of the vault. Out: what is put on a call. Writes: a refresh token that the service changed, into the vault,
before the access token that came with it is used. Never: lets an agent's call reach an address where tokens are given.
Fails: Refused in words for the agent and its person; what a service refused for good is asked again after a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import h11
import msgspec

from nanoclaw.clock import Clock
from nanoclaw.errors import OperatorError, Refused
from nanoclaw.gateway.custody import Custody
from nanoclaw.gateway.oauth_grant import OAuthGrant, parse_grant
from nanoclaw.gateway.policy import Deny
from nanoclaw.gateway.secret import Secret
from nanoclaw.gateway.target import Target
from nanoclaw.gateway.upstream import Endpoint, UpstreamError, UpstreamPool
from nanoclaw.gateway.vault_file import Kind, StoredSecret

EARLY_SECONDS = 60.0  # renewed this long before it ends: a call that is under way must not outlive its token
LIFE_SECONDS = 3600.0  # where the service does not say (RFC 6749 section 5.1: it should)
AGAIN_SECONDS = 5.0  # after a failure that may pass
ANSWER_SECONDS = 20.0
ANSWER_BYTES = 64 * 1024


class TokenAnswer(msgspec.Struct, frozen=True):
    """What a token endpoint answers (RFC 6749 sections 5.1 and 5.2)."""

    access_token: str = ""
    expires_in: float | None = None
    refresh_token: str = ""
    error: str = ""


@dataclass(slots=True)
class _Access:
    """What is known of one secret's access. `known` is the secret it belongs to: another one begins anew."""

    known: Secret
    token: Secret | None = None
    before: str = ""
    renew_at: float = 0.0
    ends_at: float = 0.0
    refusal: str = ""
    refused_until: float = 0.0
    unsaved: str = ""
    work: asyncio.Task[None] | None = None


class AccessTokens:
    """The access tokens in memory, by the secret's name."""

    def __init__(
        self,
        custody: Custody,
        pool: UpstreamPool,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._custody = custody
        self._pool = pool
        self._clock = clock
        self._spawn = spawn
        self._access: dict[str, _Access] = {}
        self._addresses: tuple[tuple[str, str], ...] = ()
        self._addresses_of: tuple[bytes, ...] | None = None

    def refusals(self) -> tuple[str, ...]:
        """Return what services refused, in plain words, for `nanoclaw doctor`."""
        found = ((access, self._custody.vault.find(name)) for name, access in self._access.items())
        return tuple(access.refusal for access, now in found if access.refusal and now and now[1] is access.known)

    def deny(self, target: Target) -> Deny | None:
        """Return why a call is refused that would reach an address where tokens are given; None: it would not."""
        vault = self._custody.vault
        if self._addresses_of is not vault.values():
            pairs = (vault.find(stored.name) for stored in vault.list_stored() if stored.kind is Kind.OAUTH2)
            self._addresses = tuple(_address(*pair) for pair in pairs if pair is not None)
            self._addresses_of = vault.values()
        for host, path in self._addresses:
            if target.host == host and path in ("", target.path.rstrip("/")):
                return Deny("vault", "Access is got and renewed by the gateway; no agent may call that address.")
        return None

    async def usable(self, stored: StoredSecret, secret: Secret) -> Secret:
        """Return what is put on a call: the secret itself, of kind oauth2 an access token. Raises Refused."""
        if stored.kind is not Kind.OAUTH2:
            return secret
        access = self._find_access(stored.name)
        now = self._clock.monotonic()
        if access.token is not None and now < access.renew_at:
            return access.token
        if now >= access.refused_until:
            if access.work is None or access.work.done():
                access.work = self._spawn(self._renew(stored, access))
            await asyncio.wait([access.work])  # a caller that goes away does not end it for the others
        if access.token is not None and self._clock.monotonic() < access.ends_at:
            return access.token
        raise Refused(access.refusal or f"The access of {stored.name} could not be renewed. Try again.")

    def _find_access(self, name: str) -> _Access:
        """Return what is known of the secret that is in the vault now: one that the caller found may be older."""
        found, access = self._custody.vault.find(name), self._access.get(name)
        if found is None:
            raise Refused(f"The secret {name} is not there any more.")
        working = access is not None and access.work is not None and not access.work.done()
        if access is None or (access.known is not found[1] and not working):
            access = self._access[name] = _Access(found[1])
        return access

    async def _renew(self, stored: StoredSecret, access: _Access) -> None:
        """Get a new access token, or note why there is none."""
        access.refusal = ""
        try:
            if access.unsaved:
                await self._save(stored, access, access.unsaved)
            grant = parse_grant(access.known.reveal())
            await self._take(stored, access, grant, await self._ask(grant))
        except (UpstreamError, OSError, TimeoutError, h11.ProtocolError) as error:
            why = str(error) or "it did not answer in time"
            self._note_refusal(access, f"The access of {stored.name} cannot be renewed now: {why}.", AGAIN_SECONDS)
        except OperatorError as error:
            self._note_refusal(access, f"The renewed access of {stored.name} cannot be kept: {error}", AGAIN_SECONDS)
        except Refused as refused:
            access.token = None
            self._note_refusal(access, refused.reason, float("inf"))

    def _note_refusal(self, access: _Access, words: str, seconds: float) -> None:
        access.refusal, access.refused_until = words, self._clock.monotonic() + seconds

    async def _take(self, stored: StoredSecret, access: _Access, grant: OAuthGrant, answer: TokenAnswer) -> None:
        if not answer.access_token:
            if answer.error in ("invalid_grant", "invalid_client", "unauthorized_client"):
                raise Refused(
                    f"{stored.name} refused to renew its access ({answer.error}): it was withdrawn or has ended. Sign "
                    f"in again and run `nanoclaw vault rotate {stored.name}`."
                )
            raise UpstreamError(
                f"its token address answered {answer.error[:64]!r}" if answer.error else "no token came"
            )
        if not answer.access_token.isascii() or not answer.access_token.isprintable():
            raise UpstreamError("its access token is not printable ASCII")
        self._custody.vault.note_passing(
            stored.name, [token for token in (answer.access_token, access.before) if token]
        )
        if answer.refresh_token and answer.refresh_token != grant.refresh_token:
            await self._save(
                stored, access, msgspec.structs.replace(grant, refresh_token=answer.refresh_token).encode()
            )
        life = LIFE_SECONDS if answer.expires_in is None else answer.expires_in
        access.ends_at = self._clock.monotonic() + max(life, AGAIN_SECONDS)
        access.renew_at = max(access.ends_at - EARLY_SECONDS, self._clock.monotonic() + AGAIN_SECONDS)
        access.token, access.before = Secret(answer.access_token), answer.access_token

    async def _save(self, stored: StoredSecret, access: _Access, value: str) -> None:
        """Write a changed refresh token down; it is the only one left, so one that cannot be written is kept here."""
        access.unsaved = value
        await self._custody.change(self._custody.vault.renew, stored.name, access.known, value)
        found = self._custody.vault.find(stored.name)
        if found is not None and found[1].reveal() == value:
            access.known = found[1]
        access.unsaved = ""

    async def _ask(self, grant: OAuthGrant) -> TokenAnswer:
        """Ask the token endpoint once. Raises UpstreamError, OSError, TimeoutError."""
        at = urlsplit(grant.token_url)
        tls = at.scheme == "https"
        fields = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token, "client_id": grant.client_id}
        if grant.client_secret:
            fields["client_secret"] = grant.client_secret
        body = urlencode(fields).encode("ascii")
        endpoint = Endpoint(at.hostname or "", at.port or 443, tls=tls, allow_private=not tls)
        headers = [
            ("host", endpoint.authority),
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-length", str(len(body))),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
        ]
        path = (at.path or "/") + (f"?{at.query}" if at.query else "")
        connection = await self._pool.acquire(endpoint, ANSWER_SECONDS)
        try:
            await connection.send(h11.Request(method="POST", target=path, headers=headers))
            await connection.send(h11.Data(data=body))
            await connection.send(h11.EndOfMessage())
            head = await connection.read_head(ANSWER_SECONDS)
            answer = b""
            while len(answer) <= ANSWER_BYTES and (piece := await connection.read_body(ANSWER_SECONDS)):
                answer += piece
        finally:
            self._pool.release(connection)
        try:
            return msgspec.json.decode(answer, type=TokenAnswer)
        except (msgspec.DecodeError, RecursionError):
            raise UpstreamError(f"its token address answered {head.status_code} and no JSON") from None


def _address(stored: StoredSecret, secret: Secret) -> tuple[str, str]:
    """Return which host is closed to agents, and which path of it alone where the host is one of the secret's own."""
    at = urlsplit(parse_grant(secret.reveal()).token_url)
    host = at.hostname or ""
    return host, at.path.rstrip("/") if host in stored.hosts else ""
