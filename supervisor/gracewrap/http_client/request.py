"""Encodes an HTTP request as bytes.  Secrets in header values appear nowhere else."""

from __future__ import annotations

import posix

import h11

from gracewrap import __version__
from gracewrap.http_client.response import HttpError
from gracewrap.http_client.safe_text import printable
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import Header, Request, Url

MAX_SECRET = 1 << 13  # bytes of a header value that is read from a file
_S_IFMT, _S_IFREG = 0o170000, 0o100000  # inode(7)


def encode_request(connection: h11.Connection, request: Request) -> bytes:
    """Return the bytes of the request.

    Header values that come from variables and files are read now, and only end up here.

    Raises:
        HttpError: If a header value cannot be read or sent.
    """
    url = request.url
    host = "localhost" if url.scheme == "unix" else ascii_host(url).partition("%")[0]
    if ":" in host:
        host = f"[{host}]"
    if url.port and url.port != {"http": 80, "https": 443}.get(url.scheme):
        host += f":{url.port}"
    defaults = {
        b"host": host.encode(),
        b"user-agent": f"gracewrap/{__version__}".encode(),
        b"accept": b"*/*",
        b"accept-encoding": b"identity",
    }
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        defaults[b"content-length"] = str(len(request.body)).encode()
    given = [(header.name.lower().encode(), header_value(header)) for header in request.headers]
    for name, _ in given:
        defaults.pop(name, None)
    fields = [*defaults.items(), *given, (b"connection", b"close")]
    try:
        encoded = connection.send(
            h11.Request(method=request.method.encode(), target=url.target.encode(), headers=fields)
        )
        body = connection.send(h11.Data(data=request.body)) if request.body else b""
        return encoded + body + connection.send(h11.EndOfMessage())
    except (h11.LocalProtocolError, ValueError):  # their text shows the header value
        names = ", ".join(header.name for header in request.headers)
        raise HttpError(
            f"invalid method, path, body or headers (headers: {names or 'none'})"
        ) from None


def ascii_host(url: Url) -> str:
    """Return the host of *url* in ASCII (IDNA).

    Raises:
        HttpError: If it is not a valid host name.
    """
    if url.host.isascii():
        return url.host
    try:
        return url.host.encode("idna").decode()
    except UnicodeError:
        raise HttpError(f"invalid host name: {printable(url.host)}") from None


def header_value(header: Header) -> bytes:
    """Return the value of a header, read from its environment variable or file.

    Raises:
        HttpError: If the value cannot be read or is not allowed in a header.  The text names the
            source of the value, never the value itself.
    """
    value = b""
    source = f"header {header.name}"
    if header.env:
        source += f": the variable {header.env}"
        if (found := posix.environ.get(header.env.encode())) is None:
            raise HttpError(f"{source} is not set")
        value = found
    elif header.file:
        source += f": {header.file}"
        value = _read_secret(header.file, source)
    value = (header.prefix.encode() + value).strip(b" \t")
    if any(byte in value for byte in b"\0\n\r\v\f"):
        raise HttpError(f"{source} contains a line break or another control character")
    return value


def _read_secret(path: str, source: str) -> bytes:
    """Return the content of a regular file, without its last line break."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError as error:
        raise HttpError(f"{source}: {error.strerror}") from None
    try:
        if posix.fstat(fd).st_mode & _S_IFMT != _S_IFREG:
            raise HttpError(f"{source} is not a regular file")
        value = posix.read(fd, MAX_SECRET + 1)
    except OSError as error:
        raise HttpError(f"{source}: {error.strerror}") from None
    finally:
        posix.close(fd)
    if len(value) > MAX_SECRET:
        raise HttpError(f"{source} is longer than {MAX_SECRET >> 10} KiB")
    return value.removesuffix(b"\n").removesuffix(b"\r")
