"""The explorer's page on a slow line."""

import gzip
import http.server
import re
import threading
from functools import partial
from pathlib import Path

import pytest


class Packing(http.server.SimpleHTTPRequestHandler):
    """Sends files compressed, as the servers of pages do."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        body = path.read_bytes()
        self.send_response(200)
        if not re.search(r"png|jpe?g|woff", path.suffix):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def packing_root(book):
    handler = partial(Packing, directory=str(book))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_the_page_is_light_and_live_within_six_seconds_on_a_slow_line(browser, packing_root):
    """At 1.6 Mbit/s and 150 ms from the server. The best of three: other work only adds time."""
    seconds = []
    for _ in range(3):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        line = context.new_cdp_session(page)
        line.send("Network.enable")
        slow = {"downloadThroughput": 200_000, "uploadThroughput": 94_000, "latency": 150}
        line.send("Network.emulateNetworkConditions", {"offline": False, **slow})
        sizes = []
        line.on("Network.loadingFinished", lambda e, s=sizes: s.append(e["encodedDataLength"]))
        page.goto(f"{packing_root}book/explorer.html", wait_until="commit")
        first = page.locator("tvae-explorer").first
        first.get_by_text("loading affine-iwae5").wait_for()
        room = first.bounding_box()["height"]
        first.and_(page.locator("[ready]")).wait_for()
        seconds.append(page.evaluate("performance.now()") / 1000)
        assert first.bounding_box()["height"] == pytest.approx(room, abs=2)
        page.wait_for_load_state("networkidle")
        context.close()
        assert 500_000 < sum(sizes) < 1_300_000
    assert min(seconds) < 6, seconds
