"""TLS within memory: what an exchange sends and receives over its socket, made of what it says and
hears."""

from __future__ import annotations

import posix
import ssl

from gracewrap.http_client.response import INVALID, PART, UNREACHABLE, Failure, Unusable, printable

_S_IFMT, _S_IFREG = 0o170000, 0o100000


class Secured:
    """A channel that carries bytes within TLS, which only ever sees memory."""

    deep = True

    def __init__(self, request: bytes, context: ssl.SSLContext, host: str) -> None:
        self.out = bytearray()
        self._request = request
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # For an address, ssl checks the certificate's addresses and sends no SNI, as RFC 6066 has
        # it.
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._shaken = False
        self.get()  # the first flight

    def put(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def get(self) -> bytes | None:
        """As Clear.get().

        Raises:
            ssl.SSLError: If they do not agree, or do not trust each other.
        """
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
            if self._request:
                self._tls.write(self._request)  # all of it: into memory
                self._request = b""
            return self._tls.read(PART)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # Closed without a close_notify, as Python's own server does it: an end like any other,
            # as in all of its clients.
            if not self._shaken:
                raise
            return b""
        finally:
            self.out += self._outgoing.read()


_contexts: dict[
    tuple[object, ...], ssl.SSLContext
] = {}  # to load the system's certificates takes 35 ms


def trust(ca: str | None, insecure: bool) -> ssl.SSLContext:
    """Return the TLS settings that trust the certificates in *ca*, or the system's; kept until the
    file changes.

    Raises:
        Unusable: If there are no certificates in the file.
    """
    key: tuple[object, ...] = (ca, insecure)
    if ca is not None and not insecure:
        try:
            found = posix.stat(ca)
        except OSError as error:
            raise Unusable(f"cannot read ca = {ca}: {error.strerror}") from None
        if found.st_mode & _S_IFMT != _S_IFREG:
            raise Unusable(f"cannot read ca = {ca}: not a regular file")
        key = ca, found.st_mtime_ns, found.st_size, found.st_ino
    if key not in _contexts:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["http/1.1"])
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif ca is None:
            context.load_default_certs()
        else:
            try:
                context.load_verify_locations(cafile=ca)
            except OSError as error:  # ssl.SSLError is one
                raise Unusable(
                    f"cannot use ca = {ca}: {_reason(error) or error.strerror}; it must be PEM"
                ) from None
        if len(_contexts) >= 16:  # a file that is renewed again and again
            _contexts.clear()
        _contexts[key] = context
    return _contexts[key]


def _reason(error: OSError) -> str:
    """Return OpenSSL's reason in plain letters; "" if it is not from TLS."""
    return str(getattr(error, "reason", "") or "").lower().replace("_", " ")


def explain(error: OSError) -> Failure:
    """Return what an ssl.SSLError means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        verdict = printable(error.verify_message).rstrip(".")
        return Failure(
            INVALID,
            f"its certificate is not trusted: {verdict}; name a file with its authority's as ca",
        )
    if isinstance(error, ssl.SSLEOFError):
        return Failure(UNREACHABLE, "the connection was closed during the TLS handshake")
    reason = _reason(error)
    if reason in (
        "wrong version number",
        "http request",
        "packet length too long",
        "record layer failure",
    ):
        return Failure(INVALID, 'it does not speak TLS: write "http://"')
    return Failure(INVALID, f"TLS failed: {reason or printable(str(error))}")
