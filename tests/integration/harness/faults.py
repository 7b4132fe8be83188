"""Things that go wrong on purpose: a proxy that cuts and holds connections, a server that answers rubbish, a disk that is
full. Threads: the proxy and the rubbish server run threads of their own and end with their scope."""

import os
import socket
import subprocess
import threading

from . import processes


class Proxy:
    """A TCP proxy on loopback in front of 127.0.0.1:`target`. Use its `port` instead of the server's.
    cut() resets all connections, hold() forwards nothing more until go(), refuse(True) lets no new connection in."""

    def __init__(self, target):
        self._target = target
        self._lock = threading.Lock()
        self._pairs = []
        self._closed = False
        self._refuse = False
        self._go = threading.Event()
        self._go.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.accepted = 0
        self.bytes_to_client = 0
        threading.Thread(target=self._accept, daemon=True).start()
        processes.current_scope().add(self.close)

    def _accept(self):
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            if self._refuse:
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 10)
                server.settimeout(None)
            except OSError:
                _reset(client)
                continue
            with self._lock:
                self.accepted += 1
                self._pairs.append((client, server))
                closed = self._closed
            if closed:
                self.cut()
                return
            for source, sink, counts in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, counts), daemon=True).start()

    def _pump(self, source, sink, counts):
        try:
            while True:
                piece = source.recv(65536)
                self._go.wait()
                if not piece:
                    break
                sink.sendall(piece)
                if counts:
                    self.bytes_to_client += len(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self):
        """Resets every connection now."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _reset(end)

    def hold(self):
        """Forwards nothing more, without closing anything: a network that drops packets."""
        self._go.clear()

    def go(self):
        self._go.set()

    def refuse(self, yes=True):
        self._refuse = yes

    def connections(self):
        with self._lock:
            return len(self._pairs)

    def close(self):
        with self._lock:
            self._closed = True
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self._go.set()
        self.cut()


def _reset(end):
    """Closes with a TCP reset; wakes a thread that reads from it."""
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()


class RubbishServer:
    """Accepts connections on `port`, waits for some bytes, answers `answer`, and closes (or keeps silent if `close` is False)."""

    def __init__(self, answer, close=True):
        self._answer = answer
        self._close = close
        self._kept = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.accepted = 0
        threading.Thread(target=self._serve, daemon=True).start()
        processes.current_scope().add(self.close)

    def _serve(self):
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._answer_one, args=(client,), daemon=True).start()

    def _answer_one(self, client):
        try:
            client.settimeout(10)
            client.recv(4096)
            client.sendall(self._answer)
        except OSError:
            pass
        if self._close:
            client.close()
        else:
            self._kept.append(client)

    def close(self):
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        for client in self._kept:
            client.close()


def small_disk(size):
    """A folder on a file system of its own with `size` bytes (tmpfs), unmounted at the scope's end; None where this machine
    lets us make none (then skip, saying so)."""
    folder = processes.temporary_folder()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d,mode=0755" % size, "tailrace-test", folder],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        return None
    processes.current_scope().add(lambda: subprocess.run(["umount", "-l", folder], check=False))
    return folder


def fill_disk(folder, name="filler"):
    """Writes a file until its disk is full; returns its path (removing it frees the space)."""
    path = os.path.join(folder, name)
    with open(path, "wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                if file.write(b"\0" * size) < size:
                    size //= 2
            except OSError:
                size //= 2
    return path
