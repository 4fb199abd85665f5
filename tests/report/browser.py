"""Chromium without a window, for tests of the page: driven through a pipe by the DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_QUIET = ("gpu", "quic", "background-networking", "component-update", "sync", "extensions")


class Browser:
    """One tab. What the page complains of is in `complaints`."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._count, self._buffer, self._session = 0, b"", ""
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The protocol's answer to one command."""
        self._count += 1
        number = self._count
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        os.write(
            self._send, json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._hear(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._receive, 1 << 20)
            assert part, "the browser has gone"
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(line))

    def _hear(self, event: dict[str, Any]) -> None:
        if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(event["params"])[:2000])

    def run(self, script: str) -> Any:
        """The value of an expression; promises are awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def media(self, scheme: str = "light", kind: str = "") -> None:
        """Prefer a colour scheme; `kind` print shows the page as on paper."""
        self.call(
            "Emulation.setEmulatedMedia", media=kind, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def show(self, page: Path, width: int, anchor: str = "") -> None:
        """Open a page in a window of this width, and wait until all of it is drawn."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=page.as_uri() + anchor)
        self.run(
            "(async () => { while (!(document.body?.dataset.ready && document.querySelector('.plot .main-svg')))"
            " await new Promise((then) => setTimeout(then, 50)); })()"
        )

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key where the focus is."""
        for kind in ("keyDown", "keyUp"):
            own = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **own)

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """Write a PNG of the page, or of what its window shows."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))

    def printed(self, file: Path) -> None:
        """Print the page to a PDF of A4."""
        data = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"]
        file.write_bytes(base64.b64decode(data))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile; the test is skipped where there is none."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    there, send = os.pipe()
    receive, back = os.pipe()
    flags = [*(f"--disable-{what}" for what in _QUIET), "--headless", "--no-sandbox", "--no-first-run"]
    # the browser reads commands from 3 and answers into 4; a shell moves the pipes there
    moved = f'exec "$0" "$@" 3<&{there} 4>&{back}'
    process = subprocess.Popen(
        ["bash", "-c", moved, found, *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(there, back), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for end in (there, back):
        os.close(end)
    try:
        yield Browser(send, receive)
    finally:
        process.terminate()
        process.wait()
        for end in (send, receive):
            os.close(end)
