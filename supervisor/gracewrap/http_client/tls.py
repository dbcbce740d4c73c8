"""TLS for an exchange, in memory: it does no socket I/O itself."""

from __future__ import annotations

import posix
import ssl

from gracewrap.http_client.response import INVALID, MAX_READ, UNREACHABLE, Failure, HttpError
from gracewrap.http_client.safe_text import printable
from gracewrap.linux import launcher

_S_IFMT, _S_IFREG = 0o170000, 0o100000  # inode(7)


class TlsChannel:
    """Encrypts the request and decrypts the response; see exchange.PlainChannel."""

    buffers = True

    def __init__(self, request: bytes, context: ssl.SSLContext, host: str) -> None:
        self.out = bytearray()
        self._request = request
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # For an IP address, ssl checks the addresses in the certificate and sends no SNI, as
        # RFC 6066 requires.
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._handshake_done = False
        self.read()  # produces the first handshake message

    def feed(self, data: bytes) -> None:
        """Add bytes from the socket; b"" means end of file."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def read(self) -> bytes | None:
        """Return decrypted bytes as PlainChannel.read() does.

        Raises:
            ssl.SSLError: If the handshake or the verification of the certificate fails.
        """
        try:
            if not self._handshake_done:
                self._tls.do_handshake()
                self._handshake_done = True
            if self._request:
                self._tls.write(self._request)  # always accepts everything: it goes to memory
                self._request = b""
            return self._tls.read(MAX_READ)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # Closed without a close_notify, as Python's own server does.  Treated as a normal end,
            # as in all of Python's clients.
            if not self._handshake_done:
                raise
            return b""
        finally:
            self.out += self._outgoing.read()


# Where distributions have the certificates of all CAs, as Go's crypto/x509 (root_linux.go) knows.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, distroless
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL 7
    "/etc/ssl/cert.pem",  # Alpine
)

# Loading the system's certificates takes 35 ms, so contexts are cached.
_contexts: dict[tuple[object, ...], ssl.SSLContext] = {}


def tls_context(ca: str | None, insecure: bool) -> ssl.SSLContext:
    """Return a TLS context that trusts the certificates in *ca*, or the system's if it is None.

    The context is cached until the file changes.

    Raises:
        HttpError: If the file contains no certificates.
    """
    key: tuple[object, ...] = (ca, insecure)
    if ca is not None and not insecure:
        try:
            found = posix.stat(ca)
        except OSError as error:
            raise HttpError(f"cannot read ca = {ca}: {error.strerror}") from None
        if found.st_mode & _S_IFMT != _S_IFREG:
            raise HttpError(f"cannot read ca = {ca}: not a regular file")
        key = ca, found.st_mtime_ns, found.st_size, found.st_ino
    if key not in _contexts:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["http/1.1"])
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif ca is None:
            _trust_the_system(context)
        else:
            try:
                context.load_verify_locations(cafile=ca)
            except OSError as error:  # ssl.SSLError is a subclass
                reason = _openssl_reason(error) or error.strerror
                raise HttpError(f"cannot use ca = {ca}: {reason}; it must be PEM") from None
        if len(_contexts) >= 16:  # the file keeps being replaced
            _contexts.clear()
        _contexts[key] = context
    return _contexts[key]


def _trust_the_system(context: ssl.SSLContext) -> None:
    """Load the system's certificates, from where it has them: the single file does not know on
    which system it is."""
    context.load_default_certs()
    if launcher.is_single_file() and not context.cert_store_stats()["x509_ca"]:
        for path in _BUNDLES:
            try:
                return context.load_verify_locations(cafile=path)
            except OSError:
                pass


def _openssl_reason(error: OSError) -> str:
    """Return OpenSSL's reason in lower case words; "" if the error is not from TLS."""
    return str(getattr(error, "reason", "") or "").lower().replace("_", " ")


def explain(error: OSError) -> Failure:
    """Return the Failure for an ssl.SSLError."""
    if isinstance(error, ssl.SSLCertVerificationError):
        verdict = printable(error.verify_message).rstrip(".")
        why = f"the server's certificate is not trusted: {verdict}; set ca to its CA's file"
        return Failure(INVALID, why)
    if isinstance(error, ssl.SSLEOFError):
        return Failure(UNREACHABLE, "connection closed during the TLS handshake")
    reason = _openssl_reason(error)
    if reason in (
        "wrong version number",
        "http request",
        "packet length too long",
        "record layer failure",
    ):
        return Failure(INVALID, "the server does not speak TLS: use http://")
    return Failure(INVALID, f"TLS failed: {reason or printable(str(error))}")
