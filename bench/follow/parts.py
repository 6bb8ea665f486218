"""Parts: objects of the benchmark that live in processes of their own, and are asked by lines of JSON.

`Part("bench.follow.nodes:Archive", folder=...)` starts a process that makes an Archive with these settings and awaits
its `start()`; `part.ask("read", rows=3)` awaits its `read(rows=3)` there, under Twisted's reactor, and answers what it
returned.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from importlib import import_module
from threading import Thread

import psutil

WITHIN = 300.0


class Part:
    """An object in a process of its own. `prefix` is a command to run the process under."""

    def __init__(self, where, *, prefix=(), **settings):
        self._where = where
        command = [*prefix, sys.executable, "-m", "bench.follow.parts", where, json.dumps(settings)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.started = self._answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        return self._process.pid

    @property
    def cost(self):
        return Cost(self.pid)

    def tell(self, what, **arguments):
        """Asks without waiting for the answer, which `told` takes later."""
        print(json.dumps({"what": what, **arguments}), file=self._process.stdin, flush=True)

    def told(self):
        return self._answer()

    def ask(self, what, **arguments):
        self.tell(what, **arguments)
        return self.told()

    def stop(self):
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._where} ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self._where}: {answer['error']}")
        return answer["result"]


class Cost:
    """What a process takes: seconds of the processor's time since then, and bytes of memory."""

    def __init__(self, pid):
        self._process = psutil.Process(pid)
        self.reset()

    def reset(self):
        self._began, self._time = self._spent(), time.perf_counter()

    def _spent(self):
        times = self._process.cpu_times()
        return times.user + times.system

    @property
    def seconds(self):
        return self._spent() - self._began

    @property
    def share(self):
        """Of one core, since the last reset."""
        return self.seconds / (time.perf_counter() - self._time)

    @property
    def memory(self):
        return self._process.memory_info().rss


class Growth:
    """The most memory that a process takes while this is open, beside what it took before, in MB."""

    def __init__(self, pid, every=0.05):
        self._cost, self._every, self._most, self._open = Cost(pid), every, 0, True
        self._before = self._cost.memory
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._open = False
        self._thread.join()

    def _look(self):
        while self._open:
            self._most = max(self._most, self._cost.memory)
            time.sleep(self._every)

    @property
    def mb(self):
        return max(0, self._most - self._before) / 1e6


def router_worker(pid):
    """The process that routes, of those below the router's own."""
    below = [child for child in psutil.Process(pid).children(recursive=True) if "worker" in " ".join(child.cmdline())]
    return max(below, key=lambda child: child.memory_info().rss).pid


def _serve():
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.threads import blockingCallFromThread

    where, settings = sys.argv[1:]
    module, name = where.split(":")
    made = getattr(import_module(module), name)(**json.loads(settings))

    def answered(function, *args, **kwargs):
        try:
            result = blockingCallFromThread(reactor, lambda: Deferred.fromCoroutine(function(*args, **kwargs)))
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"}
        return {"result": result}

    def listen():
        print(json.dumps(answered(made.start)), flush=True)
        for line in sys.stdin:
            arguments = json.loads(line)
            print(json.dumps(answered(getattr(made, arguments.pop("what")), **arguments)), flush=True)
        answered(made.stop)
        reactor.callFromThread(reactor.stop)

    reactor.callWhenRunning(Thread(target=listen, daemon=True).start)
    reactor.run()


if __name__ == "__main__":
    _serve()
