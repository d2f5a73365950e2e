"""An S3 server to measure against, and a proxy that makes it a distant one."""

import asyncio
import contextlib
import http.client
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

CACHE = pathlib.Path(os.environ.get("HIGHWATER_TEST_CACHE", "/var/cache/highwater-tests"))
EXTENSIONS = "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
KEY, SECRET, REGION = "test", "test-secret", "us-east-1"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Moto:
    """moto: in memory, checks no signature. With TLS, since pgBackRest speaks nothing else: by a front of ours, as moto's
    own ends connections without saying so, which pgBackRest takes for a failure."""

    def __init__(self, place, tls):
        self.place, self.tls = pathlib.Path(tempfile.mkdtemp(prefix="moto-", dir=place)), tls
        self.plain_port = self.port = free_port()
        self.kept = None

    def __enter__(self):
        self.place.chmod(0o755)
        command = [CACHE / "moto/bin/moto_server", "-H", "127.0.0.1", "-p", self.plain_port]
        if self.tls:
            self.certify()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.place / "server.crt", self.place / "server.key")
            self.port = Distant(self.plain_port, 0, context).port
        log = open(self.place / "log", "wb")
        self.child = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
        limit = time.monotonic() + 60
        while True:
            try:
                self.request("PUT", "/bucket")
                return self
            except OSError:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.1)

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()

    def certify(self):
        (self.place / "server.ext").write_text(EXTENSIONS)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        for words in (
            ["req", "-x509", "-days", "30", "-subj", "/CN=bench authority", *key, "-keyout", "ca.key", "-out", "ca.crt"],
            ["req", "-subj", "/CN=localhost", *key, "-keyout", "server.key", "-out", "server.csr"],
            ["x509", "-req", "-in", "server.csr", "-days", "30", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "server.ext",
             "-out", "server.crt"],
        ):
            subprocess.run(["openssl", *words], cwd=self.place, check=True, capture_output=True)
        (self.place / "ca.crt").chmod(0o644)

    def request(self, method, path):
        if self.tls:
            context = ssl.create_default_context(cafile=self.place / "ca.crt")
            connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=10)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path)
        answer = connection.getresponse().read()
        connection.close()
        return answer.decode()

    def wait_for(self, prefix, names):
        """Until there is an object of each of these names."""
        limit = time.monotonic() + 120
        while True:
            listing = self.request("GET", f"/bucket?list-type=2&max-keys=1000&prefix={prefix}")
            if all(name in listing for name in names):
                return
            if time.monotonic() > limit:
                sys.exit(f"{prefix}: not all of {len(names)} segments have come")
            time.sleep(0.05)

    def put(self, number):
        """Puts an object of 1 kB, over a connection that is kept, as a client does; how many ms it takes."""
        if self.kept is None:
            self.kept = http.client.HTTPConnection("127.0.0.1", self.plain_port, timeout=10)
        begun = time.perf_counter()
        self.kept.request("PUT", f"/bucket/put-{number}", body=b"x" * 1000, headers={"If-None-Match": "*"})
        self.kept.getresponse().read()
        return (time.perf_counter() - begun) * 1000

    def puts(self):
        """How many objects it was asked to put by now."""
        return (self.place / "log").read_bytes().count(b'"PUT /')

    @property
    def endpoint(self):
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    def settings(self, prefix, endpoint=None):
        """The lines of [repository]."""
        lines = {"url": f"s3://bucket/{prefix}", "endpoint": endpoint or self.endpoint, "region": REGION, "access-key-id": KEY, "secret-access-key": SECRET}
        if self.tls:
            lines["ca-file"] = self.place / "ca.crt"
        return "".join(f'{name} = "{value}"\n' for name, value in lines.items()) + "allow-unsafe-store = true\n"

    def backrest(self, prefix):
        """The lines of pgBackRest's [global]."""
        return (
            f"repo1-type=s3\nrepo1-path=/{prefix}\nrepo1-s3-bucket=bucket\nrepo1-s3-endpoint=localhost\nrepo1-storage-port={self.port}\n"
            f"repo1-s3-region={REGION}\nrepo1-s3-key={KEY}\nrepo1-s3-key-secret={SECRET}\nrepo1-s3-uri-style=path\nrepo1-storage-verify-tls=n\n"
        )


class Distant:
    """A proxy in front of a server, with TLS where a context is given: the first bytes of each request come so much later. It runs on
    one thread: Python's TLS connections stand no second one."""

    def __init__(self, port, delay_ms, context=None):
        self.target, self.delay = port, delay_ms / 1000
        self.loop = asyncio.new_event_loop()
        listening = asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=context)
        self.server = self.loop.run_until_complete(listening)
        self.port = self.server.sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
            answered = asyncio.Event()
            answered.set()
            await asyncio.gather(self.pass_on(reader, to_server, answered, True), self.pass_on(from_server, writer, answered, False))

    async def pass_on(self, source, target, answered, is_request):
        with contextlib.suppress(OSError):
            while piece := await source.read(1 << 20):
                if is_request and answered.is_set():
                    answered.clear()
                    await asyncio.sleep(self.delay)
                elif not is_request:
                    answered.set()
                target.write(piece)
                await target.drain()
        # With TLS it says so, and pgBackRest takes nothing else for the end.
        target.close()
