"""The report in a real browser: that it runs, filters, keeps its state in the link, asks nothing of the network, and
fits a phone. Skipped where there is no chromium (Debian: apt-get install chromium)."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_runs import CANARY, hostile_run, picture, plain_run, row, write_run

from pgtune.reporting import report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium (apt-get install chromium)")

# As root there is no sandbox. What a browser asks for by itself is switched off: the test counts what is asked for.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--disable-default-apps", "--disable-dev-shm-usage", "--virtual-time-budget=3000"),
)
PHONE = 360

Probe = Callable[..., dict[str, Any]]


def browse(folder: Path, *options: str) -> str:
    """What the browser prints; its profile is new each time."""
    assert CHROMIUM is not None
    with_profile = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *options]
    result = subprocess.run(with_profile, capture_output=True, text=True, timeout=120, check=True)
    shutil.rmtree(folder / "profile", ignore_errors=True)
    return result.stdout


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    """Open a page in a frame of a width, run a script in it and give back the object that it hands to `done`.

    A frame, since a browser without a screen has no window narrower than 500 pixels. The script's digest is added to
    the page's policy, which lets nothing else run.
    """

    def run(page: Path, script: str, *, state: str = "", width: int = PHONE, options: tuple[str, ...] = ()) -> Any:
        code = f"const done = (found) => parent.postMessage(JSON.stringify(found), '*');{script}"
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        text = page.read_text(encoding="utf-8")
        # `html.escape` writes the policy's quotes as &#x27;
        allowed = text.replace("script-src &#x27;", f"script-src &#x27;sha256-{digest}&#x27; &#x27;", 1)
        assert allowed != text
        inner = tmp_path / "inner.html"
        inner.write_text(allowed.replace("</body>", f"<script>{code}</script></body>"), encoding="utf-8")
        outer = tmp_path / "outer.html"
        outer.write_text(
            "<!DOCTYPE html><meta charset=utf-8><pre id=found></pre>"
            "<script>onmessage = (event) => { document.getElementById('found').textContent = event.data; };</script>"
            f"<iframe width={width} height=800 style='border:0' src='inner.html#{html.escape(state)}'></iframe>",
            encoding="utf-8",
        )
        printed = browse(tmp_path, f"--window-size={max(width, 500)},800", *options, "--dump-dom", outer.as_uri())
        found = re.search(r'<pre id="found">(.*?)</pre>', printed, re.DOTALL)
        assert found, printed[:500]
        assert found[1], "the script did not come to its end"
        return json.loads(html.unescape(found[1]))

    return run


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(plain_run(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(hostile_run(tmp_path_factory.mktemp("hostile")))


SHOWN = """
const cards = Array.from(document.querySelectorAll('.card'));
const shown = () => cards.filter((card) => !card.hidden).map((card) => card.id);
const status = () => document.getElementById('shown').textContent;
const input = (name) => document.getElementById('filter').elements.namedItem(name);
const put = (name, value) => {
  input(name).value = value;
  input(name).dispatchEvent(new Event('input', {bubbles: true}));
};
"""


def test_it_opens_from_a_file_and_shows_all(plain: Path, tmp_path: Path) -> None:
    printed = browse(tmp_path, "--dump-dom", plain.as_uri())
    assert printed.count("<article") == 12
    assert not re.search(r"<article[^>]* hidden", printed)
    assert "12 of 12 examples shown" in printed
    assert not re.search(r'<form[^>]* hidden', printed), "the script has made the filter work"


def test_the_filter_and_its_link(plain: Path, probe: Probe) -> None:
    found = probe(plain, SHOWN + """
        put('verdict', 'wrong'); const wrong = [shown().length, location.hash];
        put('type', 'number & size'); const typed = [shown().length, location.hash];
        put('q', 'ANSWER 11'); const searched = [shown(), status(), location.hash];
        put('q', 'nowhere'); const none = [shown().length, document.getElementById('nothing').hidden];
        document.getElementById('f-clear').click();
        done({wrong, typed, searched, none, cleared: [shown().length, location.hash]});
    """)  # fmt: skip
    assert found["wrong"] == [8, "#verdict=wrong"]
    assert found["typed"] == [4, "#verdict=wrong&type=number+%26+size"]
    assert found["searched"][:2] == [["row-11", "row-12"], "2 of 12 examples shown"]
    assert found["searched"][2] == "#verdict=wrong&type=number+%26+size&q=ANSWER+11"
    assert found["none"] == [0, False]
    assert found["cleared"] == [12, "#examples"]


@pytest.mark.parametrize(
    ("state", "count"),
    [
        ("type=number+%26+size&q=test.jsonl:9", 1),
        ("part=there+is+no+such", 12),
        ("verdict=wrong&unknown=%3Cscript%3E", 8),
    ],
)
def test_a_link_opens_with_its_filter(plain: Path, probe: Probe, state: str, count: int) -> None:
    assert probe(plain, SHOWN + "done({count: shown().length});", state=state) == {"count": count}


def test_going_back_brings_the_filter_back(plain: Path, probe: Probe) -> None:
    found = probe(plain, SHOWN + """
        location.hash = 'verdict=right';
        setTimeout(() => {
          const after = [shown().length, input('verdict').value];
          location.hash = 'recipe';
          setTimeout(() => done({after, kept: shown().length}), 50);
        }, 50);
    """)  # fmt: skip
    assert found == {"after": [4, "right"], "kept": 4}


def test_hostile_data_runs_nothing_and_is_found_by_the_search(hostile: Path, probe: Probe) -> None:
    found = probe(hostile, SHOWN + """
        put('q', "<script>document.title='owned'<" + "/script>");
        const hash = location.hash; const some = shown().length;
        put('part', input('part').options[2].value); put('q', '');
        done({title: document.title, some, hash, one: shown().length, scripts: document.scripts.length,
              frames: document.querySelectorAll('iframe, object, embed').length,
              images: Array.from(document.images).every((image) => image.complete && image.naturalWidth > 0),
              asked: performance.getEntriesByType('resource').map((entry) => entry.name.slice(0, 11))});
    """)  # fmt: skip
    assert found["title"] == "<b>run & 'co': pgtune report"
    assert found["some"] >= 2
    assert found["hash"] == "#q=%3Cscript%3Edocument.title%3D%27owned%27%3C%2Fscript%3E"
    assert found["one"] == 1
    assert found["scripts"] == 2, "the page's and the probe"
    assert found["frames"] == 0
    assert found["images"]
    assert set(found["asked"]) <= {"data:image/"}


def test_a_script_that_gets_in_is_not_run(hostile: Path, tmp_path: Path) -> None:
    text = hostile.read_text(encoding="utf-8")
    inside = "<script>document.title = 'owned'</script><p onclick=1 id=x style='color:red'>x</p>"
    broken = tmp_path / "broken.html"
    inside += "<img src=x onerror=\"document.title='owned'\">"
    broken.write_text(text.replace("</main>", f"{inside}</main>"), "utf-8")
    assert "<title>owned</title>" not in browse(tmp_path, "--dump-dom", broken.as_uri())
    allowed = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", broken.read_text(encoding="utf-8"))
    broken.write_text(allowed, encoding="utf-8")
    assert "<title>owned</title>" in browse(tmp_path, "--dump-dom", broken.as_uri()), "it is the policy that held it"


class _Proxy(socketserver.ThreadingTCPServer):
    """Takes every request of the browser and answers none; keeps the first line of each."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.asked: list[str] = []


class _Take(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Proxy)
        self.server.asked.append(self.rfile.readline().decode("latin-1"))


@pytest.fixture
def proxy() -> Iterator[_Proxy]:
    with _Proxy() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_nothing_is_asked_of_the_network(hostile: Path, tmp_path: Path, proxy: _Proxy) -> None:
    through = (f"--proxy-server=http://127.0.0.1:{proxy.server_address[1]}", "--proxy-bypass-list=<-loopback>")
    browse(tmp_path, *through, "--dump-dom", hostile.as_uri())
    assert not [line for line in proxy.asked if CANARY in line], "the page asked for something"
    asking = tmp_path / "asking.html"
    asking.write_text(f"<img src='http://{CANARY}/seen.png'>", encoding="utf-8")
    browse(tmp_path, *through, "--dump-dom", asking.as_uri())
    assert [line for line in proxy.asked if CANARY in line], "the proxy sees what is asked for"


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with all that might be too wide: long words, pictures much wider than high, boxes, long names."""
    folder = tmp_path_factory.mktemp("wide")
    said = "<loc0100><loc0100><loc0900><loc0500> " + "cat" * 40
    rows = [
        row(str(picture(folder / "flat.png", (1800, 120))), "x" * 300, "word " * 80 + "y" * 200),
        row(str(picture(folder / "one.png")), said, said, part="p" * 80, question_type="q" * 80, where="w/" * 90),
        row(str(picture(folder / "one.png")), "**kern\n*clefG2\n4c\n4d\n*-", "**kern\n*clefG2\n4c\n4e\n*-"),
    ]
    return report(write_run(folder / ("r" * 90), rows, metric=("exact_match", "anls", "cer")))


@pytest.mark.parametrize("width", [PHONE, 1280])
def test_nothing_is_wider_than_the_screen(wide: Path, probe: Probe, width: int) -> None:
    found = probe(wide, """
        const room = document.documentElement.clientWidth;
        const inside = (element) => element.closest('.sideways, nav, pre, .off, .skip, dd, thead') !== null;
        const over = Array.from(document.querySelectorAll('body *')).filter(
          (element) => !inside(element) && element.getBoundingClientRect().right > room + 1);
        done({room, scroll: document.documentElement.scrollWidth,
              over: over.slice(0, 5).map((element) => element.outerHTML.slice(0, 80)),
              small: Array.from(document.querySelectorAll('button, select, input[type=search]')).map(
                (element) => element.getBoundingClientRect().height).filter((height) => height < 36),
              letters: Math.min(...Array.from(document.querySelectorAll('.chart text')).map(
                (text) => 11 * text.closest('svg').getBoundingClientRect().width / 380))});
    """, width=width)  # fmt: skip
    assert found["room"] == width
    assert found["scroll"] <= width
    assert found["over"] == []
    assert found["small"] == []
    assert found["letters"] >= 8, "letters in charts, in pixels"


def test_boxes_lie_on_their_picture_and_can_be_hidden(wide: Path, probe: Probe) -> None:
    found = probe(wide, SHOWN + """
        const box = document.querySelector('.boxes .truth rect').getBoundingClientRect();
        const image = document.querySelector('.boxes').parentElement.querySelector('img').getBoundingClientRect();
        const seen = [(box.left - image.left) / image.width, (box.top - image.top) / image.height,
                      (box.right - image.left) / image.width, (box.bottom - image.top) / image.height];
        input('boxes').click();
        done({seen, hidden: getComputedStyle(document.querySelector('.boxes')).display, hash: location.hash});
    """)  # fmt: skip
    assert found["seen"] == pytest.approx([100 / 1023, 100 / 1023, 500 / 1023, 900 / 1023], abs=0.02)
    assert found["hidden"] == "none"
    assert found["hash"] == "#boxes=off"


CONTRAST = """
const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
const linear = (value) => value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = numbers(getComputedStyle(at).backgroundColor);
    if (found.length < 4 || found[3] === 1) return found.slice(0, 3);
  }
  return [255, 255, 255];
};
const faint = [];
for (const element of document.querySelectorAll('body *:not(svg *):not(script)')) {
  if (!Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim())) continue;
  const inks = [light(numbers(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
  if ((inks[0] + 0.05) / (inks[1] + 0.05) < 4.5) faint.push(element.className + ' ' + element.textContent.slice(0, 30));
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_can_be_read_in_both_schemes(plain: Path, probe: Probe, scheme: str) -> None:
    options = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    found = probe(plain, CONTRAST + "done({faint, paper: getComputedStyle(document.body).backgroundColor});",
                  options=options)  # fmt: skip
    assert (sum(map(int, re.findall(r"\d+", found["paper"]))) < 200) == (scheme == "dark")
    assert found["faint"] == []


def test_all_that_can_be_used_has_a_name_and_is_reached_by_keys(plain: Path, probe: Probe) -> None:
    found = probe(plain, """
        const fields = Array.from(document.querySelectorAll('select, input'));
        const ids = Array.from(document.querySelectorAll('[id]'), (element) => element.id);
        done({lang: document.documentElement.lang, unnamed: fields.filter((field) => !field.labels.length).length,
              pictures: Array.from(document.images).filter((image) => !image.alt).length,
              drawings: Array.from(document.querySelectorAll('svg')).filter((svg) =>
                !(svg.getAttribute('aria-label') || svg.getAttribute('aria-hidden'))).length,
              twice: ids.length - new Set(ids).size,
              links: Array.from(document.querySelectorAll('a[href^="#"]')).filter((link) =>
                !document.getElementById(link.hash.slice(1))).length,
              first: document.querySelector('a, button, select, input').className,
              levels: Array.from(document.querySelectorAll('h1, h2, h3'), (head) => head.tagName).join(' '),
              unreachable: fields.filter((field) => field.tabIndex < 0).length});
    """)  # fmt: skip
    assert found.pop("levels").startswith("H1 H2 H2 H2 H3")
    assert (found.pop("lang"), found.pop("first")) == ("en", "skip")
    assert set(found.values()) == {0}, found


def test_it_prints(plain: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.pdf"
    browse(tmp_path, f"--print-to-pdf={target}", "--no-pdf-header-footer", plain.as_uri())
    content = target.read_bytes()
    assert content.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 1 <= pages <= 12


def test_a_picture_of_it_is_not_empty(plain: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.png"
    browse(tmp_path, "--window-size=1280,1600", f"--screenshot={target}", plain.as_uri())
    with Image.open(target) as image:
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50
