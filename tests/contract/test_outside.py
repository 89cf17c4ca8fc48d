"""Calls to where users said: they reach the public internet, and nothing else."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.adapters.outside.addresses import Address, is_public, literal
from shared.adapters.outside.outside import KEPT_BODY_BYTES, HttpOutside
from shared.adapters.system.clock import SystemClock
from shared.domain.errors import PermanentError, TemporaryError
from shared.ports.outside import Answer

HOST = "hooks.example.test"
PATIENT = timedelta(seconds=10)
LOOPBACK = IPv4Address("127.0.0.1")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

REFUSED = [
    "0.0.0.0",  # noqa: S104 - refused, not bound to
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
ODD_FORMS = [
    "2130706433",
    "0x7f000001",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "017700000001",
    "127.1",
    "127.0.1",
    "0",
    "[::1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:0:0:1]",
    "127。0。0。1",
    "2852039166",
]


class TestAddresses:
    """Which addresses are public."""

    @pytest.mark.parametrize("text", REFUSED)
    def test_not_public(self, text: str) -> None:
        """Private, special, or a wrapping of such a one."""
        assert not is_public(ip_address(text))

    @pytest.mark.parametrize(
        "text",
        [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ],
    )
    def test_public(self, text: str) -> None:
        """Everything else, up to the borders of what is not."""
        assert is_public(ip_address(text))

    @pytest.mark.parametrize(
        ("host", "address"),
        [
            ("8.8.8.8", IPv4Address("8.8.8.8")),
            ("::1", IPv6Address("::1")),
            ("2130706433", LOOPBACK),
            ("0x7f.1", LOOPBACK),
            (HOST, None),
            ("1.2.3.4.5", None),
        ],
    )
    def test_host_that_is_an_address(self, host: str, address: Address | None) -> None:
        """Odd forms are known as what resolvers would take them for."""
        assert literal(host) == address


def resolving_to(*addresses: str) -> "Resolving":
    """Return a resolver that always gives the same addresses."""
    return Resolving([ip_address(each) for each in addresses])


@dataclass
class Resolving:
    """A resolver that keeps what it was asked."""

    addresses: Sequence[Address]
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """Answer, and remember the question."""
        self.asked.append((host, port))
        return self.addresses


@dataclass
class Sink:
    """A server on this machine: what it was told, and what it answers."""

    port: int
    trust: ssl.SSLContext
    answer: list[bytes] = field(default_factory=lambda: [OK])
    requests: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    silent: bool = False

    @property
    def url(self) -> str:
        """Return an address whose name must be resolved."""
        return f"https://{HOST}:{self.port}/hook?x=1"

    def outside(self, *addresses: str) -> HttpOutside:
        """Return an adapter that may come here, under the name."""
        resolve = resolving_to(*(addresses or ("127.0.0.1",)))
        return HttpOutside(resolve=resolve, is_allowed=lambda _: True, tls=self.trust)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, answer it, hang up."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length")), 0)
        self.requests.append(head + await reader.readexactly(length))
        if self.silent:
            await reader.read()
        for part in () if self.silent else self.answer:
            writer.write(part)
        writer.close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for the name, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = SystemClock().now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, secret


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[Sink]:
    """Return a TLS server on this machine, which must see nothing unless it was meant."""
    chain, secret = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain, secret)
    sink = Sink(0, ssl.create_default_context(cafile=str(chain)))
    tls.sni_callback = lambda _, name, __: sink.names.append(name)
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0, ssl=tls)
    sink.port = server.sockets[0].getsockname()[1]
    yield sink
    server.close()
    await server.wait_closed()


class TestCalling:
    """A call that is allowed."""

    async def test_answer(self, sink: Sink) -> None:
        """Status and body come back, whatever the status."""
        sink.answer = [b"HTTP/1.1 410 Gone\r\ncontent-length: 4\r\n\r\ngone"]

        answer = await sink.outside().post(sink.url, body=b"", headers={}, timeout=PATIENT)

        assert answer == Answer(410, b"gone")

    async def test_request(self, sink: Sink) -> None:
        """Path, body and headers arrive; name and certificate are those of the host."""
        headers = {"X-Integr8s-Signature": "abc", "Content-Type": "application/json"}

        await sink.outside().post(sink.url, body=b"{}", headers=headers, timeout=PATIENT)

        (request,) = sink.requests
        assert request.startswith(b"POST /hook?x=1 HTTP/1.1\r\n")
        assert request.endswith(b"\r\n\r\n{}")
        lines = request.lower().split(b"\r\n")
        assert f"host: {HOST}:{sink.port}".encode() in lines
        assert b"x-integr8s-signature: abc" in lines
        assert sink.names == [HOST]

    async def test_resolved_once(self, sink: Sink) -> None:
        """A second answer of the resolver, another one, is never asked for."""
        resolve = resolving_to("127.0.0.1")
        outside = HttpOutside(resolve=resolve, is_allowed=lambda _: True, tls=sink.trust)

        await outside.post(sink.url, body=b"", headers={}, timeout=PATIENT)

        assert resolve.asked == [(HOST, sink.port)]

    async def test_next_address(self, sink: Sink) -> None:
        """An address that takes no connection is passed over."""
        answer = await sink.outside("127.0.0.2", "127.0.0.1").post(
            sink.url, body=b"", headers={}, timeout=PATIENT
        )

        assert answer.status == 200

    async def test_headers_of_the_connection_are_ours(self, sink: Sink) -> None:
        """A caller's headers address no other host and end no body early."""
        headers = {"host": "inside", "Content-Length": "0", "Transfer-Encoding": "chunked"}

        await sink.outside().post(sink.url, body=b"whole", headers=headers, timeout=PATIENT)

        (request,) = sink.requests
        assert request.endswith(b"\r\n\r\nwhole")
        assert b"inside" not in request
        assert b"chunked" not in request

    async def test_long_body_is_cut(self, sink: Sink) -> None:
        """An endless answer fills nobody's memory."""
        endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (4 * KEPT_BODY_BYTES)
        sink.answer = [endless]

        answer = await sink.outside().post(sink.url, body=b"", headers={}, timeout=PATIENT)

        assert answer.body == b"x" * KEPT_BODY_BYTES

    async def test_compressed_answer_is_not_unpacked(self, sink: Sink) -> None:
        """A small answer cannot become a large one."""
        head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n"
        sink.answer = [head + b"\x1f\x8b\x00\x00"]

        answer = await sink.outside().post(sink.url, body=b"", headers={}, timeout=PATIENT)

        assert answer.body == b"\x1f\x8b\x00\x00"

    async def test_redirect_is_not_followed(self, sink: Sink) -> None:
        """It is the answer, and where it points to sees nothing."""
        location = f"location: https://127.0.0.1:{sink.port}/inside\r\n".encode()
        sink.answer = [b"HTTP/1.1 307 Elsewhere\r\n" + location + b"content-length: 0\r\n\r\n"]

        answer = await sink.outside().post(sink.url, body=b"", headers={}, timeout=PATIENT)

        assert answer.status == 307
        assert len(sink.requests) == 1

    async def test_no_proxy(self, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy would resolve the name again, and from inside."""
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

        answer = await sink.outside().post(sink.url, body=b"", headers={}, timeout=PATIENT)

        assert answer.status == 200

    async def test_cookies_are_not_kept(self, sink: Sink) -> None:
        """One user's webhook sees nothing of another's on the same address."""
        sink.answer = [b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n"]
        outside = sink.outside()

        await outside.post(sink.url, body=b"", headers={}, timeout=PATIENT)
        await outside.post(sink.url, body=b"", headers={}, timeout=PATIENT)

        assert b"cookie" not in sink.requests[1].lower()


class TestRefusing:
    """A call that must not be made; a server inside sees nothing of it."""

    @pytest.mark.parametrize("address", REFUSED)
    async def test_name_of_a_refused_address(self, sink: Sink, address: str) -> None:
        """What a name resolves to is what counts."""
        outside = HttpOutside(resolve=resolving_to(address), tls=sink.trust)

        with pytest.raises(PermanentError, match="not on the public internet"):
            await outside.post(sink.url, body=b"", headers={}, timeout=PATIENT)
        assert sink.names == []

    @pytest.mark.parametrize("order", [("8.8.8.8", "127.0.0.1"), ("127.0.0.1", "8.8.8.8")])
    async def test_mixed_answers(self, sink: Sink, order: tuple[str, str]) -> None:
        """One private address among public ones refuses the name, wherever it stands."""
        outside = HttpOutside(resolve=resolving_to(*order), tls=sink.trust)

        with pytest.raises(PermanentError, match="not on the public internet"):
            await outside.post(sink.url, body=b"", headers={}, timeout=PATIENT)
        assert sink.names == []

    @pytest.mark.parametrize("host", ODD_FORMS)
    async def test_address_in_an_odd_form(self, sink: Sink, host: str) -> None:
        """Every spelling of this machine is this machine; the resolver is not even asked."""
        resolve = resolving_to("8.8.8.8")
        outside = HttpOutside(resolve=resolve, tls=sink.trust)

        with pytest.raises(PermanentError):
            await outside.post(
                f"https://{host}:{sink.port}/", body=b"", headers={}, timeout=PATIENT
            )
        assert resolve.asked == []
        assert sink.names == []

    async def test_localhost(self, sink: Sink) -> None:
        """The machine's own resolver, on the one name that it knows without a network."""
        with pytest.raises(PermanentError, match="not on the public internet"):
            await HttpOutside(tls=sink.trust).post(
                f"https://localhost:{sink.port}/", body=b"", headers={}, timeout=PATIENT
            )
        assert sink.names == []

    @pytest.mark.parametrize(
        "url",
        [
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "//example.com/",
            "example.com",
            "https:///path",
            "https://user:secret@example.com/",
            "https://example.com\\@127.0.0.1/",
            "https://exam\nple.com/",
            "https://example.com:port/",
            "",
        ],
    )
    async def test_malformed(self, url: str) -> None:
        """Only https, only a host, and nothing that two readers may read differently."""
        resolve = resolving_to("8.8.8.8")

        with pytest.raises(PermanentError):
            await HttpOutside(resolve=resolve).post(url, body=b"", headers={}, timeout=PATIENT)
        assert resolve.asked == []

    @pytest.mark.parametrize("value", ["a\r\nX-Injected: b", "a\nb", "\0", "ü€"])
    async def test_header_that_cannot_be_sent(self, sink: Sink, value: str) -> None:
        """No header breaks out of its line."""
        with pytest.raises(PermanentError):
            await sink.outside().post(sink.url, body=b"", headers={"X-Own": value}, timeout=PATIENT)
        assert sink.requests == []


class TestFailing:
    """A call that may succeed later."""

    async def test_silence(self, sink: Sink) -> None:
        """One limit for everything, from the resolver to the last byte."""
        sink.silent = True

        with pytest.raises(TemporaryError, match="in time"):
            await sink.outside().post(
                sink.url, body=b"", headers={}, timeout=timedelta(milliseconds=100)
            )

    async def test_slow_resolver(self) -> None:
        """The time of the resolver counts too."""

        async def never(_: str, __: int) -> Sequence[Address]:
            await asyncio.Event().wait()
            return []

        with pytest.raises(TemporaryError, match="in time"):
            await HttpOutside(resolve=never).post(
                f"https://{HOST}/", body=b"", headers={}, timeout=timedelta(milliseconds=10)
            )

    async def test_unknown_name(self) -> None:
        """Names come and go."""

        async def unknown(_: str, __: int) -> Sequence[Address]:
            raise OSError("Name or service not known")

        with pytest.raises(TemporaryError, match="cannot be resolved"):
            await HttpOutside(resolve=unknown).post(
                f"https://{HOST}/", body=b"", headers={}, timeout=PATIENT
            )

    async def test_no_address(self) -> None:
        """No address is not all of none are public."""
        with pytest.raises(TemporaryError, match="no address"):
            await HttpOutside(resolve=resolving_to()).post(
                f"https://{HOST}/", body=b"", headers={}, timeout=PATIENT
            )

    async def test_nobody_there(self, sink: Sink) -> None:
        """Nobody takes the connection."""
        with pytest.raises(TemporaryError, match="ConnectError"):
            await sink.outside("127.0.0.2").post(sink.url, body=b"", headers={}, timeout=PATIENT)

    async def test_wrong_certificate(self, sink: Sink) -> None:
        """Somebody else's server is not told anything."""
        url = f"https://other.example.test:{sink.port}/"

        with pytest.raises(TemporaryError, match="ConnectError"):
            await sink.outside().post(url, body=b"secret", headers={}, timeout=PATIENT)
        assert sink.requests == []

    async def test_certificate_that_nobody_knows(self, sink: Sink) -> None:
        """Without a certificate that is trusted nothing is sent."""
        outside = HttpOutside(resolve=resolving_to("127.0.0.1"), is_allowed=lambda _: True)

        with pytest.raises(TemporaryError, match="ConnectError"):
            await outside.post(sink.url, body=b"secret", headers={}, timeout=PATIENT)
        assert sink.requests == []

    @pytest.mark.parametrize(
        "answer", [[], [b"nonsense\r\n\r\n"], [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"]]
    )
    async def test_broken_answer(self, sink: Sink, answer: list[bytes]) -> None:
        """What is no answer may be one next time."""
        sink.answer = answer

        with pytest.raises(TemporaryError, match="gave no answer"):
            await sink.outside().post(sink.url, body=b"", headers={}, timeout=PATIENT)
