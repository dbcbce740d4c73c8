"""Make the bytes of a request.  Secrets go in here, and nowhere else."""

from __future__ import annotations

import posix

import h11

from gracewrap import __version__
from gracewrap.http_client.response import Unusable, printable
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import Header, Request, Url

SECRET = 1 << 13  # bytes of a header's value, at most
_S_IFMT, _S_IFREG = 0o170000, 0o100000


def compose(connection: h11.Connection, request: Request) -> bytes:
    """Return the request as it is sent.  What is in variables and files is read now, and only goes
    in here.

    Raises:
        Unusable: If a header's value cannot be read or sent.
    """
    url = request.url
    host = "localhost" if url.scheme == "unix" else host_name(url).partition("%")[0]
    if ":" in host:
        host = f"[{host}]"
    if url.port and url.port != {"http": 80, "https": 443}.get(url.scheme):
        host += f":{url.port}"
    headers = {
        b"host": host.encode(),
        b"user-agent": f"gracewrap/{__version__}".encode(),
        b"accept": b"*/*",
    }
    headers[b"accept-encoding"] = b"identity"
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        headers[b"content-length"] = str(len(request.body)).encode()
    given = [(header.name.lower().encode(), header_value(header)) for header in request.headers]
    for name, _ in given:
        headers.pop(name, None)
    fields = [*headers.items(), *given, (b"connection", b"close")]
    try:
        sent = connection.send(
            h11.Request(method=request.method.encode(), target=url.target.encode(), headers=fields)
        )
        body = connection.send(h11.Data(data=request.body)) if request.body else b""
        return sent + body + connection.send(h11.EndOfMessage())
    except (h11.LocalProtocolError, ValueError):  # whose text shows the value
        names = ", ".join(header.name for header in request.headers)
        raise Unusable(
            f"the request cannot be made of this method, path, body and headers ({names or 'none'})"
        ) from None


def host_name(url: Url) -> str:
    """Return the host in ASCII.

    Raises:
        Unusable: If it cannot be a host's name.
    """
    if url.host.isascii():
        return url.host
    try:
        return url.host.encode("idna").decode()
    except UnicodeError:
        raise Unusable(f"not a host name: {printable(url.host)}") from None


def header_value(header: Header) -> bytes:
    """Return what a header says, read from its variable or file.

    Raises:
        Unusable: If it cannot be read or is no header's value; the text names where it is, and
            never says what.
    """
    value = b""
    place = f"header {header.name}"
    if header.env:
        place += f": the variable {header.env}"
        if (found := posix.environ.get(header.env.encode())) is None:
            raise Unusable(f"{place} is not set")
        value = found
    elif header.file:
        place += f": {header.file}"
        value = _secret(header.file, place)
    value = (header.prefix.encode() + value).strip(b" \t")
    if any(byte in value for byte in b"\0\n\r\v\f"):
        raise Unusable(f"{place} holds a line end or another control character")
    return value


def _secret(path: str, place: str) -> bytes:
    """Return what is in a regular file, without its trailing line end."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError as error:
        raise Unusable(f"{place}: {error.strerror}") from None
    try:
        if posix.fstat(fd).st_mode & _S_IFMT != _S_IFREG:
            raise Unusable(f"{place} is not a regular file")
        value = posix.read(fd, SECRET + 1)
    except OSError as error:
        raise Unusable(f"{place}: {error.strerror}") from None
    finally:
        posix.close(fd)
    if len(value) > SECRET:
        raise Unusable(f"{place} is longer than {SECRET >> 10} KiB")
    return value.removesuffix(b"\n").removesuffix(b"\r")
