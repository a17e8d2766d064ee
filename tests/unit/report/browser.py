"""Headless Chromium over its DevTools protocol: open a page, run scripts in it, see errors, requests and pictures."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from pathlib import Path

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser():
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab; ``errors`` are console errors and exceptions, ``requests`` the addresses it asked for."""

    def __init__(self, socket):
        self.socket, self.number, self.errors, self.requests, self.answers = socket, 0, [], [], {}
        self.loaded = asyncio.Event()
        self.reader = asyncio.ensure_future(self._read())

    async def _read(self):
        async for message in self.socket:
            event = json.loads(message.data)
            method, params = event.get("method"), event.get("params", {})
            if "id" in event:
                self.answers.pop(event["id"]).set_result(event)
            elif method == "Page.loadEventFired":
                self.loaded.set()
            elif method == "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            elif method == "Runtime.exceptionThrown":
                self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                self.errors.append(str(params["args"]))
            elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])

    async def call(self, method, **params):
        self.number += 1
        self.answers[self.number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": self.number, "method": method, "params": params})
        answer = await asyncio.wait_for(self.answers[self.number], 60)
        assert "error" not in answer, answer
        return answer["result"]

    async def evaluate(self, expression):
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def resize(self, width, height=900):
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    async def open(self, path, width=1400, *, scheme="light"):
        await self.resize(width)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)
        self.loaded.clear()
        await self.call("Page.navigate", url=Path(path).resolve().as_uri())
        await asyncio.wait_for(self.loaded.wait(), 60)
        await self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    async def picture(self, path):
        answer = await self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=await self._whole())
        Path(path).write_bytes(base64.b64decode(answer["data"]))

    async def _whole(self):
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}


def drive(task, profile):
    """Start Chromium with this profile folder, run ``await task(page)``, end it; return the result."""
    command = [
        find_browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
        "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return asyncio.run(_drive(task, Path(profile) / "DevToolsActivePort"))
    finally:
        process.kill()
        process.wait()


async def _drive(task, port_file):
    deadline = time.monotonic() + 60
    while not (port_file.exists() and port_file.read_text().strip()):
        assert time.monotonic() < deadline, "Chromium did not start"
        await asyncio.sleep(0.05)
    port = port_file.read_text().split()[0]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
        async with session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            for domain in ("Page", "Runtime", "Network", "Log"):
                await page.call(f"{domain}.enable")
            return await task(page)
